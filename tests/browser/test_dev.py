"""The console of a gateway that `wsaas dev` has started, with a backend that fails now and then."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.support.dev_command import running_dev

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A console for all tests of this file."""
    with running_dev() as running:
        yield running


def say(page: "Page", text: str) -> None:
    """Send a message as the test client."""
    page.wait_for_selector(".composer textarea:enabled")
    page.keyboard.type(text)
    page.keyboard.press("Enter")
    page.wait_for_selector(f".chat .received >> text={text}")


def test_what_the_test_client_types_moves_the_diagram(page: "Page", url: str) -> None:
    page.goto(url)
    page.wait_for_selector(".all-well")
    page.click("text=Try it")
    say(page, "hello")
    page.wait_for_selector("#rows >> text=reply")
    words = page.locator("#rows [role=option] .words").all_inner_texts()
    assert [each.partition(" in ")[0] for each in words if "open" not in each][-4:] == [
        'text "hello"',
        "PUT message",
        "200",
        'text "hello"',
    ]


def test_a_message_that_fails_is_seen_to_be_sent_again_and_can_be_replayed(page: "Page", url: str) -> None:
    page.goto(f"{url}#/try")
    say(page, "fail")
    page.wait_for_selector("#rows >> text=try 3")
    assert page.locator("#rows >> text=503").count() == 2
    page.click("#rows >> text=try 3")
    page.click("#details >> text=Replay")
    # For the backend, it is another message, so the first attempt fails.
    page.wait_for_selector("#details >> text=503")
