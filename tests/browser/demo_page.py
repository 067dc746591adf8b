"""The page of the demo, as a user sees it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

TIMEOUT_MS = 10_000

IN_VIEW = """(element) => {
  const inner = element.getBoundingClientRect();
  const isIn = (outer) => inner.left >= outer.left - 1 && inner.right <= outer.right + 1
    && inner.top >= outer.top - 1 && inner.bottom <= outer.bottom + 1;
  const scrolling = [];
  for (let parent = element.parentElement; parent; parent = parent.parentElement) {
    if (getComputedStyle(parent).overflowY !== "visible") scrolling.push(parent.getBoundingClientRect());
  }
  return [new DOMRect(0, 0, innerWidth, innerHeight), ...scrolling].every(isIn);
}"""


def open_demo(page: "Page", url: str, count: int = 2) -> "Page":
    """Open the page. It opens `count` clients by itself."""
    page.set_default_timeout(TIMEOUT_MS)
    page.goto(url)
    all_are_open(page, count)
    return page


def all_are_open(page: "Page", count: int = 2) -> None:
    """Wait until so many clients are connected."""
    for number in range(count):
        page.wait_for_selector(f".client >> nth={number} >> .state.open")


def say(page: "Page", client: int, text: str) -> None:
    """Send a message as a client."""
    page.fill(f".client >> nth={client} >> .say input", text)
    page.keyboard.press("Enter")


def is_in_view(element: "Locator") -> bool:
    """Return whether all of an element can be seen now, without scrolling: in the window and in what scrolls in it."""
    return bool(element.evaluate(IN_VIEW))


def color(element: "Locator", style: str) -> str:
    """Return a colour of an element as the browser computes it."""
    return str(element.evaluate("(element, style) => getComputedStyle(element)[style]", style))
