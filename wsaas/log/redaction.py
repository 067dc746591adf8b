"""Hides secrets in quoted responses: a backend may repeat the credentials of a client in an error page."""

import re
from typing import Final

HIDDEN: Final = "(hidden)"

_NAMES: Final = "authorization|cookie|token|secret|password|passwd|api[_-]?key|session|signature|credential|jwt"
_QUOTED: Final = r""""(?:[^"\\]|\\.)*(?:"|\\?\Z)|'(?:[^'\\]|\\.)*(?:'|\\?\Z)"""
_SECRETS: Final = re.compile(
    rf"""
    # A header on a line of its own.
    (?P<header>(?:authorization|cookie|api-key|token|websocket-protocol)[ \t]*:[ \t]*)(?=[^\s"'])[^\r\n<]*
    # A member of a JSON object, or of a printed mapping.
    | (?P<member>(?:{_NAMES}|websocket-protocol|query|context)[\w-]{{0,40}}\\?["']\s{{0,8}}:\s{{0,8}})(?:{_QUOTED})
    # A pair in a query, a form or a cookie.
    | (?P<pair>(?:{_NAMES})[\w-]{{0,40}}=)[^\s&,;"'<>]+
    | (?P<scheme>\b(?:bearer|basic)(?:\s{{1,8}}|\.))[^\s'",;<]+
    # The query, the fragment or the user of a URL.
    | (?P<query>(?<=[\w/])[?#])[^\s"'<>]+
    | (?P<user>(?<=:)//)[^\s/@"'<>]{{1,256}}(?=@)
    """,
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)


def hide_secrets(text: str) -> str:
    """Return `text` with `(hidden)` instead of everything that looks like a credential or may contain one.

    It recognizes common names and formats, in linear time.
    """
    return _SECRETS.sub(_hide, text)


def _hide(found: re.Match[str]) -> str:
    return found[found.lastgroup or 0] + HIDDEN
