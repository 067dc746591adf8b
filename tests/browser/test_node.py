"""The screen "Node"."""

from typing import TYPE_CHECKING

from tests.browser import stories
from tests.support.fake_console import FakeConsole

if TYPE_CHECKING:
    from playwright.sync_api import Page


def poll(page: "Page", console: FakeConsole, times: int = 1) -> None:
    """Let the page ask so often."""
    for _ in range(times):
        polls = console.polls
        page.clock.run_for(2000)
        while console.polls == polls:
            page.wait_for_timeout(5)
    page.wait_for_timeout(50)


def test_a_calm_node_says_that_all_is_well(page: "Page", console: FakeConsole) -> None:
    page.goto(console.url)
    page.wait_for_selector("text=All is well.")
    assert page.inner_text("#health") == "backend up"
    assert "up 1 d 2 h" in page.inner_text("#node-facts")
    assert page.is_visible("text=No connection has ended yet.")
    assert page.title() == "Node · WSaaS console"


def test_problems_come_first_and_in_words(page: "Page", console: FakeConsole) -> None:
    stories.busy(console)
    page.goto(console.url)
    problems = page.locator(".problems li")
    problems.first.wait_for()
    assert problems.count() == 2
    assert "given up" in problems.nth(0).inner_text()
    assert "12 clients are paused" in problems.nth(1).inner_text()
    first = page.locator("#closes tbody tr").first.inner_text()
    assert first.split() == ["client", "closed", "298,411"]
    assert page.locator("#closes tbody tr").count() == 6, "reasons that did not occur are left out"


def test_the_charts_show_rates_and_quantiles_of_two_answers(page: "Page", console: FakeConsole) -> None:
    page.clock.install()
    console.node["now"] = 1000.0
    page.goto(console.url)
    page.wait_for_selector("text=All is well.")
    console.node["now"] += 2
    console.node["numbers"] |= {"clients": 12_400, "messages_in": 300, "messages_out": 5000, "loop_lag_ms": 1.25}
    console.node["backend_ms"]["buckets"] = [[0.5, 0], [1, 50], [2, 90], [5, 100], [10, 100], [50, 100], [None, 100]]
    poll(page, console)
    heads = [each.split() for each in page.locator(".chart-head").all_inner_texts()]
    assert heads == [
        ["Clients", "12.4k"],
        ["Messages", "150", "in/s", "2,500", "out/s"],
        ["Backend", "1", "ms", "p50", "4.7", "ms", "p99"],
        ["Event", "loop", "lag", "1.3", "ms"],
    ]
    label = page.locator(".chart svg").nth(0).get_attribute("aria-label")
    assert label == "Clients, the last two minutes. value: now 12.4k, from 0 to 12.4k."


def test_a_chart_has_sixty_samples_at_most(page: "Page", console: FakeConsole) -> None:
    page.clock.install()
    stories.tick(console, 0)
    page.goto(console.url)
    page.wait_for_selector("text=All is well.")
    for number in range(1, 66):
        stories.tick(console, number)
        poll(page, console)
    path = page.locator(".line.in").first.get_attribute("d") or ""
    assert path.startswith("M0.0 ")
    assert path.count("L") == 59


def test_a_restart_of_the_gateway_makes_no_negative_rates(page: "Page", console: FakeConsole) -> None:
    page.clock.install()
    stories.tick(console, 0)
    page.goto(console.url)
    page.wait_for_selector("text=All is well.")
    console.node["started_at"] += 50_000
    console.node["numbers"] |= {"messages_in": 0, "messages_out": 0}
    poll(page, console)
    assert page.locator(".chart-head").nth(1).inner_text().split() == ["Messages", "–", "in/s", "–", "out/s"]


def test_a_backend_that_is_down_is_seen_on_every_screen(page: "Page", console: FakeConsole) -> None:
    console.node["backend"] |= {"state": "down", "since": console.node["started_at"]}
    page.goto(f"{console.url}#/connections")
    page.wait_for_selector("#health:has-text('backend down')")
    page.click("text=Node")
    assert "for 1 d" in page.locator(".badge").first.inner_text()


def test_a_gateway_that_does_not_answer_is_named_and_found_again(page: "Page", console: FakeConsole) -> None:
    page.clock.install()
    console.answers_node = False
    page.goto(console.url)
    page.wait_for_selector("#trouble:has-text('The node is stopping.')")
    console.answers_node = True
    poll(page, console)
    page.wait_for_selector("text=All is well.")
    assert not page.is_visible("#trouble")


def test_a_hidden_page_asks_nothing(page: "Page", console: FakeConsole) -> None:
    page.clock.install()
    page.goto(console.url)
    page.wait_for_selector("text=All is well.")
    hide = """hidden => {
        Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(hide, True)
    polls = console.polls
    page.clock.run_for(20_000)
    page.wait_for_timeout(100)
    assert console.polls == polls
    page.evaluate(hide, False)
    page.wait_for_timeout(100)
    assert console.polls == polls + 1


def test_the_theme_is_that_of_the_system_until_one_is_chosen(page: "Page", console: FakeConsole) -> None:
    def background() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    page.emulate_media(color_scheme="dark")
    page.goto(console.url)
    assert background() == "rgb(16, 19, 26)"
    page.click("#theme")
    assert background() == "rgb(244, 245, 248)"
    page.reload()
    assert background() == "rgb(244, 245, 248)"
    assert page.get_attribute("#theme", "aria-label") == "Use the dark theme"


def test_a_token_is_asked_for_and_kept_in_memory_only(page: "Page", console: FakeConsole) -> None:
    console.token = "s3cret"
    page.goto(console.url)
    page.wait_for_selector("#token-dialog[open]")
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=The gateway does not accept this token.")
    page.keyboard.press("Escape")
    page.fill("#token", "s3cret")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=All is well.")
    assert page.evaluate("[document.cookie, JSON.stringify(localStorage), JSON.stringify(sessionStorage)]") == [
        "",
        "{}",
        "{}",
    ]
    page.reload()
    page.wait_for_selector("#token-dialog[open]")


def test_a_token_in_the_fragment_is_used_and_removed_from_the_address(page: "Page", console: FakeConsole) -> None:
    console.token = "s3+cret="
    page.goto(f"{console.url}#token=s3%2Bcret%3D")
    page.wait_for_selector("text=All is well.")
    assert page.url == f"{console.url}#/"
