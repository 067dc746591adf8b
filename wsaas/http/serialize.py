"""HTTP responses that are sent, as bytes: what went well, and each fault at the one place that words it."""

from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

import orjson

from wsaas.errors import HTTPError

_COMMON_SIZE = 1024
"""Bytes of an answer that may be kept for the next ones of its second: most are alike."""


def answer(status: int, body: bytes, *headers: tuple[str, str], keep_alive: bool = True) -> bytes:
    """Return a response with a JSON `body` (none when empty)."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"Content-Length: {len(body)}"]
    if body:
        lines.append("Content-Type: application/json")
    lines += [f"{name}: {value}" for name, value in headers]
    if not keep_alive:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def fault_answer(fault: HTTPError, *, keep_alive: bool = True) -> bytes:
    """Return the response that tells of `fault`."""
    body = orjson.dumps({"code": fault.code, "message": fault.message})
    return answer(fault.status, body, *fault.headers, keep_alive=keep_alive)


def without_body(answer: bytes) -> bytes:
    """Return what answers a HEAD where `answer` answers the GET (RFC 9110 section 9.3.2)."""
    return answer[: answer.index(b"\r\n\r\n") + 4]


def kept_alive(answer: bytes) -> bytes:
    """Return `answer` for a client of HTTP/1.0, which has to be told that the connection stays (RFC 9112, 9.3)."""
    return answer.replace(b"\r\n", b"\r\nConnection: keep-alive\r\n", 1)


def dated(answer: bytes, at: float) -> bytes:
    """Return `answer` with its `Date`, which is `at` seconds since the epoch (RFC 9110 section 6.6.1)."""
    if len(answer) > _COMMON_SIZE:
        return _dated(answer, int(at))
    return _common_dated(answer, int(at))


@lru_cache(maxsize=1)
def _date_line(second: int) -> bytes:
    return f"\r\nDate: {formatdate(second, usegmt=True)}\r\n".encode()


def _dated(answer: bytes, second: int) -> bytes:
    return answer.replace(b"\r\n", _date_line(second), 1)


_common_dated = lru_cache(maxsize=16)(_dated)
