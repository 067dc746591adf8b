"""The memory of what was recorded is bounded."""

from hypothesis import given
from hypothesis import strategies as st

from tests.support.fakes import FakeWebhook, make_opened
from wsaas.delivery.webhook import Subject
from wsaas.events import Message
from wsaas.watching import ring as rings
from wsaas.watching.events import MAX_BODY, MAX_REPLAYED, REPLAY_OVERHEAD, Body, WatchedEvent
from wsaas.watching.ring import Ring, Rings


def event(size=0):
    return WatchedEvent("id", "frame", 0.0, {"body": Body(b"x" * size)})


def test_the_oldest_events_of_a_connection_are_dropped():
    ring = Ring(Rings())
    for _ in range(rings.MAX_EVENTS + 5):
        ring.add(event())
    assert (ring.first, ring.count) == (5, rings.MAX_EVENTS + 5)
    assert ring.get(5).seq == 6
    assert ring.find(5) is None
    found = ring.find(6)
    assert found is not None
    assert found.index == 5
    assert ring.index_after(0) == 0
    assert ring.index_after(3) == 5
    assert ring.index_after(6) == 6
    assert ring.index_after(10**9) == ring.count


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5000)), max_size=40))
def test_all_connections_share_the_memory(added):
    shared = Rings(20_000)
    connections = [Ring(shared) for _ in range(3)]
    for number, (which, size) in enumerate(added, 1):
        connections[which].add(event(size))
        kept = [each.get(index) for each in connections for index in range(each.first, each.count)]
        assert shared.size == sum(each.size for each in kept) <= 20_000
        # What is kept is younger than what was dropped.
        assert sorted(each.seq for each in kept) == [*range(number - len(kept) + 1, number + 1)]
    for each in connections:
        each.close()
    assert shared.size == 0


def test_a_closed_ring_takes_nothing():
    shared = Rings()
    ring = Ring(shared)
    ring.add(event())
    ring.close()
    ring.add(event())
    assert shared.size == ring.count - 1 == 0


def test_a_large_message_is_not_kept_to_be_sent_again():
    subject = Subject("id", "node", None)
    for size, is_kept in ((MAX_REPLAYED, True), (MAX_REPLAYED + 1, False)):
        kept = event(size)
        before = kept.size
        kept.keep_for_replay(Message(text=False, data=b"x" * size), subject, FakeWebhook())
        assert (kept.replayable is not None) is is_kept
        assert kept.size == before + (REPLAY_OVERHEAD + size - MAX_BODY if is_kept else 0)
    kept = event()
    kept.keep_for_replay(make_opened(), subject, FakeWebhook())
    assert kept.replayable is not None
    assert kept.size == event().size + REPLAY_OVERHEAD
