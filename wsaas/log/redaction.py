"""Hides secrets in quotations: a backend may repeat the credentials of a client in an error page."""

import re

HIDDEN = "(hidden)"

_NAMES = "authorization|cookie|token|secret|password|passwd|api[_-]?key|session|signature|credential|jwt"
_QUOTED = r""""(?:[^"\\]|\\.)*(?:"|\\?\Z)|'(?:[^'\\]|\\.)*(?:'|\\?\Z)"""
_SECRETS = re.compile(
    rf"""
    # A header on a line of its own.
    (?P<header>(?:authorization|cookie|api-key|token|websocket-protocol)[ \t]*:[ \t]*)(?=[^\s"'])[^\r\n<]*
    # A member of JSON, or of what a program shows of a mapping.
    | (?P<member>(?:{_NAMES}|websocket-protocol|query)[\w-]{{0,40}}\\?["']\s{{0,8}}:\s{{0,8}})(?:{_QUOTED})
    # A pair of a query, a form or a cookie.
    | (?P<pair>(?:{_NAMES})[\w-]{{0,40}}=)[^\s&,;"'<>]+
    | (?P<scheme>\b(?:bearer|basic)\s{{1,8}})[^\s'",;<]+
    # The query or the fragment of a URL, and the user in it.
    | (?P<query>(?<=[\w/])[?#])[^\s"'<>]+
    | (?P<user>(?<=:)//)[^\s/@"'<>]{{1,256}}(?=@)
    """,
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)


def hide_secrets(text: str) -> str:
    """Return `text` with `(hidden)` in the place of what looks like a credential, or may contain one.

    Usual names and formats are recognized. It takes linear time.
    """
    return _SECRETS.sub(_hide, text)


def _hide(found: re.Match[str]) -> str:
    return found[found.lastgroup or 0] + HIDDEN
