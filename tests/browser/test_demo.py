"""`wsaas demo` with the console of its gateway: two browsers chat, and the console shows it."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.demo_page import open_demo, say
from tests.support.demo_command import RunningDemo, running_demo

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

TIMEOUT_MS = 10_000


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDemo]:
    """A demo for all tests of this file."""
    folder: Path = tmp_path_factory.mktemp("state")
    with running_demo(folder) as running:
        yield running


def test_two_browsers_chat_and_see_the_requests(page: "Page", browser: "Browser", demo: RunningDemo) -> None:
    open_demo(page, demo.page)
    other = browser.new_page()
    open_demo(other, demo.page)
    say(page, 0, "hello from the first <b>browser</b>")
    for each in (page, other):
        for number in range(2):
            each.wait_for_selector(f".client >> nth={number} >> text=hello from the first <b>browser</b>")
        each.wait_for_selector("#traffic >> text=says “hello from the first <b>browser</b>”")
        assert each.locator("main b >> text=browser").count() == 0
    say(other, 1, "and back")
    page.wait_for_selector(".client .log >> nth=0 >> text=and back")
    fan = page.locator("#traffic .fan").last
    assert fan.inner_text() == "1 → 4", "one request reaches the four clients"
    assert fan.locator(".dot").count() == 4
    other.close()


def test_the_page_leads_to_the_console_which_shows_the_clients(page: "Page", demo: RunningDemo) -> None:
    open_demo(page, demo.page)
    with page.context.expect_page() as opened:
        page.click("text=The console of the gateway", modifiers=["ControlOrMeta"])
    console = opened.value
    console.set_default_timeout(TIMEOUT_MS)
    console.wait_for_selector("text=All is well.")
    assert console.url.startswith(demo.console)
    console.click("nav >> text=Connections")
    console.wait_for_selector("#matched:has-text('2 in all')")
    console.click("#table tbody a >> nth=0")
    console.wait_for_selector("text=Nothing has happened since you are looking.")
    say(page, 1, "look")
    console.wait_for_selector("#rows >> text=publish")


def test_the_test_client_of_the_console_meets_a_real_gateway(page: "Page", demo: RunningDemo) -> None:
    page.goto(demo.console)
    page.click("text=Try it")
    page.wait_for_selector(".composer textarea:enabled")
    page.keyboard.type("hello")
    page.keyboard.press("Enter")
    page.wait_for_selector(".chat .received >> text=hello")
    page.wait_for_selector("#rows >> text=reply")
    labels = page.locator("#rows [role=option] .words").all_inner_texts()
    assert labels[0].startswith("GET /echo?")
    assert [each.split(" in ")[0] for each in labels[1:]] == [
        "POST connect",
        "200",
        "101 open",
        'text "hello"',
        "PUT message",
        "200",
        'text "hello"',
    ]
    page.click("#rows >> text=PUT message")
    page.click("#details >> text=Replay")
    page.wait_for_selector("#details >> text=Replay: 200")
    page.fill(".fold textarea", "pushed")
    page.keyboard.press("Enter")
    page.wait_for_selector(".chat .received >> text=pushed")
    page.wait_for_selector("#rows >> text=push")


def test_a_refusal_by_a_real_backend_is_seen(page: "Page", demo: RunningDemo) -> None:
    page.goto(f"{demo.console}#/try?path=/nowhere")
    page.wait_for_selector("#rows >> text=403")
    page.wait_for_selector("text=refused: see the answer of the backend")
    page.click("#rows >> text=POST connect")
    assert "NO_SUCH_ROOM" in page.inner_text("#details")


def test_the_next_connects_of_a_real_gateway_are_followed(page: "Page", browser: "Browser", demo: RunningDemo) -> None:
    page.goto(f"{demo.console}#/watch")
    page.wait_for_selector("text=Waiting for a client to connect.")
    other = browser.new_page()
    open_demo(other, demo.page)
    page.wait_for_selector("text=2 of 20 clients.")
    page.wait_for_selector(".watched li >> nth=1 >> text=open >> nth=0")
    other.close()
    page.wait_for_selector(".watched >> text=ended")
    page.wait_for_selector("#rows >> text=DELETE disconnect")
