"""The events of Azure Web PubSub, as CloudEvents in HTTP's binary mode: what is in their headers and bodies."""

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs

import orjson

from wsaas.events import Opened

TOKEN_PARAMETER: Final = "access_token"  # noqa: S105 - a name
"""The parameter of the query that has the token. Only its claims are passed on."""

_NOT_IN_HEADER: Final = re.compile(r"[^ -~]|^ | $")
"""What a header of a CloudEvent has percent-encoded (CloudEvents 1.0.2, HTTP binding, section 3.1.3.2), and spaces at
the ends. Other than there, a percent sign, a quotation mark and a space stay as they are: the SDKs decode nothing."""


def header_value(text: str) -> str:
    """Return `text` in a form that a header can have."""
    return _NOT_IN_HEADER.sub(_percent_encoded, text)


def _percent_encoded(found: re.Match[str]) -> str:
    return "".join([f"%{byte:02X}" for byte in found[0].encode("utf-8", "surrogatepass")])


def connect_json(opened: Opened, claims: Mapping[str, Any]) -> bytes:
    """Return the body of a connect event. All values are lists, as names may be repeated."""
    query = parse_qs(opened.query, keep_blank_values=True)
    query.pop(TOKEN_PARAMETER, None)
    return orjson.dumps(
        {
            "claims": {name: _texts(value) for name, value in claims.items()},
            "query": query,
            "headers": {name: [value] for name, value in opened.headers.items()},
            "subprotocols": list(opened.subprotocols),
            "clientCertificates": [],
        }
    )


def disconnect_json(reason: str) -> bytes:
    """Return the body of a disconnected event."""
    return orjson.dumps({"reason": reason})


def groups_in(claims: Mapping[str, Any]) -> list[str]:
    """Return the groups that a token lets its client join."""
    return [] if "webpubsub.group" not in claims else _texts(claims["webpubsub.group"])


def _texts(value: object) -> list[str]:
    """Return the values of a claim as texts."""
    return [_text(each) for each in value] if isinstance(value, list) else [_text(value)]


def _text(value: object) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()
