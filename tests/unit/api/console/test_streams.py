"""Streams of events, with viewers that a test reads for."""

import orjson
import pytest

from tests.support.console_rig import ConsoleRig
from tests.support.fakes import FakePendingClient, make_handshake
from tests.support.peers import REMOTE, FakeProcess, PeerDouble
from wsaas.api.console.event_stream import MAX_PIECE, TURN_S
from wsaas.api.console.remote_stream import POLL_S
from wsaas.delivery.verdicts import Accepted
from wsaas.errors import TooManyViewers
from wsaas.events import Message
from wsaas.http.response import Response
from wsaas.http.serialize import OutgoingResponse
from wsaas.watching import watcher
from wsaas.websocket.frames import Ping

CONNECTS = "connects/events"


def recorder_of(rig, session):
    watch = rig.watcher.known(session.id)
    assert watch is not None
    return watch.recorder


def record(rig, *names):
    """Record a ping for each of the names."""
    for name in names:
        recorder_of(rig, rig.session).received(Ping(name.encode()))


def texts(sink):
    return [event["body"]["text"] for event in sink.events if event["kind"] == "frame"]


def shake_hands(rig):
    """Let a client send a handshake; return its session."""
    client, handshake = FakePendingClient(), make_handshake()
    session = rig.registry.register(handshake, "192.0.2.7")
    rig.registry.open_handshake(rig.registry.services, session, handshake, client).start()
    return session


def test_events_are_sent_at_the_end_of_the_turn():
    rig = ConsoleRig()
    _, sink = rig.watch()
    assert sink.kinds == ["hello"]
    record(rig, "a", "b")
    assert sink.kinds == ["hello"]
    rig.clock.advance(0)
    assert texts(sink) == ["a", "b"]


def test_much_that_is_new_is_sent_in_pieces():
    rig = ConsoleRig()
    _, sink = rig.watch()
    record(rig, *("x" * 100 for _ in range(200)))
    rig.clock.turn()
    assert MAX_PIECE / 1000 < len(sink.events) < 150
    rig.clock.advance(0)
    assert len(texts(sink)) == 200


def test_a_viewer_takes_a_part_of_each_turn():
    rig = ConsoleRig()
    _, sink = rig.watch()
    rig.stopwatch.step = TURN_S / 3
    record(rig, *("x" for _ in range(10)))
    for sent in (3, 6, 9, 10):
        rig.clock.turn()
        assert len(texts(sink)) == sent


def test_a_viewer_that_reads_again_gets_what_is_kept():
    rig = ConsoleRig()
    stream, sink = rig.watch()
    sink.is_full = True
    record(rig, *(str(number) for number in range(1005)))
    rig.clock.advance(0)
    stream.check(rig.clock.now() + 100)
    assert sink.kinds == ["hello"]
    assert sink.comments == 0
    sink.is_full = False
    stream.resume()
    rig.clock.advance(0)
    assert sink.events[1] == {"kind": "lost", "count": 5}
    assert texts(sink) == [str(number) for number in range(5, 1005)]


def test_a_comment_is_sent_every_fifteen_seconds_of_silence():
    rig = ConsoleRig()
    _, sink = rig.watch()
    for seconds, comments in ((14, 0), (2, 1), (14, 1), (1, 2)):
        rig.clock.advance(seconds)
        rig.watcher.sweep(rig.clock.now())
        assert sink.comments == comments


def test_a_viewer_that_has_left_is_not_written_to():
    rig = ConsoleRig()
    stream, sink = rig.watch()
    stream.cancel()
    record(rig, "a")
    rig.clock.advance(0)
    stream.check(rig.clock.now() + 100)
    assert sink.kinds == ["hello"]


def test_a_watch_ends_a_minute_after_its_last_viewer_has_left():
    rig = ConsoleRig()
    (first, _), (second, _) = rig.watch(), rig.watch()
    first.cancel()
    rig.clock.advance(100)
    rig.watcher.sweep(rig.clock.now())
    assert rig.watcher.known(rig.session.id)
    second.cancel()
    rig.clock.advance(59)
    rig.watcher.sweep(rig.clock.now())
    assert rig.watcher.known(rig.session.id)
    rig.clock.advance(1)
    rig.watcher.sweep(rig.clock.now())
    assert rig.watcher.known(rig.session.id) is None
    assert rig.connection.calls[-1] == "unwatch"


def test_the_events_of_several_connections_keep_their_order():
    rig = ConsoleRig()
    _, sink = rig.open(CONNECTS + "?count=2")
    first, second = shake_hands(rig), shake_hands(rig)
    for session in (second, first, second):
        recorder_of(rig, session).received(Ping(session.id.encode()))
    rig.clock.advance(0)
    assert texts(sink) == [second.id, first.id, second.id]
    seqs = [event["seq"] for event in sink.events[1:]]
    assert seqs == sorted(seqs)


def test_only_so_many_connections_are_watched(monkeypatch):
    monkeypatch.setattr(watcher, "MAX_WATCHED", 1)
    rig = ConsoleRig()
    stream, _ = rig.watch()
    _, sink = rig.open(CONNECTS)
    other = shake_hands(rig)
    with pytest.raises(TooManyViewers):
        rig.watcher.find(other.id)
    stream.cancel()
    # What nobody follows any more makes room.
    assert rig.watcher.find(other.id)
    assert rig.watcher.known(rig.session.id) is None
    rig.clock.advance(0)
    assert sink.kinds == ["hello"]


def test_everything_is_swapped_back_at_the_end():
    rig = ConsoleRig()
    encode = rig.session.encode
    rig.watch()
    assert rig.session.encode is not encode
    rig.watcher.stop()
    assert rig.session.encode is encode
    assert rig.registry.push_recorders == {}


def test_an_outbox_goes_on_with_the_webhook_that_it_has():
    rig = ConsoleRig()
    rig.watch()
    rig.session.receive(Message(text=True, data=b"hello"))
    (exchange,) = rig.pool.sent
    rig.watcher.stop()
    exchange.answered(Response(200, {}))
    rig.session.receive(Message(text=True, data=b"hello"))
    assert len(rig.webhook.calls) == 1


class RemoteRig(ConsoleRig):
    """A console whose other worker has `REMOTE`."""

    def __init__(self, **values):
        super().__init__(**values)
        self.peer = PeerDouble(self.clock.now)
        self.router.find_peer = self.peer.find_peer  # type: ignore[method-assign]  # the double has one peer

    def answer(self, status=200, **content):
        usual = {"connection": {}, "limits": {}, "events": [], "lost": 0, "next": 0, "complete": False}
        self.peer.answer(OutgoingResponse(status, orjson.dumps({**usual, **content})))


def event(seq):
    return {"kind": "frame", "seq": seq}


def test_a_connection_of_a_peer_is_asked_for_again_and_again():
    rig = RemoteRig()
    _, sink = rig.open(f"connections/{REMOTE}/events", "Last-Event-ID: 7")
    assert rig.peer.requests[0].target == b"/console/api/connections/%b/ring?seq=7" % REMOTE.encode()
    rig.answer(events=[event(8)], next=3)
    assert sink.kinds == ["hello", "frame"]
    assert rig.peer.requests == []
    rig.clock.advance(POLL_S)
    assert rig.peer.requests[0].target.endswith(b"/ring?after=3")
    rig.answer(next=3)
    rig.clock.advance(POLL_S)
    # A worker that does not answer in time is asked again.
    rig.answer(504)
    rig.clock.advance(POLL_S)
    sink.is_full = True
    rig.answer(events=[event(9)], next=4)
    rig.clock.advance(POLL_S)
    assert rig.peer.requests[0].target.endswith(b"/ring?after=3")
    sink.is_full = False
    rig.answer(events=[event(9)], lost=2, next=6, complete=True)
    assert sink.kinds == ["hello", "frame", "lost", "frame"]
    assert sink.has_ended
    rig.clock.advance(10)
    assert rig.peer.requests == []


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_the_stream_of_a_connection_of_a_peer_ends_with_the_peer_or_if_that_refuses(status):
    rig = RemoteRig()
    _, sink = rig.open(f"connections/{REMOTE}/events")
    rig.answer(status)
    assert sink.has_ended
    rig.clock.advance(10)
    assert rig.peer.requests == []


def test_a_stream_ends_when_the_tokens_are_replaced():
    rig = RemoteRig(control_token="old")
    allowed = "Authorization: Bearer old"
    sinks = [rig.watch(allowed)[1], rig.open(CONNECTS, allowed)[1]]
    sinks.append(rig.open(f"connections/{REMOTE}/events", allowed)[1])
    rig.watcher.sweep(rig.clock.now())
    assert not any(sink.has_ended for sink in sinks)
    rig.api.tokens.replace([b"new"])
    rig.watcher.sweep(rig.clock.now())
    assert all(sink.has_ended for sink in sinks)
    assert len(rig.peer.cancelled) == 1
    assert rig.ask("GET", f"/console/api/{CONNECTS}", allowed).status == 401


def test_a_peer_is_not_asked_for_a_viewer_that_has_left():
    rig = RemoteRig()
    stream, _ = rig.open(f"connections/{REMOTE}/events")
    stream.cancel()
    assert len(rig.peer.cancelled) == 1
    stream, _ = rig.open(f"connections/{REMOTE}/events")
    rig.peer.requests.pop(0)
    rig.peer._deferred.pop(0)
    rig.answer()
    stream.cancel()
    rig.clock.advance(10)
    assert rig.peer.requests == []


def test_the_handshakes_of_other_workers_are_among_the_next_ones():
    worker, full = FakeProcess("a"), FakeProcess("b", is_full=True)
    rig = ConsoleRig(worker, full)
    _, sink = rig.open(CONNECTS + "?count=1&path=/x")
    assert b"count=1&path=%2Fx" in worker.requests[0][0]
    rows = [
        {"kind": kind, "seq": seq, "connection": name} for kind, seq, name in (("handshake", 1, "a"), ("end", 3, "a"))
    ]
    sink.is_full = True
    worker.answer(events=rows[:1], lost=1)
    sink.is_full = False
    rig.clock.advance(POLL_S)
    worker.answer(events=[{"kind": "handshake", "seq": 2, "connection": "b"}], lost=0)
    assert sink.kinds == ["hello", "lost"]
    assert sink.events[1]["count"] == 2
    rig.clock.advance(POLL_S)
    worker.answer(events=[], lost=0)
    rig.clock.advance(POLL_S)
    worker.answer(status=504)
    rig.clock.advance(POLL_S)
    worker.answer(events=rows[1:], lost=0)
    assert sink.kinds == ["hello", "lost", "end"]
    assert sink.has_ended
    assert rig.registry.open_handshake is not rig.watcher._open_handshake


def test_what_another_worker_asks_for_is_forgotten_when_it_asks_no_more():
    rig = ConsoleRig()
    path = "connects/ring?key=AAAAAAAAAAAAAAAA&count=1"
    assert rig.get(path) == {"code": "OK", "events": [], "lost": 0}
    session = shake_hands(rig)
    # One is enough.
    shake_hands(rig)
    rig.clock.advance(0)
    events = rig.get(path)["events"]
    assert [(each["kind"], each["connection"]) for each in events] == [
        ("handshake", session.id),
        ("request", session.id),
    ]
    for seconds, is_known in ((4, True), (1, False)):
        rig.clock.advance(seconds)
        rig.watcher.sweep(rig.clock.now())
        assert bool(rig.watcher._followers) is is_known
    assert rig.get(path)["events"] == []


def test_another_worker_gets_a_large_ring_in_parts():
    rig = ConsoleRig()
    path = f"connections/{rig.session.id}/ring"
    assert rig.get(path)["next"] == 0
    for _ in range(40):
        recorder_of(rig, rig.session).received(Message(text=True, data=b"x" * 16384))
    first = rig.get(path + "?after=0")
    assert 10 < first["next"] < 20
    assert rig.get(f"{path}?after={first['next']}")["events"][0]["seq"] == first["events"][-1]["seq"] + 1
    seq = first["events"][2]["seq"]
    assert rig.get(f"{path}?seq={seq}")["events"][0]["seq"] == seq + 1
    key = "connects/ring?key=AAAAAAAAAAAAAAAB"
    rig.get(key)
    session = shake_hands(rig)
    for _ in range(40):
        recorder_of(rig, session).received(Message(text=True, data=b"x" * 16384))
    found = [len(rig.get(key)["events"]) for _ in range(3)]
    assert sum(found) == 42
    assert found[0] < 20


def test_handshakes_are_watched_as_long_as_one_viewer_waits():
    rig = ConsoleRig()
    (first, _), (second, sink) = rig.open(CONNECTS), rig.open(CONNECTS)
    first.cancel()
    shake_hands(rig)
    rig.clock.advance(0)
    assert sink.kinds == ["hello", "handshake", "request"]
    second.cancel()
    assert shake_hands(rig).id not in rig.registry.push_recorders


def test_a_viewer_may_wait_for_handshakes_of_one_path():
    rig = ConsoleRig()
    _, sink = rig.open(CONNECTS + "?count=2")
    _, other = rig.open(CONNECTS + "?count=1&path=/other")
    session = shake_hands(rig)
    rig.clock.advance(0)
    assert sink.kinds == ["hello", "handshake", "request"]
    assert sink.events[1]["connection"] == session.id
    assert other.kinds == ["hello"]


def test_a_watch_may_end_while_the_backend_decides():
    rig = ConsoleRig(enters=False)
    opening = rig.session.connection
    rig.watcher.find(rig.session.id)
    rig.watcher.stop()
    # Nothing is left to undo.
    opening.unwatch()
    rig.webhook.calls.pop()[1](Accepted(None, None))
    assert rig.session.connection is rig.pending_client.connection
    assert rig.connection.calls == ["start"]
