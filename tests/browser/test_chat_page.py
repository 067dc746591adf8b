"""The page of examples/chat: without its backend, whose answers and WebSockets a test makes up."""

import json
from typing import TYPE_CHECKING

from tests.support.examples import CHAT

if TYPE_CHECKING:
    from playwright.sync_api import Page, WebSocketRoute

SITE = "http://chat.example"
GATEWAY = "ws://gateway.example"
ROOM = json.dumps({"type": "room", "room": "lobby", "users": ["ada"]})


def log_in(page: "Page") -> None:
    """Log in, and wait until the page connects."""
    page.fill("[name=user]", "ada")
    page.fill("[name=password]", "lovelace")
    with page.expect_response(f"{SITE}/login"):
        page.click("#login button")


def test_the_page_of_the_chat_has_one_connection_however_often_one_logs_in(page: "Page") -> None:
    sockets = list["WebSocketRoute"]()
    ended = list["WebSocketRoute"]()

    def connect(socket: "WebSocketRoute") -> None:
        sockets.append(socket)
        socket.on_close(lambda *_: ended.append(socket))

    page.clock.install()
    page.route(f"{SITE}/", lambda route: route.fulfill(path=CHAT.folder / "index.html"))
    page.route(f"{SITE}/login", lambda route: route.fulfill(json={"gateway": GATEWAY}))
    page.route_web_socket(f"{GATEWAY}/**", connect)
    page.goto(SITE)
    page.evaluate("Math.random = () => 1")

    log_in(page)
    page.get_by_text("Connected").wait_for()
    sockets[0].close(code=1012)
    page.get_by_text("Connection lost (1012), next attempt in 1 s").wait_for()
    page.clock.fast_forward(1000)
    page.get_by_text("Connected").wait_for()
    sockets[1].close(code=1012)
    page.get_by_text("next attempt in 2 s").wait_for()
    log_in(page)
    page.get_by_text("Connected").wait_for()
    page.clock.fast_forward(60_000)
    assert len(sockets) == 3, "the wait for the next attempt is over"

    assert sockets[2] not in ended
    page.evaluate("document.getElementById('state').textContent = ''")
    log_in(page)
    page.get_by_text("Connected").wait_for()
    assert sockets[2] in ended
    sockets[3].send(ROOM)
    page.get_by_text("lobby: ada").wait_for()
    assert (len(sockets), sockets[3] in ended) == (4, False)
