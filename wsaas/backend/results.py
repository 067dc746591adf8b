"""What the gateway answers to requests about its clients. Members that a later version adds are ignored."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionInfo:
    """A connection, live or ended.

    `state`: "connecting", "open", "closing", "disconnected" or "closed". `inbox`: bytes that wait for the backend;
    `buffered`: bytes that wait for the client. The last four fields are None for a live connection.
    """

    id: str
    ws_uri: str
    state: str
    connected_at: datetime
    last_seen_at: datetime
    remote_address: str
    path: str
    query: str = field(repr=False)
    subprotocol: str | None
    context: str | None
    groups: tuple[str, ...]
    messages_in: int
    messages_out: int
    bytes_in: int
    bytes_out: int
    inbox: int
    buffered: int
    ended_at: datetime | None = None
    code: int | None = None
    reason: str | None = None
    undelivered: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A part of a list.

    `total`: connections on all pages. `next`: the `after` of the next page, None on the last one.
    `missing`: processes that did not answer, so their connections are in no page.
    """

    connections: tuple[ConnectionInfo, ...]
    total: int
    next: str | None
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishResult:
    """To how many clients a message was sent.

    `slow`: ids of up to 1,000 clients that do not read. `missing`: processes that did not answer. Their clients may
    have got the message; to publish it again would send it twice to all others.
    """

    sent: int
    slow: tuple[str, ...]
    slow_count: int
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SendResult:
    """How many messages were sent, and up to 1,000 clients of each kind that did not get theirs, as they were named.

    `gone`: have disconnected. `slow`: do not read. `unreached`: may have got it, as their process did not answer.
    """

    sent: int
    gone: tuple[str, ...]
    gone_count: int
    slow: tuple[str, ...]
    slow_count: int
    unreached: tuple[str, ...]
    unreached_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseResult:
    """How many clients were closed. `missing`: processes that did not answer."""

    closed: int
    missing: tuple[str, ...]


def read_nothing(_: Mapping[str, Any]) -> None:
    """Read an answer that says only OK."""


def read_connection(content: Mapping[str, Any]) -> ConnectionInfo:
    """Read a connection. Raises `KeyError` and others if it is none."""
    found: dict[str, Any] = {name: content[name] for name in _PLAIN}
    found |= {name: _time(content[name]) for name in ("connected_at", "last_seen_at")}
    # Of a live connection, `code` is that of the answer.
    if "ended_at" in content:
        found |= {name: content[name] for name in ("code", "reason", "undelivered")}
        found["ended_at"] = _time(content["ended_at"])
    return ConnectionInfo(**found, groups=tuple(content["groups"]))


def read_page(content: Mapping[str, Any]) -> Page:
    """Read a page of connections, or of members of a group."""
    return Page(
        connections=tuple(map(read_connection, content["connections"])),
        total=content["total"] if "total" in content else content["count"],
        next=content["next"],
        missing=tuple(content["missing"]),
    )


def read_publish(content: Mapping[str, Any]) -> PublishResult:
    """Read the result of a publish."""
    return PublishResult(
        sent=content["sent"],
        slow=tuple(content["slow"]),
        slow_count=content["slow_count"],
        missing=tuple(content["missing"]),
    )


def read_send(content: Mapping[str, Any]) -> SendResult:
    """Read the result of a `POST /send`."""
    found: dict[str, Any] = {name: content[name] for name in ("sent", "gone_count", "slow_count", "unreached_count")}
    found |= {name: tuple(content[name]) for name in ("gone", "slow", "unreached")}
    return SendResult(**found)


def read_close(content: Mapping[str, Any]) -> CloseResult:
    """Read the result of closing a group."""
    return CloseResult(closed=content["closed"], missing=tuple(content["missing"]))


def _time(text: str) -> datetime:
    # Python 3.10 does not know the Z.
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


_PLAIN: Final = (
    "id", "ws_uri", "state", "remote_address", "path", "query", "subprotocol", "context", "messages_in", "messages_out",
    "bytes_in", "bytes_out", "inbox", "buffered",
)  # fmt: skip
