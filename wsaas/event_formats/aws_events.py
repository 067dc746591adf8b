"""The events of WebSocket APIs that AWS API Gateway sends to Lambda functions (Lambda proxy integration)."""

import time
from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson

from wsaas.delivery.event_bodies import read_disconnect
from wsaas.delivery.webhook import Subject
from wsaas.events import Disconnect, Event, Message, Opened
from wsaas.http import headers as heads

CONNECT: Final = "$connect"
DISCONNECT: Final = "$disconnect"
DEFAULT: Final = "$default"
"""Route keys. Those of messages come from the messages, or are `DEFAULT`."""

STAGE: Final = "local"
"""The stage if `WS_HOSTNAME` has no path."""

API_ID: Final = "wsaas"

_NO_STATUS: Final = 1005
_NO_STATUS_REASON: Final = "Client-side close frame status not set"
"""What API Gateway writes for a Close without a code (RFC 6455 section 7.1.5)."""

_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_HOP_BY_HOP: Final = frozenset({"connection", "upgrade"})
"""Headers of a handshake that API Gateway does not pass on."""

_WORDS: Final = {"dnt": "DNT", "gpc": "GPC", "websocket": "WebSocket"}
"""Parts of the names of headers that are not capitalized like others."""


class Place:
    """Where the REST API of a node is, from its `WS_HOSTNAME`.

    `https://{domain}/{stage}/@connections/{id}` leads to it, but for the scheme. `host`: with the port, if it has one.
    """

    __slots__ = ("domain", "host", "port", "scheme", "stage")

    def __init__(self, node: str) -> None:
        """Take `node` apart. The last segment of its path is the stage."""
        scheme, mark, rest = node.partition("://")
        self.scheme = scheme if mark else "http"
        self.host, _, prefix = (rest if mark else node).partition("/")
        before, _, stage = prefix.rpartition("/")
        self.stage = stage or STAGE
        self.domain = f"{self.host}/{before}" if before else self.host
        port = self.host.rpartition(":")[2]
        self.port = port if port.isdecimal() else "443" if self.scheme == "https" else "80"


place_of: Final = lru_cache(64)(Place)


class Client:
    """What the handshake tells about a client. `connected_at`: milliseconds since the epoch. None if not known."""

    __slots__ = ("address", "agent", "connected_at")

    def __init__(self, address: str = "", agent: str | None = None, connected_at: int | None = None) -> None:
        """Keep the values."""
        self.address = address
        self.agent = agent
        self.connected_at = connected_at


UNKNOWN_CLIENT: Final = Client()


def client_of(opened: Opened) -> Client:
    """Return what the handshake tells."""
    return Client(opened.remote_address, opened.headers.get("user-agent"), _milliseconds(opened.at))


def event_json(subject: Subject, event: Event, event_id: str, client: Client, selection: Sequence[str]) -> bytes:
    """Return `event` of the connection `subject` as API Gateway writes it.

    `event_id`: the `ce-id`. It is the same for each attempt, and so is the request id.
    `selection`: the names of the members with the route key of a message.
    """
    if isinstance(event, Opened):
        client = client_of(event)
        return orjson.dumps(_connect(subject, event, _context(subject, event, event_id, client, CONNECT)))
    if isinstance(event, Message):
        route_key = route_key_of(event, selection)
        return orjson.dumps(_message(event, _context(subject, event, event_id, client, route_key)))
    disconnect = read_disconnect(event)
    if client.connected_at is None:
        client = Client(connected_at=_milliseconds(event.at) - disconnect.duration_ms)
    return orjson.dumps(_disconnect(subject, disconnect, _context(subject, event, event_id, client, DISCONNECT)))


def route_key_of(message: Message, selection: Sequence[str]) -> str:
    """Return the route key of `message`: the text at `selection` if it is a JSON object with one there.

    A client cannot choose a predefined route, such as that of a connect.
    """
    if not message.data.lstrip().startswith(b"{"):
        return DEFAULT
    try:
        found: Any = orjson.loads(message.data)
    except orjson.JSONDecodeError:
        return DEFAULT
    for name in selection:
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, str) and found and not found.startswith("$") else DEFAULT


def _context(subject: Subject, event: Event, event_id: str, client: Client, route_key: str) -> dict[str, Any]:
    """Return the `requestContext`, with the members that all events have, and without those that are not known."""
    place = place_of(subject.node)
    kind = "MESSAGE" if isinstance(event, Message) else "CONNECT" if isinstance(event, Opened) else "DISCONNECT"
    context: dict[str, Any] = {
        "routeKey": route_key,
        "eventType": kind,
        "extendedRequestId": event_id,
        "requestTime": _log_time(event.at),
        "messageDirection": "IN",
        "stage": place.stage,
        "requestTimeEpoch": _milliseconds(event.at),
        "identity": {"sourceIp": client.address},
        "requestId": event_id,
        "domainName": place.domain,
        "connectionId": subject.id,
        "apiId": API_ID,
    }
    if client.connected_at is not None:
        context["connectedAt"] = client.connected_at
    if client.agent is not None:
        context["identity"]["userAgent"] = client.agent
    if subject.context is not None:
        context["authorizer"] = _authorizer(subject.context)
    return context


def _connect(subject: Subject, opened: Opened, context: dict[str, Any]) -> dict[str, Any]:
    event = {**_headers(_handshake_headers(subject, opened)), "requestContext": context, "isBase64Encoded": False}
    parameters = parse_qsl(opened.query, keep_blank_values=True)
    if parameters:
        every: dict[str, list[str]] = {}
        for name, value in parameters:
            every.setdefault(name, []).append(value)
        event["queryStringParameters"] = dict(parameters)
        event["multiValueQueryStringParameters"] = every
    return event


def _message(message: Message, context: dict[str, Any]) -> dict[str, Any]:
    context["messageId"] = context["requestId"]
    body = message.data.decode() if message.text else b64encode(message.data).decode()
    return {"requestContext": context, "body": body, "isBase64Encoded": not message.text}


def _disconnect(subject: Subject, disconnect: Disconnect, context: dict[str, Any]) -> dict[str, Any]:
    code, reason = disconnect.code, disconnect.reason
    context["disconnectStatusCode"] = code
    context["disconnectReason"] = _NO_STATUS_REASON if code == _NO_STATUS and not reason else reason
    # API Gateway sends these, with empty values.
    names = {"Host": place_of(subject.node).host, "x-api-key": "", "X-Forwarded-For": "", "x-restapi": ""}
    return {**_headers(names), "requestContext": context, "isBase64Encoded": False}


def _handshake_headers(subject: Subject, opened: Opened) -> dict[str, str]:
    """Return the headers of the handshake, with those that API Gateway adds."""
    place = place_of(subject.node)
    headers = {spelled(name): value for name, value in opened.headers.items() if name not in _HOP_BY_HOP}
    if subject.authorization is not None:
        # The token of a browser is in no header of the handshake.
        headers.setdefault("Authorization", heads.text(subject.authorization))
    headers.setdefault("X-Forwarded-Port", place.port)
    headers.setdefault("X-Forwarded-Proto", place.scheme)
    if opened.remote_address:
        # What the client itself sent there cannot be trusted.
        headers["X-Forwarded-For"] = opened.remote_address
    return headers


def _headers(headers: Mapping[str, str]) -> dict[str, Any]:
    return {"headers": headers, "multiValueHeaders": {name: [value] for name, value in headers.items()}}


def _authorizer(context: str) -> dict[str, str] | orjson.Fragment:
    """Return the context of a connection as that of an authorizer: a JSON object as it is, or a principal."""
    try:
        found: Any = orjson.loads(context)
    except orjson.JSONDecodeError:
        found = None
    # Not `found`: orjson parses objects that are nested too deeply for it to serialize them.
    return orjson.Fragment(context) if isinstance(found, dict) else {"principalId": context}


def _spelled(name: str) -> str:
    """Return the name of a header as browsers write it. The gateway keeps names in lower case."""
    return "-".join(_WORDS.get(part) or part.capitalize() for part in name.split("-"))


spelled: Final = lru_cache(256)(_spelled)


def _milliseconds(at: float) -> int:
    return round(at * 1000)


def _log_time(at: float) -> str:
    """Format `at` (seconds since the epoch) as API Gateway does: `31/Jan/2026:12:00:00 +0000`."""
    moment = time.gmtime(at)
    # Not by `%b`, which depends on the locale.
    return f"{moment.tm_mday:02}/{_MONTHS[moment.tm_mon - 1]}/{time.strftime('%Y:%H:%M:%S', moment)} +0000"
