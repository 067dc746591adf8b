"""The responses to pipelined requests of another process of the gateway: bytes in, responses out, in order.

They are parsed strictly: the peer is this program too. Whatever `serialize` writes on a connection that is kept alive
is accepted, except for the response to HEAD.
"""

import re
from functools import lru_cache
from http import HTTPStatus
from typing import Final

import httptools

from wsaas.errors import Malformed
from wsaas.http import headers as heads
from wsaas.http.headers import COMMON_HEADS
from wsaas.http.response import BadResponse
from wsaas.http.serialize import OK, OutgoingResponse, serialize_ok

MAX_RESPONSE: Final = 32 * 1024 * 1024
"""Bytes of the body of a response from a peer. A page of 1,000 connections has half of them at most."""

_LINE: Final = re.compile(rb"HTTP/1\.1 ([2-5][0-9]{2}) [^\r\n]*\r\n")
_ADDED_AGAIN: Final = {b"date", b"content-length", b"content-type", b"connection"}
"""Headers that `serialize` adds to every response."""
_STATUSES: Final = frozenset(status.value for status in HTTPStatus)


class ResponseStream:
    """The responses on one connection. Call `receive`, then `next` until it returns None.

    `_usual`: the last response that was read as `OK`. Nearly every response repeats it, with the same second in its
    `Date`, so it is recognized by comparison.
    """

    __slots__ = ("_at", "_data", "_missing", "_parts", "_usual")

    def __init__(self) -> None:
        """Start empty."""
        self._at = 0
        self._data = b""
        # A large body arrives in parts, which are joined once: `_missing` counts the bytes that are still needed.
        self._missing = 0
        self._parts: list[bytes] = []
        self._usual = serialize_ok(0)

    def receive(self, data: bytes) -> None:
        """Buffer bytes for `next`."""
        if self._at == len(self._data) and not self._parts:
            self._data = data
            self._at = 0
        else:
            self._parts.append(data)
            self._missing -= len(data)

    def next(self) -> OutgoingResponse | None:
        """Return the next response, or None if it is incomplete. Raises `BadResponse`."""
        if self._data.startswith(self._usual, self._at):
            self._at += len(self._usual)
            return OK
        if self._at == len(self._data) and not self._parts:
            return None
        if self._parts:
            if self._missing > 0:
                return None
            self._data = b"".join([self._data[self._at :], *self._parts])
            self._at = 0
            self._parts.clear()
        try:
            return self._read()
        except Malformed as error:
            raise BadResponse(str(error)) from None

    def _read(self) -> OutgoingResponse | None:
        """Read the next response of `_data`. Raises `Malformed`."""
        data, start = self._data, self._at
        end = heads.find_end(data, start)
        if not end:
            self._missing = 0
            return None
        status, headers, size = _read_head(data[start:end])
        if size > MAX_RESPONSE:
            raise Malformed(f"its body has more than {MAX_RESPONSE} bytes")
        stop = end + size
        if stop > len(data):
            self._missing = stop - len(data)
            return None
        self._missing = 0
        self._at = stop
        body = data[end:stop]
        if status == OK.status and body == OK.body and not headers:
            self._usual = data[start:stop]
            return OK
        return OutgoingResponse(status, body, headers)


@lru_cache(COMMON_HEADS)
def _read_head(head: bytes) -> tuple[int, tuple[tuple[str, str], ...], int]:
    """Return the status, the headers to pass on, and the size of the body. Raises `Malformed`."""
    line = _LINE.match(head)
    if line is None or int(line[1]) not in _STATUSES:
        raise Malformed("its first line is not that of a final response in HTTP/1.1")
    read = heads.read(httptools.HttpResponseParser, "1.1", head)
    status = int(line[1])
    # A 204 has neither a body nor a length (RFC 9110 section 8.6).
    size = 0 if status == HTTPStatus.NO_CONTENT and read.size is None else read.size
    if size is None or size < 0:
        raise Malformed("it has no Content-Length")
    headers = tuple(
        (name.decode().title(), value.decode("latin-1"))
        for name, value in read.headers.items()
        if name not in _ADDED_AGAIN
    )
    return status, headers, size
