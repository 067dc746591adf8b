"""axe-core: what is wrong with a page for those who see little or nothing, or use the keyboard alone."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


def violations(page: "Page", animations_ms: int = 400) -> list[str]:
    """Return what axe finds, one line each. It waits for animations, which may take `animations_ms`."""
    # Only these tests need the package.
    from axe_playwright_python.base import AXE_SCRIPT  # noqa: PLC0415 - only the tests in a browser have it

    page.wait_for_timeout(animations_ms)
    page.evaluate(AXE_SCRIPT)
    found = page.evaluate("async rules => (await axe.run(document, rules)).violations", RULES)
    return [f"{each['id']}: {node['html']} {node['failureSummary']}" for each in found for node in each["nodes"]]


def overflow(page: "Page") -> int:
    """Return by how many pixels the page is wider than the window."""
    return int(page.evaluate("document.documentElement.scrollWidth - innerWidth"))
