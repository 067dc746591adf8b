"""The screen "Connection": the diagram, the details, replays, and what can be sent."""

import json
from typing import TYPE_CHECKING

import pytest

from tests.browser import stories
from tests.support.fake_console import FakeConsole, binary_body, connection, text_body

JOINED = '{"type": "joined", "nick": "ada", "room": "lobby", "members": ["ada", "grace", "alan"]}'

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page


@pytest.fixture
def chat(page: "Page", console: FakeConsole) -> str:
    """The id of a connection that the page shows, with a short history."""
    chosen = stories.chat(console)
    page.goto(f"{console.url}#/connection/{chosen}")
    page.wait_for_selector("#rows >> text=PUT push")
    return chosen


def rows(page: "Page") -> "Locator":
    """Return the rows of the diagram."""
    return page.locator("#rows [role=option]")


def watching(page: "Page", console: FakeConsole) -> str:
    """Show a connection without history. Return its id."""
    known = connection(1)
    console.connections = [known]
    page.goto(f"{console.url}#/connection/{known['id']}")
    page.wait_for_selector("text=Nothing has happened since you are looking.")
    return str(known["id"])


def test_each_step_is_an_arrow_with_a_short_text(page: "Page", chat: str) -> None:
    assert rows(page).evaluate_all("rows => rows.map(row => row.getAttribute('aria-label'))") == [
        "client to gateway: GET /rooms/lobby?nick=ada&token=•••",
        "gateway to backend: POST connect",
        "backend to gateway: 200 in 1.7 ms",
        "gateway to client: 101 open compressed",
        "open",
        f'gateway to client: text "{JOINED[:80]}… publish',
        'client to gateway: text "hello, everybody"',
        "gateway to backend: PUT message 16 B",
        "backend to gateway: 200 in 1.7 ms",
        'gateway to client: text "{"type": "message", "from": "ada", "text": "hello, everybody"}" publish',
        'client to gateway: text "is anybody there?"',
        "gateway to backend: PUT message 17 B",
        "backend to gateway: 503 in 2.3 ms again in 118 ms",
        "gateway to backend: PUT message 17 B try 2",
        "backend to gateway: could not be reached again in 402 ms",
        "gateway to backend: PUT message 17 B try 3",
        "backend to gateway: 200 in 3.1 ms",
        "backend to gateway: PUT push 4 KiB",
        "gateway to client: binary 4 KiB push",
    ]
    assert page.inner_text("#connection-subtitle") == chat
    assert "room=lobby&nick=ada" in page.inner_text(".facts")


@pytest.mark.usefixtures("chat")
def test_the_details_of_a_request_have_its_answer(page: "Page") -> None:
    page.click("text=POST connect")
    details = page.inner_text("#details")
    assert "POST /websocket?token=•••" in details
    assert '"remote_address": "203.0.113.7"' in details, "JSON is laid out"
    assert "Answer: 200" in details
    assert page.locator("#details table").first.locator("tr", has_text="Authorization").inner_text().split() == [
        "Authorization",
        "•••",
    ]
    page.click("text=could not be reached")
    assert "Answer: could not be reached" in page.inner_text("#details")
    assert "again in 402 ms" in page.inner_text("#details")


def test_binary_and_truncated_bodies_are_shown_as_such(page: "Page", console: FakeConsole) -> None:
    chosen = watching(page, console)
    console.frame(chosen, "in", binary_body(b"\x00\x01ABC\xff", 70_000))
    page.click("text=binary 68.4 KiB")
    assert "Body, 68.4 KiB, binary: only its beginning is kept" in page.inner_text("#details")
    assert "0000  00 01 41 42 43 ff" in page.inner_text("#details pre")
    console.frame(chosen, "in", {"text": '{"a": "it is cut', "size": 20_000, "truncated": True})
    page.click("#rows >> text=it is cut")
    assert page.inner_text("#details pre") == '{"a": "it is cut'


def test_json_that_is_nested_very_deep_is_shown_as_it_is(page: "Page", console: FakeConsole) -> None:
    chosen = watching(page, console)
    deep = "[" * 8000 + "]" * 8000
    console.frame(chosen, "in", text_body(deep))
    page.click("#rows >> text=[[[[")
    assert page.inner_text("#details pre") == deep
    console.frame(chosen, "in", text_body('{"a": [[1]]}'))
    page.click("#rows >> text=[[1]]")
    assert page.inner_text("#details pre").count("\n") == 6


@pytest.mark.usefixtures("chat")
def test_the_keyboard_moves_through_the_events_and_closes_the_details(page: "Page") -> None:
    page.focus("#clear")
    page.keyboard.press("Tab")
    page.keyboard.press("End")
    assert page.inner_text("#details-title") == "Frame to the client"
    page.keyboard.press("ArrowUp")
    assert page.inner_text("#details-title") == "Push of the backend"
    page.keyboard.press("Home")
    assert page.inner_text("#details-title") == "Handshake"
    page.keyboard.press("PageDown")
    assert page.locator("#rows [aria-selected=true]").count() == 1
    page.keyboard.press("Escape")
    assert not page.is_visible("#details")
    assert page.evaluate("document.activeElement.getAttribute('role')") == "option"


def test_the_newest_event_is_followed_unless_one_has_scrolled_up(page: "Page", console: FakeConsole) -> None:
    chosen = watching(page, console)
    for number in range(100):
        console.frame(chosen, "in", text_body(f"m{number}"))
    page.wait_for_selector("#rows >> text=m99")
    page.wait_for_timeout(100)
    assert rows(page).last.is_visible()
    page.evaluate("document.querySelector('#rows').scrollTop = 200")
    page.wait_for_timeout(50)
    for number in range(100, 103):
        console.frame(chosen, "in", text_body(f"m{number}"))
    page.click("text=3 new events ↓")
    assert page.evaluate("(e => e.scrollTop + e.clientHeight >= e.scrollHeight - 8)(document.querySelector('#rows'))")
    assert not page.is_visible("#newer")


def test_the_list_is_bounded_and_fast(page: "Page", console: FakeConsole) -> None:
    chosen = watching(page, console)
    for number in range(3000):
        console.frame(chosen, "in", text_body(f"m{number}"))
    page.wait_for_selector("#rows >> text=m2999")
    assert rows(page).count() == 1000
    took = page.evaluate(
        """() => new Promise(resolve => {
            const frames = []; let last = performance.now();
            const step = (now) => { frames.push(now - last); last = now; rows.scrollTop = frames.length * 200;
                frames.length < 60 ? requestAnimationFrame(step) : resolve(frames.sort((a, b) => a - b)[54]); };
            const rows = document.querySelector("#rows"); requestAnimationFrame(step);
        })"""
    )
    assert took < 50, "ninety of a hundred frames of scrolling are drawn in time"


def test_pings_are_shown_on_demand(page: "Page", console: FakeConsole) -> None:
    chosen = watching(page, console)
    console.emit(chosen, "frame", direction="out", opcode="ping", size=0, cause="gateway")
    console.emit(chosen, "frame", direction="in", opcode="pong", size=0)
    console.emit(chosen, "frame", direction="in", opcode="close", size=5, code=1000, reason="bye")
    page.wait_for_selector("#rows >> text=close 1000")
    assert rows(page).count() == 1
    page.check("#show-pings")
    assert rows(page).count() == 3


def test_lost_events_and_unknown_kinds_are_notes(page: "Page", console: FakeConsole) -> None:
    chosen = watching(page, console)
    console.emit(chosen, "lost", count=412)
    console.emit(chosen, "state", paused=True)
    console.emit(chosen, "something-new")
    page.wait_for_selector("text=412 events missed: this page was too slow")
    page.wait_for_selector("text=paused: no more is read from the client")
    page.wait_for_selector("text=something-new")


def test_a_replay_is_marked_and_its_answer_only_shown(page: "Page", console: FakeConsole, chat: str) -> None:
    console.replay_answer = {
        "status": 409,
        "headers": [["content-type", "application/json"]],
        "body": text_body('{"code":"REPEAT"}'),
        "took_ms": 2.0,
    }
    page.click("text=try 2")
    page.click("#details >> text=Replay")
    page.wait_for_selector("#details >> text=Replay: 409")
    assert '"code": "REPEAT"' in page.inner_text(".replay")
    (request,) = (each for each in console.rings[chat] if each.get("attempt") == 2 and each["kind"] == "request")
    assert console.replayed == [{"seq": request["seq"]}]
    labels = rows(page).evaluate_all("rows => rows.slice(-2).map(row => row.getAttribute('aria-label'))")
    assert labels == ["gateway to backend: PUT message 17 B replay", "backend to gateway: 409 in 2 ms replay"]


def test_a_replay_of_what_left_the_ring_says_so(page: "Page", console: FakeConsole, chat: str) -> None:
    page.click("text=try 2")
    console.rings[chat].clear()
    page.click("#details >> text=Replay")
    page.wait_for_selector("#details >> text=Replay: the gateway no longer has this request")


def test_a_push_and_a_close_are_sent(page: "Page", console: FakeConsole, chat: str) -> None:
    page.fill(".composer textarea", "hello")
    page.keyboard.press("Enter")
    page.wait_for_selector('#rows >> text=text "hello"')
    page.select_option(".composer select", "json")
    page.fill(".composer textarea", "{no")
    page.click(".composer button:text-is('Push')")
    page.wait_for_selector("text=This is not JSON.")
    page.select_option(".composer select", "binary")
    page.fill(".composer textarea", "AP8=")
    page.click(".composer button:text-is('Push')")
    page.click("text=Close this connection")
    page.fill(".close-form .code input", "4000")
    page.fill(".close-form label:not(.code) input", "bye")
    page.click(".close-form button")
    page.wait_for_timeout(200)
    assert [(method, kind, body) for method, _, kind, body in console.sent] == [
        ("PUT", "text/plain", b"hello"),
        ("PUT", "application/octet-stream", b"\x00\xff"),
        ("DELETE", "application/json", b'{"code":4000,"reason":"bye"}'),
    ]
    assert console.sent[0][1] == chat
    assert json.loads(console.sent[2][3])["code"] == 4000


def test_a_broken_stream_continues_after_the_last_event(page: "Page", console: FakeConsole, chat: str) -> None:
    last = str(console.rings[chat][-1]["seq"])
    console.break_streams()
    page.wait_for_selector("#stream-state:has-text('Next try')")
    console.frame(chat, "in", text_body("after the break"))
    page.wait_for_selector('#rows >> text=text "after the break"')
    page.wait_for_selector("#stream-state:has-text('live')")
    assert console.last_ids == ["", last]
    assert rows(page).count() == 20


def test_a_connection_that_is_gone_is_said_to_be(page: "Page", console: FakeConsole) -> None:
    page.goto(f"{console.url}#/connection/unknown")
    page.wait_for_selector("#left >> text=This connection has ended.")
    assert page.inner_text("#stream-state") == "gone"
    assert not page.is_visible(".composer")


def test_the_end_of_a_connection_stops_the_stream(page: "Page", console: FakeConsole, chat: str) -> None:
    console.emit(chat, "end")
    page.wait_for_selector("#stream-state:has-text('ended')")
    page.wait_for_selector("text=the end: nothing is left to deliver")
    assert len(console.last_ids) == 1


def test_leaving_the_screen_leaves_the_stream(page: "Page", console: FakeConsole, chat: str) -> None:
    assert len(console.streams) == 1
    page.click("text=Connections")
    page.wait_for_selector("#table tbody tr")
    for _ in range(100):
        console.emit(chat, "state", state="OPEN", reason=None)
        page.wait_for_timeout(20)
        if not console.streams:
            break
    assert not console.streams


def test_text_of_clients_is_never_markup(page: "Page", console: FakeConsole) -> None:
    chosen = watching(page, console)
    console.frame(chosen, "in", text_body("<img src=x onerror=alert(1)>"))
    page.click("#rows >> text=onerror")
    assert page.locator("main img").count() == 0
    assert page.inner_text("#details pre") == "<img src=x onerror=alert(1)>"


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("chunk", [1, 7])
def test_events_may_come_in_pieces(page: "Page", console: FakeConsole, line_end: str, chunk: int) -> None:
    chosen = watching(page, console)
    console.line_end, console.chunk = line_end, chunk
    for text in ("ü ☃ 🎉", "a: b", "the last but one", "the last"):
        console.frame(chosen, "in", text_body(text))
    page.wait_for_selector("#rows >> text=the last but one")
    assert page.locator("#rows .words").all_inner_texts()[:3] == [
        'text "ü ☃ 🎉"',
        'text "a: b"',
        'text "the last but one"',
    ]


@pytest.mark.parametrize("width", [1280, 1000, 390])
@pytest.mark.usefixtures("chat")
def test_the_chosen_event_is_seen_beside_its_details(page: "Page", width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.click("#rows >> text=try 3")
    page.wait_for_timeout(100)
    row, details = page.locator("[aria-selected=true] .arrow").bounding_box(), page.locator("#details").bounding_box()
    assert row
    assert details
    beside = row["x"] + row["width"] <= details["x"] or details["x"] + details["width"] <= row["x"]
    assert beside or row["y"] + row["height"] <= details["y"]
    assert row["y"] > 0
    heights = page.locator("#details pre").evaluate_all("all => all.map(each => each.offsetHeight - each.scrollHeight)")
    assert min(heights) >= 0, "no body is squeezed"
