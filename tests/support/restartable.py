"""A gateway and its backend in processes, which are stopped, killed and started again while a client goes on."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support import recording_backend
from tests.support.ports import free_port
from tests.support.program import Program, gateway_program
from tests.support.waiting import POLL_S, TIMEOUT_S


class Restartable:
    """A gateway at `url`, and what its backend has recorded. Nothing here needs an event loop."""

    def __init__(self, folder: Path, **settings: object) -> None:
        port, backend_port = free_port(), free_port()
        self.url = f"ws://127.0.0.1:{port}/"
        self._records = folder / "messages"
        self._records.touch()
        command = [sys.executable, recording_backend.__file__, str(backend_port), str(self._records)]
        self.backend = Program(command, folder / "backend.log", {})
        self.gateway = gateway_program(f"127.0.0.1:{backend_port}/hook", port, folder / "gateway.log", settings)

    def messages(self) -> list[str]:
        """Return the recorded messages, in order, without those that the gateway has repeated with the same `ce-id`."""
        complete, _, _ = self._records.read_text().rpartition("\n")
        lines = complete.splitlines()
        return [text for _, text in dict.fromkeys(tuple(json.loads(line)) for line in lines)]

    def wait_for_more(self, count: int = 100) -> None:
        """Wait until the backend has recorded so many further messages."""
        goal = len(self.messages()) + count
        wait_until(lambda: len(self.messages()) >= goal, f"{count} messages")

    def stop(self, program: Program) -> None:
        """Stop it by SIGTERM."""
        program.terminate()
        wait_until(lambda: not program.is_up, "its end")

    def start(self, program: Program) -> None:
        """Start it; return once it listens."""
        starts = program.said().count("listening")
        program.spawn()
        wait_until(lambda: program.said().count("listening") > starts, "its start")


def wait_until(condition: Callable[[], Any], what: str, shown: Callable[[], Any] = str) -> None:
    """Poll until `condition` is true. The error of a time-out contains `what` and the result of `shown`."""
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, f"timed out waiting for {what} {shown()}"
        time.sleep(POLL_S)


def once_each(messages: list[str]) -> list[int]:
    """Return the numbers of messages as a backend counts them that ignores those which it has had already."""
    numbers: list[int] = []
    for number in map(int, messages):
        if not numbers or number > numbers[-1]:
            numbers.append(number)
    return numbers


@contextmanager
def restartable(folder: Path, **settings: object) -> Iterator[Restartable]:
    """Run both."""
    running = Restartable(folder, **settings)
    try:
        running.start(running.backend)
        running.start(running.gateway)
        yield running
    finally:
        running.gateway.kill()
        running.backend.kill()
