"""Target: the answers of the backend."""

from collections.abc import Iterator
from dataclasses import dataclass

from tests.fuzz.cutting import pieces
from tests.fuzz.http import check_headers, limits, written
from wsaas.http.response import BadResponse, Response, ResponseParser

LIMITS = [1000, 0, 1, 10]
MAX_HEADERS, SMALL_HEADERS, SMALL_HEAD = 100, 4, 160
NEXT = b"HTTP/1.1 202 OK\r\nContent-Length: 0\r\n\r\n"


@dataclass
class Outcome:
    """What a stream came to: a response, a fault, or nothing yet.

    `by_end`: only the end of the connection made it; `is_more`: there were more bytes than it took.
    """

    reader: ResponseParser
    response: Response | None = None
    fault: bool = False
    by_end: bool = False
    is_more: bool = False

    @property
    def told(self) -> object:
        """All that there is to know, to compare it, but whether the connection can be used again."""
        response = self.response
        if response is None:
            return self.fault
        return response.status, response.headers, response.body, response.is_too_large


def read(cut: Iterator[bytes], limit: int) -> Outcome:
    """Read until there is a response or a fault, as the pool does."""
    reader = ResponseParser(limit)
    for piece in cut:
        try:
            response = reader.feed(piece)
        except BadResponse:
            return Outcome(reader, fault=True)
        if response is not None:
            return Outcome(reader, response, is_more=next(cut, None) is not None)
    response = reader.eof()
    return Outcome(reader, response, by_end=response is not None)


def check(outcome: Outcome, limit: int, max_headers: int) -> None:
    """What holds of whatever was read."""
    response = outcome.response
    if response is None:
        return
    assert 200 <= response.status <= 999
    assert len(response.headers) <= max_headers
    assert len(response.body) <= limit
    assert not (response.is_too_large and response.body)
    assert not (outcome.by_end and response.keep_alive)
    check_headers(list(response.headers.items()))
    length = response.headers.get(b"content-length")
    if length is not None and not response.is_too_large and response.status not in {204, 304}:
        assert int(length) == len(response.body)
    if response.keep_alive:
        follower = outcome.reader.feed(NEXT)
        assert follower is not None
        assert (follower.status, follower.body, follower.keep_alive) == (202, b"", True)
    if not response.is_too_large and max_headers == MAX_HEADERS > len(response.headers):
        again(response, limit)


def again(response: Response, limit: int) -> None:
    """Write it down and read it: nothing may have been lost, or have been read into it."""
    framing = {b"content-length", b"transfer-encoding", b"connection", b"upgrade"}
    headers = [(name, value) for name, value in response.headers.items() if name not in framing]
    has_body = response.status not in {204, 304}
    length = [(b"content-length", b"%d" % len(response.body))] if has_body else []
    start = b"HTTP/1.1 %d X" % response.status
    outcome = read(iter([written(start, headers + length, response.body if has_body else b"")]), limit)
    assert outcome.response is not None
    assert outcome.response.status == response.status
    assert outcome.response.headers == dict(headers + length)
    assert outcome.response.body == (response.body if has_body else b"")
    assert outcome.response.keep_alive


def responses(data: bytes) -> None:
    """A stream is the same response however it is cut."""
    if len(data) < 2:
        return
    how, chosen, stream = data[0], data[1], data[2:]
    limit = LIMITS[chosen % 4]
    whole, cut = read(iter([stream]), limit), read(pieces(stream, how), limit)
    if whole.fault != cut.fault:
        # Nothing is read behind a body that is over the limit, unless it came at once with the rest.
        response = whole.response or cut.response
        assert response is not None
        assert response.is_too_large
        return
    assert whole.told == cut.told
    assert whole.by_end == cut.by_end
    if whole.response is not None and cut.response is not None and not whole.response.is_too_large:
        # What comes behind a response spoils the connection, if it comes at once.
        assert whole.response.keep_alive == (cut.response.keep_alive and not cut.is_more)
    check(whole, limit, MAX_HEADERS)
    check(cut, limit, MAX_HEADERS)
    with limits(MAX_HEAD=SMALL_HEAD, COMMON_SIZE=SMALL_HEAD, MAX_HEADERS=SMALL_HEADERS):
        for small in (read(iter([stream]), limit), read(pieces(stream, how), limit)):
            check(small, limit, SMALL_HEADERS)
