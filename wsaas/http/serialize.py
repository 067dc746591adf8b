"""Outgoing HTTP responses (RFC 9112 section 4), and the one place that serializes them."""

from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Final

import orjson

from wsaas.errors import HTTPError
from wsaas.http.request import Request
from wsaas.http.streamed import StreamedResponse


class OutgoingResponse:
    """An immutable response. `headers`: those that `serialize` does not add. `body`: of `content_type`, or empty.

    The response to a HEAD, and a 304, have the body of the GET; `serialize` omits it.
    """

    __slots__ = ("body", "content_type", "headers", "status")

    def __init__(
        self,
        status: int,
        body: bytes = b"",
        headers: tuple[tuple[str, str], ...] = (),
        content_type: str = "application/json",
    ) -> None:
        """Make a response with `status`, `body` and `headers`."""
        self.body = body
        self.content_type = content_type
        self.headers = headers
        self.status = status


OK: Final = OutgoingResponse(200, orjson.dumps({"code": "OK"}))
"""The most frequent response. `serialize` recognizes it by identity."""


_STATUS_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}" for status in HTTPStatus}


def error_response(error: HTTPError) -> OutgoingResponse:
    """Return the response for `error`. Every error becomes a response here."""
    return OutgoingResponse(error.status, orjson.dumps(error.content), error.headers)


def serialize(response: OutgoingResponse, at: float, request: Request | None = None) -> bytes:
    """Serialize the `response` to `request`. `at`: the time for the `Date` header, in seconds since the epoch.

    `request` is None if it could not be parsed; the response is then the last one on its connection.
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
    ]
    if response.status != HTTPStatus.NO_CONTENT:
        # RFC 9110 section 8.6.
        head.append(f"Content-Length: {len(response.body)}")
    if response.body:
        head.append(f"Content-Type: {response.content_type}")
    head += [f"{name}: {value}" for name, value in response.headers]
    if request is None or not request.keep_alive:
        head.append("Connection: close")
    elif request.version == "1.0":
        # A client of HTTP/1.0 expects a close unless this header is present (RFC 9112 section 9.3).
        head.append("Connection: keep-alive")
    is_without_body = response.status == HTTPStatus.NOT_MODIFIED or (request is not None and request.method == b"HEAD")
    body = b"" if is_without_body else response.body
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


def serialize_streamed(response: StreamedResponse, at: float, request: Request) -> bytes:
    """Serialize the head of a streamed `response` to `request`. `at`: see `serialize`."""
    head = [_STATUS_LINES[OK.status], _date(int(at)), f"Content-Type: {response.content_type}"]
    head += [f"{name}: {value}" for name, value in response.headers]
    head.append("Transfer-Encoding: chunked" if request.version == "1.1" else "Connection: close")
    if request.version == "1.1" and not request.keep_alive:
        head.append("Connection: close")
    return "\r\n".join([*head, "", ""]).encode("latin-1")


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    """Return the `Date` header for `second`, in seconds since the epoch (RFC 9110 section 6.6.1)."""
    return f"Date: {formatdate(second, usegmt=True)}"


@lru_cache(maxsize=1)
def serialize_ok(second: int) -> bytes:
    """Serialize `OK` for an HTTP/1.1 request that is not a HEAD, on a connection that is kept alive.

    `second`: the time for the `Date` header, in seconds since the epoch. The result is cached for that second, because
    it answers nearly every push (`python -m benchmarks micro`, case `push`).
    """
    head = f"HTTP/1.1 200 OK\r\n{_date(second)}\r\nContent-Length: {len(OK.body)}\r\n"
    return head.encode() + b"Content-Type: application/json\r\n\r\n" + OK.body
