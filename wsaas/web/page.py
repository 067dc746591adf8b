"""Puts a page together: HTML with its style and its script inside, and the policy that allows just these.

There is no build step. `page.html` has a line such as `/* node.js */` for each part: the text of this file replaces it.
"""

import base64
import hashlib
import re
from importlib import resources
from typing import Final, NamedTuple

SHARED: Final = "shared/"
"""What the name of a part begins with that all pages may use."""

_PART: Final = re.compile(r"^/\* ([\w/-]+\.(?:css|js)) \*/\n", re.MULTILINE)


class Page(NamedTuple):
    """A page, and the `script-src` and `style-src` of its Content-Security-Policy."""

    html: bytes
    sources: str


def load(package: str, folder: str) -> Page:
    """Return the page in the `folder` of `package`."""

    def part(match: "re.Match[str]") -> str:
        name = match[1]
        return _read("wsaas.web", name) if name.startswith(SHARED) else _read(package, f"{folder}/{name}")

    html = _PART.sub(part, _read(package, f"{folder}/page.html")).encode()
    return Page(html, "; ".join(_source(html, tag) for tag in ("script", "style")))


def _read(package: str, path: str) -> str:
    return resources.files(package).joinpath(path).read_text("utf-8")


def _source(html: bytes, tag: str) -> str:
    """Return the directive that allows the one element `tag` of the page."""
    inside = html.partition(f"<{tag}>".encode())[2].partition(f"</{tag}>".encode())[0]
    digest = base64.b64encode(hashlib.sha256(inside).digest()).decode()
    return f"{tag}-src 'sha256-{digest}'"
