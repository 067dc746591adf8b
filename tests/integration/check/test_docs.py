"""docs/check.md shows what the command prints, and names all checks and flags."""

import re
from pathlib import Path

import pytest

from tests.support.command import BackendHandler, ThreadedBackend
from tests.support.demo import serving
from tests.support.ports import free_port
from wsaas import check
from wsaas.cli import dev
from wsaas.cli.backend_process import NOT_EXECUTABLE, NOT_FOUND, STOP_TIMEOUT_S
from wsaas.cli.command_options import DEFAULT_RATE, DEFAULT_TIMEOUT_MS
from wsaas.cli.main import main
from wsaas.demo.server import DemoServer

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "check.md").read_text()
SAMPLES = re.findall(r"^```\n(Checking .*?)^```", PAGE, re.DOTALL | re.MULTILINE)

pytestmark = pytest.mark.usefixtures("_restored_process")


class JsonOnlyHandler(BackendHandler):
    """Takes only JSON, and no DELETE."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def answer(self, status: int, text: bytes) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_POST(self) -> None:  # noqa: N802 - the server looks for this name
        self.answer(200, b'{"code": "OK"}')

    def do_PUT(self) -> None:  # noqa: N802 - the server looks for this name
        self.answer(415, b"Unsupported Media Type")

    def do_DELETE(self) -> None:  # noqa: N802 - the server looks for this name
        self.answer(500, b"TypeError")


def run(port: int, capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    """Return the output of a check, with the ports and times of the page."""
    control = free_port()
    main(["check", f"127.0.0.1:{port}/websocket", *flags], {"WS_HOSTNAME": f"localhost:{control}"})
    out = capsys.readouterr().out
    return out.replace(f":{control}", ":8080").replace(f":{port}", ":8000")


def without_times(text: str) -> list[str]:
    """Return the lines of `text` without its times, and without the number of connections that follows from them."""
    return re.sub(r"[\d.]+ (ms|s)\b|\d+ (connection)s?\b(?= of)", r"N \1\2", text).splitlines()


def test_the_sample_of_the_demo_is_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    server = DemoServer("127.0.0.1", 0, "localhost:8080")
    with serving(server):
        out = run(server.server_port, capsys, "--path", "/echo")
        server.traffic.close()
    assert without_times(out) == without_times(SAMPLES[0])


def test_the_sample_of_a_broken_backend_is_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    server = ThreadedBackend()
    server.RequestHandlerClass = JsonOnlyHandler
    with serving(server):
        out = run(server.server_port, capsys)
    assert without_times(out) == without_times(SAMPLES[1])


def test_each_check_is_described() -> None:
    table = PAGE.split("### What is tried")[1].split("\n### ")[0]
    described = {
        name for row in re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE) for name in re.findall("`(.*?)`", row)
    }
    shown = {line.partition(": ")[0][6:] for sample in SAMPLES for line in sample.splitlines()[1:-1]}
    source = "".join(path.read_text() for path in Path(check.__file__).parent.glob("*.py"))
    in_code = set(re.findall(r"\b(?:ok|warn|fail)\(\s*\"([^\"]+)\"", source)) - {"PUT"}
    assert described == shown | in_code | {"TLS", "Unix socket"}


def test_the_flags_and_figures_are_those_of_the_code() -> None:
    for flag in ("--path", "--header", "--message", "--rate", "--timeout", "--json"):
        assert f"| `{flag}" in PAGE
    assert f"{DEFAULT_RATE} by default" in PAGE
    assert f"{DEFAULT_TIMEOUT_MS} by default" in PAGE
    assert f"| `DRAIN_TIMEOUT` | `{dev.DRAIN_TIMEOUT_MS}` |" in PAGE
    text = " ".join(PAGE.split())
    assert f"does not listen within {dev.LISTEN_TIMEOUT_S:g} s" in text
    assert f"after {STOP_TIMEOUT_S:g} s with SIGKILL" in text
    assert f"{NOT_FOUND} means that the command was not found, and {NOT_EXECUTABLE} that" in text
    assert f"localhost:PORT{dev.BACKEND_PATH}`" in PAGE
    assert f"otherwise {dev.BACKEND_PORT}, or" in text
    assert f"`localhost:{dev.GATEWAY_PORT}`, or" in text
