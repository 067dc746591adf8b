"""Requests as they are forwarded to a peer: serialized, and recognized."""

import re
from typing import Final

from wsaas.http.request import Request

PEER_HEAD: Final = b"Host: peer\r\n"
"""The first header of a request to another worker."""

FOR_NODE: Final = b"ws-node"
"""The header of a request for one node only: its name. No node passes the request on to another one."""

_PUSH: Final = b"PUT %b HTTP/1.1\r\n%bContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b"


def node_head(authority: bytes, node: bytes, authorization: bytes | None) -> bytes:
    """Return the first headers of a request to another node: that of the caller, and its `authorization`.

    `authority`: host and port of the node. `node`: its name, so that no other one at this address takes the request.
    """
    credentials = b"" if authorization is None else b"Authorization: %b\r\n" % authorization
    return b"Host: %b\r\nWs-Node: %b\r\n%b" % (authority, node, credentials)


def serialize_request(request: Request, head: bytes = PEER_HEAD) -> bytes:
    """Serialize a request for a peer: only what its API reads. A HEAD becomes a GET, whose body the caller drops.

    `head`: its first headers.
    """
    method, headers, body = request.method, request.headers, request.body
    content_type, coding = headers.get(b"content-type"), headers.get(b"content-encoding")
    if method == b"PUT" and content_type is not None and coding is None:
        # Nearly every request, as one piece.
        return _PUSH % (request.target, head, content_type, len(body), body)
    lines = head if content_type is None else b"%bContent-Type: %b\r\n" % (head, content_type)
    if coding is not None:
        lines += b"Content-Encoding: %b\r\n" % coding
    return serialize_parts(b"GET" if method == b"HEAD" else method, request.target, lines, body)


def serialize_parts(method: bytes, target: bytes, lines: bytes, body: bytes = b"") -> bytes:
    """Serialize a request for a peer, with the header `lines`."""
    return b"%b %b HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n%b" % (method, target, lines, len(body), body)


def push_pattern(prefix: bytes, id_form: bytes, head: bytes = PEER_HEAD) -> re.Pattern[bytes]:
    """Return a pattern for the head of a usual push, as `serialize_request` writes it with `head`.

    Its groups are the id, the `Content-Type` and the size of the body. `prefix`: of the target, before the id.
    """
    return re.compile(
        rb"PUT %b(%b) HTTP/1\.1\r\n%bContent-Type: ([!-~][ -~]*)\r\nContent-Length: ([0-9]{1,9})\r\n\r\n"
        % (re.escape(prefix), id_form, re.escape(head))
    )
