"""The screen "Connections"."""

from typing import TYPE_CHECKING

from tests.browser import stories
from tests.support.fake_console import FakeConsole, connection

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROWS = "#table tbody tr"


def test_no_connection_at_all_leads_to_the_test_client(page: "Page", console: FakeConsole) -> None:
    page.goto(f"{console.url}#/connections")
    page.wait_for_selector("text=No client is connected.")
    assert not page.is_visible("#table")
    assert not page.is_visible("#pages")
    page.locator("#no-connections").get_by_role("link", name="Try it").click()
    page.wait_for_selector("h1:has-text('Try it')")


def test_a_few_connections_are_a_table_without_pages(page: "Page", console: FakeConsole) -> None:
    stories.crowd(console, 3)
    console.connections[1] |= {"groups": [f"g{number}" for number in range(10)], "groups_count": 14}
    page.goto(f"{console.url}#/connections")
    page.wait_for_selector(ROWS)
    assert page.locator(ROWS).count() == 3
    assert page.inner_text("#matched") == "3 in all"
    assert "+4" in page.locator(ROWS).nth(1).inner_text()
    assert not page.is_visible("#pages")


def test_a_hundred_thousand_are_paged_by_cursor(page: "Page", console: FakeConsole) -> None:
    stories.crowd(console, 100_000)
    page.goto(f"{console.url}#/connections")
    page.wait_for_selector(ROWS)
    assert page.locator(ROWS).count() == 50
    assert page.inner_text("#page-number") == "1–50 of 100,000"
    assert page.is_disabled("#previous")
    page.click("#next")
    page.wait_for_selector("#page-number:has-text('51–100 of 100,000')")
    page.click("#next")
    page.wait_for_selector("#page-number:has-text('101–150')")
    page.click("#previous")
    page.wait_for_selector("#page-number:has-text('51–100')")


def test_a_search_names_what_it_did_not_find_and_is_in_the_address(page: "Page", console: FakeConsole) -> None:
    stories.crowd(console, 20)
    page.goto(f"{console.url}#/connections")
    page.wait_for_selector(ROWS)
    page.fill("#search", "KITCHEN")
    page.wait_for_selector("#matched:has-text('7 found')")
    assert page.url.endswith("#/connections?sort=connected&search=KITCHEN&field=any")
    page.select_option("#field", "address")
    page.wait_for_selector("text=No connection has “KITCHEN” in its address.")
    page.reload()
    page.wait_for_selector("text=No connection has “KITCHEN” in its address.")
    page.click("text=Clear the search")
    page.wait_for_selector("#matched:has-text('20 in all')")


def test_connections_are_sorted_by_what_waits(page: "Page", console: FakeConsole) -> None:
    stories.crowd(console, 30)
    page.goto(f"{console.url}#/connections")
    page.wait_for_selector(ROWS)
    page.select_option("#sort", "waiting")
    page.wait_for_selector(f"{ROWS}:first-child:has-text('60 KiB')")
    assert "paused" in page.locator(ROWS).first.inner_text()


def test_nodes_that_did_not_answer_are_named(page: "Page", console: FakeConsole) -> None:
    stories.crowd(console, 1)
    console.missing = ["gw-2"]
    page.goto(f"{console.url}#/connections")
    page.wait_for_selector("text=Without the connections of gw-2")


def test_text_of_clients_is_never_markup(page: "Page", console: FakeConsole) -> None:
    evil = "<img src=x onerror=\"document.title='owned'\">"
    console.connections = [connection(1, path=f"/{evil}", context=evil, groups=[evil], groups_count=1)]
    page.goto(f"{console.url}#/connections")
    page.wait_for_selector(ROWS)
    assert page.locator("#table img").count() == 0
    assert evil in page.locator(ROWS).first.inner_text()
    assert page.title() == "Connections · WSaaS console"


def test_the_keyboard_alone_opens_a_connection(page: "Page", console: FakeConsole) -> None:
    chosen = stories.chat(console)
    page.goto(f"{console.url}#/connections")
    page.wait_for_selector(ROWS)
    page.focus("#search-form button")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("h1:text-is('Connection')")
    assert page.url.endswith(f"#/connection/{chosen}")
