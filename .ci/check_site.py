#!/usr/bin/env python3
"""Check the links of the built documentation site.

Each link, image and script leads to a file of the site, and each anchor to an element of its page. Links into the
repository lead to files that it has. Of addresses of other sites only the form is checked, without a request:
`tox -e docs-links` requests them. Nothing is loaded from other sites.
"""

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parent.parent
LOADED = {("img", "src"), ("script", "src"), ("link", "href"), ("source", "srcset"), ("iframe", "src")}
NEVER_LOADED = {"canonical", "next", "prev", "index", "search"}
"""What a `link` may be to without being loaded."""


class Page(HTMLParser):
    """The links and anchors of a page."""

    def __init__(self, text: str) -> None:
        """Read the text of a page."""
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[tuple[str, bool]] = []
        """Each target, and whether the browser loads it by itself."""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect the attributes of an element."""
        given = {name: value for name, value in attrs if value}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        for name in ("href", "src", "srcset"):
            if name in given:
                loaded = (tag, name) in LOADED and given.get("rel") not in NEVER_LOADED
                self.links.append((given[name].strip(), loaded))


@cache
def read(path: Path) -> Page:
    """Return a page of the site."""
    return Page(path.read_text())


def problems(site: Path, source: str, prefix: str) -> Iterator[str]:
    """Yield a line for each link that leads nowhere."""
    for path in sorted(site.rglob("*.html")):
        for target, loaded in read(path).links:
            problem = problem_of(site, path, target.removeprefix(prefix) if path.name == "404.html" else target)
            if not problem and loaded and urlsplit(target).netloc:
                problem = "is loaded from another site"
            if not problem and target.startswith(f"{source}/"):
                problem = problem_in_repository(target.removeprefix(source))
            if problem:
                yield f"{path.relative_to(site)}: {target} {problem}"


def problem_of(site: Path, page: Path, target: str) -> str:
    """Say what is wrong with a link; nothing if it leads somewhere."""
    parts = urlsplit(target)
    if parts.scheme in {"mailto", "data"}:
        return ""
    if parts.scheme or parts.netloc:
        well_formed = parts.scheme in {"http", "https"} and re.fullmatch(r"[\w.-]+(:\d+)?", parts.netloc)
        return "" if well_formed else "is not an address"
    found = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if found.is_dir():
        found /= "index.html"
    if not found.is_relative_to(site) or not found.is_file():
        return "is not a file of the site"
    if parts.fragment and found.suffix == ".html" and unquote(parts.fragment) not in read(found).anchors:
        return "is to an anchor that the page does not have"
    return ""


def problem_in_repository(path: str) -> str:
    """Say what is wrong with a link to a file in the repository."""
    found = re.fullmatch(r"/(?:tree|blob|edit)/main/([^#?]+)(?:[#?].*)?", path)
    if found and not (ROOT / unquote(found[1])).exists():
        return "is to a file that the repository does not have"
    return ""


def main(arguments: Sequence[str]) -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("site", type=Path, help="folder of the built site")
    parser.add_argument("--source", default="https://github.com/wsaas/wsaas", help="address of the repository")
    parser.add_argument(
        "--prefix", default="/wsaas/", help="path of the published site, with which 404.html begins links"
    )
    given = parser.parse_args(arguments)
    site = given.site.resolve()
    pages = list(site.rglob("*.html"))
    found = list(problems(site, given.source, given.prefix))
    print(*found, f"{len(pages)} pages, {len(found)} links that lead nowhere", sep="\n")
    return 1 if found or not pages else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
