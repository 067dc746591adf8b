"""Tokens of a page: in the query, as subprotocol and in a cookie, and as `Authorization` for the backend."""

import json
import queue
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.demo import serving
from tests.support.ports import free_port
from tests.support.program import gateway_program
from tests.support.restartable import wait_until
from tests.support.waiting import TIMEOUT_S

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

TOKEN = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEifQ.s3cr-_"
PLACES = "query:access_token,subprotocol:bearer.,cookie:session"
CONNECT = """([url, protocols]) => new Promise((resolve) => {
  const socket = new WebSocket(url, protocols);
  let isOpen = false;
  socket.onopen = () => { isOpen = true; socket.send("hello"); socket.close(); };
  socket.onclose = ({ code }) => resolve({ isOpen, code, protocol: socket.protocol });
})"""


class Site(ThreadingHTTPServer):
    """Serves an empty page, and is the backend. `requests`: what the gateway sent, each with its `Authorization`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: queue.Queue[tuple[str, str | None, str]] = queue.Queue()
        self.gateway = ""

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://127.0.0.1:{self.server_port}/"

    def take(self, method: str) -> tuple[str | None, str]:
        """Return the `Authorization` and the body of the next request, which has to have this method."""
        taken, authorization, body = self.requests.get(timeout=TIMEOUT_S)
        assert taken == method
        return authorization, body


class Handler(BaseHTTPRequestHandler):
    """Answers the browser and the gateway."""

    protocol_version = "HTTP/1.1"
    server: Site

    def do_GET(self) -> None:
        """Serve the page."""
        self.answer(b"<!doctype html><title>A page</title>", "text/html")

    def do_POST(self) -> None:
        """Take what the gateway sends."""
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.requests.put((self.command, self.headers["Authorization"], body))
        self.answer(b'{"code": "OK"}', "application/json")

    do_PUT = do_DELETE = do_POST  # noqa: N815 - http.server wants these names

    def answer(self, body: bytes, content_type: str) -> None:
        """Send a response."""
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A page, and a gateway whose backend is its server."""
    server, port = Site(), free_port()
    settings = {"BROWSER_AUTHORIZATION": PLACES, "SUBPROTOCOLS": "chat"}
    log: Path = tmp_path_factory.mktemp("gateway") / "log"
    program = gateway_program(f"127.0.0.1:{server.server_port}/hook", port, log, settings)
    server.gateway = f"ws://127.0.0.1:{port}/room"
    with serving(server):
        program.spawn()
        try:
            wait_until(lambda: "listening" in program.said(), "the gateway", program.said)
            yield server
        finally:
            program.kill()


def connect(page: "Page", site: Site, query: str = "", protocols: list[str] | None = None) -> dict[str, Any]:
    """Connect from the page, send a message and close. Return how that went."""
    page.goto(site.url)
    seen: dict[str, Any] = page.evaluate(CONNECT, [site.gateway + query, protocols or []])
    return seen


def check(site: Site) -> dict[str, Any]:
    """Check that all requests have the token as `Authorization`, and only there. Return what the POST tells."""
    authorization, body = site.take("POST")
    assert TOKEN not in body
    assert authorization == f"Bearer {TOKEN}"
    assert site.take("PUT") == (authorization, "hello")
    authorization, last = site.take("DELETE")
    assert (authorization, TOKEN in last) == (f"Bearer {TOKEN}", False)
    request: dict[str, Any] = json.loads(body)["request"]
    return request


def test_a_token_in_the_query(page: "Page", site: Site) -> None:
    assert connect(page, site, f"?nick=ada&access_token={TOKEN}") == {"isOpen": True, "code": 1005, "protocol": ""}
    assert check(site)["query"] == "nick=ada"


def test_a_token_beside_a_subprotocol(page: "Page", site: Site) -> None:
    seen = connect(page, site, protocols=["chat", f"bearer.{TOKEN}"])
    assert seen == {"isOpen": True, "code": 1005, "protocol": "chat"}
    assert check(site)["subprotocols"] == ["chat"]


def test_a_browser_does_not_connect_if_it_offers_only_its_token(page: "Page", site: Site) -> None:
    seen = connect(page, site, protocols=[f"bearer.{TOKEN}"])
    assert seen == {"isOpen": False, "code": 1006, "protocol": ""}
    authorization, body = site.take("POST")
    assert (authorization, json.loads(body)["request"]["subprotocols"]) == (f"Bearer {TOKEN}", [])
    site.take("DELETE")


def test_a_token_in_a_cookie_that_scripts_cannot_read(page: "Page", context: "BrowserContext", site: Site) -> None:
    context.add_cookies(
        [
            {"name": "session", "value": TOKEN, "url": site.url, "httpOnly": True, "sameSite": "Strict"},
            {"name": "theme", "value": "dark", "url": site.url},
        ]
    )
    assert connect(page, site)["isOpen"]
    assert page.evaluate("document.cookie") == "theme=dark"
    assert check(site)["headers"]["cookie"] == "theme=dark"


def test_an_unusable_token_is_a_failed_connection(page: "Page", site: Site) -> None:
    seen = connect(page, site, f"?access_token={TOKEN}&access_token=other")
    assert seen == {"isOpen": False, "code": 1006, "protocol": ""}
    assert site.requests.empty()
