"""The requests of the gateway as values: a client connects, sends a message, or has disconnected."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from wsaas.backend.headers import HeadersLike, lower_names

CONNECT: Final = "wsaas.connect"
MESSAGE: Final = "wsaas.message"
DISCONNECT: Final = "wsaas.disconnect"
TYPES: Final = {"POST": CONNECT, "PUT": MESSAGE, "DELETE": DISCONNECT}
BINARY: Final = "application/octet-stream"
MAX_SHOWN: Final = 60
"""Characters of an unexpected value that an error quotes."""

MAX_NUMBER: Final = 2**53
"""Whole numbers in JSON are exact up to this one."""

T = TypeVar("T")

_EVENT_ID: Final = re.compile(r"(?P<id>[A-Za-z0-9_-]+):(?P<number>[0-9]{1,18}|end)(?P<replay>:replay-[0-9]+)?")
_NUMBERS: Final = {CONNECT: "0", DISCONNECT: "end"}
_FORMS: Final = {CONNECT: "<id>:0", MESSAGE: "<id>:1 or a higher number", DISCONNECT: "<id>:end"}


class InvalidEvent(ValueError):
    """The request is not one that a gateway makes: answer `bad_request()`. The text names the header or the member.

    `Message.text` and `Message.json` raise it, too, for what a client has sent. Whether that closes the client is for
    the backend to decide.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRequest:
    """The handshake of a client.

    `path`, `query`: percent-encoded, as they were sent. `headers`: by name in lower case; values of a repeated header
    are joined with commas.
    """

    path: str
    query: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    subprotocols: tuple[str, ...]
    remote_address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseEvent:
    """What all events have.

    `ws_uri`: the address of the client, for `Client`. `id`: its last part, which is never used again.
    `event_id`: the same each time that the event is sent, to detect duplicates.
    `context`: what an earlier answer has stored with the connection.
    `authorization`: the header of the client's handshake.
    `is_replay`: somebody has sent the event once more, in the console.
    """

    ws_uri: str
    id: str
    event_id: str
    time: datetime
    context: str | None = None
    authorization: str | None = field(default=None, repr=False)
    traceparent: str | None = None
    tracestate: str | None = None
    is_replay: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Connect(BaseEvent):
    """A client wants to connect. `timeout`: after this time without a sign of life, a client is closed."""

    request: ClientRequest
    timeout: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Message(BaseEvent):
    """A client sent a message. `data`: a `str` if it is text. `number`: 1 for the first message of the connection."""

    data: str | bytes = field(repr=False)
    number: int

    @property
    def is_text(self) -> bool:
        """Whether the message is text."""
        return isinstance(self.data, str)

    @property
    def text(self) -> str:
        """The text. Raises `InvalidEvent` for a binary message."""
        if isinstance(self.data, str):
            return self.data
        raise InvalidEvent("the message is binary: expected text")

    def json(self) -> Any:
        """Return the decoded JSON. Raises `InvalidEvent` for anything else."""
        return _json(self.data, "the message")


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnect(BaseEvent):
    """A client has disconnected, in whatever way.

    `code`, `reason`: of the WebSocket close; 1006 without one. `duration`: since the handshake.
    `messages_in`, `messages_out`: received from the client, and sent to it. `undelivered`: messages from the client
    that no backend has acknowledged. These three are None for a connection that ended with its gateway.
    """

    code: int
    reason: str
    duration: timedelta
    messages_in: int | None
    messages_out: int | None
    undelivered: int | None


Event = Connect | Message | Disconnect


def parse(method: str, headers: HeadersLike, body: bytes) -> Event:
    """Return the event in a request of the gateway. Call `verify` before. Raises `InvalidEvent`.

    `headers`: in any case, as a mapping or as pairs. `body`: the raw bytes.
    """
    if not isinstance(body, bytes):
        raise TypeError(f"the body must be the raw bytes of the request, not {type(body).__name__}")
    given = lower_names(headers)
    kind = TYPES.get(method.upper())
    if kind is None:
        raise InvalidEvent(f"the method is {_shown(method)}: expected POST, PUT or DELETE")
    _expect(given, "ce-type", kind)
    fields, number = _common(given, kind)
    if kind == MESSAGE:
        return Message(**fields, data=_data(given, body), number=int(number))
    content = _Members(_json(body, "the body"), "the body")
    for name in ("ws_uri", *(("id",) if kind == CONNECT else ())):
        # The signature covers the body, but no header that is not part of it.
        if content.text(name) != fields[name]:
            raise InvalidEvent(f"{name} in the body differs from the headers: expected {_shown(fields[name])}")
    return _connect(fields, content) if kind == CONNECT else _disconnect(fields, content)


def _common(headers: Mapping[str, str], kind: str) -> tuple[dict[str, Any], str]:
    """Return the fields of a `BaseEvent`, and the number of the event."""
    event_id = _required(headers, "ce-id", _FORMS[kind])
    found = _EVENT_ID.fullmatch(event_id)
    number = found["number"] if found else ""
    expected = _NUMBERS.get(kind)
    if found is None or (number != expected if expected else number in {"0", "end"}):
        raise InvalidEvent(f"ce-id is {_shown(event_id)}: expected {_FORMS[kind]}")
    if "webhook-id" in headers:
        _expect(headers, "webhook-id", event_id)
    _expect(headers, "ce-subject", found["id"])
    ws_uri = _required(headers, "ws-uri", f"an address that ends with /{found['id']}")
    if not ws_uri.endswith(f"/{found['id']}"):
        raise InvalidEvent(f"ws-uri is {_shown(ws_uri)}: expected an address that ends with /{found['id']}")
    fields = {
        "ws_uri": ws_uri,
        "id": found["id"],
        "event_id": event_id,
        "time": _time(_required(headers, "ce-time", "a time such as 2026-01-31T12:00:00.123Z")),
        "context": headers.get("ws-context"),
        "authorization": headers.get("authorization"),
        "traceparent": headers.get("traceparent"),
        "tracestate": headers.get("tracestate"),
        "is_replay": found["replay"] is not None,
    }
    return fields, number


def _data(headers: Mapping[str, str], body: bytes) -> str | bytes:
    """Return the message: text, whatever its type is called, unless it is labelled as bytes."""
    content_type = _required(headers, "content-type", f"a type of text, or {BINARY}")
    if content_type.partition(";")[0].strip().lower() == BINARY:
        return body
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise InvalidEvent(f"content-type is {_shown(content_type)}: expected a body in UTF-8") from None


def _connect(fields: dict[str, Any], content: "_Members") -> Connect:
    request = _Members(content.get("request"), "request")
    return Connect(
        **fields,
        timeout=timedelta(milliseconds=content.number("timeout")),
        request=ClientRequest(
            path=request.text("path"),
            query=request.text("query"),
            headers=_Members(request.get("headers"), "headers").texts(),
            subprotocols=request.list_of_texts("subprotocols"),
            remote_address=request.text("remote_address"),
        ),
    )


def _disconnect(fields: dict[str, Any], content: "_Members") -> Disconnect:
    return Disconnect(
        **fields,
        code=content.number("code"),
        reason=content.text("reason"),
        duration=timedelta(milliseconds=content.number("duration")),
        messages_in=content.number_or_none("messages_in"),
        messages_out=content.number_or_none("messages_out"),
        undelivered=content.number_or_none("undelivered"),
    )


class _Members:
    """The members of a JSON object. Raises `InvalidEvent` for those that are not as expected."""

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise InvalidEvent(f"{where} is not as expected: a JSON object")
        self._members = value

    def get(self, name: str) -> Any:
        return self._members.get(name)

    def text(self, name: str) -> str:
        return self._checked(name, str, "a string")

    def number(self, name: str) -> int:
        value = self._checked(name, int, "a whole number")
        if isinstance(value, bool) or not 0 <= value <= MAX_NUMBER:
            raise InvalidEvent(f"{name} in the body is {_shown(value)}: expected a whole number")
        return value

    def number_or_none(self, name: str) -> int | None:
        return None if self.get(name) is None else self.number(name)

    def list_of_texts(self, name: str) -> tuple[str, ...]:
        value = self._checked(name, list, "a list of strings")
        if not all(isinstance(each, str) for each in value):
            raise InvalidEvent(f"{name} in the body is {_shown(value)}: expected a list of strings")
        return tuple(value)

    def texts(self) -> Mapping[str, str]:
        for name in self._members:
            self.text(name)
        return self._members

    def _checked(self, name: str, kind: type[T], expected: str) -> T:
        value = self.get(name)
        if not isinstance(value, kind):
            raise InvalidEvent(f"{name} in the body is {_shown(value)}: expected {expected}")
        return value


def _required(headers: Mapping[str, str], name: str, expected: str) -> str:
    if not (value := headers.get(name)):
        raise InvalidEvent(f"{name} is missing: expected {expected}")
    return value


def _expect(headers: Mapping[str, str], name: str, expected: str) -> None:
    if (value := _required(headers, name, expected)) != expected:
        raise InvalidEvent(f"{name} is {_shown(value)}: expected {expected}")


def _time(text: str) -> datetime:
    try:
        # Python 3.10 does not know the Z.
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise InvalidEvent(f"ce-time is {_shown(text)}: expected a time such as 2026-01-31T12:00:00.123Z")
    return found


def _json(data: str | bytes, what: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise InvalidEvent(f"{what} is not JSON") from None


def _shown(value: object) -> str:
    return repr(value)[:MAX_SHOWN]
