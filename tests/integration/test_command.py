"""The command `wsaas`: its output, its signals and its exit status."""

import os
import re
import runpy
import signal
import socket
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

import wsaas.__main__
from tests.support.command import ThreadedBackend, connect_client, read_to_end, run_wsaas, running_wsaas
from tests.support.ports import free_port
from tests.support.waiting import TIMEOUT_S
from wsaas import __version__
from wsaas.build_kind import BUILD
from wsaas.cli.main import main

pytestmark = pytest.mark.usefixtures("_restored_process")

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
    done = run_wsaas(API_URI="localhost:8000/x", INBOX="-1")
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(r"wsaas: INBOX='-1': expected .*\n", done.stderr)


def test_a_file_that_cannot_be_used_is_status_2_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    files = {"TLS_CERT": "/nowhere/cert.pem", "TLS_KEY": "/nowhere/key.pem"}
    assert main([], {"API_URI": "localhost:8000/x", **files}) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "wsaas: TLS_CERT='/nowhere/cert.pem': cannot be read: No such file or directory\n"


def test_the_command_does_not_ask_for_the_password_of_an_encrypted_key(tmp_path: Path) -> None:
    encrypted = tmp_path / "encrypted.pem"
    encrypted.write_text("-----BEGIN CERTIFICATE-----\n-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    done = run_wsaas("--tls-cert", str(encrypted), "--tls-key", str(encrypted), API_URI="localhost:8000/x")
    assert done.returncode == 2
    assert done.stdout == ""
    assert (
        done.stderr == f"wsaas: TLS_KEY={str(encrypted)!r}: is encrypted with a password: store the key without one\n"
    )


def test_api_uri_is_required_as_a_command() -> None:
    done = run_wsaas()
    assert done.returncode == 2
    assert re.fullmatch(r"wsaas: API_URI is not set: .*\n", done.stderr)


def test_version() -> None:
    done = run_wsaas("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"wsaas {__version__} ({BUILD})\n", "")


def test_the_module_run_as_a_program(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["wsaas", "--version"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(wsaas.__main__.__file__, run_name="__main__")
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"wsaas {__version__} ({BUILD})\n"


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
def test_a_signal_ends_with_status_0_after_the_deletes(backend: ThreadedBackend, number: signal.Signals) -> None:
    with running_wsaas(API_URI=backend.uri) as (process, port), connect_client(port) as client:
        process.send_signal(number)
        assert b"going away" in read_to_end(client)
        client.close()
        _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0
    assert backend.methods == ["POST", "DELETE"]
    assert "Traceback" not in err
    assert " ERROR " not in err
    assert err.rstrip().endswith("stopped")


def test_an_undelivered_delete_is_status_1(backend: ThreadedBackend) -> None:
    variables = {"API_URI": backend.uri, "DRAIN_TIMEOUT": "300", "LOG_FORMAT": "json"}
    with running_wsaas(**variables) as (process, port), connect_client(port) as client:
        backend.shutdown()
        backend.server_close()
        process.send_signal(signal.SIGTERM)
        assert b"going away" in read_to_end(client)
        _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1
    assert '"level":"ERROR"' in err
    assert "Traceback" not in err


def test_a_taken_port_is_status_1_and_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run_wsaas(API_URI="localhost:8000/x", WS_HOSTNAME=address)
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
    """Call `act` in a thread as soon as the gateway is ready."""

    def wait() -> None:
        for _ in range(int(TIMEOUT_S * 100)):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=TIMEOUT_S):
                    break
            except urllib.error.URLError:
                threading.Event().wait(0.01)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def stop_this_process() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_main_serves_until_a_signal(backend: ThreadedBackend, capfd: pytest.CaptureFixture[str]) -> None:
    port = free_port()

    def visit() -> None:
        with connect_client(port) as client:
            stop_this_process()
            seen.append(read_to_end(client))

    seen: list[bytes] = []
    thread = when_ready(port, visit)
    flags = ["--ws-hostname", f"127.0.0.1:{port}"]
    assert main(flags, {"API_URI": backend.uri, "WS_HOSTNAME": "overridden:1"}) == 0
    thread.join()
    assert b"going away" in seen[0]
    assert backend.methods == ["POST", "DELETE"]
    lines = capfd.readouterr().err.splitlines()
    assert all(" INFO " in line for line in lines)
    assert " listening on " in lines[0]
    assert " stopping within " in lines[1]
    assert lines[-1].endswith(" INFO stopped")


def test_main_returns_1_when_a_delete_is_undelivered(
    backend: ThreadedBackend, capfd: pytest.CaptureFixture[str]
) -> None:
    port = free_port()

    def visit() -> None:
        with connect_client(port) as client:
            backend.shutdown()
            backend.server_close()
            stop_this_process()
            read_to_end(client)

    thread = when_ready(port, visit)
    chosen = {"API_URI": backend.uri, "WS_HOSTNAME": f"127.0.0.1:{port}", "DRAIN_TIMEOUT": "200", "LOG_LEVEL": "ERROR"}
    assert main([], chosen) == 1
    thread.join()
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    assert "stopped before the DELETE was delivered" in err
