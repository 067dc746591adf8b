"""Access keys, and the tokens that are signed with them: JSON Web Tokens (RFC 7519) with HS256 (RFC 7518 section 3.2).

Tokens with another algorithm are refused, above all `none`. So are tokens with critical headers (RFC 7515 section
4.1.11), since none is understood.
"""

import re
from base64 import urlsafe_b64decode
from collections.abc import Sequence
from hmac import compare_digest, digest
from typing import Any, Final

import orjson

LEEWAY_S: Final = 60.0
"""Seconds by which the clock of who made a token may differ."""

_TOKEN: Final = re.compile(rb"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]{43})")
"""A token (RFC 7515 section 3.1). The signature has 32 bytes."""

_ALGORITHM: Final = "HS256"


class AccessKeys:
    """The valid keys. They may be replaced at any time."""

    __slots__ = ("_keys",)

    def __init__(self, keys: Sequence[bytes]) -> None:
        """Accept what is signed with one of `keys`."""
        self._keys = tuple(keys)

    def replace(self, keys: Sequence[bytes]) -> None:
        """Accept only what is signed with one of `keys` from now on."""
        self._keys = tuple(keys)

    def sign(self, text: bytes) -> list[str]:
        """Return the HMAC-SHA256 of `text` with each key, in hexadecimal digits."""
        return [digest(key, text, "sha256").hex() for key in self._keys]

    def read(self, token: bytes) -> dict[str, Any] | None:
        """Return the claims of a `token` that is signed with one of the keys, None for any other.

        The claims are not checked: see `is_current`.
        """
        parts = _TOKEN.fullmatch(token)
        if parts is None:
            return None
        header, claims, signature = (_decode(part) for part in parts.groups())
        if signature is None or not self._is_signed(token[: parts.start(3) - 1], signature):
            return None
        read_header = _object(header)
        if read_header is None or read_header.get("alg") != _ALGORITHM or "crit" in read_header:
            return None
        return _object(claims)

    def _is_signed(self, text: bytes, signature: bytes) -> bool:
        # Compare all keys: constant time.
        return sum(compare_digest(digest(key, text, "sha256"), signature) for key in self._keys) > 0


def bearer_token(authorization: bytes | None) -> bytes:
    """Return the token in the value of an `Authorization` header, empty if there is none."""
    scheme, _, token = (authorization or b"").partition(b" ")
    return token.strip(b" ") if scheme.lower() == b"bearer" else b""


def is_current(claims: dict[str, Any], now: float) -> bool:
    """Return whether a token with these `claims` is valid `now` (seconds since the epoch): it has to have an end."""
    ends, begins = _time(claims.get("exp")), _time(claims.get("nbf", 0))
    return ends is not None and begins is not None and begins - LEEWAY_S <= now < ends + LEEWAY_S


def audiences(claims: dict[str, Any]) -> list[str]:
    """Return whom a token with these `claims` is for (RFC 7519 section 4.1.3)."""
    found = claims.get("aud")
    return [each for each in (found if isinstance(found, list) else [found]) if isinstance(each, str)]


def _time(value: object) -> float | None:
    """Return the seconds of a NumericDate (RFC 7519 section 2), None for anything else."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _decode(part: bytes) -> bytes | None:
    """Decode base64 for URLs without padding (RFC 7515 section 2)."""
    try:
        return urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    except ValueError:
        return None


def _object(data: bytes | None) -> dict[str, Any] | None:
    """Return the JSON object in `data`, None for anything else.

    Objects that are nested too deeply to be serialized again count as something else: they could not be passed on.
    """
    try:
        found = orjson.loads(data or b"")
        orjson.dumps(found)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return None
    return found if isinstance(found, dict) else None
