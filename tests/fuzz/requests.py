"""Target: the requests of clients and of the backend."""

from collections.abc import Iterator

from tests.fuzz.cutting import pieces
from tests.fuzz.http import NAME, check_headers, limits, pairs, written
from wsaas.build_kind import BUILD, PURE
from wsaas.errors import HeadTooLarge, HTTPError, UriTooLong
from wsaas.http.request import CONTINUE, Item, Phase, Request, RequestParser
from wsaas.http.request_head import push_line

LIMITS = [1000, 0, 1, 10]
MAX_TARGET, MAX_HEADERS, MAX_HEAD = 8192, 100, 32_768
SMALL_TARGET, SMALL_HEADERS, SMALL_HEAD = 20, 6, 160
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def feed(reader: RequestParser, data: bytes, *, shortcut: bool = True) -> list[Item]:
    """Parse `data`, first with the `shortcut` for a push, as the server does; return all items."""
    push = reader.parse_push(data) if shortcut else None
    if push is not None:
        return [push]
    reader.receive(data)
    items = []
    while (item := reader.next()) is not None or reader.is_busy:
        if item is not None:
            items.append(item)
    return items


class Reading:
    """A parser that has read `cut`. `items`: the result without `CONTINUE`; `trailing`: the bytes after the HTTP."""

    def __init__(self, cut: Iterator[bytes], limit: int, max_head: int = MAX_HEAD, *, shortcut: bool = True) -> None:
        self.reader = RequestParser(limit)
        self.items: list[Item] = []
        self.trailing = b""
        waits_for_body = False
        in_head, most = 0, 2 * max_head
        for piece in cut:
            if self.reader.phase is Phase.CLOSED:
                self.trailing += piece
                continue
            items = feed(self.reader, piece, shortcut=shortcut)
            in_head = in_head + len(piece) if self.reader.phase is Phase.HEAD and not items else 0
            assert in_head <= most + len(piece), "a head without an end"
            for item in items:
                if item is CONTINUE:
                    assert not waits_for_body
                    waits_for_body = True
                else:
                    waits_for_body = False
                    self.items.append(item)
        self.trailing = self.reader.trailing_data + self.trailing
        self.values = [value_of(item) for item in self.items]


def value_of(item: Item) -> object:
    """Return all properties of an item, to compare it. Errors are equal: the cut may decide which of two is found."""
    if not isinstance(item, Request):
        return HTTPError
    facts = (item.method, item.target, item.headers, item.body)
    return (*facts, item.version, item.keep_alive, item.upgrade)


def check(reading: Reading, limit: int) -> None:
    """Check the result of any input."""
    reader = reading.reader
    for item in reading.items:
        if isinstance(item, Request):
            check_request(item, limit)
        else:
            assert isinstance(item, HTTPError)
            assert item is reading.items[-1]
            assert 400 <= item.status <= 599
            assert reader.phase is Phase.CLOSED
    last = reading.items[-1] if reading.items else None
    if reader.phase is Phase.CLOSED:
        assert isinstance(last, HTTPError) or (isinstance(last, Request) and (last.upgrade or not last.keep_alive))
        assert feed(reader, GET) == []
    reader.close()
    assert feed(reader, GET) == []


def check_request(request: Request, limit: int) -> None:
    """Check an accepted request."""
    headers = pairs(request.headers)
    assert NAME.fullmatch(request.method)
    assert request.target
    assert not any(byte <= 0x20 or byte >= 0x7F for byte in request.target)
    assert len(request.body) <= limit
    check_headers(headers)
    hosts, lengths, codings = (
        [value for name, value in headers if name == wanted]
        for wanted in (b"host", b"content-length", b"transfer-encoding")
    )
    assert len(hosts) == 1 or (not hosts and request.version == "1.0")
    assert not (lengths and codings)
    assert len(lengths) <= 1
    if lengths:
        assert lengths[0].isdigit()
        assert int(lengths[0]) == len(request.body)
    if codings:
        assert request.tokens(b"transfer-encoding")[-1].lower() == b"chunked"
    elif not lengths:
        assert request.body == b""
    if request.upgrade:
        assert request.body == b""


def check_size(request: Request, max_target: int, max_headers: int, max_head: int) -> None:
    """Check the limits. A space after each colon is counted, whether it was there or not."""
    headers = pairs(request.headers)
    assert len(request.target) <= max_target
    assert len(headers) <= max_headers
    assert len(request.target) + sum(len(name) + len(value) + 4 for name, value in headers) <= max_head + max_headers


def check_round_trip(request: Request, limit: int) -> None:
    """Serialize and parse it again: the result has to be the same."""
    start = b"%b %b HTTP/%b" % (request.method, request.target, request.version.encode())
    reader = RequestParser(limit)
    items = feed(reader, written(start, pairs(request.headers), request.body) + b"\r\n")
    assert [value_of(item) for item in items] == [value_of(request)]
    if request.keep_alive and not request.upgrade:
        assert reader.phase is Phase.IDLE


def requests(data: bytes) -> None:
    """The requests of a stream do not depend on its cuts."""
    if len(data) < 2:
        return
    how, chosen, stream = data[0], data[1], data[2:]
    limit = LIMITS[chosen % 4]
    whole, cut = Reading(iter([stream]), limit, shortcut=False), Reading(pieces(stream, how), limit)
    assert whole.values == cut.values == Reading(iter([stream]), limit).values
    assert (whole.reader.phase is Phase.CLOSED) is (cut.reader.phase is Phase.CLOSED)
    last = whole.items[-1] if whole.items else None
    if isinstance(last, Request) and last.upgrade:
        assert whole.trailing == cut.trailing
    for reading in (whole, cut):
        check(reading, limit)
        for item in reading.items:
            if isinstance(item, Request):
                check_size(item, MAX_TARGET, MAX_HEADERS, MAX_HEAD)
                check_round_trip(item, limit)
    if BUILD == PURE:
        # The limits of a compiled parser cannot be replaced.
        check_small_limits(stream, how, limit)


def check_small_limits(stream: bytes, how: int, limit: int) -> None:
    """Limits hold for all cuts, but may be noticed at different bytes."""
    small = {"MAX_TARGET": SMALL_TARGET, "PUSH_LINE": push_line(SMALL_TARGET), "MAX_HEADERS": SMALL_HEADERS}
    with limits(MAX_HEAD=SMALL_HEAD, COMMON_SIZE=SMALL_HEAD, **small):
        whole = Reading(iter([stream]), limit, SMALL_HEAD)
        cut = Reading(pieces(stream, how), limit, SMALL_HEAD)
        if whole.values != cut.values:
            index = next(i for i in range(10_000) if whole.values[i : i + 1] != cut.values[i : i + 1])
            there = [type(item) for item in whole.items[index : index + 1] + cut.items[index : index + 1]]
            assert HeadTooLarge in there or UriTooLong in there
        for reading in (whole, cut):
            check(reading, limit)
            for item in reading.items:
                if isinstance(item, Request):
                    check_size(item, SMALL_TARGET, SMALL_HEADERS, SMALL_HEAD)
