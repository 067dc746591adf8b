"""`wsaas demo --nodes 3` as a user runs it: with NATS, three nodes and real clients."""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.support.command import environment
from tests.support.demo_command import PORTS_LOCK
from tests.support.processes import is_alive
from tests.support.waiting import POLL_S, TIMEOUT_S

LEASE_MS = 1000

pytestmark = pytest.mark.slow


class Demo:
    """A demo that has announced its page."""

    def __init__(self, process: "subprocess.Popen[str]", page: str, folder: Path) -> None:
        self.folder = folder
        self.page = page
        self.process = process

    def nodes(self) -> dict[int, dict[str, Any]]:
        with urllib.request.urlopen(f"{self.page}nodes", timeout=TIMEOUT_S) as answer:  # noqa: S310
            return {node["number"]: node for node in json.load(answer)["nodes"]}

    def act(self, number: int, action: str) -> None:
        """Press a button of a node."""
        with urllib.request.urlopen(f"{self.page}nodes/{number}/{action}", b"", TIMEOUT_S) as answer:  # noqa: S310
            assert answer.status == 200

    def traffic(self) -> list[dict[str, Any]]:
        """Return the exchanges that the page shows."""
        connection = HTTPConnection(self.page.split("/")[2], timeout=TIMEOUT_S)
        connection.request("GET", "/traffic")
        with connection.getresponse() as stream:
            stream.readline()
            found: list[dict[str, Any]] = json.loads(stream.readline().removeprefix(b"data: "))
        connection.close()
        return found

    def deletes(self) -> dict[str, int]:
        """Return which node has sent the DELETE, by `ws_uri`."""
        return {
            each["ws_uri"]: int(each["url"].rpartition("?node=")[2])
            for each in self.traffic()
            if (each["to"], each["method"]) == ("backend", "DELETE")
        }

    def pids(self) -> list[int]:
        """Return all processes that have been started."""
        found = [self.process.pid]
        for pid in found:
            children = Path(f"/proc/{pid}/task").glob("*/children")
            found += [int(each) for path in children for each in path.read_text().split()]
        return found

    def is_gone(self, pids: list[int]) -> bool:
        return not any(map(is_alive, pids)) and not any(self.folder.iterdir())


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(POLL_S)


@contextmanager
def demo(tmp_path: Path) -> Iterator[Demo]:
    """Run a demo with three nodes."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    command = [sys.executable, "-m", "wsaas", "demo", "--nodes", "3", "--cluster-lease", str(LEASE_MS)]
    with (tmp_path / "log").open("w") as log, PORTS_LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with subprocess.Popen(
            command, env=environment(TMPDIR=str(folder)), stdout=subprocess.PIPE, stderr=log, text=True
        ) as process:
            try:
                assert process.stdout
                greeting = "".join(process.stdout.readline() for _ in range(3))
                found = re.fullmatch(r"\n  Open (\S+) to see 3 nodes\. Ctrl-C stops everything\.\n\n", greeting)
                assert found, (greeting, (tmp_path / "log").read_text())
                fcntl.flock(lock, fcntl.LOCK_UN)
                yield Demo(process, found[1], folder)
            finally:
                # The other processes end by themselves.
                process.kill()


def joined(address: str, nick: str) -> ClientConnection:
    """Connect a client."""
    return connect(f"ws://{address}/rooms/lobby?nick={nick}", open_timeout=TIMEOUT_S)


def receive_until(client: ClientConnection, **expected: str) -> None:
    """Read messages until one contains `expected`."""
    while not json.loads(client.recv(TIMEOUT_S)).items() >= expected.items():
        pass


def test_others_send_the_deletes_of_a_killed_node(tmp_path: Path) -> None:
    with demo(tmp_path) as running, ExitStack() as stack:
        addresses = {number: node["address"] for number, node in running.nodes().items()}
        clients = {
            number: stack.enter_context(joined(address, f"ada-{number}")) for number, address in addresses.items()
        }
        for number, speaker in clients.items():
            speaker.send(f"hello from {number}")
            for client in clients.values():
                receive_until(client, type="message", text=f"hello from {number}")
        before = running.nodes()[2]
        running.act(2, "kill")
        with pytest.raises(ConnectionClosed):
            receive_until(clients[2], type="never")
        until(lambda: running.nodes()[2]["state"] == "killed")
        until(running.deletes)
        ((ws_uri, sender),) = running.deletes().items()
        assert ws_uri.startswith(addresses[2])
        assert sender in (1, 3)
        for number in (1, 3):
            receive_until(clients[number], type="left", nick="ada-2")
        running.act(2, "start")
        until(lambda: running.nodes()[2]["state"] == "running")
        assert running.nodes()[2]["pid"] != before["pid"]
        again = stack.enter_context(joined(addresses[2], "ada-4"))
        again.send("here again")
        for client in (clients[1], clients[3], again):
            receive_until(client, type="message", text="here again")
        pids = running.pids()
        assert len(pids) == 6
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(TIMEOUT_S) == 0
        assert running.is_gone(pids)
    log = (tmp_path / "log").read_text()
    assert " ERROR " not in log
    assert "Traceback" not in log


@pytest.mark.parametrize("index", [0, 1])
def test_all_processes_end_when_one_of_the_two_of_the_demo_is_killed(tmp_path: Path, index: int) -> None:
    with demo(tmp_path) as running:
        pids = running.pids()
        # The second one is the example backend.
        assert len(pids) == 6
        os.kill(pids[index], signal.SIGKILL)
        until(lambda: running.is_gone(pids))
        assert running.process.wait(TIMEOUT_S) == (-signal.SIGKILL if index == 0 else 1)
