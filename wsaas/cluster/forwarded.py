"""Requests as they are forwarded to a peer: serialized, and recognized."""

import re
from typing import Final

from wsaas.http.request import Request

_PUSH: Final = b"PUT %b HTTP/1.1\r\nHost: peer\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b"


def serialize_request(request: Request) -> bytes:
    """Serialize a request for a peer: only what its API reads. A HEAD becomes a GET, whose body the caller drops."""
    method, headers, body = request.method, request.headers, request.body
    content_type, coding = headers.get(b"content-type"), headers.get(b"content-encoding")
    if method == b"PUT" and content_type is not None and coding is None:
        # Nearly every request, as one piece.
        return _PUSH % (request.target, content_type, len(body), body)
    lines = b"" if content_type is None else b"Content-Type: %b\r\n" % content_type
    if coding is not None:
        lines += b"Content-Encoding: %b\r\n" % coding
    return serialize_parts(b"GET" if method == b"HEAD" else method, request.target, lines, body)


def serialize_parts(method: bytes, target: bytes, lines: bytes = b"", body: bytes = b"") -> bytes:
    """Serialize a request for a peer, with the header `lines`."""
    head = b"%b %b HTTP/1.1\r\nHost: peer\r\n%bContent-Length: %d\r\n\r\n%b"
    return head % (method, target, lines, len(body), body)


def push_pattern(prefix: bytes, id_form: bytes) -> re.Pattern[bytes]:
    """Return a pattern for the head of a usual push, as `serialize_request` writes it.

    Its groups are the id, the `Content-Type` and the size of the body. `prefix`: of the target, before the id.
    """
    return re.compile(
        rb"PUT %b(%b) HTTP/1\.1\r\nHost: peer\r\nContent-Type: ([!-~][ -~]*)\r\nContent-Length: ([0-9]{1,9})\r\n\r\n"
        % (re.escape(prefix), id_form)
    )
