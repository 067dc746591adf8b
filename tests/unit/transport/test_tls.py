"""TLS between a transport and a protocol, with a real TLS peer: encrypted bytes in, plain text out, and back."""

import asyncio
import json
import math
import os
import ssl
from typing import Any, cast

import pytest
import trustme

from tests.support.fakes import FakeClock, FakeTimeouts, FakeTransport, FakeWebhook, Stopwatch, make_gate, make_settings
from wsaas.delivery.journal import NoJournal
from wsaas.run_queue import SLICE_S, RunQueue
from wsaas.sessions.registry import Registry
from wsaas.transport import admission
from wsaas.transport.client_tls import ClientTLSTransport
from wsaas.transport.context import ServerContext
from wsaas.transport.server_tls import ServerTLSTransport
from wsaas.transport.tls import CHUNK_SIZE, HANDSHAKE_CHUNK_SIZE, MAX_RECORD_SIZE, State


@pytest.fixture(scope="module")
def contexts():
    """The TLS contexts of a server and its client."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
    return server, client


class App(asyncio.Protocol):
    """Records its calls. `on_data`: called with each piece of data."""

    def __init__(self):
        self.events = []
        self.data = []
        self.on_data = lambda _: None

    def connection_made(self, transport):
        self.transport = transport
        self.events.append("made")

    def data_received(self, data):
        self.data.append(data)
        self.on_data(data)

    def eof_received(self):
        self.events.append("eof")

    def connection_lost(self, exc):
        self.events.append(("lost", exc))

    def pause_writing(self):
        self.events.append("pause")

    def resume_writing(self):
        self.events.append("resume")


class Peer:
    """The peer: an `ssl` object that reads from a fake transport, and whose output goes to the protocol."""

    def __init__(self, context, **side):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.session = context.wrap_bio(self.incoming, self.outgoing, **side)

    def attempt(self, step, *arguments):
        """Return the result of `step`, or None if more data has to arrive first."""
        try:
            return step(*arguments)
        except ssl.SSLWantReadError:
            return None

    def read(self):
        """Return all pieces of plain text that have arrived. A final b"" stands for a close_notify."""
        data = []
        while piece := self.attempt(self.session.read, 1 << 20):
            data.append(piece)
        return b"".join(data)

    def got_close_notify(self):
        return self.attempt(self.session.read, 1 << 20) == b""


class Rig:
    """A connection from a client, before its handshake."""

    def __init__(self, contexts, *, room=10, **values):
        server, client = contexts
        self.clock = FakeClock()
        self.timeouts = FakeTimeouts()
        self.app = App()
        settings = make_settings(**values)
        registry = Registry(settings, self.clock, FakeWebhook(), NoJournal(), 10)
        self.gate = make_gate(registry, self.timeouts, clients=room)
        self.stopwatch = Stopwatch()
        self.run_queue = RunQueue(self.clock, self.stopwatch)
        context = ServerContext(settings, self.clock, self.timeouts, self.run_queue)
        self.tls = ServerTLSTransport(self.app, server, context, self.gate)
        self.raw = FakeTransport(self.tls)
        self.peer = Peer(client, server_hostname="localhost")
        self.tls.connection_made(self.raw)

    def flow(self):
        """Transfer all data between both sides."""
        while self.peer.outgoing.pending or self.raw.writes:
            self.peer.incoming.write(self.raw.take())
            if self.peer.outgoing.pending:
                self.tls.data_received(self.peer.outgoing.read())

    def do_handshake(self):
        for _ in range(2):
            self.peer.attempt(self.peer.session.do_handshake)
            self.flow()

    def send(self, data, piece=None):
        """Let the client send plain text that arrives in pieces."""
        for at in range(0, len(data), MAX_RECORD_SIZE):
            self.peer.session.write(data[at : at + MAX_RECORD_SIZE])
        sealed = self.peer.outgoing.read()
        for at in range(0, len(sealed), piece or len(sealed)):
            self.tls.data_received(sealed[at : at + (piece or len(sealed))])

    def received(self):
        self.peer.incoming.write(self.raw.take())
        return self.peer.read()


@pytest.fixture
def fresh(contexts):
    return Rig(contexts)


@pytest.fixture
def rig(fresh):
    fresh.do_handshake()
    return fresh


# The handshake.


def test_the_protocol_gets_a_connection_when_its_handshake_is_done(fresh):
    assert fresh.app.events == []
    assert fresh.timeouts.connections == [fresh.tls]
    fresh.do_handshake()
    assert fresh.app.events == ["made"]
    assert fresh.app.transport is fresh.tls
    assert fresh.timeouts.connections == []


def test_a_handshake_may_arrive_byte_by_byte_with_data_behind_it(fresh):
    fresh.peer.attempt(fresh.peer.session.do_handshake)
    for byte in fresh.peer.outgoing.read():
        fresh.tls.data_received(bytes([byte]))
    fresh.peer.incoming.write(fresh.raw.take())
    fresh.peer.session.do_handshake()
    fresh.peer.session.write(b"hello")
    fresh.tls.data_received(fresh.peer.outgoing.read())
    assert fresh.app.events == ["made"]
    assert fresh.app.data == [b"hello"]


@pytest.mark.parametrize("begun", [False, True])
def test_a_handshake_has_a_timeout(fresh, begun):
    if begun:
        fresh.tls.data_received(b"\x16\x03\x01")
    fresh.clock.advance(9.9)
    fresh.timeouts.check(fresh.clock.now())
    assert not fresh.raw.aborted
    fresh.clock.advance(0.1)
    fresh.timeouts.check(fresh.clock.now())
    assert fresh.raw.aborted
    fresh.raw.lose()
    assert fresh.app.events == []
    assert fresh.timeouts.connections == []


def test_a_stop_does_not_wait_for_a_handshake(fresh):
    fresh.tls.close_gracefully()
    assert fresh.raw.aborted


def test_plain_http_is_answered_with_advice_to_use_tls(fresh):
    fresh.tls.data_received(b"GET / HTTP/1.1\r\n")
    head, _, body = fresh.raw.take().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"Connection: close" in head
    assert json.loads(body)["code"] == "BAD_REQUEST"
    # Reading continues for a while, but the data is ignored.
    assert fresh.raw.ended
    assert not fresh.raw.closed
    fresh.tls.data_received(b"Host: node\r\n\r\n")
    assert fresh.raw.writes == []
    fresh.clock.advance(10)
    fresh.timeouts.check(fresh.clock.now())
    assert fresh.raw.aborted
    fresh.raw.lose()
    assert fresh.app.events == []
    assert fresh.timeouts.connections == []


def test_a_failed_handshake_sends_an_alert(contexts, caplog):
    caplog.set_level("DEBUG", "wsaas")
    rig = Rig((contexts[0], ssl.create_default_context()))
    rig.peer.attempt(rig.peer.session.do_handshake)
    rig.tls.data_received(rig.peer.outgoing.read())
    rig.peer.incoming.write(rig.raw.take())
    with pytest.raises(ssl.SSLCertVerificationError):
        rig.peer.session.do_handshake()
    rig.tls.data_received(rig.peer.outgoing.read())
    assert rig.tls._state is State.FAILED
    assert rig.raw.ended
    assert "TLS handshake failed" in caplog.text
    rig.tls.pause_writing()
    rig.tls.resume_writing()
    rig.raw.lose()
    assert rig.app.events == []


def test_garbage_in_pieces_ends_with_the_first_invalid_piece(fresh):
    fresh.tls.data_received(b"\x16\x03\x01\0\x05" + b"\xff" * 3 * CHUNK_SIZE)
    assert fresh.tls._state is State.FAILED
    # An alert (RFC 8446 section 6).
    assert fresh.raw.take()[0] == 21


class RecordingSession:
    """A TLS session that records how much OpenSSL is given at a time in the handshake."""

    def __init__(self, tls):
        self._session, self._incoming = tls._session, tls._incoming
        self.sizes = []

    def do_handshake(self):
        self.sizes.append(self._incoming.pending)
        self._session.do_handshake()

    def __getattr__(self, name):
        return getattr(self._session, name)


def test_no_buffer_grows_with_a_long_first_message(contexts):
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.set_alpn_protocols(["http/1.1", *(f"unknown/{number:03d}" for number in range(200))])
    rig = Rig((contexts[0], client))
    rig.tls._session = session = cast(Any, RecordingSession(rig.tls))
    rig.do_handshake()
    assert rig.app.events == ["made"]
    assert sum(session.sizes) > 2000
    assert max(session.sizes) <= HANDSHAKE_CHUNK_SIZE
    rig.send(b"first" * CHUNK_SIZE)
    assert b"".join(rig.app.data) == b"first" * CHUNK_SIZE


def test_data_that_arrives_with_the_end_of_the_handshake_is_decrypted(fresh):
    fresh.peer.attempt(fresh.peer.session.do_handshake)
    fresh.flow()
    fresh.peer.session.do_handshake()
    fresh.send(b"x" * 3 * CHUNK_SIZE)
    assert b"".join(fresh.app.data) == b"x" * 3 * CHUNK_SIZE


# Data.


@pytest.mark.parametrize("size", [1, CHUNK_SIZE, CHUNK_SIZE + 1, MAX_RECORD_SIZE, 100_000])
@pytest.mark.parametrize("piece", [None, 1000, CHUNK_SIZE, 60_000])
def test_data_from_the_client_is_decrypted(rig, size, piece):
    data = os.urandom(size)
    rig.send(data, piece)
    assert b"".join(rig.app.data) == data
    assert max(map(len, rig.app.data)) <= MAX_RECORD_SIZE


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("size", [1, CHUNK_SIZE, CHUNK_SIZE + 1, 100_000])
def test_written_data_is_sent_in_one_write(rig, size, kind):
    data = os.urandom(size)
    rig.tls.write(kind(data))
    assert len(rig.raw.writes) == 1
    assert rig.received() == data


def test_an_empty_write_sends_nothing(rig):
    rig.tls.write(b"")
    assert rig.raw.writes == []


def test_writes_stay_in_order(rig):
    for number in range(100):
        rig.tls.write(b"%02d" % number)
    assert rig.received() == b"".join(b"%02d" % number for number in range(100))


def test_no_buffer_grows_with_a_large_message(rig):
    most = 0

    def look(_):
        nonlocal most
        most = max(most, rig.tls._incoming.pending)

    rig.app.on_data = look
    rig.send(b"x" * 500_000)
    assert most <= CHUNK_SIZE
    assert rig.tls._undecrypted == b""


def test_a_protocol_that_is_set_gets_everything_from_the_next_piece_on(rig):
    other = App()
    rig.app.on_data = lambda _: rig.tls.set_protocol(other)
    rig.peer.session.write(b"first")
    rig.peer.session.write(b"second")
    rig.tls.data_received(rig.peer.outgoing.read())
    assert (rig.app.data, other.data) == ([b"first"], [b"second"])
    assert rig.tls.get_protocol() is other
    error = ConnectionResetError()
    rig.tls.connection_lost(error)
    assert other.events == [("lost", error)]
    assert rig.app.events == ["made"]


def test_peer_and_buffer_size_come_from_the_transport_below(rig):
    assert rig.tls.get_extra_info("peername") == ("192.0.2.7", 50000)
    assert rig.tls.get_extra_info("unknown", "default") == "default"
    rig.raw.backlog = 123
    assert rig.tls.get_write_buffer_size() == 123
    rig.tls.set_write_buffer_limits(high=1000)
    assert rig.raw.high == 1000
    rig.tls.pause_writing()
    rig.tls.resume_writing()
    assert rig.app.events == ["made", "pause", "resume"]


# Pauses.


def test_a_paused_protocol_gets_nothing_until_it_resumes(rig):
    async def scenario():
        rig.app.on_data = lambda _: rig.tls.pause_reading()
        rig.send(b"".join(b"%04d" % number * 1000 for number in range(10)))
        assert not rig.raw.reading
        heard = len(rig.app.data)
        assert 1 <= heard < 3
        rig.app.on_data = lambda _: None
        rig.tls.resume_reading()
        assert len(rig.app.data) == heard, "not before it returns"
        assert not rig.raw.reading, "nothing may overtake what was left"
        await asyncio.sleep(0)
        assert rig.raw.reading
        assert b"".join(rig.app.data) == b"".join(b"%04d" % number * 1000 for number in range(10))

    asyncio.run(scenario())


def test_a_protocol_may_pause_again_within_what_was_kept(rig):
    async def scenario():
        rig.app.on_data = lambda _: rig.tls.pause_reading()
        rig.send(b"x" * 5 * MAX_RECORD_SIZE)
        turns = 0
        while not rig.raw.reading and turns < 20:
            if sum(map(len, rig.app.data)) == 5 * MAX_RECORD_SIZE:
                rig.app.on_data = lambda _: None
            rig.tls.resume_reading()
            await asyncio.sleep(0)
            turns += 1
        assert turns > 4
        assert b"".join(rig.app.data) == b"x" * 5 * MAX_RECORD_SIZE

    asyncio.run(scenario())


def test_a_pause_in_the_same_turn_as_a_resume_counts(rig):
    async def scenario():
        rig.tls.pause_reading()
        rig.tls.resume_reading()
        rig.tls.pause_reading()
        await asyncio.sleep(0)
        assert not rig.raw.reading
        rig.tls.resume_reading()
        rig.raw.close()
        await asyncio.sleep(0)
        assert not rig.raw.reading, "there is nothing to be read any more"

    asyncio.run(scenario())


def test_resuming_without_a_pause_does_nothing(rig):
    rig.tls.resume_reading()
    assert rig.raw.reading


def test_a_protocol_that_ended_while_paused_gets_the_end_of_the_other_side(rig):
    async def scenario():
        rig.tls.pause_reading()
        rig.tls.write_eof()
        rig.tls.resume_reading()
        await asyncio.sleep(0)
        assert rig.raw.reading

    asyncio.run(scenario())


# Ends.


@pytest.mark.parametrize("how", ["write_eof", "close"])
def test_a_close_notify_follows_written_data(rig, how):
    assert rig.tls.can_write_eof()
    rig.tls.write(b"last words")
    getattr(rig.tls, how)()
    assert rig.received() == b"last words"
    assert rig.peer.got_close_notify()
    assert rig.raw.ended is (how == "write_eof")
    assert rig.tls.is_closing() is rig.raw.closed is (how == "close")
    # Nothing is sent any more, and received data is dropped.
    rig.tls.write(b"too late")
    getattr(rig.tls, how)()
    assert rig.raw.writes == []
    rig.send(b"too late")
    assert rig.app.data == []
    rig.raw.lose()
    assert rig.app.events == ["made", ("lost", None)]


def test_a_protocol_may_end_in_the_middle_of_what_was_received(rig):
    rig.app.on_data = lambda _: rig.tls.write_eof()
    rig.send(b"x" * 5 * MAX_RECORD_SIZE)
    assert len(rig.app.data) == 1
    assert rig.received() == b""
    assert rig.peer.got_close_notify()


def test_a_close_notify_is_answered_with_one(rig):
    rig.peer.session.write(b"last words")
    rig.peer.attempt(rig.peer.session.unwrap)
    rig.tls.data_received(rig.peer.outgoing.read())
    assert rig.app.data == [b"last words"]
    assert rig.raw.closed
    rig.peer.incoming.write(rig.raw.take())
    rig.peer.session.unwrap()


def test_an_abort_sends_nothing(rig):
    rig.tls.abort()
    assert rig.raw.aborted
    assert rig.raw.writes == []


def test_nothing_is_delivered_after_an_abort(rig):
    rig.app.on_data = lambda _: rig.tls.abort()
    rig.send(b"a" * MAX_RECORD_SIZE + b"b" * MAX_RECORD_SIZE)
    assert b"".join(rig.app.data) == b"a" * MAX_RECORD_SIZE
    rig.send(b"c")
    assert b"c" not in rig.app.data
    rig.tls.connection_lost(None)
    assert rig.app.events == ["made", ("lost", None)]


def test_data_received_during_a_pause_is_delivered_at_the_end(rig):
    sent = bytes(range(256)) * 300
    rig.app.on_data = lambda _: rig.tls.pause_reading()
    rig.send(sent, 10_000)
    assert b"".join(rig.app.data) == sent[:MAX_RECORD_SIZE]
    rig.tls.connection_lost(ConnectionResetError())
    assert b"".join(rig.app.data) == sent
    assert [event[0] for event in rig.app.events] == ["m", "lost"]


def seal(rig, *pieces):
    """Return the bytes that the client sends for `pieces`, with one record for each."""
    for piece in pieces:
        rig.peer.session.write(piece)
    return rig.peer.outgoing.read()


def numbers(first, last):
    return [b"%03d" % number for number in range(first, last)]


def test_many_short_records_are_read_a_slice_of_time_at_a_time(rig):
    rig.stopwatch.step = SLICE_S / 10 * 1.0001
    rig.tls.data_received(seal(rig, *numbers(0, 100)))
    assert rig.app.data == numbers(0, 11)
    assert not rig.raw.reading
    (timer,) = rig.clock.timers
    timer.cancel()
    timer.callback()
    # The slice of a turn begins with the turn.
    assert rig.app.data == numbers(0, 21)
    assert not rig.raw.reading
    rig.clock.advance(0)
    assert rig.app.data == numbers(0, 100)
    assert rig.raw.reading


def test_one_record_is_read_at_once_while_others_wait_for_their_turn(rig):
    order: list[object] = []
    rig.run_queue.add(lambda: order.append("other"))
    rig.app.on_data = order.append
    rig.tls.data_received(seal(rig, *numbers(0, 3)))
    assert order == [b"000"]
    rig.clock.advance(0)
    assert order == [b"000", "other", b"001", b"002"]
    assert rig.raw.reading


def test_a_connection_that_is_paused_while_it_waits_for_its_turn_goes_on_when_resumed(rig):
    rig.run_queue.add(lambda: None)
    rig.tls.data_received(seal(rig, *numbers(0, 3)))
    rig.tls.pause_reading()
    rig.clock.advance(0)
    assert rig.app.data == numbers(0, 1)
    assert not rig.raw.reading

    async def resume():
        rig.tls.resume_reading()
        await asyncio.sleep(0)

    asyncio.run(resume())
    assert rig.app.data == numbers(0, 3)
    assert rig.raw.reading


def test_a_connection_that_is_resumed_while_it_waits_for_its_turn_still_waits(rig):
    rig.run_queue.add(lambda: None)
    rig.tls.data_received(seal(rig, *numbers(0, 3)))
    rig.tls.pause_reading()

    async def resume():
        rig.tls.resume_reading()
        await asyncio.sleep(0)

    asyncio.run(resume())
    assert rig.app.data == numbers(0, 1)
    assert not rig.raw.reading
    rig.clock.advance(0)
    assert rig.app.data == numbers(0, 3)
    assert rig.raw.reading


def test_short_records_that_wait_for_their_turn_when_the_connection_is_lost_are_delivered_as_one(rig):
    rig.run_queue.add(lambda: None)
    rig.tls.data_received(seal(rig, *numbers(0, 100)))
    rig.tls.connection_lost(ConnectionResetError())
    assert rig.app.data == [b"000", b"".join(numbers(1, 100))]
    assert [event[0] for event in rig.app.events] == ["m", "lost"]
    rig.raw.closed = True
    rig.clock.advance(0)
    assert len(rig.app.data) == 2


def test_an_unread_close_notify_counts_at_the_end(rig):
    rig.tls.pause_reading()
    rig.peer.session.write(b"last words")
    rig.peer.attempt(rig.peer.session.unwrap)
    rig.tls.data_received(rig.peer.outgoing.read())
    rig.tls.connection_lost(None)
    assert rig.app.data == [b"last words"]
    assert rig.app.events == ["made", "eof", ("lost", None)]


def test_a_protocol_that_ends_within_the_last_delivery_gets_no_more(rig):
    rig.tls.pause_reading()
    rig.send(b"a" * MAX_RECORD_SIZE + b"b" * MAX_RECORD_SIZE)
    rig.app.on_data = lambda _: rig.tls.close()
    rig.tls.connection_lost(None)
    assert b"".join(rig.app.data) == b"a" * MAX_RECORD_SIZE
    assert rig.app.events == ["made", ("lost", None)]


def test_undecryptable_data_is_an_error_and_completes_no_message(rig):
    rig.peer.session.write(b"fine")
    rig.tls.data_received(rig.peer.outgoing.read() + b"\x17\x03\x03\0\x20" + b"?" * 32)
    assert rig.app.data == [b"fine"]
    assert rig.app.events == ["made", "eof"]
    assert rig.raw.closed
    rig.tls.connection_lost(None)
    (_, _, (_, error)) = rig.app.events
    assert isinstance(error, ssl.SSLError)


def test_a_write_that_cannot_be_encrypted_calls_no_protocol(rig):
    class Broken:
        def write(self, _data):
            raise ssl.SSLError(1, "broken")

    rig.tls._session = Broken()
    rig.tls.write(b"x")
    assert rig.app.events == ["made"]
    assert rig.raw.closed
    rig.tls.connection_lost(None)
    assert [event[0] for event in rig.app.events] == ["m", "lost"]


def test_an_end_without_a_close_notify_is_an_error(rig):
    rig.tls.connection_lost(None)
    (_, (_, error)) = rig.app.events
    assert isinstance(error, ssl.SSLEOFError)


def test_a_lost_connection_is_freed(rig):
    error = ConnectionResetError()
    rig.tls.connection_lost(error)
    assert rig.app.events == ["made", ("lost", error)]
    # Even if the protocol still calls the transport.
    rig.tls.write(b"too late")
    rig.tls.write_eof()
    rig.tls.close()
    rig.tls.abort()
    assert rig.raw.writes == []


def test_modified_bytes_end_the_connection(rig, caplog):
    caplog.set_level("DEBUG", "wsaas")
    rig.tls.data_received(b"\x17\x03\x03\0\x20" + b"\x55" * 32 + b"\x17")
    assert "TLS connection broken" in caplog.text
    assert rig.raw.closed
    rig.peer.incoming.write(rig.raw.take())
    with pytest.raises(ssl.SSLError, match=r"(?i)bad.record.mac"):
        rig.peer.session.read(1)
    assert rig.app.data == []


def test_a_write_that_fails_ends_the_connection(rig):
    # As after a fatal alert (RFC 8446 section 6.2).
    with pytest.raises(ssl.SSLWantReadError):
        rig.tls._session.unwrap()
    rig.tls.write(b"hello")
    assert rig.raw.closed
    assert rig.tls._state is State.BROKEN


@pytest.mark.parametrize(("waiting", "dropped"), [(0, False), (1000, False), (1001, True)])
def test_responses_of_tls_to_a_peer_that_does_not_read_are_limited(rig, waiting, dropped):
    rig.tls.set_write_buffer_limits(high=1000)
    rig.raw.backlog = waiting
    # As OpenSSL does for a KeyUpdate that requests an update in return.
    rig.app.on_data = lambda _: rig.tls._outgoing.write(b"sealed")
    rig.send(b"x")
    assert rig.raw.aborted is dropped
    assert rig.raw.take() == (b"" if dropped else b"sealed")


# The client side.


class Call:
    """A connection to a server, before its handshake."""

    def __init__(self, contexts, name="localhost"):
        server, client = contexts
        self.loop = asyncio.new_event_loop()
        self.handshake_done = self.loop.create_future()
        self.app = App()
        self.tls = ClientTLSTransport(self.app, client, name, self.handshake_done)
        self.raw = FakeTransport(self.tls)
        self.peer = Peer(server, server_side=True)
        self.tls.connection_made(self.raw)

    def do_handshake(self):
        for _ in range(2):
            self.peer.incoming.write(self.raw.take())
            self.peer.attempt(self.peer.session.do_handshake)
            if self.peer.outgoing.pending:
                self.tls.data_received(self.peer.outgoing.read())


@pytest.fixture
def call(contexts):
    call = Call(contexts)
    yield call
    call.loop.close()


def test_the_client_begins_the_handshake(call):
    call.do_handshake()
    assert call.app.events == ["made"]
    assert call.handshake_done.result() is None
    call.tls.write(b"hello")
    call.peer.incoming.write(call.raw.take())
    assert call.peer.read() == b"hello"
    call.peer.session.write(b"hi")
    call.tls.data_received(call.peer.outgoing.read())
    assert call.app.data == [b"hi"]


def test_the_wrong_server_is_sent_nothing_but_an_alert(contexts):
    call = Call(contexts, "elsewhere.test")
    with pytest.raises(ssl.SSLError, match=r"(?i)alert.bad.certificate"):
        call.do_handshake()
    assert isinstance(call.handshake_done.exception(), ssl.SSLCertVerificationError)
    assert call.app.events == []
    assert call.raw.aborted
    call.raw.lose()
    assert call.app.events == []
    call.loop.close()


def test_an_interrupted_connect_is_an_error(call):
    call.raw.lose()
    assert isinstance(call.handshake_done.exception(), ConnectionResetError)
    assert call.app.events == []


def test_the_outcome_of_a_cancelled_connect_is_ignored(call):
    call.handshake_done.cancel()
    call.raw.lose()
    assert call.handshake_done.cancelled()


def test_a_connect_that_is_cancelled_at_the_end_of_its_handshake_is_aborted(call):
    call.handshake_done.cancel()
    call.do_handshake()
    assert call.handshake_done.cancelled()
    assert not call.raw.aborted
    call.loop.run_until_complete(asyncio.sleep(0))
    assert call.raw.aborted


def test_a_completed_connect_is_not_aborted(call):
    call.do_handshake()
    call.loop.run_until_complete(asyncio.sleep(0))
    assert not call.raw.aborted


# Admission.


def test_a_connection_within_its_handshake_makes_room_for_another(contexts):
    rig = Rig(contexts)
    assert rig.gate._undecided == {rig.tls: ""}
    assert rig.tls.peer_address() == "192.0.2.7"
    assert rig.tls.idle_since() == math.inf
    rig.tls.abort()
    assert rig.raw.aborted
    rig.raw.lose()
    assert rig.gate._undecided == {}


def test_after_the_handshake_the_protocol_asks_the_gate_itself(contexts):
    rig = Rig(contexts)
    rig.do_handshake()
    assert rig.gate._undecided == {}


def test_a_refused_connection_has_a_second_for_its_handshake(contexts):
    rig = Rig(contexts, room=-1)
    for seconds, aborted in ((0.9, False), (0.1, True)):
        rig.clock.advance(seconds)
        rig.timeouts.check(rig.clock.now())
        assert rig.raw.aborted is aborted


def test_a_refused_connection_without_room_for_an_answer_is_closed(contexts, monkeypatch):
    monkeypatch.setattr(admission, "MAX_REFUSED", 0)
    assert Rig(contexts, room=-1).raw.aborted


def test_only_transitions_in_the_table_are_allowed(fresh):
    with pytest.raises(AssertionError, match=r"TLS: State\.NEW to State\.OPEN"):
        fresh.tls._move(State.OPEN)
    assert fresh.tls._state is State.NEW
