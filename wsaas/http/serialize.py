"""HTTP responses that are sent (RFC 9112 section 4): values until they are written, once."""

from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Final

import orjson

from wsaas.errors import HTTPError
from wsaas.http.request import Request


class OutgoingResponse:
    """A response to a request: its status, its `headers` beside those of `serialize`, and a JSON body or none.

    The body is that of a GET, also where a HEAD is answered. Nobody changes a response once it is made.
    """

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, body: bytes = b"", headers: tuple[tuple[str, str], ...] = ()) -> None:
        """Keep what is given."""
        self.body = body
        self.headers = headers
        self.status = status


OK: Final = OutgoingResponse(200, orjson.dumps({"code": "OK"}))
"""What nearly every request is answered with. `serialize` knows this one object."""


_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}" for status in HTTPStatus}


def error_response(error: HTTPError) -> OutgoingResponse:
    """Return the response that reports `error`: the only place where an error becomes one."""
    return OutgoingResponse(error.status, orjson.dumps({"code": error.code, "message": error.message}), error.headers)


def serialize(response: OutgoingResponse, at: float, request: Request | None = None) -> bytes:
    """Return the bytes of `response`, made `at` (seconds since the epoch), to `request`.

    Without a request, which could then not be read, the response is the last one on its connection.
    """
    if (
        response is OK
        and request is not None
        and request.keep_alive
        and request.version == "1.1"
        and request.method != b"HEAD"
    ):
        return serialize_ok(int(at))
    head = [
        _STATUS_LINES[response.status],
        _date(int(at)),
        f"Content-Length: {len(response.body)}",
    ]
    if response.body:
        head.append("Content-Type: application/json")
    head += [f"{name}: {value}" for name, value in response.headers]
    if request is None or not request.keep_alive:
        head.append("Connection: close")
    elif request.version == "1.0":
        # Its client expects a close unless it is told otherwise (RFC 9112 section 9.3).
        head.append("Connection: keep-alive")
    body = b"" if request is not None and request.method == b"HEAD" else response.body
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    """Return the `Date` header of a second since the epoch (RFC 9110 section 6.6.1)."""
    return f"Date: {formatdate(second, usegmt=True)}"


@lru_cache(maxsize=1)
def serialize_ok(second: int) -> bytes:
    """Return the bytes of `OK`, made within `second` (since the epoch), to a request that is not the last of HTTP/1.1.

    A constant for that second, as nearly every push is answered with it (`python -m benchmarks micro`, case `push`).
    The request is no HEAD.
    """
    head = f"HTTP/1.1 200 OK\r\n{_date(second)}\r\nContent-Length: {len(OK.body)}\r\n"
    return head.encode() + b"Content-Type: application/json\r\n\r\n" + OK.body
