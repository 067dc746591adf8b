"""What `GET ws_uri` and `GET /connections` show of a session."""

from typing import Any

from wsaas.clock import rfc3339
from wsaas.sessions.session import Services, Session


def information(session: Session, services: Services) -> dict[str, Any]:
    """Return the JSON object of `session`; once the connection has ended, with its close code and reason."""
    clock, info = services.clock, session.info
    session.settle()
    fields = {
        "id": info.id,
        "ws_uri": session.ws_uri,
        "state": session.state.value,
        "connected_at": rfc3339(info.connected_at),
        # Two clocks: the difference may be off by a millisecond.
        "last_seen_at": rfc3339(max(info.connected_at, clock.wall() - (clock.now() - info.last_seen))),
        "remote_address": info.remote_address,
        "path": info.path,
        "query": info.query,
        "subprotocol": info.subprotocol,
        "context": info.context,
        "groups": services.groups.names(info.id),
        "messages_in": info.messages_in,
        "messages_out": info.messages_out,
        "bytes_in": info.bytes_in,
        "bytes_out": info.bytes_out,
        "inbox": session.outbox.level,
        "buffered": session.buffered,
    }
    if agent := session.outbox.webhook.user_agent():
        fields["user_agent"] = agent
    if info.ended:
        fields |= {
            "ended_at": rfc3339(clock.wall() - (clock.now() - info.ended)),
            "code": info.close.code,
            "reason": info.close.reason,
            "undelivered": info.messages_undelivered,
        }
    return fields
