"""Tokens as the SDKs of Azure Web PubSub make them."""

import hmac
import json
from base64 import urlsafe_b64encode
from typing import Any

KEY = "c2VjcmV0LWtleS1vZi10aGUtdGVzdHM="
OTHER_KEY = "YW5vdGhlci1rZXktb2YtdGhlLXRlc3Rz"
NEVER = 4_000_000_000
"""An end far away, in seconds since the epoch."""

HEADER = {"alg": "HS256", "typ": "JWT"}


def encoded(data: bytes) -> bytes:
    """Return `data` in base64 for URLs, without padding."""
    return urlsafe_b64encode(data).rstrip(b"=")


def sign(content: bytes, key: str = KEY) -> bytes:
    """Return `content` as a token, with its signature."""
    return content + b"." + encoded(hmac.digest(key.encode(), content, "sha256"))


def make_token(claims: dict[str, Any], key: str = KEY, header: object = HEADER) -> str:
    """Return a token with `claims`, which do not expire unless they say so."""
    parts = (json.dumps(header).encode(), json.dumps({"exp": NEVER, **claims}).encode())
    return sign(b".".join(map(encoded, parts)), key).decode()


def client_token(hub: str = "chat", **claims: Any) -> str:
    """Return a token for a client of `hub`."""
    return make_token({"aud": f"http://localhost:8080/client/hubs/{hub}", **claims})


def request_token(path: str, **claims: Any) -> str:
    """Return a token for a request for `path`."""
    return make_token({"aud": f"http://localhost:8080{path}", **claims})
