"""Turns the token of a browser, which cannot set the headers of a handshake, into the `Authorization` of the client.

`BROWSER_AUTHORIZATION` names the places where a token may be. It is taken out of them, so that only the backend gets
it, and only as `Authorization`: not in the body of the POST, in the REST API, in the console or in a trace.
"""

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote_plus

from wsaas.access import COOKIE, QUERY, TokenPlace
from wsaas.errors import BadRequest
from wsaas.websocket.handshake import Handshake

_VISIBLE: Final = re.compile(r"[!-~]+")
"""What a token may be: no space or line end, which would end the credentials or the header."""

_COOKIE: Final = "cookie"
_SUBPROTOCOL: Final = "sec-websocket-protocol"


def take_token(handshake: Handshake, places: Sequence[TokenPlace]) -> Handshake:
    """Return `handshake` with the token in the first of `places` that has one as its `authorization`.

    All tokens are taken out of all `places` then. Without one, or with an `Authorization` header, the handshake is
    returned as it is. Raises `BadRequest` for a token that is repeated or not visible ASCII.
    """
    if handshake.authorization is not None:
        return handshake
    for place in places:
        token = _find(handshake, place)
        if token:
            return _without_tokens(handshake, places, b"Bearer " + token.encode())
    return handshake


def _find(handshake: Handshake, place: TokenPlace) -> str:
    """Return the token in `place`, empty if there is none."""
    tokens = [token for token in (_token(field, place) for field in _fields(handshake, place)) if token]
    if not tokens:
        return ""
    if len(tokens) > 1:
        raise BadRequest(f"There is more than one token: send the {place.description} once.")
    if not _VISIBLE.fullmatch(tokens[0]):
        hint = " Percent-encode it: a + is %2B." if place.kind == QUERY else ""
        raise BadRequest(f"The token in the {place.description} may only have visible ASCII characters.{hint}")
    return tokens[0]


def _fields(handshake: Handshake, place: TokenPlace) -> list[str]:
    """Return what may hold the token: parameters, cookies or subprotocols, as they were sent."""
    if place.kind == QUERY:
        return handshake.query.split("&")
    if place.kind == COOKIE:
        return handshake.headers.get(_COOKIE, "").split(";")
    return handshake.subprotocols


def _token(field: str, place: TokenPlace) -> str | None:
    """Return the token in `field`, which may be empty; None if `field` has another name."""
    name = place.name
    if place.kind == QUERY:
        parameter, _, value = field.partition("=")
        return unquote_plus(value) if unquote_plus(parameter) == name else None
    if place.kind == COOKIE:
        cookie, _, value = field.partition("=")
        return value.strip() if cookie.strip() == name else None
    # The bare prefix is no token. A client may offer it to have it selected.
    return field[len(name) :] if field.startswith(name) and field != name else None


def _without_tokens(handshake: Handshake, places: Sequence[TokenPlace], authorization: bytes) -> Handshake:
    """Return `handshake` with `authorization`, and with nothing in `places`."""
    taken = Handshake(
        handshake.key,
        handshake.path,
        handshake.query,
        dict(handshake.headers),
        handshake.subprotocols,
        authorization,
        handshake.agreement,
        handshake.trace,
    )
    for place in places:
        fields = _fields(taken, place)
        left = [field for field in fields if _token(field, place) is None]
        if len(left) < len(fields):
            _set_fields(taken, place, left)
    return taken


def _set_fields(handshake: Handshake, place: TokenPlace, fields: list[str]) -> None:
    """Replace what `_fields` returns. Headers without any are dropped."""
    if place.kind == QUERY:
        handshake.query = "&".join(fields)
    elif place.kind == COOKIE:
        _set_header(handshake.headers, _COOKIE, ";".join(fields).strip())
    else:
        handshake.subprotocols = fields
        _set_header(handshake.headers, _SUBPROTOCOL, ", ".join(fields))


def _set_header(headers: dict[str, str], name: str, value: str) -> None:
    if value:
        headers[name] = value
    else:
        del headers[name]
