"""The access log: a line for each connection that has ended, and for each handshake that was refused.

`ACCESS_LOG` switches it; the callers check that. Nothing of the query or of the headers is in a line, and no text that
the client chose except for its path.
"""

from typing import Final

from wsaas.errors import HTTPError, RefusedWithClose
from wsaas.log import log_event
from wsaas.reason import Reason
from wsaas.sessions.connection_info import ConnectionInfo

MAX_PATH: Final = 1000
"""Maximum number of characters of a path that are logged."""


def log_closed(info: ConnectionInfo, reason: Reason) -> None:
    """Log that a connection has ended, for `reason`."""
    fields = {
        "event": "closed",
        "id": info.id,
        "reason": reason.value,
        "code": info.close.code,
        "duration_ms": round((info.ended - info.since) * 1000),
        "messages_in": info.messages_in,
        "messages_out": info.messages_out,
    }
    log_event("connection closed", _with_client(fields, info))


def log_refused(error: HTTPError, info: ConnectionInfo, now: float) -> None:
    """Log that a handshake was answered with `error` at `now`, after the backend was asked."""
    fields: dict[str, object] = {
        "event": "refused",
        "id": info.id,
        "reason": error.message,
        "status": error.status,
    }
    if isinstance(error, RefusedWithClose):
        fields["code"] = error.close_code
    fields["duration_ms"] = round((now - info.since) * 1000)
    log_event("handshake refused", _with_client(fields, info))


def log_refused_at_once(error: HTTPError, remote_address: str, target: str) -> None:
    """Log that a handshake to `target` was answered with `error`, before it got an id."""
    fields = {
        "event": "refused",
        "reason": error.message,
        "status": error.status,
        "remote_address": remote_address,
        "path": _path(target.partition("?")[0]),
    }
    log_event("handshake refused", fields)


def log_abandoned(info: ConnectionInfo) -> None:
    """Log that a client went away before its handshake was answered."""
    fields = {"event": "abandoned", "id": info.id, "duration_ms": round((info.ended - info.since) * 1000)}
    log_event("handshake abandoned", _with_client(fields, info))


def _with_client(fields: dict[str, object], info: ConnectionInfo) -> dict[str, object]:
    """Add what identifies the client, and its trace if it has one."""
    fields["remote_address"] = info.remote_address
    fields["path"] = _path(info.path)
    if info.trace_id is not None:
        fields["trace_id"] = info.trace_id
    return fields


def _path(path: str) -> str:
    return path if len(path) <= MAX_PATH else f"{path[:MAX_PATH]}..."
