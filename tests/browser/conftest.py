"""Fixtures of the tests in a browser. All of them have the marker `browser`.

Without Playwright they are not collected: only the tox environment `browser` installs it, and fails without tests.
"""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.chromium import running_chromium
from tests.support.fake_console import FakeConsole

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

HERE = Path(__file__).parent
TIMEOUT_MS = 10_000

collect_ignore_glob = [] if find_spec("playwright") else ["test_*.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give all tests here their marker."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    """A browser for all tests."""
    with running_chromium() as running:
        yield running


@pytest.fixture
def console() -> Iterator[FakeConsole]:
    """A gateway that only has a console."""
    with FakeConsole().running() as running:
        yield running


@pytest.fixture
def context(browser: "Browser") -> Iterator["BrowserContext"]:
    """A profile of its own, which may use the clipboard."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 800}, permissions=["clipboard-read", "clipboard-write"]
    )
    context.set_default_timeout(TIMEOUT_MS)
    yield context
    context.close()


@pytest.fixture
def page(context: "BrowserContext") -> Iterator["Page"]:
    """A tab. The test fails if a script of the page does, or if the policy of the page forbids something."""
    faults = list[str]()
    page = context.new_page()
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if "Security Policy" in message.text else None)
    yield page
    assert faults == []
