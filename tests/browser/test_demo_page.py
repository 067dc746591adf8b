"""The page of `wsaas demo`: what can be seen at once, what each state invites to, and what it survives."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.demo_page import all_are_open, color, is_in_view, open_demo, say
from tests.support.axe import overflow, violations
from tests.support.demo_command import RunningDemo, running_demo
from tests.support.forwarded_port import forwarded_port
from tests.support.ports import free_port
from wsaas.cli.demo_address import own_addresses

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SIZES = {1280: 800, 390: 844}
THEMES = ("light", "dark")
HUES = "(cards) => cards.map((card) => card.style.getPropertyValue('--hue'))"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDemo]:
    """A demo for all tests of this file that do not stop it."""
    with running_demo(tmp_path_factory.mktemp("state")) as running:
        yield running


def assert_accessible(page: "Page") -> None:
    """Check the page as it is now, in both themes and on both sizes."""
    for width, height in SIZES.items():
        page.set_viewport_size({"width": width, "height": height})
        assert overflow(page) <= 0
        for theme in THEMES:
            page.emulate_media(color_scheme="dark" if theme == "dark" else "light", reduced_motion="reduce")
            assert violations(page, animations_ms=0) == []


@pytest.mark.parametrize("width", SIZES)
def test_a_message_is_seen_to_arrive_and_to_be_requests_without_scrolling(
    browser: "Browser", demo: RunningDemo, width: int
) -> None:
    page = browser.new_page(viewport={"width": width, "height": SIZES[width]}, color_scheme="light")
    open_demo(page, demo.page)
    # The clients of another test may still be leaving. Their requests would move those of the message out of view.
    page.locator(".members >> nth=0", has_text=re.compile(r": \w+, \w+$")).wait_for(state="attached")
    text = f"hello at {width}"
    say(page, 0, text)
    publish = page.locator("#traffic .open:has(.fan)", has_text=text)
    publish.wait_for()
    arrived = page.locator(".client >> nth=1 >> .log p", has_text=text)
    request = page.locator("#traffic .open", has_text=f"says “{text}”")
    for element in (page.locator(".say input").first, arrived, request, publish):
        assert is_in_view(element)
    assert page.evaluate("scrollY") == 0

    # The name and the colour are the same on the card, in the messages and in the requests.
    card, name = page.locator(".client").first, page.locator(".client h3").first
    hue = color(card, "borderTopColor")
    assert color(name, "color") == color(request.locator("xpath=.."), "borderLeftColor") == hue
    assert color(arrived.locator(".who"), "color") == color(request.locator(".who"), "color") == hue
    assert name.inner_text() == arrived.locator(".who").inner_text() == request.locator(".who").inner_text()
    assert color(publish.locator(".dot").last, "backgroundColor") == color(page.locator("h3").nth(1), "color") != hue
    page.close()


def test_a_refused_client_says_why_and_can_only_try_again(browser: "Browser", demo: RunningDemo) -> None:
    page = browser.new_page(bypass_csp=True)
    open_demo(page, demo.page)
    page.click("#open-refused")
    card = page.locator(".client").nth(2)
    card.locator("text=The backend answered NO_SUCH_ROOM").wait_for()
    assert card.locator(".state").inner_text() == "refused"
    assert card.locator(".say").is_hidden()
    assert card.locator("summary").is_hidden()

    # The row of its request shows that it opens, and the keyboard opens it.
    row = page.locator("#traffic .open", has_text="nobody wants in: /nowhere, refused").last
    assert row.get_attribute("aria-expanded") == "false"
    assert row.evaluate("(row) => getComputedStyle(row, '::before').borderRightWidth") == "2px"
    assert color(row, "cursor") == "pointer"
    row.press("Enter")
    assert row.get_attribute("aria-expanded") == "true"
    detail = page.locator(f"#{row.get_attribute('aria-controls')}")
    assert "is the ws_uri: the address at which the backend reaches this client." in detail.inner_text()
    assert_accessible(page)
    row.press("Space")
    assert row.get_attribute("aria-expanded") == "false"
    assert detail.is_hidden()

    card.locator("button", has_text="Try again").click()
    card.locator(".state.open").wait_for()
    page.keyboard.type("now it works")
    page.keyboard.press("Enter")
    page.wait_for_selector(".client >> nth=0 >> .log >> text=now it works")
    page.close()


def test_a_client_that_was_closed_stays_closed_until_it_is_connected_again(page: "Page", demo: RunningDemo) -> None:
    open_demo(page, demo.page)
    card = page.locator(".client").first
    card.locator("summary").click()
    command = card.locator(".command pre", has_text="-X DELETE").inner_text()
    assert "is the ws_uri: the address at which the backend reaches this client." in card.inner_text()
    page.request.delete(command.split("'")[1])
    card.locator("text=Closed by the backend, code 1000").wait_for()
    assert card.locator(".say").is_hidden()
    card.locator("text=Reconnect").click()
    all_are_open(page)
    card.locator("text=Close >> nth=0").click()
    card.locator("text=Reconnect").wait_for()
    assert page.evaluate("document.activeElement.textContent") == "Reconnect"
    card.locator("text=Remove").click()
    assert page.locator(".client").count() == 1


def test_nothing_that_is_said_breaks_the_page_or_moves_it(browser: "Browser", demo: RunningDemo) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844}, reduced_motion="reduce")
    said, asked = list[str](), set[str]()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.add(request.url.split("/")[2]))
    open_demo(page, demo.page)
    boxes = [page.locator(part).bounding_box() for part in (".say >> nth=0", ".say >> nth=1", "#traffic")]
    for text in (
        "x" * 5000,
        "👩‍👩‍👧‍👦" * 50,
        "שלום, זה ארוך " * 20,
        "\u202eleft\n<i>",
        '{"type": "message"}',
        '{"type": "joined"}',
    ):
        say(page, 0, text)
    page.wait_for_selector('.log >> nth=1 >> text={"type": "joined"}')
    push = page.locator(".client >> nth=1 >> .command pre >> nth=0").text_content() or ""
    page.request.put(push.split("'")[-2], data=bytes(range(250)), headers={"Content-Type": "application/octet-stream"})
    page.wait_for_selector(".log >> nth=1 >> text=250 bytes: 00 01 02")
    assert boxes == [page.locator(part).bounding_box() for part in (".say >> nth=0", ".say >> nth=1", "#traffic")]
    assert page.evaluate("document.getAnimations().length") == 0
    page.click("#more")
    page.fill("#nick", "עברית 👩‍👩‍👧‍👦 " + "w" * 20)
    page.keyboard.press("Enter")
    all_are_open(page, 3)
    for width in (390, 320, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        assert overflow(page) <= 0
    page.click("#clear")
    assert page.locator("#traffic li").count() == 0
    for _ in range(3):
        page.locator("text=Close >> visible=true").first.click()
        page.locator("text=Remove >> visible=true").first.click()
    assert page.evaluate("getComputedStyle(document.querySelector('#clients'), '::before').content").startswith(
        '"No clients'
    )
    assert said == []
    assert len(asked) == 1, "all requests go to the server of the page"
    page.close()


def test_clients_come_back_after_a_restart_of_the_demo_behind_a_forwarded_port(
    browser: "Browser", tmp_path: Path
) -> None:
    port = free_port()
    flags = ("--host", "0.0.0.0", "--port", str(port))
    page = browser.new_page(bypass_csp=True)
    with forwarded_port(port) as forwarded:
        with ExitStack() as stack:
            demo = stack.enter_context(running_demo(tmp_path, *flags))
            assert "Warning: the demo has no authentication." in demo.greeting
            open_demo(page, f"http://127.0.0.1:{forwarded}/")
            assert page.locator("#console").is_hidden()
            hues = page.locator(".client").evaluate_all(HUES)
            page.fill(".say input >> nth=0", "half a mess")
        for number in range(2):
            card = page.locator(".client").nth(number)
            card.locator(".state.waiting", has_text="reconnecting").wait_for()
            card.locator(".log >> text=Connection lost").wait_for()
        assert page.locator("#traffic-state").inner_text() == "offline"
        send = page.locator(".say button").first
        assert send.is_disabled()
        assert (color(send, "cursor"), color(send, "borderTopStyle")) == ("not-allowed", "dashed")
        page.locator(".say input").first.press("End")
        page.keyboard.type("age")
        page.keyboard.press("Enter")
        assert_accessible(page)
        with running_demo(tmp_path, *flags):
            all_are_open(page)
            page.wait_for_selector(".log >> nth=0 >> text=connected again")
            assert page.locator(".client").evaluate_all(HUES) == hues
            page.locator(".say input").first.press("Enter")
            page.wait_for_selector(".log >> nth=1 >> text=half a message")
    page.close()


def test_clients_of_a_node_that_is_killed_connect_to_another_from_any_machine(
    browser: "Browser", tmp_path: Path
) -> None:
    address = next(own_addresses(), None)
    if address is None:
        pytest.skip("this machine has no address but that of itself")
    page = browser.new_page(bypass_csp=True)
    with running_demo(tmp_path, "--nodes", "2", "--host", address) as demo:
        assert demo.page.startswith(f"http://{address}:")
        open_demo(page, demo.page)
        page.fill(".say input >> nth=0", "still here")
        page.click("[aria-label='Kill node 1']")
        page.wait_for_selector(".client >> nth=0 >> .where >> text=node 2")
        all_are_open(page)
        page.locator(".say input").first.press("Enter")
        page.wait_for_selector(".log >> nth=1 >> text=still here")
        page.wait_for_selector("#nodes >> text=killed")
        assert_accessible(page)
    page.close()
