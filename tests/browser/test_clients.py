"""The test client, and the next connects."""

import time
from typing import TYPE_CHECKING

from tests.support.fake_console import FakeConsole, text_body
from tests.support.ports import free_port

if TYPE_CHECKING:
    from playwright.sync_api import Page


def labels(page: "Page") -> list[str]:
    """Return the texts of the rows of the diagram."""
    found: list[str] = page.locator("#rows [role=option] .words").all_inner_texts()
    return found


def try_it(page: "Page", console: FakeConsole) -> None:
    """Open the test client as a user does."""
    page.goto(console.url)
    page.click("text=Try it")
    page.wait_for_selector(".composer textarea:enabled")


def test_one_click_and_one_word_move_the_diagram_within_ten_seconds(page: "Page", console: FakeConsole) -> None:
    start = time.monotonic()
    try_it(page, console)
    page.keyboard.type("hello")
    page.keyboard.press("Enter")
    page.wait_for_selector(".chat .received >> text=hello")
    page.wait_for_selector("#rows >> text=reply")
    assert time.monotonic() - start < 10
    assert labels(page)[-4:] == ['text "hello"', "PUT message", "200 in 1.7 ms", 'text "hello"']
    assert labels(page)[1:4] == ["POST connect", "200 in 1.7 ms", "101 open"]


def test_retries_are_repeated_arrows(page: "Page", console: FakeConsole) -> None:
    try_it(page, console)
    page.keyboard.type("fail")
    page.keyboard.press("Enter")
    page.wait_for_selector("#rows >> text=try 3")
    assert labels(page)[-7:-1] == [
        "PUT message",
        "503 in 1.7 ms",
        "PUT message",
        "503 in 1.7 ms",
        "PUT message",
        "200 in 1.7 ms",
    ]


def test_the_events_of_other_clients_are_not_shown(page: "Page", console: FakeConsole) -> None:
    try_it(page, console)
    console.handshake("other", "/echo")
    console.frame("other", "in", text_body("of another client"))
    page.keyboard.type("mine")
    page.keyboard.press("Enter")
    page.wait_for_selector("#rows >> text=mine")
    assert page.locator("#rows >> text=of another client").count() == 0
    assert labels(page).count("POST connect") == 1, "two streams do not show an event twice"


def test_a_refusal_is_seen_in_the_diagram(page: "Page", console: FakeConsole) -> None:
    try_it(page, console)
    page.fill(".tester input", "/refused")
    page.keyboard.press("Enter")
    page.wait_for_selector("#rows >> text=403 NO_SUCH_ROOM")
    page.wait_for_selector("text=refused: see the answer of the backend")
    assert page.is_disabled(".composer textarea >> nth=0")
    page.reload()
    assert page.input_value(".tester input") == "/refused", "the path is kept for this tab"


def test_the_backend_side_pushes(page: "Page", console: FakeConsole) -> None:
    try_it(page, console)
    page.fill(".fold textarea", "from the backend")
    page.keyboard.press("Enter")
    page.wait_for_selector(".chat .received >> text=from the backend")
    page.wait_for_selector("#rows >> text=PUT push")
    assert console.sent[0][0] == "PUT"


def test_binary_messages_are_written_as_base64(page: "Page", console: FakeConsole) -> None:
    try_it(page, console)
    page.select_option(".composer select >> nth=0", "binary")
    page.fill(".composer textarea >> nth=0", "AAEC")
    page.keyboard.press("Enter")
    page.wait_for_selector("#rows >> text=binary 3 B")
    page.fill(".composer textarea >> nth=0", "?")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=This is not base64.")


def test_a_close_ends_the_story(page: "Page", console: FakeConsole) -> None:
    try_it(page, console)
    page.click(".tester button:text-is('Close')")
    page.wait_for_selector("text=the end: nothing is left to deliver")
    page.wait_for_selector(".tester .state:has-text('closed with 1000')")
    page.click(".tester button:text-is('Connect')")
    page.wait_for_selector(".composer textarea:enabled")


def test_the_next_connects_appear_from_their_first_byte(page: "Page", console: FakeConsole) -> None:
    page.goto(f"{console.url}#/watch")
    page.wait_for_selector("text=Waiting for a client to connect.")
    console.handshake("first-connection", "/rooms/lobby")
    console.handshake("second-connection", "/rooms/kitchen")
    console.emit("first-connection", "opened", status=101, subprotocol="chat.v1", compression=False)
    console.emit("second-connection", "refused", status=403, code="NO")
    page.wait_for_selector("text=2 of 20 clients.")
    page.wait_for_selector("#rows >> text=chat.v1")
    assert page.locator("#rows [role=option]").count() == 6
    items = [each.split("\n") for each in page.locator(".watched li").all_inner_texts()]
    assert [each[:2] for each in items] == [["/rooms/lobby", "open"], ["/rooms/kitchen", "refused, 403"]]
    page.click('.watched >> text="/rooms/kitchen"')
    assert page.locator("#rows [role=option]").count() == 3
    page.click('.watched >> text="/rooms/kitchen"')
    assert page.locator("#rows [role=option]").count() == 6


def test_only_one_path_can_be_watched(page: "Page", console: FakeConsole) -> None:
    page.goto(f"{console.url}#/watch")
    page.fill(".left input", "/b")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Waiting for a client to connect.")
    assert page.url.endswith("#/watch?path=%2Fb")
    console.handshake("one", "/a")
    console.handshake("two", "/b")
    page.wait_for_selector("text=1 of 20 clients.")


def test_a_whole_url_can_be_typed_if_clients_connect_elsewhere(page: "Page", console: FakeConsole) -> None:
    console.node["client_url"] = f"ws://localhost:{free_port()}"
    page.goto(f"{console.url}#/try")
    page.wait_for_selector("text=No handshake arrived. Nobody answers at ws://localhost:")
    page.fill(".tester input", f"ws://127.0.0.1:{console.port}/echo?a=b")
    page.keyboard.press("Enter")
    page.wait_for_selector(".composer textarea:enabled")
    assert labels(page)[0].startswith("GET /echo?a=b&wsaas-console=")


def test_a_link_names_a_path_but_no_other_server(page: "Page", console: FakeConsole) -> None:
    page.goto(f"{console.url}#/try?path=/hello")
    page.wait_for_selector(".composer textarea:enabled")
    assert page.input_value(".tester input") == "/hello"
    page.goto("about:blank")
    page.goto(f"{console.url}#/try?path=wss://other.example/")
    page.wait_for_selector(".composer textarea:enabled")
    assert page.input_value(".tester input") == "/hello"
