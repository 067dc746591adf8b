"""The documentation site in a browser: search, navigation, themes, a phone, accessibility; and no other site."""

import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe

pytest.importorskip("sphinx", reason="Sphinx needs Python 3.11")

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ["index", "settings", "rest"]


class Quiet(SimpleHTTPRequestHandler):
    """Serves the files of the site without a log."""

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    # Warnings are errors in the tox environment `docs`.
    subprocess.run([sys.executable, "-m", "sphinx", "-Q", "-b", "html", DOCS, folder], check=True)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def requested(page):
    """The addresses that the page loads."""
    addresses = []
    page.on("request", lambda request: addresses.append(request.url))
    return addresses


@pytest.mark.parametrize("view", [(390, "dark"), (1280, "light")], ids=str)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_accessible_and_as_wide_as_the_screen_and_loads_nothing_from_elsewhere(
    page, requested, site, name, view
):
    width, theme = view
    page.emulate_media(color_scheme=theme)
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"{site}/{name}.html")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert [each["id"] for each in Axe().run(page).response["violations"]] == []
    assert {address for address in requested if not address.startswith(site)} == set()


def test_the_search_finds_a_setting(page, site):
    page.goto(f"{site}/index.html")
    page.locator("input.sidebar-search").fill("MAX_MESSAGE_RATE")
    page.keyboard.press("Enter")
    page.locator("ul.search a", has_text="Settings").first.click()
    page.wait_for_url("**/settings.html*")


def test_the_navigation_leads_to_a_page_and_marks_it(page, site):
    page.goto(f"{site}/index.html")
    page.locator(".sidebar-tree").get_by_role("link", name="Close codes").click()
    page.wait_for_url("**/close-codes.html")
    assert page.locator(".sidebar-tree .current-page").inner_text() == "Close codes"


def test_the_theme_is_chosen_and_kept(page, site):
    page.goto(f"{site}/index.html")
    page.locator(".theme-toggle:visible").first.click()
    chosen = page.locator("body").get_attribute("data-theme")
    assert chosen in {"light", "dark"}
    page.goto(f"{site}/limits.html")
    assert page.locator("body").get_attribute("data-theme") == chosen


def test_a_command_is_copied(page, context, site):
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(f"{site}/command-line.html")
    page.locator(".highlight", has_text="wsaas lambda app.handler").hover()
    page.locator(".highlight", has_text="wsaas lambda app.handler").locator("button.copybtn").click()
    page.wait_for_selector(".copybtn.success")
    assert page.evaluate("navigator.clipboard.readText()").endswith("\nwsaas completion bash")
