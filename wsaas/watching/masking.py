"""What the console shows of headers, queries and bodies: never a credential."""

import re
from base64 import b64encode
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

from wsaas.log.redaction import HIDDEN, hide_secrets

MASK: Final = "•••"
"""Stands for the value of a header that is a credential."""

_SECRET_HEADERS: Final = frozenset(
    {"authorization", "proxy-authorization", "cookie", "set-cookie", "webhook-signature"}
)

_PLAIN_HEADERS: Final = frozenset(
    {
        "accept-encoding",
        "ce-id",
        "ce-source",
        "ce-specversion",
        "ce-subject",
        "ce-time",
        "ce-type",
        "connection",
        "content-length",
        "content-type",
        "date",
        "host",
        "keep-alive",
        "server",
        "transfer-encoding",
        "user-agent",
        "webhook-id",
        "webhook-timestamp",
        "ws-uri",
    }
)
"""Headers that nearly every request or answer has, and that carry no credentials."""

_SECRET_NAME: Final = re.compile(
    r"authorization|auth(?!enticate|or)|cookie|token|secret|passw|session|signature|credential|jwt|oidc"
    r"|(?:access|api|apim-subscription|app|client|private)[-_]?key"
)
"""In the name of a header, such as X-Client-Secret: its value is hidden."""

_SHORT_PARAMETER: Final = re.compile(r"(?<![^&;])((?:auth|hmac|key|otp|pass|pwd|sid|sig|ticket)=)[^&;]+", re.IGNORECASE)
"""A parameter of a query with a name that is too short to be looked for in other texts."""

_SECRET_SUBPROTOCOL: Final = re.compile(
    r"auth|bearer|jwt|passw|secret|session|ticket|token|[a-z0-9]{20}", re.IGNORECASE
)
"""In the name of a subprotocol, such as that of Kubernetes with a token. Names are made of short words."""

MANY_DIGITS: Final = 8
"""Digits in the name of a subprotocol, such as a UUID, that no version number has."""

MAX_SHOWN_SUBPROTOCOL: Final = 40
"""Characters of the name of a subprotocol. A longer one is probably a token: pages can send it in no other header."""


def mask_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return `headers` without credentials."""
    return [(name, mask_header(name, value)) for name, value in headers]


def mask_header(name: str, value: str) -> str:
    """Return the `value` of the header `name` without credentials."""
    lower = name.lower()
    return value if lower in _PLAIN_HEADERS else _mask_other(lower, value)


@lru_cache(256)
def _mask_other(lower: str, value: str) -> str:
    """Do what `mask_header` does, for headers that may be secret."""
    if lower in _SECRET_HEADERS:
        return MASK
    if lower == "sec-websocket-protocol":
        return ", ".join(mask_subprotocol(each.strip()) for each in value.split(","))
    if _SECRET_NAME.search(lower) and not lower.startswith("access-control-"):
        return HIDDEN
    start = f"{lower}: "
    return hide_secrets(start + value).removeprefix(start)


def mask_subprotocol(name: str) -> str:
    """Return the name of a subprotocol, unless it looks like a token."""
    is_secret = (
        len(name) > MAX_SHOWN_SUBPROTOCOL
        or _SECRET_SUBPROTOCOL.search(name) is not None
        or sum(map(str.isdigit, name)) >= MANY_DIGITS
    )
    return MASK if is_secret else name


def mask_query(query: str) -> str:
    """Return a query without the values of parameters whose names say that they are secret."""
    return _SHORT_PARAMETER.sub(rf"\1{HIDDEN}", hide_secrets(query))


def mask_target(target: str) -> str:
    """Return the target of a request with its query masked."""
    path, mark, query = target.partition("?")
    return path + mark + mask_query(query)


def show_body(data: bytes, size: int, *, is_text: bool) -> dict[str, Any]:
    """Return the JSON for the first bytes of a body. `size`: of it all. `is_text`: show it as text if possible."""
    is_truncated = len(data) < size
    fields = {"size": size, "truncated": is_truncated}
    if is_text:
        try:
            return {"text": data.decode(), **fields}
        except UnicodeDecodeError as error:
            # A character may have been cut in two.
            if is_truncated and error.end == len(data):
                return {"text": data[: error.start].decode(), **fields}
    return {"base64": b64encode(data).decode(), **fields}
