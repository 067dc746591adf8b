"""The JavaScript client in a page, while the gateway and its backend are stopped, killed and started again."""

import os
import signal
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.demo import serving
from tests.support.javascript_client import CLIENT
from tests.support.restartable import Restartable, once_each, restartable, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

QUICK = {"minDelay": 50, "maxDelay": 500}
PAGE = b"""<!doctype html><title>A page</title>
<script type="module">
  import { ReconnectingWebSocket } from "/index.js";

  window.connect = (url, options) => {
    const client = new ReconnectingWebSocket(url, options);
    const seen = { sent: 0, opens: 0, closes: [], acks: 0 };
    Object.assign(window, { client, seen });
    client.addEventListener("open", () => seen.opens++);
    client.addEventListener("message", (event) => (seen.acks++, event.acknowledge()));
    client.addEventListener("close", ({ code, reason, willReconnect, pending }) =>
      seen.closes.push({ code, reason, willReconnect, pending: pending.length }));
  };

  window.countPings = () => {
    const { send } = WebSocket.prototype;
    seen.pings = 0;
    WebSocket.prototype.send = function (data) {
      seen.pings += data === "ping";
      send.call(this, data);
    };
  };

  window.stream = () => (window.streaming = setInterval(() => client.send(String(seen.sent++)), 2));
</script>
"""


class Handler(BaseHTTPRequestHandler):
    """Serves the page and the client."""

    def do_GET(self) -> None:
        is_client = self.path == "/index.js"
        body = (CLIENT / "index.js").read_bytes() if is_client else PAGE
        self.send_response(200)
        self.send_header("Content-Type", "text/javascript" if is_client else "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The address of the page."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with serving(server):
        yield f"http://127.0.0.1:{server.server_port}/"


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[Restartable]:
    """A gateway and its backend."""
    with restartable(tmp_path, heartbeat="ping=pong") as running:
        yield running


def connect(page: "Page", site: str, ends: Restartable, options: Mapping[str, object] = QUICK) -> None:
    """Open the page and connect."""
    page.goto(site)
    page.wait_for_function("'connect' in window")
    page.evaluate("([url, options]) => connect(url, options)", [ends.url, options])
    page.wait_for_function("seen.opens")


def finish(page: "Page", ends: Restartable) -> dict[str, Any]:
    """Stop the stream, wait until nothing is pending, close; return what the page has seen, and check what arrives."""
    page.evaluate("clearInterval(streaming)")
    page.wait_for_function("client.readyState === 1 && client.pending === 0")
    page.evaluate("client.close()")
    page.wait_for_function("client.readyState === 3")
    seen: dict[str, Any] = page.evaluate("seen")
    wait_until(lambda: len(once_each(ends.messages())) >= seen["sent"], "the last messages", ends.messages)
    assert once_each(ends.messages()) == list(range(seen["sent"]))
    return seen


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_restart_of_the_backend_loses_and_repeats_nothing(
    page: "Page", site: str, ends: Restartable, how: str
) -> None:
    connect(page, site, ends)
    page.evaluate("stream()")
    for _ in range(2):
        ends.wait_for_more()
        ends.stop(ends.backend) if how == "stop" else ends.backend.kill()
        ends.start(ends.backend)
    ends.wait_for_more()
    seen = finish(page, ends)
    assert len(ends.messages()) == seen["sent"]
    assert [each["code"] for each in seen["closes"]] == [1000]


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_with_acknowledgements_no_restart_of_anything_loses_a_message(
    page: "Page", site: str, ends: Restartable, how: str
) -> None:
    connect(page, site, ends, {**QUICK, "acknowledgements": True})
    page.evaluate("stream()")
    for program in (ends.backend, ends.gateway, ends.backend, ends.gateway):
        ends.wait_for_more()
        ends.stop(program) if how == "stop" else program.kill()
        ends.start(program)
    ends.wait_for_more()
    seen = finish(page, ends)
    assert seen["opens"] == 3
    codes = [each["code"] for each in seen["closes"] if each["code"] != 1006]
    assert codes == ([1001, 1001, 1000] if how == "stop" else [1000])


def test_what_is_sent_while_the_gateway_is_down_arrives_once(page: "Page", site: str, ends: Restartable) -> None:
    connect(page, site, ends)
    ends.gateway.kill()
    page.wait_for_function("seen.closes.length")
    page.evaluate("stream()")
    page.wait_for_function("seen.sent > 100")
    ends.start(ends.gateway)
    ends.wait_for_more()
    seen = finish(page, ends)
    assert len(ends.messages()) == seen["sent"]


def test_what_the_socket_had_not_sent_yet_is_sent_again(page: "Page", site: str, ends: Restartable) -> None:
    connect(page, site, ends, {**QUICK, "maxPending": 1 << 30})
    os.kill(ends.gateway.pid, signal.SIGSTOP)
    # The numbers are followed by spaces. The kernel does not take so much.
    page.evaluate("() => { for (let number = 0; number < 60; number++) client.send(String(number).padEnd(500_000)); }")
    page.wait_for_timeout(200)
    ends.gateway.kill()
    page.wait_for_function("seen.closes.length")
    ends.start(ends.gateway)
    pending = page.evaluate("seen.closes[0].pending")
    assert 0 < pending < 60
    wait_until(lambda: len(ends.messages()) >= pending, "what was pending")
    assert list(map(int, ends.messages())) == list(range(60 - pending, 60))


def test_a_gateway_that_hangs_is_noticed_by_the_heartbeat(page: "Page", site: str, ends: Restartable) -> None:
    heartbeat = {"interval": 50, "timeout": 200}
    options = {**QUICK, "acknowledgements": True, "connectTimeout": 500, "heartbeat": heartbeat}
    connect(page, site, ends, options)
    page.evaluate("stream()")
    ends.wait_for_more()
    os.kill(ends.gateway.pid, signal.SIGSTOP)
    for reason in ("heartbeat timeout", "connect timeout"):
        page.wait_for_function("reason => seen.closes.some(each => each.reason === reason)", arg=reason)
    os.kill(ends.gateway.pid, signal.SIGCONT)
    ends.wait_for_more()
    finish(page, ends)


def test_the_gateway_answers_heartbeats_while_the_backend_is_stopped(
    page: "Page", site: str, ends: Restartable
) -> None:
    connect(page, site, ends, {**QUICK, "heartbeat": {"interval": 20, "timeout": 5000}})
    page.evaluate("countPings()")
    os.kill(ends.backend.pid, signal.SIGSTOP)
    try:
        page.wait_for_function("seen.pings >= 5")
    finally:
        os.kill(ends.backend.pid, signal.SIGCONT)
    assert page.evaluate("seen.closes") == []
    # No message, but for the answers.
    assert page.evaluate("seen.acks") == 0


def test_a_refusal_with_a_close_can_be_read_and_is_final(page: "Page", site: str, ends: Restartable) -> None:
    page.goto(site)
    page.wait_for_function("'connect' in window")
    for protocols in ([], ["v2", "v1"]):
        options = {**QUICK, "protocols": protocols}
        page.evaluate("([url, options]) => connect(url, options)", [f"{ends.url}refused", options])
        page.wait_for_function("client.readyState === 3")
        (end,) = page.evaluate("seen.closes")
        assert end == {"code": 4401, "reason": "token expired", "willReconnect": False, "pending": 0}


def test_a_close_of_the_backend_with_a_code_of_its_own_is_final(page: "Page", site: str, ends: Restartable) -> None:
    connect(page, site, ends)
    page.evaluate("client.send('close 4403 forbidden')")
    page.wait_for_function("client.readyState === 3")
    assert page.evaluate("seen.closes") == [{"code": 4403, "reason": "forbidden", "willReconnect": False, "pending": 0}]


def test_the_end_of_being_offline_ends_the_wait(
    page: "Page", context: "BrowserContext", site: str, ends: Restartable
) -> None:
    connect(page, site, ends, {"minDelay": 1_000_000, "maxDelay": 1_000_000})
    ends.gateway.kill()
    page.wait_for_function("seen.closes.length")
    ends.start(ends.gateway)
    context.set_offline(True)
    context.set_offline(False)
    page.wait_for_function("seen.opens === 2")
