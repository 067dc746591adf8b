"""Finds and starts the Chromium or Chrome of this machine. Nothing is downloaded."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_chromium() -> str:
    """Return the path of the browser: `CHROMIUM`, or one on the PATH."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    assert found, f"no browser found ({', '.join(NAMES)}): install Debian's package chromium, or set CHROMIUM"
    return found


@contextmanager
def running_chromium() -> Iterator["Browser"]:
    """Start the browser."""
    # Only these tests need the package.
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - only the tests in a browser have it

    # The sandbox cannot be used by root. The pages are our own.
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    arguments = [*sandbox, "--disable-dev-shm-usage", "--force-color-profile=srgb"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=arguments)
        try:
            yield browser
        finally:
            browser.close()
