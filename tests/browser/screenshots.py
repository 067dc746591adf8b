"""Makes the images of the console and the demo in docs/images: `python -m tests.browser.screenshots`.

Those of the test client show a gateway. The other ones show what takes days, or many clients, to happen on one.
"""

import io
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.browser import demo_page, stories
from tests.support.chromium import running_chromium
from tests.support.demo_command import RunningDemo, running_demo
from tests.support.dev_command import running_dev
from tests.support.fake_console import FakeConsole

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FOLDER = Path(__file__).parents[2] / "docs" / "images"
SIZES = {1280: 800, 390: 844}
THEMES = ("light", "dark")
NARROW, TALLEST = 1000, 1600
FRAME_MS = 120
ANIMATION_SIZE = {"width": 1280, "height": 720}


def show_node(console: FakeConsole, page: "Page") -> None:
    """Show the screen "Node" with full charts."""
    stories.busy(console)
    page.clock.install()
    stories.tick(console, 0)
    page.goto(console.url)
    page.wait_for_selector(".problems")
    for number in range(1, 61):
        stories.tick(console, number)
        polls = console.polls
        page.clock.run_for(2000)
        while console.polls == polls:
            page.wait_for_timeout(5)
    page.clock.run_for(100)


def show_connections(console: FakeConsole, page: "Page") -> None:
    """Show the screen "Connections", sorted by what waits."""
    stories.crowd(console, 11_482)
    page.goto(f"{console.url}#/connections?sort=waiting")
    page.wait_for_selector("#table tbody tr")


def show_connection(console: FakeConsole, page: "Page") -> None:
    """Show the screen "Connection", on a wide one with the details of an event."""
    chosen = stories.chat(console)
    page.goto(f"{console.url}#/connection/{chosen}")
    page.wait_for_selector("text=PUT push")
    if page.evaluate("innerWidth") > NARROW:
        page.click("text=try 3")
        page.wait_for_selector("#details:not([hidden])")
    page.wait_for_timeout(400)


def show_test_client(url: str, page: "Page") -> None:
    """Show the test client with two messages."""
    page.goto(f"{url}#/try")
    for text in ("hello", "fail"):
        page.wait_for_selector(".composer textarea:enabled")
        page.keyboard.type(text)
        page.keyboard.press("Enter")
        page.wait_for_selector(f".chat .received >> text={text}")
    page.wait_for_timeout(500)


def show_demo(demo: RunningDemo, page: "Page") -> None:
    """Show the demo with two clients that have talked to each other."""
    page.add_init_script("Math.random = () => 0")  # the names are always the same
    demo_page.open_demo(page, demo.page)
    for client, text in enumerate(("hello, everybody", "hi ada!")):
        demo_page.say(page, client, text)
        page.wait_for_selector(f"#traffic .open:has(.fan) >> text={text}")
    page.locator(".say input").first.focus()
    page.wait_for_timeout(1500)  # until the messages are no longer marked as new


def fake_console() -> AbstractContextManager[FakeConsole]:
    """Serve a console whose gateway is made up."""
    return FakeConsole().running()


@contextmanager
def demo() -> Iterator[RunningDemo]:
    """Run the demo, with its files in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder, running_demo(Path(folder)) as running:
        yield running


SCREENS: dict[str, tuple[Callable[[], AbstractContextManager[Any]], Callable[[Any, "Page"], None]]] = {
    "console-node": (fake_console, show_node),
    "console-connections": (fake_console, show_connections),
    "console-connection": (fake_console, show_connection),
    "console-try": (running_dev, show_test_client),
    "demo": (demo, show_demo),
}
"""What serves each screen, and what shows it."""


def take(browser: "Browser", screen: str, width: int, theme: str) -> bytes:
    """Return a screenshot as PNG."""
    serve, show = SCREENS[screen]
    with serve() as console:
        page = browser.new_page(viewport={"width": width, "height": SIZES[width]})
        page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
        show(console, page)
        if width < NARROW:
            # Not `full_page`: what is outside of the window is not drawn.
            height = page.evaluate("document.documentElement.scrollHeight")
            page.set_viewport_size({"width": width, "height": min(height, TALLEST)})
            page.wait_for_timeout(200)
        image = page.screenshot(animations="disabled")
        page.close()
    return image


def record(browser: "Browser") -> list[bytes]:
    """Return the frames of a run of the test client, as PNG."""
    frames = list[bytes]()
    with running_dev() as url:
        page = browser.new_page(viewport=ANIMATION_SIZE, color_scheme="light")  # type: ignore[arg-type]  # a dict

        def look(times: int = 1) -> None:
            frames.extend(page.screenshot() for _ in range(times))

        page.goto(url)
        page.wait_for_selector(".all-well")
        look(6)
        page.click("text=Try it")
        page.wait_for_selector(".composer textarea:enabled")
        look(6)
        for text in ("hello", "how are you?", "fail"):
            for letter in text:
                page.keyboard.type(letter)
                look()
            page.keyboard.press("Enter")
            look(9)
        page.click("text=try 2")
        look(14)
    return frames


def save(image: bytes, name: str) -> None:
    """Write a WebP file. Text stays sharp, as the compression loses nothing."""
    from PIL import Image  # noqa: PLC0415 - only this needs the package

    path = FOLDER / f"{name}.webp"
    Image.open(io.BytesIO(image)).convert("RGB").quantize(160, dither=Image.Dither.NONE).convert("RGB").save(
        path, lossless=True, quality=100, method=6
    )
    print(f"{path.name}: {path.stat().st_size // 1000} kB")


def save_animation(frames: list[bytes], name: str) -> None:
    """Write an animated WebP file."""
    from PIL import Image  # noqa: PLC0415 - as above

    images = [Image.open(io.BytesIO(frame)).convert("RGB") for frame in frames]
    path = FOLDER / f"{name}.webp"
    images[0].save(
        path,
        save_all=True,
        append_images=images[1:],
        duration=FRAME_MS,
        loop=0,
        quality=70,
        method=4,
        minimize_size=True,
    )
    print(f"{path.name}: {path.stat().st_size // 1000} kB")


def main(chosen: Collection[str]) -> None:
    """Make the images of the `chosen` screens, or all."""
    FOLDER.mkdir(exist_ok=True)
    with running_chromium() as browser:
        for screen in chosen or SCREENS:
            for width in SIZES:
                for theme in THEMES:
                    save(take(browser, screen, width, theme), f"{screen}-{width}-{theme}")
        if not chosen:
            save_animation(record(browser), "console-run")


if __name__ == "__main__":
    main(sys.argv[1:])
