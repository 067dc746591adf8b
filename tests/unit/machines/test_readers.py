"""What reads bytes, given them bit by bit, asked for less than there is, and closed at any time.

At each step it must have given what a reader that gets all those bytes at once gives, and no more.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.fuzz.frames import plain, taken
from tests.fuzz.reference import Decoder
from tests.fuzz.requests import feed, value_of
from tests.support.frames import CLOSE, frame
from tests.support.strategies import requests, requests_or_not
from wsaas.errors import HTTPError
from wsaas.http.request import CONTINUE, Phase, Request, RequestParser
from wsaas.websocket.decoder import FrameDecoder
from wsaas.websocket.frames import Close, Received, Violation

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
SIZES = st.sampled_from([1, 2, 7, 40, 300, 100_000])


class RequestMachine(RuleBasedStateMachine):
    """A connection that speaks HTTP, or something like it."""

    @initialize(limit=st.sampled_from([0, 10, 1000]))
    def start(self, limit):
        self.limit = limit
        self.reader = RequestParser(limit)
        self.unsent = self.fed = self.behind = b""
        self.items = []
        self.closed = False

    @precondition(lambda self: len(self.unsent) < 2000)
    @rule(data=st.one_of(requests().map(lambda made: made[0]), requests_or_not, st.just(UPGRADE)))
    def the_peer_writes(self, data):
        self.unsent += data[:50_000]

    @precondition(lambda self: self.unsent and len(self.fed) < 20_000)
    @rule(size=SIZES)
    def bytes_arrive(self, size):
        piece, self.unsent = self.unsent[:size], self.unsent[size:]
        if self.closed or self.reader.phase is Phase.CLOSED:
            assert feed(self.reader, piece) == []
            if not self.closed:
                self.behind += piece
                self.fed += piece
            return
        self.fed += piece
        self.items += [item for item in feed(self.reader, piece) if item is not CONTINUE]

    @rule()
    def it_is_closed(self):
        self.closed = True
        self.reader.close()
        assert self.reader.phase is Phase.CLOSED

    @invariant()
    def it_gave_what_one_that_gets_all_at_once_gives(self):
        whole = RequestParser(self.limit)
        items = [item for item in feed(whole, self.fed, shortcut=False) if item is not CONTINUE]
        assert [value_of(item) for item in self.items] == [value_of(item) for item in items]
        if not self.closed:
            assert (self.reader.phase is Phase.CLOSED) is (whole.phase is Phase.CLOSED)
        if items and isinstance(items[-1], Request) and items[-1].upgrade:
            assert self.reader.trailing_data + self.behind == whole.trailing_data

    @invariant()
    def a_fault_is_the_last_that_it_gives(self):
        assert not any(isinstance(item, HTTPError) for item in self.items[:-1])
        assert all(len(item.body) <= self.limit for item in self.items if isinstance(item, Request))


frames = st.one_of(
    st.tuples(st.sampled_from([1, 2, 9, 10]), st.sampled_from([b"", b"a", "añ🙂".encode(), b"x" * 125])).map(
        lambda made: frame(*made)
    ),
    st.sampled_from([126, 300]).map(lambda size: frame(2, b"y" * size)),
    st.sampled_from([frame(1, b"\xe2", fin=False), frame(0, b"\x82\xac", fin=False), frame(0)]),
    # Deflated: "Hello", whole and in two, and 400 times "x".
    st.sampled_from(
        [
            frame(1, bytes.fromhex("f248cdc9c90700"), reserved=4),
            frame(2, bytes.fromhex("f248cd"), fin=False, reserved=4) + frame(0, bytes.fromhex("c9c90700")),
            frame(2, bytes.fromhex("aaa818058329040000"), reserved=4),
        ]
    ),
)
ends = st.sampled_from(
    [frame(CLOSE, b"\x03\xe8bye"), frame(1, b"\xff"), frame(3), frame(0, b"c"), b"\x81\x01a", frame(2, b"z" * 500)]
)


class FramesMachine(RuleBasedStateMachine):
    """The frames of a client, decoded in both ways, each at its own pace."""

    @initialize(limit=st.sampled_from([5, 126, 400]), deflated=st.booleans())
    def start(self, limit, deflated):
        self.limit, self.deflated = limit, deflated
        self.streams = {fast: FrameDecoder(limit, fast=fast, deflated=deflated) for fast in (True, False)}
        self.taken: dict[bool, list[Received]] = {True: [], False: []}
        self.unsent = self.sent = b""

    @rule(some=st.lists(frames, max_size=4))
    def the_client_writes(self, some):
        self.unsent += b"".join(some)

    @rule(end=ends)
    def the_client_writes_what_ends_it(self, end):
        self.unsent += end

    @precondition(lambda self: self.unsent and len(self.sent) < 5000)
    @rule(size=SIZES)
    def bytes_arrive(self, size):
        piece, self.unsent = self.unsent[:size], self.unsent[size:]
        self.sent += piece
        for stream in self.streams.values():
            stream.receive(piece)

    @rule(fast=st.booleans(), most=st.integers(1, 3))
    def somebody_takes_some(self, fast, most):
        self.taken[fast] += taken(self.streams[fast], most)

    @rule(fast=st.booleans())
    def somebody_takes_all(self, fast):
        self.taken[fast] += taken(self.streams[fast])
        self.agrees(fast)

    def agrees(self, fast):
        """All that was taken is all that there is, but for a fault for which more bytes are waited for."""
        meaning = Decoder(self.sent, self.limit, deflated=self.deflated).read()
        taken = self.taken[fast]
        assert list(plain(taken)) == meaning.received
        if taken and isinstance(taken[-1], Violation):
            assert taken[-1].code in meaning.failed

    @invariant()
    def nothing_is_taken_that_was_not_sent_and_nothing_behind_an_end(self):
        meaning = Decoder(self.sent, self.limit, deflated=self.deflated).read()
        for some in self.taken.values():
            told = list(plain(some))
            assert told == meaning.received[: len(told)]
            assert not any(isinstance(each, Close | Violation) for each in some[:-1])

    @invariant()
    def no_more_is_held_than_was_sent(self):
        for fast, stream in self.streams.items():
            assert len(stream._buffer) <= len(self.sent)
            if self.taken[fast] and isinstance(self.taken[fast][-1], Close | Violation):
                stream.next()
                assert stream._buffer == b""

    def teardown(self):
        if hasattr(self, "streams"):
            for fast in (True, False):
                self.somebody_takes_all(fast)


for machine in (RequestMachine, FramesMachine):
    machine.TestCase.settings = settings(deadline=None, max_examples=100, stateful_step_count=40)
TestRequestMachine = RequestMachine.TestCase
TestFramesMachine = FramesMachine.TestCase
