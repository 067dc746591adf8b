"""The command: what it says, what it listens to, and with what status it ends."""

import gc
import logging
import os
import re
import runpy
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import wsaas.__main__
from wsaas import __version__
from wsaas.cli.main import main
from wsaas.log import output as log

PATIENCE = 20


@pytest.fixture(autouse=True)
def _process_as_before() -> Iterator[None]:
    """The command sets up logging and the garbage collector for good; a test does not."""
    thresholds = gc.get_threshold()
    loggers = [logging.getLogger(name) for name in ("wsaas", "asyncio", "py.warnings")]
    before = [(each.handlers[:], each.level, each.propagate) for each in loggers]
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    hooks = sys.excepthook, sys.unraisablehook, threading.excepthook, logging.lastResort
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    log.close()
    logging.captureWarnings(False)
    sys.excepthook, sys.unraisablehook, threading.excepthook, logging.lastResort = hooks
    for each, (handlers, level, propagate) in zip(loggers, before, strict=True):
        each.handlers[:] = handlers
        each.setLevel(level)
        each.propagate = propagate
    gc.set_threshold(*thresholds)
    gc.unfreeze()


class Backend(ThreadingHTTPServer):
    """Takes everything, and remembers what it was told."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), BackendHandler)
        self.told: list[str] = []

    @property
    def uri(self) -> str:
        return f"127.0.0.1:{self.server_port}/hook"


class BackendHandler(BaseHTTPRequestHandler):
    """Says OK."""

    server: Backend

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.told.append(self.command)
        body = b'{"code": "OK"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_PUT = do_DELETE = do_POST  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def backend() -> Iterator[Backend]:
    with Backend() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def environment(**more: str) -> dict[str, str]:
    """What a command needs, and nothing that happens to be set here."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "PYTHONPATH", "LANG"}}
    return {**kept, **more}


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "wsaas", *arguments],
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@contextmanager
def running(**variables: str) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """Run the command; give it and its port as soon as it listens."""
    port = free_port()
    with subprocess.Popen(
        [sys.executable, "-m", "wsaas"],
        env=environment(WS_HOSTNAME=f"127.0.0.1:{port}", **variables),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            assert f"listening on 127.0.0.1:{port}" in process.stderr.readline()
            yield process, port
        finally:
            if process.poll() is None:
                process.kill()


def join(port: int) -> socket.socket:
    """Connect a client."""
    client = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    client.sendall(
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += client.recv(1)
    assert head.startswith(b"HTTP/1.1 101 ")
    return client


def read(client: socket.socket) -> bytes:
    data = b""
    while piece := client.recv(4096):
        data += piece
    return data


BAD: list[tuple[Mapping[str, str], Sequence[str], str]] = [
    ({}, (), "API_URI"),
    ({"API_URI": "ftp://x/"}, (), "API_URI='ftp://x/'"),
    ({"API_URI": "localhost:8000/x", "WS_TIMEOUT": "soon"}, (), "WS_TIMEOUT='soon'"),
    ({"API_URI": "localhost:8000/x", "LOG_LEVEL": "LOUD"}, (), "LOG_LEVEL='LOUD'"),
    ({"API_URI": "localhost:8000/x"}, ("--api-timeout", "0"), "API_TIMEOUT='0'"),
    ({"API_URI": "localhost:8000/x"}, ("--api-uri", ""), "API_URI"),
    ({"API_URI": "localhost:8000/x", "LISTEN": "nowhere"}, (), "LISTEN='nowhere'"),
    ({"API_URI": "localhost:8000/x", "CONTROL_TOKEN": "a b"}, (), "CONTROL_TOKEN=(hidden)"),
]


@pytest.mark.parametrize(("variables", "flags", "expected"), BAD)
def test_a_bad_setting_is_status_2_and_one_line(
    variables: Mapping[str, str], flags: Sequence[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(flags, variables) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("wsaas: ")
    assert err.count("\n") == 1
    assert expected in err


def test_a_bad_setting_as_a_command() -> None:
    done = run(API_URI="localhost:8000/x", INBOX="-1")
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(r"wsaas: INBOX='-1': expected .*\n", done.stderr)


def test_a_file_that_cannot_be_used_is_status_2_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    files = {"TLS_CERT": "/nowhere/cert.pem", "TLS_KEY": "/nowhere/key.pem"}
    assert main([], {"API_URI": "localhost:8000/x", **files}) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "wsaas: TLS_CERT='/nowhere/cert.pem': cannot be read: No such file or directory\n"


def test_a_locked_key_as_a_command_asks_nobody(tmp_path: Path) -> None:
    encrypted = tmp_path / "encrypted.pem"
    encrypted.write_text("-----BEGIN CERTIFICATE-----\n-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    done = run("--tls-cert", str(encrypted), "--tls-key", str(encrypted), API_URI="localhost:8000/x")
    assert done.returncode == 2
    assert done.stdout == ""
    assert (
        done.stderr == f"wsaas: TLS_KEY={str(encrypted)!r}: is encrypted with a password: store the key without one\n"
    )


def test_api_uri_is_required_as_a_command() -> None:
    done = run()
    assert done.returncode == 2
    assert re.fullmatch(r"wsaas: API_URI is not set: .*\n", done.stderr)


def test_version() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"wsaas {__version__}\n", "")


def test_the_module_run_as_a_program(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["wsaas", "--version"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(wsaas.__main__.__file__, run_name="__main__")
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"wsaas {__version__}\n"


def test_help_names_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"], {})
    assert caught.value.code == 0
    out, err = capsys.readouterr()
    assert err == ""
    for flag in ("--api-uri", "--ws-hostname", "--ws-timeout", "--drain-timeout", "--control-token"):
        assert flag in out


def test_an_unknown_flag_is_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--no-such-thing"], {})
    assert caught.value.code == 2
    assert "--no-such-thing" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_status_0_and_the_backend_is_told(backend: Backend, number: signal.Signals) -> None:
    with running(API_URI=backend.uri, HANDSHAKE_TIMEOUT="500") as (process, port), join(port) as client:
        process.send_signal(number)
        assert b"going away" in read(client)
        client.close()
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert backend.told == ["POST", "DELETE"]
    assert "Traceback" not in err
    assert " ERROR " not in err
    assert err.rstrip().endswith("stopped")


def test_what_stays_undelivered_is_status_1(backend: Backend) -> None:
    variables = {"API_URI": backend.uri, "DRAIN_TIMEOUT": "300", "LOG_FORMAT": "json"}
    with running(**variables) as (process, port), join(port) as client:
        backend.shutdown()
        backend.server_close()
        process.send_signal(signal.SIGTERM)
        assert b"going away" in read(client)
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert '"level":"ERROR"' in err
    assert "Traceback" not in err


def test_a_taken_port_is_status_1_and_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run(API_URI="localhost:8000/x", WS_HOSTNAME=address)
    assert done.returncode == 1
    assert done.stdout == ""
    assert re.fullmatch(rf"\S+ ERROR cannot listen on {re.escape(address)}: Address already in use\n", done.stderr)


def test_a_taken_control_port_is_status_1_too(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        flags = ["--api-uri", "x:1/", "--listen", "127.0.0.1:0", "--control-listen"]
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert main([*flags, address], {}) == 1
    lines = [line for line in capfd.readouterr().err.splitlines() if " INFO " not in line]
    assert len(lines) == 1
    assert lines[0].endswith(f" ERROR cannot listen on {address}: Address already in use")


def when_ready(port: int, act: Callable[[], None]) -> threading.Thread:
    """Do `act` in a thread of its own as soon as the port answers."""

    def wait() -> None:
        for _ in range(PATIENCE * 100):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=PATIENCE):
                    break
            except urllib.error.URLError:
                threading.Event().wait(0.01)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def stop_this_process() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_main_serves_until_a_signal(backend: Backend, capfd: pytest.CaptureFixture[str]) -> None:
    port = free_port()

    def visit() -> None:
        with join(port) as client:
            stop_this_process()
            seen.append(read(client))

    seen: list[bytes] = []
    thread = when_ready(port, visit)
    flags = ["--ws-hostname", f"127.0.0.1:{port}", "--handshake-timeout", "300"]
    assert main(flags, {"API_URI": backend.uri, "WS_HOSTNAME": "overridden:1"}) == 0
    thread.join()
    assert b"going away" in seen[0]
    assert backend.told == ["POST", "DELETE"]
    lines = capfd.readouterr().err.splitlines()
    assert all(" INFO " in line for line in lines)
    assert " listening on " in lines[0]
    assert " stopping within " in lines[1]
    assert lines[-1].endswith(" INFO stopped")


def test_main_returns_1_when_something_stays_undelivered(backend: Backend, capfd: pytest.CaptureFixture[str]) -> None:
    port = free_port()

    def visit() -> None:
        with join(port) as client:
            backend.shutdown()
            backend.server_close()
            stop_this_process()
            read(client)

    thread = when_ready(port, visit)
    chosen = {"API_URI": backend.uri, "WS_HOSTNAME": f"127.0.0.1:{port}", "DRAIN_TIMEOUT": "200", "LOG_LEVEL": "ERROR"}
    assert main([], chosen) == 1
    thread.join()
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    assert "stopped before the backend was told" in err
