"""The demo's backend as a process: its start, its output and its end."""

import json
import os
import re
import runpy
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.client import HTTPConnection
from io import StringIO
from pathlib import Path
from typing import TextIO

import pytest

from tests.support.demo_cluster import options
from tests.support.waiting import TIMEOUT_S
from wsaas.demo import __main__ as demo
from wsaas.demo.cluster import ClusterOptions


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Output(StringIO):
    """A standard output that calls a function when its first line is complete."""

    def __init__(self, then: Callable[[str], None]) -> None:
        super().__init__()
        self.then = then

    def flush(self) -> None:
        """Called by the print of the first line."""
        self.then(self.getvalue())


def end_by(signal_number: int) -> Callable[[str], None]:
    """Return a function that sends a signal to the calling thread, which runs the demo."""
    return lambda _: signal.pthread_kill(threading.get_ident(), signal_number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_demo_server_prints_its_address_and_ends_cleanly_on_a_signal(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = Output(end_by(number))
    monkeypatch.setattr(sys, "stdout", output)
    assert demo.main(["--listen", "127.0.0.1:0"]) == 0
    word, _, location = output.getvalue().partition(" ")
    assert word == "listening"
    assert location.startswith("127.0.0.1:")
    assert location.endswith("\n")
    assert int(location.rpartition(":")[2]) > 0


@pytest.mark.parametrize(
    ("flags", "config"),
    [
        (["--gateway", "g:9"], {"gateway": "g:9"}),
        (["--console", "http://g:8/console"], {"gateway": "localhost:8080", "console": "http://g:8/console"}),
    ],
)
def test_the_demo_server_serves_once_it_printed_its_address(
    flags: list[str], config: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[bytes] = []

    def ask(line: str) -> None:
        connection = HTTPConnection(line.split()[1], timeout=TIMEOUT_S)
        connection.request("GET", "/config")
        answers.append(connection.getresponse().read())
        connection.close()
        end_by(signal.SIGTERM)(line)

    monkeypatch.setattr(sys, "stdout", Output(ask))
    assert demo.main(["--listen", "127.0.0.1:0", *flags]) == 0
    assert [json.loads(each) for each in answers] == [config]


def test_the_demo_server_ends_with_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    stdin: TextIO
    with os.fdopen(reading) as stdin, os.fdopen(writing, "w") as parent:

        def die(_: str) -> None:
            parent.write("what is written to it is of no interest")
            parent.close()

        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr(sys, "stdout", Output(die))
        assert demo.main(["--listen", "127.0.0.1:0", "--with-parent"]) == 0


def test_a_taken_port_is_an_error_of_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert demo.main(["--listen", f"127.0.0.1:{port}"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"wsaas demo: cannot listen on 127.0.0.1:{port}: Address already in use\n"


def test_an_unknown_host_is_an_error_of_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("nothing known about it")

    monkeypatch.setattr(demo, "DemoServer", fail)
    assert demo.main(["--listen", "nowhere:1"]) == 1
    assert capsys.readouterr().err == "wsaas demo: cannot listen on nowhere:1: nothing known about it\n"


@pytest.mark.parametrize("text", ["8000", ":8000", "localhost", "localhost:http", "localhost:65536"])
def test_a_bad_address_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        demo.main(["--listen", text])
    assert end.value.code == 2
    assert f"{text!r} is not host:port" in capsys.readouterr().err


def test_an_ipv6_address_is_printed_in_brackets() -> None:
    assert demo.address("[::1]:8000") == ("::1", 8000)


def test_the_demo_server_is_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["python -m wsaas.demo", "--listen", "nonsense"])
    assert demo.__file__
    with pytest.raises(SystemExit) as end:
        runpy.run_path(demo.__file__, run_name="__main__")
    assert end.value.code == 2


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "end of stdin", "all at once"])
def test_the_process_of_the_demo_server_ends_with_status_0_and_no_further_output(how: str) -> None:
    command = [sys.executable, "-m", "wsaas.demo", "--listen", "127.0.0.1:0", "--with-parent"]
    root = Path(demo.__file__).parents[2]
    with subprocess.Popen(
        command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stdin
        assert process.stderr
        assert process.stdout.readline().startswith(b"listening 127.0.0.1:")
        if how in ("SIGTERM", "all at once"):
            process.terminate()
        if how in ("SIGINT", "all at once"):
            process.send_signal(signal.SIGINT)
        if how in ("end of stdin", "all at once"):
            process.stdin.close()
        assert process.wait(TIMEOUT_S) == 0
        assert (process.stdout.read(), process.stderr.read()) == (b"", b"")


# With the nodes of a cluster.


def cluster_arguments(tmp_path: Path) -> list[str]:
    """Return arguments for a cluster of fake programs, and let the nodes be one of these, too."""
    chosen = options(tmp_path)
    given = {
        "listen": "127.0.0.1:0",
        "nodes": ",".join(map(str, chosen.ports)),
        "nats-server": chosen.nats_server,
        "folder": chosen.folder,
        "lease": "5000",
    }
    return [*(f"--{name}={text}" for name, text in given.items()), "--", "--log-level=DEBUG"]


@pytest.fixture
def _fake_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "ClusterOptions", partial(ClusterOptions, program=[str(tmp_path / "node")]))


@pytest.mark.usefixtures("_fake_nodes")
def test_the_demo_server_runs_nodes_and_tells_its_parent_of_each_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = Output(lambda text: end_by(signal.SIGTERM)(text) if "listening" in text else None)
    monkeypatch.setattr(sys, "stdout", output)
    assert demo.main(cluster_arguments(tmp_path)) == 0
    lines = output.getvalue().splitlines()
    started = [line.split()[1] for line in lines if line.startswith("started ")]
    assert len(started) == 3
    assert sorted(line.split()[1] for line in lines if line.startswith("ended ")) == sorted(started)
    assert [line.split()[0] for line in lines].index("listening") == 3
    assert "node 1: started with --api-uri=127.0.0.1:" in capsys.readouterr().err
    assert not (tmp_path / "cluster").exists()


@pytest.mark.usefixtures("_fake_nodes")
def test_a_signal_during_the_start_of_the_nodes_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = Output(lambda text: end_by(signal.SIGTERM)(text) if text.count("\n") == 1 else None)
    monkeypatch.setattr(sys, "stdout", output)
    assert demo.main(cluster_arguments(tmp_path)) == 0
    assert not (tmp_path / "cluster").exists()


def test_a_cluster_that_does_not_start_is_status_1_and_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [each.replace("nats-server=", "nats-server=/missing") for each in cluster_arguments(tmp_path)]
    assert demo.main(arguments) == 1
    assert re.fullmatch(
        r"wsaas demo: cannot run /missing\S+: (No such file|Not a) \w+( \w+)?\n", capsys.readouterr().err
    )


def test_a_parent_that_is_gone_is_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: str) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Output(fail))
    demo.say("listening")


def test_host_names_are_given_as_one_word() -> None:
    assert demo.parse(["--names", "0.0.0.0,demo"]).names == ["0.0.0.0", "demo"]
    assert demo.parse([]).names == ()
