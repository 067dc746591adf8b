"""A process of the demo: its output, its end, and what it inherits."""

import queue
import shutil
import signal
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest

from tests.support.waiting import TIMEOUT_S
from wsaas.demo.child_process import ChildProcess, print_with

STOP = {signal.SIGTERM, signal.SIGINT}


class Watched:
    """A process that runs a script, and what it tells."""

    def __init__(self, script: str) -> None:
        self.told: queue.Queue[object] = queue.Queue()
        command = [sys.executable, "-IS", "-c", script]
        self.process = ChildProcess(command, self.told.put, lambda *event: self.told.put(event))

    def next(self) -> object:
        return self.told.get(timeout=TIMEOUT_S)


class Gone(StringIO):
    """The output to a terminal that is gone."""

    def write(self, _: str) -> int:
        raise OSError


@pytest.fixture
def _blocked() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP)
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_a_process_tells_its_start_its_output_and_its_end() -> None:
    watched = Watched("import sys; print('said'); print('no newline', end='', file=sys.stderr); sys.exit(3)")
    pid = watched.process.pid
    assert watched.next() == ("started", pid)
    assert {watched.next(), watched.next()} in ({"said\n", "no newline"}, {"no newlinesaid\n"})
    assert watched.next() == ("ended", pid)
    assert watched.process.status == 3
    assert not watched.process.send_signal(signal.SIGKILL)


@pytest.mark.usefixtures("_blocked")
def test_a_process_inherits_neither_blocked_nor_ignored_signals() -> None:
    grep = shutil.which("grep")
    assert grep
    lines: list[str] = []
    # Behind nohup, the processes of the tests ignore SIGHUP, and in the background of a script the others. They are
    # meant to inherit that.
    before = {each: signal.signal(each, signal.SIG_DFL) for each in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)}
    process = ChildProcess([grep, "-E", "SigBlk|SigIgn", "/proc/self/status"], lines.append, lambda *_: None)
    for each, handler in before.items():
        signal.signal(each, handler)
    assert process.wait(TIMEOUT_S)
    # The C library uses the two signals from 32 on.
    assert [int(line.split()[1], 16) % (1 << 31) for line in lines] == [0, 0]


@pytest.mark.usefixtures("_blocked")
def test_a_process_can_be_stopped_and_killed() -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        watched = Watched("import signal; signal.pause()")
        assert not watched.process.wait(0)
        assert watched.process.send_signal(number)
        assert watched.process.wait(TIMEOUT_S)
        assert watched.process.status == -number


def test_a_process_that_does_not_end_in_time_is_killed() -> None:
    watched = Watched("import signal; signal.pause()")
    watched.process.end(0)
    assert watched.process.status == -signal.SIGKILL
    watched.process.end(0)


def test_a_program_that_cannot_be_run_is_an_error_and_leaves_no_pipe_behind(tmp_path: Path) -> None:
    before = set(Path("/proc/self/fd").iterdir())
    with pytest.raises(FileNotFoundError):
        ChildProcess([str(tmp_path / "missing")], print, print)
    assert set(Path("/proc/self/fd").iterdir()) == before


def test_output_is_printed_after_a_label(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    print_line = print_with("node 1: ")
    print_line("listening\n")
    assert capsys.readouterr() == ("", "node 1: listening\n")
    monkeypatch.setattr(sys, "stderr", Gone())
    print_line("nobody sees this\n")
