"""A response without an end, over a fake transport."""

import math

import pytest

from tests.support.fakes import FakeTransport
from tests.support.http_rig import HEALTH, HttpRig
from wsaas.api.route import Route
from wsaas.http.streamed import StreamedResponse
from wsaas.transport.deferring import MAX_BUFFERED_BYTES
from wsaas.transport.streaming import MAX_UNSENT, StreamingProtocol
from wsaas.transport.watched_transport import WatchedTransport


class Stream(StreamedResponse):
    """A stream that a test writes."""

    headers = (("X-Test", "yes"),)

    def __init__(self):
        self.calls = []

    def start(self, sink):
        self.sink = sink
        sink.write(b"hello")

    def resume(self):
        self.calls.append("resume")

    def cancel(self):
        self.calls.append("cancel")


class Rig(HttpRig):
    def __init__(self, version=b"1.1", *lines, **values):
        super().__init__(**values)
        self.stream = Stream()
        assert self.site.api is not None
        self.site.api._fixed[b"/stream"] = Route(
            rb"/stream", {b"GET": lambda _request: self.stream, b"PUT": lambda _request: self.stream}
        )
        self.receive(b"\r\n".join([b"GET /stream HTTP/" + version, b"Host: localhost", *lines, b"", b""]))

    @property
    def sink(self):
        return self.stream.sink


def test_the_body_is_sent_in_chunks():
    rig = Rig()
    head, _, body = rig.transport.take().partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 200 OK"
    assert {"Content-Type: text/event-stream", "X-Test: yes", "Transfer-Encoding: chunked"} < {*lines}
    assert "Connection: close" not in lines
    assert body == b"5\r\nhello\r\n"
    rig.sink.write(b"x" * 16)
    assert rig.transport.take() == b"10\r\n" + b"x" * 16 + b"\r\n"
    rig.sink.end()
    assert rig.transport.take() == b"0\r\n\r\n"
    rig.sink.write(b"late")
    rig.sink.end()
    assert rig.transport.take() == b""
    rig.receive(HEALTH)
    assert rig.responses() == [(200, "OK", False)]


def test_a_caller_that_wants_the_connection_closed_gets_that_after_the_stream():
    rig = Rig(b"1.1", b"Connection: close")
    assert b"Connection: close\r\n" in rig.transport.take()
    assert not rig.transport.ended
    rig.sink.end()
    assert rig.transport.ended


def test_an_http_1_0_connection_ends_with_the_stream():
    rig = Rig(b"1.0", b"Connection: keep-alive")
    assert rig.transport.take().endswith(b"Connection: close\r\n\r\nhello")
    rig.sink.write(b"more")
    assert rig.transport.take() == b"more"
    rig.sink.end()
    assert rig.transport.take() == b""
    assert rig.transport.ended


def test_requests_behind_the_stream_wait():
    rig = Rig()
    rig.transport.take()
    rig.receive(HEALTH)
    assert rig.transport.take() == b""
    rig.sink.end()
    rig.transport.writes[:1] = []
    assert rig.responses() == [(200, "OK", False)]


def test_a_caller_that_sends_too_much_is_not_read():
    rig = Rig()
    rig.receive(b"x" * MAX_BUFFERED_BYTES)
    assert rig.transport.reading
    rig.receive(b"x")
    assert not rig.transport.reading


def test_a_caller_that_had_not_read_earlier_responses_is_read_again_during_the_stream():
    rig = Rig()
    # As the connection does before the stream: see `HttpProtocol.pause_writing`.
    rig.transport.pause_reading()
    rig.transport.protocol.resume_writing()
    assert rig.transport.reading
    rig.receive(b"x" * (MAX_BUFFERED_BYTES + 1))
    rig.transport.protocol.resume_writing()
    assert not rig.transport.reading


def test_a_push_may_be_answered_with_a_stream():
    rig = Rig()
    rig.sink.end()
    rig.transport.take()
    rig.stream = Stream()
    rig.receive(b"PUT /stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
    assert rig.transport.take().endswith(b"5\r\nhello\r\n")


def test_the_time_out_between_requests_does_not_end_a_stream():
    rig = Rig()
    rig.pass_time(1000, beats=100)
    assert not rig.transport.closed
    rig.sink.end()
    rig.pass_time(1000, beats=100)
    assert rig.transport.closed


def test_a_caller_that_leaves_cancels_the_stream():
    rig = Rig()
    assert not rig.transport.protocol.eof_received()
    rig.transport.lose()
    assert rig.stream.calls == ["cancel"]
    rig.sink.write(b"late")
    assert len(rig.timeouts) == 0


def test_a_caller_that_does_not_read_is_cut_off():
    rig = Rig(keep_alive_timeout="5000")
    assert not rig.sink.is_full
    rig.transport.backlog = MAX_UNSENT + 1
    assert rig.sink.is_full
    rig.transport.protocol.pause_writing()
    rig.pass_time(4)
    rig.transport.protocol.resume_writing()
    assert rig.stream.calls == ["resume"]
    rig.transport.protocol.pause_writing()
    rig.pass_time(4)
    assert not rig.transport.aborted
    rig.pass_time(1)
    assert rig.transport.aborted


def test_requests_behind_the_stream_wait_until_its_end_was_read():
    rig = Rig()
    rig.receive(HEALTH)
    protocol = rig.transport.protocol
    protocol.pause_writing()
    rig.sink.end()
    rig.transport.take()
    assert rig.transport.protocol is rig.protocol
    # It may be too late for this.
    protocol.resume_writing()
    assert rig.stream.calls == []
    rig.protocol.resume_writing()
    assert rig.responses() == [(200, "OK", False)]


def test_a_stop_of_the_node_ends_the_stream():
    rig = Rig()
    rig.transport.take()
    for each in [*rig.timeouts.connections]:
        each.close_gracefully()
    assert rig.stream.calls == ["cancel"]
    assert rig.transport.take() == b"0\r\n\r\n"
    assert rig.transport.closed


@pytest.mark.parametrize("is_over", [False, True])
def test_a_stop_after_the_end_of_the_connection_does_nothing_more(is_over):
    rig = Rig()
    protocol = rig.transport.protocol
    assert isinstance(protocol, StreamingProtocol)
    rig.transport.close()
    rig.transport.take()
    if is_over:
        rig.sink.end()
    protocol.close_gracefully()
    assert rig.transport.take() == b""
    protocol.check_deadline(math.inf)
    assert rig.transport.aborted
    protocol.connection_lost(None)
    # Told once, if at all.
    assert rig.stream.calls == ([] if is_over else ["cancel"])


def test_a_watched_transport_passes_everything_on():
    written: list[bytes] = []
    transport = FakeTransport()
    watched = WatchedTransport(transport, written.append)
    watched.write(bytearray(b"data"))
    assert transport.take() == written[0] == b"data"
    watched.set_write_buffer_limits(7)
    watched.set_protocol(transport)  # type: ignore[arg-type]  # it only passes it on
    transport.backlog = 3
    assert (transport.high, transport.protocol, watched.get_write_buffer_size()) == (7, transport, 3)
    watched.pause_reading()
    is_reading: bool = transport.reading
    assert not is_reading
    watched.resume_reading()
    assert transport.reading
    assert watched.get_extra_info("peername") == ("192.0.2.7", 50000)
    assert watched.get_extra_info("other", 5) == 5
    watched.write_eof()
    assert transport.ended
    assert not watched.is_closing()
    watched.close()
    assert watched.is_closing()
    watched.abort()
    assert transport.aborted
