"""axe-core finds no violation on any screen, in both themes, on wide and narrow screens."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.browser import stories
from tests.support.axe import overflow, violations
from tests.support.fake_console import FakeConsole, text_body

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WIDTHS = (1280, 390)
THEMES = ("light", "dark")


@pytest.fixture(
    params=[(width, theme) for width in WIDTHS for theme in THEMES], ids=lambda each: f"{each[0]}-{each[1]}"
)
def page(browser: "Browser", request: pytest.FixtureRequest) -> Iterator["Page"]:
    """A tab of each size and theme. The policy of the page does not hold for what axe adds."""
    width, theme = request.param
    page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=theme, bypass_csp=True)
    yield page
    page.close()


def test_node(page: "Page", console: FakeConsole) -> None:
    page.goto(console.url)
    page.wait_for_selector("text=All is well.")
    assert violations(page) == []
    stories.busy(console)
    page.reload()
    page.wait_for_selector(".problems")
    assert violations(page) == []
    assert overflow(page) <= 0


def test_connections(page: "Page", console: FakeConsole) -> None:
    page.goto(f"{console.url}#/connections")
    page.wait_for_selector("text=No client is connected.")
    assert violations(page) == []
    stories.crowd(console, 200)
    console.missing = ["gw-2"]
    page.click("text=Refresh")
    page.wait_for_selector("#table tbody tr")
    assert violations(page) == []
    assert overflow(page) <= 0


def test_connection(page: "Page", console: FakeConsole) -> None:
    chosen = stories.chat(console)
    page.goto(f"{console.url}#/connection/{chosen}")
    page.wait_for_selector("#rows >> text=PUT push")
    assert violations(page) == []
    assert overflow(page) <= 0
    for text in ("could not be reached", "binary 4 KiB", "GET /rooms/lobby"):
        page.click(f"#rows >> text={text}")
        assert violations(page) == []
        page.keyboard.press("Escape")
    console.emit(chosen, "lost", count=3)
    console.emit(chosen, "end")
    page.wait_for_selector("text=This connection has ended")
    assert violations(page) == []


def test_the_test_client(page: "Page", console: FakeConsole) -> None:
    page.goto(f"{console.url}#/try")
    page.wait_for_selector(".composer textarea:enabled")
    page.keyboard.type("fail")
    page.keyboard.press("Enter")
    page.wait_for_selector(".chat .received")
    assert violations(page) == []
    assert overflow(page) <= 0


def test_the_next_connects(page: "Page", console: FakeConsole) -> None:
    page.goto(f"{console.url}#/watch")
    page.wait_for_selector("text=Waiting for a client to connect.")
    assert violations(page) == []
    for number in range(3):
        console.handshake(f"connection-number-{number}", "/rooms/lobby")
    console.frame("connection-number-1", "in", text_body("hello"))
    page.click(".watched button >> nth=1")
    page.wait_for_selector("#rows >> text=hello")
    assert violations(page) == []
    assert overflow(page) <= 0


def test_the_question_for_the_token(page: "Page", console: FakeConsole) -> None:
    console.token = "s3cret"
    page.goto(console.url)
    page.wait_for_selector("#token-dialog[open]")
    assert violations(page) == []


def test_nobody_answers(page: "Page", console: FakeConsole) -> None:
    console.answers_node = False
    page.goto(console.url)
    page.wait_for_selector("#trouble:not([hidden])")
    assert violations(page) == []


def test_nothing_moves_where_less_motion_is_wanted(page: "Page", console: FakeConsole) -> None:
    page.emulate_media(reduced_motion="reduce")
    chosen = stories.chat(console)
    page.goto(f"{console.url}#/connection/{chosen}")
    page.wait_for_selector("#rows >> text=PUT push")
    console.frame(chosen, "in", text_body("one more"))
    page.wait_for_selector("#rows >> text=one more")
    assert page.evaluate("document.getAnimations().length") == 0
