"""Copied commands: bash runs them, and what arrives is compared byte by byte."""

import os
import subprocess
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.echo_server import EchoServer, Received, echo_server
from tests.support.fake_console import FakeConsole, binary_body, connection, text_body
from tests.support.tools import needs_curl

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = needs_curl

TEXTS = [
    "hello",
    "",
    "it's",
    "''",
    """both 'of' "them" \\ and \\' more""",
    "$HOME `id` $(id) ${x} !! !id",
    "two\nlines\n",
    "@/etc/hostname",
    "-X DELETE",
    "# no comment",
    "a=b&c=d;e|f>g<h*?~[x]{y,z}",
    "ünï ☃ 🎉",
    "tab\there",
    "\x1b[31mescape\x07 \x7f \r\n and 'quotes' \\ too",
    "%41 %s \\n",
    " spaces ",
    "x" * 16_384,
]
BINARIES = [bytes(range(256)), b"\x00", b"\xff\xfe'\"", b"\n"]
VALUES = [
    "it's",
    'a "b"',
    "$(id) `id` $HOME !!",
    "a;b, c=d",
    "",
    "tab\there",
    "back\\slash",
    "-x",
    "@file",
    "• not masked",
]


@pytest.fixture
def backend() -> Iterator[EchoServer]:
    """A backend for the copied commands."""
    with echo_server() as running:
        yield running


def run(command: str, backend: EchoServer, shell: str = "bash", **variables: str) -> Received:
    """Run a copied command in a real shell; return what the backend got."""
    before = len(backend.received)
    environment = {**os.environ, **variables}
    done = subprocess.run([shell, "-c", command], env=environment, capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, (command, done.stderr)
    (received,) = backend.received[before:]
    return received


def copied(page: "Page", console: FakeConsole, backend: EchoServer, requests: list[dict[str, Any]]) -> list[str]:
    """Return the commands for some requests to the backend."""
    known = connection(1)
    console.connections = [known]
    console.node["backend"]["url"] = f"http://127.0.0.1:{backend.server_port}/websocket"
    for number, request in enumerate(requests):
        fields = {"event": "message", "ce_id": f"x:{number}", "attempt": 1, "method": "PUT", "target": "/websocket"}
        console.emit(known["id"], "request", **{**fields, "headers": [["Content-Type", "text/plain"]], **request})
    page.goto(f"{console.url}#/connection/{known['id']}")
    rows = page.locator("#rows [role=option]")
    rows.nth(len(requests) - 1).wait_for()
    commands = []
    for number in range(len(requests)):
        rows.nth(number).click()
        page.locator("#details").get_by_label("Copy as a curl command").click()
        commands.append(str(page.evaluate("navigator.clipboard.readText()")))
    return commands


def test_every_body_arrives_byte_by_byte(page: "Page", console: FakeConsole, backend: EchoServer) -> None:
    requests = [{"body": text_body(text)} for text in TEXTS] + [{"body": binary_body(data)} for data in BINARIES]
    sent = [text.encode() for text in TEXTS] + BINARIES
    for command, body in zip(copied(page, console, backend, requests), sent, strict=True):
        received = run(command, backend)
        assert (received.method, received.target, received.body) == ("PUT", "/websocket", body)
        assert received.headers["Content-Type"] == "text/plain"


def test_no_command_has_control_characters_that_a_terminal_would_obey(
    page: "Page", console: FakeConsole, backend: EchoServer
) -> None:
    requests = [{"body": text_body(text), "headers": [["X", "a\tb"]]} for text in TEXTS]
    for command in copied(page, console, backend, requests):
        assert command.replace("\n", "").isprintable()


def test_every_header_arrives_as_it_was(page: "Page", console: FakeConsole, backend: EchoServer) -> None:
    requests = [{"headers": [["X-Test", value], ["Host", "other"]], "body": text_body("x")} for value in VALUES]
    for command, value in zip(copied(page, console, backend, requests), VALUES, strict=True):
        received = run(command, backend)
        assert received.headers["X-Test"] == value.encode().decode("latin-1")
        assert "Content-Type" not in received.headers, "the gateway sent none"
        assert received.headers["Host"] == f"127.0.0.1:{backend.server_port}"


def test_a_secret_is_a_variable(page: "Page", console: FakeConsole, backend: EchoServer) -> None:
    headers = [["Authorization", "•••"], ["webhook-signature", "•••"], ["Cookie", "a=•••"]]
    request = {
        "headers": headers,
        "body": text_body("x"),
        "target": "/websocket?a=[1]&token=•••&b=it's&access_token=(hidden)",
    }
    (command,) = copied(page, console, backend, [request])
    variables = {
        "AUTHORIZATION": 'Bearer it\'s "1"',
        "WEBHOOK_SIGNATURE": "v1,x",
        "COOKIE": "c",
        "TOKEN": "t",
        "ACCESS_TOKEN": "u",
    }
    received = run(command, backend, **variables)
    assert received.target == "/websocket?a=[1]&token=t&b=it's&access_token=u"
    assert received.headers["Authorization"] == 'Bearer it\'s "1"'
    assert received.headers["webhook-signature"] == "v1,x"
    assert received.headers["Cookie"] == "a=c"


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_the_other_requests_can_be_copied_too(
    page: "Page", console: FakeConsole, backend: EchoServer, method: str
) -> None:
    headers = [["Content-Type", "application/json"], ["Content-Length", "99"], ["Connection", "close"]]
    (command,) = copied(
        page,
        console,
        backend,
        [{"method": method, "event": "connect", "headers": headers, "body": text_body('{"a": 1}')}],
    )
    received = run(command, backend)
    assert (received.method, received.body, received.headers["Content-Length"]) == (method, b'{"a": 1}', "8")


def test_a_truncated_body_is_said_to_be_one(page: "Page", console: FakeConsole, backend: EchoServer) -> None:
    (command,) = copied(page, console, backend, [{"body": binary_body(b"\x00\x01", 100_000)}])
    assert command.startswith("# The body is longer: only its beginning is here.\n")
    assert run(command, backend).body == b"\x00\x01"


def pushed(page: "Page", text: str, kind: str) -> str:
    """Return the command for a message that was written but not sent."""
    page.fill(".composer textarea", text)
    page.select_option(".composer select", kind)
    page.click("text=Copy curl")
    return str(page.evaluate("navigator.clipboard.readText()"))


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (("it's\tfine", "text"), ("text/plain", b"it's\tfine")),
        (('{"a": 1}', "json"), ("application/json", b'{"a": 1}')),
        (("AAEC /w==", "binary"), ("application/octet-stream", b"\x00\x01\x02\xff")),
    ],
)
def test_a_push_that_is_written_can_be_copied_with_the_token_as_a_variable(
    page: "Page", console: FakeConsole, backend: EchoServer, written: tuple[str, str], expected: tuple[str, bytes]
) -> None:
    console.token = "s3cret"
    known = connection(1)
    console.connections = [{**known, "ws_uri": f"127.0.0.1:{backend.server_port}/{known['id']}"}]
    page.goto(f"{console.url}#token=s3cret&/connection/{known['id']}")
    page.wait_for_selector(".facts:has-text('open')")
    command = pushed(page, *written)
    assert "s3cret" not in command
    received = run(command, backend, CONTROL_TOKEN="other")
    assert received.target == f"/{known['id']}"
    assert (received.headers["Content-Type"], received.body) == expected
    assert received.headers["Authorization"] == "Bearer other"


def handshake_headers() -> list[list[str]]:
    pairs: Mapping[str, str] = {
        "Host": "x",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Cookie": "•••",
    }
    return [[name, value] for name, value in pairs.items()]


def test_a_handshake_can_be_copied(page: "Page", console: FakeConsole, backend: EchoServer) -> None:
    known = connection(1)
    console.connections = [known]
    console.node["client_url"] = f"ws://127.0.0.1:{backend.server_port}/gateway"
    fields = {"method": "GET", "path": "/chat", "query": "a=b&token=•••", "remote_address": "192.0.2.1"}
    console.emit(known["id"], "handshake", **fields, headers=handshake_headers())
    page.goto(f"{console.url}#/connection/{known['id']}")
    page.locator("#rows [role=option]").click()
    page.locator("#details").get_by_label("Copy as a curl command").click()
    received = run(str(page.evaluate("navigator.clipboard.readText()")), backend, TOKEN="t", COOKIE="k=v")
    assert received.target == "/gateway/chat?a=b&token=t"
    assert received.headers["Upgrade"] == "websocket"
    assert received.headers["Cookie"] == "k=v"
