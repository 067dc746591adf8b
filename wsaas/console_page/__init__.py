"""The page of the console: one HTML file, which only talks to the gateway that served it.

It is put together from `parts` when it is first asked for: `page.html`, the style, and one script for each concern.
There is no secret in it, and nothing comes from another server.
"""

from functools import cache
from typing import Final

from wsaas.web.page import Page, load

_POLICY: Final = (
    "default-src 'none'; {sources}; connect-src 'self' ws: wss:; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


@cache
def _page() -> Page:
    return load("wsaas.console_page", "parts")


def console_page() -> bytes:
    """Return the HTML, encoded in UTF-8."""
    return _page().html


def content_security_policy() -> str:
    """Return the `Content-Security-Policy` of the page: its own script and style, this gateway, and WebSockets.

    The test client connects to `WS_HOSTNAME`, which need not be where the page came from.
    """
    return _POLICY.format(sources=_page().sources)
