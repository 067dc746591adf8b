"""Verifies that a request comes from the gateway: its signature by `API_SECRET` (Standard Webhooks 1.0.0)."""

import re
import time
from base64 import b64decode, b64encode
from collections.abc import Sequence
from functools import lru_cache
from hmac import compare_digest, digest
from typing import Final

from wsaas.backend.headers import HeadersLike, lower_names

TOLERANCE_S: Final = 300.0
"""How old a signature may be, in seconds, and how far ahead of this machine the clock of the gateway."""

ID: Final = "webhook-id"
TIMESTAMP: Final = "webhook-timestamp"
SIGNATURE: Final = "webhook-signature"

Secrets = str | bytes | Sequence[str | bytes]

_PREFIX: Final = "whsec_"
_VERSION: Final = "v1"
_SEPARATOR: Final = re.compile(r"[,\s]+")
_SECONDS: Final = re.compile(r"[0-9]{1,15}")


class WebhookVerificationError(Exception):
    """The request may come from anybody: answer 401, and do nothing else. The text says what is wrong."""


def verify(
    headers: HeadersLike, body: bytes, secret: Secrets, *, tolerance: float = TOLERANCE_S, now: float | None = None
) -> None:
    """Raise `WebhookVerificationError` unless the request was signed with `secret` in the last minutes.

    `body`: the raw bytes of the body, before anything parses it. `secret`: the value of `API_SECRET`, such as
    `whsec_MfKQ…`, or the bytes that it stands for. There may be several, as a sequence or separated by commas: each of
    them is tried, so a secret can be replaced while the gateway still signs with the old one.
    `tolerance`: seconds; `now`: seconds since the epoch, by default the time of this machine.
    """
    if not isinstance(body, bytes):
        raise TypeError(f"the body must be the raw bytes of the request, not {type(body).__name__}")
    keys = _keys(secret)
    signed = lower_names(headers)
    event_id, timestamp, signatures = (_required(signed, name) for name in (ID, TIMESTAMP, SIGNATURE))
    _check_age(timestamp, time.time() if now is None else now, tolerance)
    content = _content(event_id, timestamp, body)
    expected = [digest(key, content, "sha256") for key in keys]
    given = _decoded(signatures)
    if not given:
        raise WebhookVerificationError(f"{SIGNATURE} has no signature of the form v1,<base64>")
    if not any(compare_digest(one, other) for one in given for other in expected):
        raise WebhookVerificationError(
            f"{SIGNATURE} does not match: the secret is another one, or the body is not as it was sent"
        )


def sign(event_id: str, body: bytes, secret: Secrets, *, now: float | None = None) -> dict[str, str]:
    """Return the headers by which the gateway signs a request, for tests of a backend."""
    timestamp = str(int(time.time() if now is None else now))
    content = _content(event_id, timestamp, body)
    signatures = (b64encode(digest(key, content, "sha256")).decode() for key in _keys(secret))
    return {ID: event_id, TIMESTAMP: timestamp, SIGNATURE: " ".join(f"{_VERSION},{each}" for each in signatures)}


def _keys(secret: Secrets) -> tuple[bytes, ...]:
    """Return the keys of `secret`. Raises `ValueError` if it is none: without that, everything would be refused."""
    secrets = [secret] if isinstance(secret, str | bytes) else secret
    keys = [key for each in secrets for key in (_read(each) if isinstance(each, str) else (each,))]
    if not keys or not all(keys):
        raise ValueError("no secret is given, or an empty one")
    return tuple(keys)


@lru_cache(maxsize=32)
def _read(text: str) -> tuple[bytes, ...]:
    """Return the keys in a value of `API_SECRET`."""
    return tuple(_decode(each) for each in _SEPARATOR.split(text) if each)


def _decode(text: str) -> bytes:
    try:
        if text.startswith(_PREFIX):
            return b64decode(text.removeprefix(_PREFIX), validate=True)
    except ValueError:
        pass
    # The error does not show the secret, which may be a mistyped one.
    raise ValueError("a secret must be whsec_ and base64, as in API_SECRET; pass the key itself as bytes")


def _required(headers: dict[str, str], name: str) -> str:
    if not (value := headers.get(name)):
        raise WebhookVerificationError(f"{name} is missing: the gateway signs requests only with API_SECRET")
    return value


def _check_age(timestamp: str, now: float, tolerance: float) -> None:
    if not _SECONDS.fullmatch(timestamp):
        raise WebhookVerificationError(f"{TIMESTAMP} is not a number of seconds since 1970")
    age = now - int(timestamp)
    if abs(age) > tolerance:
        when = "ago" if age > 0 else "ahead"
        raise WebhookVerificationError(
            f"{TIMESTAMP} is {abs(age):.0f} s {when}: expected at most {tolerance:g} s. Do both clocks agree?"
        )


def _content(event_id: str, timestamp: str, body: bytes) -> bytes:
    """Return what is signed. A header that is no valid text has to differ from all others, not to be readable."""
    return b".".join((event_id.encode(errors="surrogatepass"), timestamp.encode(), body))


def _decoded(signatures: str) -> list[bytes]:
    """Return the signatures of the known version. Others may come from a later version of the standard."""
    found = []
    for each in signatures.split(" "):
        version, _, encoded = each.partition(",")
        if version == _VERSION and encoded:
            try:
                found.append(b64decode(encoded))
            except ValueError:
                continue
    return found
