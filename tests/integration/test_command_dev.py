"""The command `wsaas dev`: a gateway and the command of a backend, which start and end together."""

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.command import RunningCommand, connect_client, read_to_end, run_wsaas, running_command
from tests.support.ports import free_port
from tests.support.stage import Stage, load_settings
from tests.support.waiting import TIMEOUT_S, wait_until
from wsaas.cli import backend_process, dev
from wsaas.cli.command_options import ClientOptions, DevOptions
from wsaas.cli.console_url import console_url
from wsaas.cli.main import main
from wsaas.log import output
from wsaas.settings import Settings, load

pytestmark = pytest.mark.usefixtures("_restored_process")

BACKEND = """
import json, os, signal, subprocess, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        print(self.command, flush=True)
        answer = b'{"code": "OK"}'
        self.send_response(int(os.environ.get("STATUS", "200")))
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        self.wfile.flush()
        if b"crash" in body:
            os._exit(9)

    do_PUT = do_DELETE = do_POST

    def log_message(self, *_):
        pass

print("environment", os.environ["PORT"], os.environ["API_URI"], os.environ["WS_HOSTNAME"], sys.argv[1:])
if os.environ.get("CHILD"):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    print("child", child.pid)
if os.environ.get("STUBBORN"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler)
server.serve_forever()
"""


@pytest.fixture
def script(tmp_path: Path) -> str:
    """A backend for `wsaas dev`."""
    path = tmp_path / "backend.py"
    path.write_text(BACKEND)
    return str(path)


@contextmanager
def running_dev(*arguments: str, **variables: str) -> Iterator[RunningCommand]:
    """Run `wsaas dev`."""
    with running_command("dev", *arguments, folder=None, **variables) as running:
        yield running


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until_dead(pid: int) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while is_alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_both_run_and_one_ctrl_c_ends_both_after_the_deletes(script: str) -> None:
    port, backend_port = free_port(), free_port()
    with running_dev(
        "--",
        sys.executable,
        script,
        "{port}",
        WS_HOSTNAME=f"127.0.0.1:{port}",
        PORT=str(backend_port),
        DRAIN_TIMEOUT="200",
    ) as running:
        uri = f"http://localhost:{backend_port}/websocket"
        said = running.read_until("environment")
        assert said == f"backend | environment {backend_port} {uri} 127.0.0.1:{port} ['{backend_port}']\n"
        running.read_until("check   | OK    the backend accepts a client, its message, and its end")
        running.read_until("gateway | ")
        assert running.read_until("clients ") == f"  clients  ws://127.0.0.1:{port}/any/path\n"
        running.read_until(f"backend  {uri}")
        running.read_until(f"console  http://127.0.0.1:{port}/console")
        running.read_until("Ctrl-C ends both.")
        client = connect_client(port)
        running.read_until("backend | POST")
        os.killpg(running.process.pid, signal.SIGINT)
        assert b"going away" in read_to_end(client)
        client.close()
        running.read_until("backend | DELETE")
        status, _ = running.finish()
    assert status == 0


def test_the_end_of_the_backend_ends_the_gateway_with_its_status(script: str) -> None:
    port = free_port()
    with running_dev("--", sys.executable, script, WS_HOSTNAME=f"127.0.0.1:{port}", PORT=str(free_port())) as running:
        running.read_until("Ctrl-C ends both.")
        with connect_client(port) as client:
            client.sendall(b"\x81\x85\0\0\0\0crash")
            status, out = running.finish()
    assert "backend | ended with exit status 9\n" in out
    assert status == 9


def test_a_backend_that_never_listens_ends_with_its_status_and_its_last_words() -> None:
    done = run_wsaas("dev", "--", "sh", "-c", "echo one; printf two >&2; kill -TERM $$")
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, "")
    assert done.stdout.splitlines() == ["backend | one", "backend | two", "backend | ended with exit status 143"]


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        ("/nowhere/backend", 127, "cannot run /nowhere/backend: No such file or directory"),
        ("/dev/null", 126, "cannot run /dev/null: Permission denied"),
    ],
)
def test_a_command_that_cannot_be_run_is_named(command: str, status: int, said: str) -> None:
    done = run_wsaas("dev", "--", command)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", f"wsaas: {said}\n")


def test_processes_of_the_backend_end_too(script: str) -> None:
    variables = {"WS_HOSTNAME": f"127.0.0.1:{free_port()}", "PORT": str(free_port()), "CHILD": "1"}
    with running_dev("--no-check", "--", sys.executable, script, **variables) as running:
        pid = int(running.read_until("child").split()[-1])
        running.read_until("Ctrl-C ends both.")
        assert not any(line.startswith("check") for line in running.lines)
        running.process.send_signal(signal.SIGTERM)
        assert running.finish()[0] == 0
    wait_until_dead(pid)


def test_a_second_ctrl_c_ends_a_backend_that_ignores_sigterm(script: str) -> None:
    variables = {"WS_HOSTNAME": f"127.0.0.1:{free_port()}", "PORT": str(free_port()), "STUBBORN": "1"}
    with running_dev("--", sys.executable, script, **variables) as running:
        running.read_until("Ctrl-C ends both.")
        running.process.send_signal(signal.SIGINT)
        running.read_until("stopped")
        running.process.send_signal(signal.SIGINT)
        assert running.finish()[0] == 0


def test_ctrl_c_before_the_backend_listens_ends_both() -> None:
    with running_dev("--", "sh", "-c", "echo $$; sleep 1000", PORT=str(free_port())) as running:
        pid = int(running.read_until("backend | ").split()[-1])
        running.process.send_signal(signal.SIGINT)
        assert running.finish() == (0, "")
    wait_until_dead(pid)


def test_what_is_wrong_with_the_backend_is_printed_once(script: str) -> None:
    variables = {"WS_HOSTNAME": f"127.0.0.1:{free_port()}", "PORT": str(free_port()), "STATUS": "404"}
    with running_dev("--", sys.executable, script, **variables) as running:
        running.read_until("Ctrl-C ends both.")
        running.process.send_signal(signal.SIGINT)
        running.finish()
    checks = [line for line in running.lines if line.startswith("check")]
    assert checks == [
        'check   | FAIL  POST: the backend answered 404: \'{"code": "OK"}\'; check the path in API_URI\n',
    ]


def test_a_gateway_that_cannot_start_ends_the_backend(script: str, tmp_path: Path) -> None:
    done = run_wsaas(
        "dev",
        "--no-check",
        "--",
        sys.executable,
        script,
        PORT=str(free_port()),
        JOURNAL=str(tmp_path / "missing" / "x"),
    )
    assert done.returncode == 1
    assert re.search(r"gateway \| \S+ ERROR cannot use the journal: ", done.stderr)


def test_settings_that_cannot_be_used_are_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dev", "--ws-timeout", "x", "--", "true"], {}) == 2
    assert main(["dev", "--workers", "2", "--", "true"], {}) == 2
    assert "it cannot be used with WORKERS" in capsys.readouterr().err


# In this process.

PARENT = """
import os, signal, socket, sys, time

def wait_for(port):
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.01)

def interrupt(number=signal.SIGINT):
    os.kill(os.getppid(), number)

if "listen" in sys.argv:
    listener = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
if "listen" in sys.argv or "wait" in sys.argv:
    wait_for(int(os.environ["WS_HOSTNAME"].rpartition(":")[2]))
if "ignore" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "hangup" in sys.argv:
    interrupt(signal.SIGHUP)
if "interrupt" in sys.argv:
    interrupt()
if "end" in sys.argv:
    print("x" * 70000, end="", flush=True)
    time.sleep(0.01)
    sys.stdout.buffer.write(b"\\n\\xff no line end")
    sys.stdout.flush()
    sys.exit(7)
print("sleeps", flush=True)
if "twice" in sys.argv:
    time.sleep(0.2)
    interrupt()
time.sleep(1000)
"""


@pytest.fixture
def run_dev(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs `wsaas dev` with a command, and returns its exit status and output."""
    path = tmp_path / "parent.py"
    path.write_text(PARENT)

    def run(*words: str, flags: tuple[str, ...] = (), check: bool = False, **variables: str) -> tuple[int, str, str]:
        signal.signal(signal.SIGHUP, signal.SIG_IGN if "nohup" in words else signal.SIG_DFL)
        usual = {"WS_HOSTNAME": f"127.0.0.1:{free_port()}", "PORT": str(free_port()), "EMPTY": ""}
        own = [] if check else ["--no-check"]
        status = main(["dev", *own, *flags, "--", sys.executable, str(path), *words], usual | variables)
        output.close()
        out, err = capfd.readouterr()
        return status, out, err

    return run


def test_a_command_that_ends_gives_its_status_and_all_its_output(
    run_dev: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend_process, "MAX_LINE", 100)
    status, out, _ = run_dev("listen", "end")
    assert status == 7
    assert "  Ctrl-C ends both.\n" in out
    lines = [line for line in out.splitlines() if line.startswith("backend | ")]
    assert "".join(line.removeprefix("backend | ") for line in lines[:-2]) == "x" * 70000
    assert lines[-2:] == ["backend | \ufffd no line end", "backend | ended with exit status 7"]


def test_ctrl_c_is_status_0(run_dev: Callable[..., tuple[int, str, str]]) -> None:
    status, out, err = run_dev("listen", "interrupt", flags=("--log-format", "json"))
    assert status == 0
    assert "backend | sleeps" in out
    assert '"message":"stopped"' in err


def test_a_closed_terminal_ends_both(run_dev: Callable[..., tuple[int, str, str]]) -> None:
    status, _, err = run_dev("listen", "hangup")
    assert status == 0
    assert err.endswith(" INFO stopped\n")


def test_after_nohup_a_hangup_reloads_files(run_dev: Callable[..., tuple[int, str, str]]) -> None:
    status, _, err = run_dev("listen", "nohup", "hangup", "interrupt")
    assert status == 0
    assert "INFO SIGHUP: nothing to reload" in err
    # There is no gateway yet.
    status, _, err = run_dev("nohup", "hangup", "interrupt")
    assert (status, err) == (0, "")


def test_ctrl_c_before_the_gateway_starts_is_status_0(run_dev: Callable[..., tuple[int, str, str]]) -> None:
    status, out, err = run_dev("hangup", "interrupt", LOG_LEVEL="debug")
    assert (status, err) == (0, "")
    assert "Ctrl-C ends both." not in out


def test_a_command_that_ignores_sigterm_is_killed(
    run_dev: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend_process, "STOP_TIMEOUT_S", 0.1)
    status, out, _ = run_dev("ignore", "interrupt")
    assert status == 0
    assert "backend | still runs 0.1 s after SIGTERM: killed\n" in out


def test_a_second_ctrl_c_kills_it_at_once(run_dev: Callable[..., tuple[int, str, str]]) -> None:
    status, out, _ = run_dev("ignore", "interrupt", "twice")
    assert status == 0
    assert "still runs" not in out


def test_a_command_that_does_not_listen_in_time_is_named_and_the_gateway_starts(
    run_dev: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dev, "LISTEN_TIMEOUT_S", 0.0)
    port = free_port()
    status, out, _ = run_dev("wait", "end", API_URI=f"127.0.0.1:{port}/hook")
    assert status == 7
    assert f"check   | WARN  nothing listens on 127.0.0.1:{port} yet; let the command use the variable PORT\n" in out
    assert "Ctrl-C ends both." in out


def test_a_gateway_that_cannot_start_is_status_1(
    run_dev: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(dev, "LISTEN_TIMEOUT_S", 0.0)
    status, _, err = run_dev(API_URI=f"127.0.0.1:{free_port()}/hook", JOURNAL=str(tmp_path / "missing" / "x"))
    assert status == 1
    assert "ERROR cannot use the journal" in err


def test_the_backend_is_checked_when_it_listens(
    run_dev: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[DevOptions] = []

    async def check(_settings: Settings, given: DevOptions) -> None:
        checked.append(given)

    monkeypatch.setattr(dev, "check_quickly", check)
    assert run_dev("listen", "interrupt", flags=("--path", "/a"), check=True)[0] == 0
    assert [given.client.path for given in checked] == ["/a"]


@pytest.mark.parametrize(("path", "status"), [("/nowhere/backend", 127), ("/dev/null", 126)])
def test_a_command_that_cannot_be_run_is_a_status(path: str, status: int) -> None:
    assert main(["dev", "--", path], {}) == status


def test_the_command_gets_flags_that_are_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, str]] = []
    monkeypatch.setattr(dev, "BackendProcess", lambda _command, variables, *_output: seen.append(variables))
    monkeypatch.setattr("wsaas.cli.dev.uvloop.run", lambda _: 0)
    monkeypatch.setattr(dev.Development, "run", lambda _: None)
    assert main(["dev", "--control-token", "t0ken", "--listen", "127.0.0.1:0", "--", "x"], {"A": "b"}) == 0
    (variables,) = seen
    port = variables.pop("PORT")
    assert variables == {
        "A": "b",
        "API_URI": f"http://localhost:{port}/websocket",
        "CONTROL_TOKEN": "t0ken",
        "PYTHONUNBUFFERED": "1",
        "WS_HOSTNAME": "localhost:8080",
    }


@pytest.mark.parametrize(
    ("chosen", "url"),
    [
        ({"ws_hostname": "localhost:8080"}, "ws://localhost:8080/any/path"),
        ({"ws_hostname": "gateway.test:8080"}, "ws://localhost:8080/any/path"),
        ({"listen": "unix:/run/x"}, "ws://unix:/run/x/any/path"),
        ({"tls_cert": "/cert", "tls_key": "/key"}, "wss://localhost:8080/any/path"),
    ],
)
def test_the_greeting_says_where_clients_connect(chosen: dict[str, str], url: str) -> None:
    settings = load({"api_uri": "localhost:8000/hook?key=s3cret", **chosen}, {})
    assert dev.greeting(settings).splitlines() == [
        "",
        f"  clients  {url}",
        "  backend  http://localhost:8000/hook?(hidden)",
        "",
        "  Ctrl-C ends both.",
    ]
    assert "  console  http://localhost:8080/console\n" in dev.greeting(settings, "http://localhost:8080/console")


@pytest.mark.parametrize(
    ("chosen", "url"),
    [
        ({}, "http://localhost:8080/console"),
        ({"ws_hostname": "gateway.test:8080"}, ""),
        ({"ws_hostname": "gateway.test:8080", "control_token": "x" * 32}, "http://localhost:8080/console"),
        ({"ws_hostname": "gateway.test:8080", "control_listen": "127.0.0.1:8081"}, "http://127.0.0.1:8081/console"),
        ({"control_listen": "127.0.0.1:8081"}, "http://127.0.0.1:8081/console"),
        ({"control_listen": "0.0.0.0:8081", "control_token": "x" * 32}, "http://localhost:8081/console"),
        ({"listen": "[::1]:8080"}, "http://[::1]:8080/console"),
        ({"tls_cert": "/cert", "tls_key": "/key"}, "https://localhost:8080/console"),
        ({"listen": "unix:/run/x"}, ""),
        ({"console": "off"}, ""),
    ],
)
def test_the_console_is_where_rest_requests_are_served(chosen: dict[str, str], url: str) -> None:
    assert console_url(load({"api_uri": "localhost:8000/hook", **chosen}, {})) == url


async def test_a_quick_check_prints_what_is_wrong(stage: Stage, capfd: pytest.CaptureFixture[str]) -> None:
    output.configure("INFO", "text")
    backend = await stage.backend.start()
    settings = load_settings(api_uri=f"{backend.authority}/hook", ws_hostname=f"127.0.0.1:{free_port()}")
    given = DevOptions(ClientOptions("/", ()), ("x",), has_check=True)
    await dev.check_quickly(settings, given)
    backend.on["PUT"] = lambda call: call.answer(500)
    await dev.check_quickly(settings, given)
    await dev.check_quickly(load_settings(api_uri="https://localhost/", api_tls_ca="/missing"), given)
    output.close()
    failed = (
        "check   | FAIL  PUT text: the backend answered 500: the message would be sent again for API_RETRY; see the "
        "log of the backend, or of a proxy in front of it"
    )
    assert capfd.readouterr().out.splitlines() == [
        "check   | OK    the backend accepts a client, its message, and its end; wsaas check tries more",
        failed,
    ]


@pytest.mark.usefixtures("stage")
async def test_a_backend_process_that_was_not_started_can_be_stopped() -> None:
    process = backend_process.BackendProcess(["x"], {}, print)
    process.kill()
    await process.stop()


def make_chatty(is_congested: Callable[[], bool]) -> tuple[backend_process.BackendProcess, list[str]]:
    """Return the process of a backend with more output than fits in a pipe, and the lines that were read of it."""
    lines: list[str] = []
    command = [sys.executable, "-c", "for number in range(100_000): print(number)"]
    return backend_process.BackendProcess(command, dict(os.environ), lines.append, is_congested), lines


@pytest.mark.usefixtures("stage")
async def test_output_waits_while_it_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_process, "WRITE_POLL_S", 0.0)
    read: list[int] = []

    def is_congested() -> bool:
        # Each second look says so.
        read.append(len(lines))
        return len(read) % 2 == 1

    process, lines = make_chatty(is_congested)
    await process.start()
    assert await process.wait() == 0
    await process.stop()
    assert lines == [str(number) for number in range(100_000)]
    assert max(after - before for before, after in pairwise(read)) <= backend_process.READ_SIZE


@pytest.mark.usefixtures("stage")
async def test_a_process_that_is_out_of_reach_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    apart = "import subprocess; print(subprocess.Popen(['sleep', '1000'], start_new_session=True).pid)"
    process = backend_process.BackendProcess([sys.executable, "-c", apart], dict(os.environ), lines.append)
    monkeypatch.setattr(backend_process, "STOP_TIMEOUT_S", 0.1)
    await process.start()
    await process.wait()
    await process.stop()
    os.kill(int(lines[0]), signal.SIGKILL)
    assert lines[-1] == "it has started a process in another process group, which may still run"


@pytest.mark.usefixtures("stage")
async def test_a_backend_whose_output_waits_can_be_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    process, lines = make_chatty(lambda: len(lines) > 0)
    monkeypatch.setattr(backend_process, "STOP_TIMEOUT_S", TIMEOUT_S)
    await process.start()
    ended = asyncio.ensure_future(process.wait())
    await wait_until(lambda: lines)
    await asyncio.sleep(0.1)
    assert not ended.done()
    process.kill()
    await process.stop()
    assert await ended == 128 + signal.SIGKILL
    assert len(lines) < 100_000
    assert "killed" not in lines[-1]
