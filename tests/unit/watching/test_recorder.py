"""What a recorder makes of what is reported to it."""

import gc
import tracemalloc

import pytest

from tests.support.console_rig import ConsoleRig
from wsaas.delivery.watched_webhook import Answer
from wsaas.errors import RefusedWithClose, SlowClient
from wsaas.events import Message
from wsaas.http.response import Response
from wsaas.watching import recorder
from wsaas.watching.ring import MAX_BYTES
from wsaas.websocket import frames
from wsaas.websocket.deflate import Agreement
from wsaas.websocket.frames import Close, encode, encode_close


def watch(rig):
    """Watch the client; return its recorder, and a function that returns the new events."""
    found = rig.watcher.find(rig.session.id)
    seen = found.ring.count

    def new():
        nonlocal seen
        events = [found.ring.get(index).show() for index in range(seen, found.ring.count)]
        seen = found.ring.count
        return events

    return found.recorder, new


@pytest.mark.parametrize("size", [5, 200, 70_000])
def test_a_frame_that_was_encoded_before_is_read(size):
    rig = ConsoleRig()
    recorded, new = watch(rig)
    text = b"x" * size
    recorded.sent(encode(frames.TEXT, text) + encode(frames.BINARY, b"\0") + encode(frames.PONG, b"p"))
    first, second, third = new()
    assert (first["opcode"], first["size"], first["cause"]) == ("text", size, "publish")
    assert second["body"] == {"base64": "AA==", "size": 1, "truncated": False}
    assert (third["opcode"], third["cause"]) == ("pong", "gateway")
    recorded.sent(frames.deflating(Agreement())(frames.TEXT, text))
    (deflated,) = new()
    assert deflated["size"] == size


def test_a_close_has_a_code_or_none():
    rig = ConsoleRig()
    recorded, new = watch(rig)
    recorded.sent(encode_close(4000, "bye"))
    recorded.sent(encode_close(frames.NO_STATUS))
    recorded.received(Close(frames.NO_STATUS, ""))
    assert [(each["code"], each["reason"], each["size"]) for each in new()] == [
        (4000, "bye", 5),
        (1005, "", 0),
        (1005, "", 0),
    ]


def test_a_refusal_with_a_close_shows_the_close():
    rig = ConsoleRig(enters=False)
    recorded, new = watch(rig)
    recorded.refused(RefusedWithClose(4401, "expiré"))
    refused, close = new()
    assert (refused["kind"], refused["status"], refused["code"]) == ("refused", 403, "FORBIDDEN")
    assert refused["close"] == 4401
    assert (close["kind"], close["opcode"], close["direction"], close["cause"]) == ("frame", "close", "out", "reply")
    assert (close["code"], close["reason"], close["size"]) == (4401, "expiré", 9)


def test_the_answer_to_a_heartbeat_is_of_the_gateway():
    rig = ConsoleRig(heartbeat="ping=pong")
    recorded, new = watch(rig)
    recorded.sent(encode(frames.TEXT, b"pong") + encode(frames.TEXT, b"other"))
    assert [each["cause"] for each in new()] == ["gateway", "publish"]


def test_only_so_many_messages_before_the_101_are_remembered(monkeypatch):
    monkeypatch.setattr(recorder, "MAX_UNSENT", 2)
    rig = ConsoleRig(enters=False)
    recorded, new = watch(rig)
    for text in (b"a", b"b", b"c"):
        rig.session.send(frames.TEXT, text)
    recorded.accepted(None)
    recorded.sent(b"".join(encode(frames.TEXT, text) for text in (b"a", b"b", b"c")))
    assert [each["cause"] for each in new() if each["kind"] == "frame"] == ["push", "push", "publish"]


def test_messages_before_the_101_that_were_refused_are_not_remembered(monkeypatch):
    monkeypatch.setattr(recorder, "MAX_UNSENT", 2)
    rig = ConsoleRig(enters=False, send_buffer="1000")
    recorded, new = watch(rig)
    rig.session.send(frames.BINARY, bytes(900))
    for _ in range(3):
        with pytest.raises(SlowClient):
            rig.session.send(frames.BINARY, bytes(100))
    rig.session.send(frames.TEXT, b"a")
    recorded.accepted(None)
    recorded.sent(encode(frames.BINARY, bytes(900)) + encode(frames.TEXT, b"a"))
    assert [(each["size"], each["cause"]) for each in new() if each["kind"] == "frame"] == [(900, "push"), (1, "push")]


def test_a_frame_of_a_push_that_was_refused_is_not_taken_for_another():
    rig = ConsoleRig()
    _, new = watch(rig)
    rig.connection.backlog = 10**9
    assert rig.put(b"hello", "text/plain").status == 429
    rig.connection.backlog = 0
    assert rig.put(b"hello", "text/plain").status == 200
    kinds = [(each["kind"], each.get("status")) for each in new()]
    # The fake connection reports nothing that is written.
    assert kinds == [("push", 429)]


def test_what_is_kept_to_be_sent_again_counts_for_the_memory():
    rig = ConsoleRig()
    recorded, _ = watch(rig)
    size = MAX_BYTES // 10
    for _ in range(20):
        event = Message(text=False, data=bytes(size))
        recorded.requested(
            event, b"PUT /hook HTTP/1.1\r\nHost: h\r\n\r\n" + event.data, rig.session.info, rig.session.outbox.webhook
        )
    ring = recorded.ring
    kept = [ring.get(index) for index in range(ring.first, ring.count)]
    assert 0 < len(kept) * size <= sum(each.size for each in kept) <= MAX_BYTES


def test_the_memory_of_small_messages_with_many_headers_is_counted_too():
    rig = ConsoleRig()
    recorded, _ = watch(rig)
    head = b"PUT /hook HTTP/1.1\r\n%b\r\n" % (b"ce-type: wsaas.message\r\n" * 12)
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(1, 301):
            event = Message(text=True, data=b"a")
            event.number = number
            recorded.requested(event, head + event.data, rig.session.info, rig.session.outbox.webhook)
            headers = {b"x-header-%d" % each: b"value %d" % number for each in range(20)}
            recorded.answered(event, 1, Response(200, headers), Answer(0.001, ""))
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    ring = recorded.ring
    counted = sum(ring.get(index).size for index in range(ring.first, ring.count))
    assert ring.count - ring.first == 600
    assert 0.8 < counted / taken < 1.4
