"""The query of a request: its parameters, and the values that they stand for."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final
from urllib.parse import parse_qsl

from wsaas.errors import BadRequest
from wsaas.http.request import Request

MAX_DIGITS: Final = 15
"""Maximum number of digits of a number in a query."""


def read_query(request: Request) -> dict[str, str]:
    """Return the parameters in the query of `request`. Of one that is repeated, the last counts.

    One without a value is empty rather than absent: `?state=` with a forgotten value is an error, not another list.
    """
    return dict(parse_qsl(request.target.partition(b"?")[2].decode("latin-1"), keep_blank_values=True))


def number(query: Mapping[str, str], name: str, default: int) -> int:
    """Return the number `name` of a query. Raises `BadRequest`."""
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        raise BadRequest(f"{name} must be a whole number.")
    return int(text)


def time(query: Mapping[str, str], name: str, default: float) -> float:
    """Return the seconds since the epoch of `name`, an RFC 3339 time in a query. Raises `BadRequest`."""
    if name not in query:
        return default
    try:
        found = datetime.fromisoformat(query[name].replace("Z", "+00:00"))
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise BadRequest(f"{name} must be a time such as 2026-01-31T12:00:00.123Z.")
    return found.timestamp()
