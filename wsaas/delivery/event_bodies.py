"""Serializes the JSON bodies of POST and DELETE. No code of the gateway parses them, but for `read_disconnect`.

A body is serialized for each attempt. Its bytes are the same each time, as an event that was sent does not change.
The journal keeps the body of a DELETE rather than its fields, so that a later version of the gateway sends the same
bytes.
"""

import orjson

from wsaas.events import Closed, Disconnect, Opened
from wsaas.reason import Reason


def connect_body(opened: Opened) -> bytes:
    """Return the body of a POST."""
    return orjson.dumps(
        {
            "ws_uri": opened.ws_uri,
            "id": opened.id,
            "timeout": opened.timeout_ms,
            "request": {
                "path": opened.path,
                "query": opened.query,
                "headers": opened.headers,
                "subprotocols": opened.subprotocols,
                "remote_address": opened.remote_address,
            },
        }
    )


def stored_disconnect_body(closed: Closed) -> bytes:
    """Return the body of a DELETE, to be kept: a copy without the spare kilobytes of orjson's buffer."""
    return bytes(memoryview(disconnect_body(closed)))


def disconnect_body(closed: Closed) -> bytes:
    """Return the body of a DELETE."""
    disconnect = closed.disconnect
    if isinstance(disconnect, bytes):
        return disconnect
    return orjson.dumps(
        {
            "ws_uri": disconnect.ws_uri,
            "code": disconnect.code,
            "reason": disconnect.reason,
            "duration": disconnect.duration_ms,
            "messages_in": disconnect.messages_in,
            "messages_out": disconnect.messages_out,
            "undelivered": disconnect.undelivered,
        }
    )


def read_disconnect(closed: Closed) -> Disconnect:
    """Return how the connection ended, for a request in another format.

    An earlier process may have left it as the body of a DELETE, in the journal.
    """
    disconnect = closed.disconnect
    if isinstance(disconnect, Disconnect):
        return disconnect
    body = orjson.loads(disconnect)
    return Disconnect(
        body.get("ws_uri", ""),
        body.get("code", Reason.GATEWAY_LOST.code),
        body.get("reason", ""),
        body.get("duration", 0),
        body.get("messages_in"),
        body.get("messages_out"),
        body.get("undelivered"),
    )
