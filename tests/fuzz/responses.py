"""Target: the responses of the backend."""

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
    """The result of a stream: a response, a fault, or nothing yet.

    `by_end`: the end of the connection completed it; `is_more`: pieces were left after it.
    """

    reader: ResponseParser
    response: Response | None = None
    fault: bool = False
    by_end: bool = False
    is_more: bool = False

    @property
    def value(self) -> object:
        """All properties for a comparison, except whether the connection can be reused."""
        response = self.response
        if response is None:
            return self.fault
        return response.status, response.headers, response.body, response.is_too_large


def read(cut: Iterator[bytes], limit: int) -> Outcome:
    """Read until a response or a fault, as the pool does."""
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
    """Check the result of any input."""
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
        check_round_trip(response, limit)


def check_round_trip(response: Response, limit: int) -> None:
    """Serialize and parse it again: the result has to be the same."""
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
    """The response in a stream does not depend on its cuts."""
    if len(data) < 2:
        return
    how, chosen, stream = data[0], data[1], data[2:]
    limit = LIMITS[chosen % 4]
    whole, cut = read(iter([stream]), limit), read(pieces(stream, how), limit)
    if whole.fault != cut.fault:
        # Bytes after a body over the limit are read only if they arrive in the same piece.
        response = whole.response or cut.response
        assert response is not None
        assert response.is_too_large
        return
    assert whole.value == cut.value
    assert whole.by_end == cut.by_end
    if whole.response is not None and cut.response is not None and not whole.response.is_too_large:
        # Bytes after a response in the same piece make the connection unusable.
        assert whole.response.keep_alive == (cut.response.keep_alive and not cut.is_more)
    check(whole, limit, MAX_HEADERS)
    check(cut, limit, MAX_HEADERS)
    with limits(MAX_HEAD=SMALL_HEAD, COMMON_SIZE=SMALL_HEAD, MAX_HEADERS=SMALL_HEADERS):
        for small in (read(iter([stream]), limit), read(pieces(stream, how), limit)):
            check(small, limit, SMALL_HEADERS)
