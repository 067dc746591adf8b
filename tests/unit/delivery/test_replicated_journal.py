import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.support.fake_store import FakeStore
from tests.support.fakes import FakeClock, FakeJournal, make_closed
from wsaas.delivery import replicated_journal
from wsaas.delivery.entry_codec import EntryCodec
from wsaas.delivery.journal import Entry, NoJournal
from wsaas.delivery.replicated_journal import MAX_REWRITES, PROBE_INTERVAL_S, ReplicatedJournal
from wsaas.delivery.replication_state import OFFLINE, ONLINE, PROBING

LEASE_S = 15.0


class Rig:
    """A replicated journal. `told`: the name and the argument of each `done`."""

    def __init__(self, local=None):
        self.store = FakeStore()
        self.clock = FakeClock()
        self.codec = EntryCodec((), 1)
        self.connections: dict[str, Entry] = {}
        self.local = FakeJournal() if local is None else local
        self.journal = ReplicatedJournal(self.local, self.store, self.codec, self.clock)
        self.journal.find = self.connections.get
        self.told = []

    def renew(self):
        self.journal.renewed(self.clock.now() + LEASE_S)

    def add(self, name="a", **values):
        entry = self.connections[name] = Entry(name, f"node/{name}", None, None, 1.5, **values)
        self.journal.add(
            Entry(name, f"node/{name}", None, None, 1.5), lambda written: self.told.append((name, written))
        )
        return entry

    def added(self, *names):
        """Add connections, and write them on both sides."""
        for name in names:
            self.add(name)
        self.local.write()
        self.store.acknowledge_all()
        self.told.clear()

    def remove(self, name="a"):
        self.journal.remove(name)

    def disconnect(self, applied=0):
        self.store.disconnect(applied)
        self.journal.connection_changed()

    def connect(self):
        self.store.is_connected = True
        self.journal.connection_changed()

    def stored(self, name):
        """Return the entry of a connection in NATS."""
        return self.codec.decode(name, self.store.stored[f"{name[0]}.{name}"])

    def is_marked(self, name="a"):
        """Return whether the local journal says that NATS does not have a connection."""
        return not self.local.entries[name]["replicated"]


@pytest.fixture
def rig():
    rig = Rig()
    rig.renew()
    return rig


# A new connection.


def test_a_connection_is_added_once_both_journals_have_it(rig):
    rig.add("ab")
    assert rig.told == []
    rig.local.write()
    assert rig.told == []
    rig.store.acknowledge()
    assert rig.told == [("ab", True)]
    assert rig.store.keys == ["a.ab"]
    assert rig.journal.unreplicated == 0


def test_the_acknowledgement_may_come_first(rig):
    rig.add()
    rig.store.acknowledge()
    assert rig.told == []
    rig.local.write()
    assert rig.told == [("a", True)]
    assert not rig.is_marked()


def test_without_an_answer_the_local_journal_alone_has_to_do_and_says_so(rig):
    rig.add()
    rig.local.write()
    rig.store.time_out()
    assert rig.told == []
    assert rig.journal.is_unreplicated("a")
    assert rig.local.write() == ["set_replicated"]
    assert rig.told == [("a", True)]
    assert rig.is_marked()


def test_a_refused_write_counts_as_none(rig):
    rig.add()
    rig.store.refuse("maximum bytes exceeded")
    rig.local.write()
    assert rig.told == [("a", True)]
    assert rig.is_marked()
    assert rig.store.keys == []


def test_while_nats_does_not_answer_connections_are_added_without_waiting_for_it(rig):
    rig.add("a")
    rig.store.time_out()
    rig.local.write()
    rig.local.write()
    rig.add("b")
    assert rig.local.write() == ["add"]
    assert rig.told == [("a", True), ("b", True)]
    assert rig.is_marked("b")
    assert len(rig.store.pending) == 1


def test_without_a_connection_nothing_is_published(rig):
    rig.disconnect()
    rig.add()
    rig.local.write()
    assert rig.told == [("a", True)]
    assert rig.is_marked()
    assert rig.store.published == 0


def test_before_the_first_lease_nothing_is_published():
    rig = Rig()
    rig.journal.connection_changed()
    rig.add()
    rig.local.write()
    assert (rig.told, rig.store.published, rig.journal.state) == ([("a", True)], 0, OFFLINE)
    rig.renew()
    rig.store.acknowledge()
    rig.local.write()
    assert rig.store.keys == ["a.a"]
    assert not rig.is_marked()


def test_an_acknowledgement_after_the_end_of_the_lease_does_not_count(rig):
    rig.add()
    rig.clock.stand_still(LEASE_S)
    rig.store.acknowledge()
    rig.local.write()
    assert rig.told == [("a", True)]
    assert rig.is_marked()


def test_after_the_end_of_the_lease_nothing_is_published(rig):
    rig.clock.stand_still(LEASE_S)
    rig.add()
    rig.remove("b")
    rig.local.write()
    assert rig.store.published == 0
    assert rig.is_marked()


def test_a_connection_that_the_local_journal_cannot_have_is_removed_from_nats(rig):
    rig.add()
    rig.local.fail()
    assert rig.told == [("a", False)]
    rig.store.acknowledge_all()
    assert rig.store.keys == []
    assert rig.journal.unreplicated == 0


def test_the_local_journal_may_fail_after_the_acknowledgement(rig):
    rig.add()
    rig.store.acknowledge()
    rig.local.fail()
    rig.store.acknowledge_all()
    assert rig.told == [("a", False)]
    assert rig.store.keys == []


def test_a_connection_that_cannot_be_marked_is_refused(rig):
    rig.add()
    rig.local.write()
    rig.store.refuse()
    rig.local.fail()
    assert rig.told == [("a", False)]
    rig.clock.advance(PROBE_INTERVAL_S)
    rig.store.acknowledge_all()
    rig.local.write()
    assert rig.store.keys == []
    assert rig.local.entries == {}


def test_without_a_local_journal_nats_alone_keeps_connections():
    rig = Rig(NoJournal())
    rig.renew()
    rig.add("a")
    assert rig.told == []
    rig.store.acknowledge()
    assert rig.told == [("a", True)]
    rig.add("b")
    rig.store.refuse()
    assert rig.told == [("a", True), ("b", True)]
    rig.clock.advance(PROBE_INTERVAL_S)
    rig.store.acknowledge()
    assert rig.store.keys == ["a.a", "b.b"]


# Changes.


def test_the_context_and_the_delete_are_written_to_both(rig):
    entry = rig.add()
    rig.local.write()
    rig.store.acknowledge()
    entry.context = "cart=7"
    rig.journal.set_context("a", "cart=7")
    rig.store.acknowledge()
    assert rig.stored("a") == Entry("a", "node/a", None, "cart=7", 1.5, is_replicated=True)
    rig.journal.set_disconnect("a", make_closed(b"{}", 2.5))
    rig.store.acknowledge()
    rig.local.write()
    assert rig.stored("a") == Entry("a", "node/a", None, "cart=7", 1.5, 2.5, b"{}", is_replicated=True)
    assert rig.local.entries["a"]["context"] == "cart=7"


def test_a_change_of_a_connection_that_is_not_known_is_not_written_to_nats(rig):
    rig.added("a")
    rig.connections.clear()
    rig.journal.set_context("a", "x")
    rig.journal.set_disconnect("a", make_closed())
    assert rig.store.pending == []


def test_changes_while_a_write_is_under_way_follow_it_and_only_the_last_one_counts(rig):
    entry = rig.add()
    for context in "xyz":
        entry.context = context
        rig.journal.set_context("a", context)
    assert len(rig.store.pending) == 1
    rig.store.acknowledge()
    assert len(rig.store.pending) == 1
    rig.store.acknowledge()
    assert rig.stored("a").context == "z"
    assert rig.store.published == 2


def test_a_removed_connection_is_removed_from_both(rig):
    removed: list[str] = []
    rig.journal.on_removed = removed.append
    rig.added("a", "b")
    rig.remove("a")
    assert removed == []
    rig.store.acknowledge()
    rig.local.write()
    assert removed == ["a"]
    assert rig.store.keys == ["b.b"]
    assert [*rig.local.entries] == ["b"]


def test_a_connection_that_was_never_written_is_dropped_when_it_is_removed(rig):
    rig.disconnect()
    rig.add()
    rig.remove()
    assert rig.journal.unreplicated == 0
    rig.connect()
    assert rig.store.published == 0


def test_a_connection_that_may_have_been_written_is_removed(rig):
    rig.add()
    rig.store.time_out()
    rig.remove()
    rig.clock.advance(PROBE_INTERVAL_S)
    rig.store.acknowledge_all()
    assert rig.store.keys == []
    assert rig.journal.unreplicated == 0


def test_a_connection_of_another_process_is_removed_by_its_own_key(rig):
    rig.store.stored["z.zz"] = b"{}"
    rig.remove("zz")
    rig.store.acknowledge()
    assert rig.store.keys == []


# NATS comes back.


def test_what_is_not_replicated_is_written_when_nats_answers_again(rig, caplog):
    caplog.set_level("INFO", "wsaas")
    rig.add("a")
    rig.store.time_out()
    for name in "bcd":
        rig.add(name)
    rig.clock.advance(PROBE_INTERVAL_S)
    # One of them is written as a probe.
    assert len(rig.store.pending) == 2
    rig.store.acknowledge()
    rig.store.acknowledge()
    assert rig.journal.state is ONLINE
    assert caplog.messages[-1] == "NATS acknowledges again: 3 connections are written that were not replicated"
    rig.store.acknowledge_all()
    assert rig.store.keys == ["a.a", "b.b", "c.c", "d.d"]
    rig.local.write()
    rig.local.write()
    assert not any(map(rig.is_marked, "abcd"))
    assert rig.journal.unreplicated == 0


def test_a_probe_without_an_answer_is_repeated_with_another_write(rig):
    rig.add("a")
    rig.store.refuse("first")
    rig.add("b")
    for expected in ("a", "b", "a"):
        assert rig.store.pending == []
        rig.clock.advance(PROBE_INTERVAL_S)
        assert [each.key for each in rig.store.pending] == [f"{expected}.{expected}"]
        rig.store.refuse()


def test_what_failed_while_nats_was_probed_waits_for_the_probe(rig):
    rig.add("a")
    rig.add("b")
    rig.store.time_out(0)
    rig.store.time_out(1)
    assert (rig.journal.state, len(rig.clock.timers)) == (PROBING, 1)
    rig.renew()
    assert len(rig.store.pending) == 3


def test_if_nothing_waits_any_more_when_the_probe_is_due_changes_are_written_at_once_again(rig):
    rig.store.is_writable = False
    rig.add("a")
    rig.remove("a")
    rig.store.is_writable = True
    rig.clock.advance(PROBE_INTERVAL_S)
    rig.add("b")
    rig.store.acknowledge_all()
    assert rig.store.keys == ["b.b"]


def test_an_acknowledgement_before_the_new_connection_is_noticed_does_not_count(rig):
    rig.disconnect()
    rig.add()
    rig.connect()
    rig.journal._go_offline()
    rig.store.acknowledge()
    assert (rig.journal.state, rig.store.pending, rig.journal.unreplicated) == (OFFLINE, [], 1)
    rig.renew()
    rig.store.acknowledge()
    assert rig.journal.unreplicated == 0


def test_after_one_slow_answer_the_same_write_is_the_probe(rig):
    rig.add()
    rig.store.time_out()
    rig.clock.advance(PROBE_INTERVAL_S)
    rig.store.acknowledge_all()
    assert (rig.journal.state, rig.journal.unreplicated) == (ONLINE, 0)


def test_one_acknowledgement_after_a_slow_one_is_enough(rig):
    rig.add("a")
    rig.add("b")
    rig.store.time_out()
    rig.clock.advance(PROBE_INTERVAL_S)
    rig.store.acknowledge_all()
    assert (rig.journal.state, rig.journal.unreplicated) == (ONLINE, 0)


def test_after_a_lost_connection_what_was_under_way_is_written_again(rig):
    rig.added("a")
    rig.remove("a")
    rig.add("b")
    rig.disconnect(applied=1)
    assert rig.journal.state is OFFLINE
    rig.connect()
    rig.store.acknowledge_all()
    assert rig.store.keys == ["b.b"]


def test_writes_that_cannot_be_sent_wait_for_the_next_probe(rig):
    rig.store.is_writable = False
    rig.add("a")
    rig.add("b")
    rig.local.write()
    rig.local.write()
    assert rig.told == [("a", True), ("b", True)]
    assert rig.is_marked("a")
    rig.clock.advance(PROBE_INTERVAL_S)
    rig.store.is_writable = True
    rig.clock.advance(PROBE_INTERVAL_S)
    rig.store.acknowledge_all()
    assert rig.store.keys == ["a.a", "b.b"]


def test_a_limited_number_is_written_at_a_time(rig):
    rig.disconnect()
    for number in range(MAX_REWRITES + 10):
        rig.add(f"a{number}")
    rig.connect()
    assert len(rig.store.pending) == 1
    rig.store.acknowledge()
    assert len(rig.store.pending) == MAX_REWRITES
    rig.store.acknowledge()
    assert len(rig.store.pending) == MAX_REWRITES
    rig.store.acknowledge_all()
    assert len(rig.store.keys) == MAX_REWRITES + 10


def test_a_lease_that_ended_unnoticed_stops_the_writing(rig):
    rig.add("a")
    rig.store.refuse()
    rig.clock.stand_still(LEASE_S)
    rig.clock.advance(PROBE_INTERVAL_S)
    assert (rig.journal.state, rig.store.pending) == (OFFLINE, [])
    rig.renew()
    rig.store.acknowledge()
    assert rig.store.keys == ["a.a"]


def test_the_end_of_all_writes_is_reported(rig):
    idle = []
    rig.journal.on_idle = lambda: idle.append(rig.journal.unreplicated)
    rig.add("a")
    rig.add("b")
    rig.store.acknowledge()
    assert idle == []
    rig.store.acknowledge()
    assert idle == [0]


def test_what_nats_has_lost_is_written_again(rig):
    rig.added("a", "b", "c")
    rig.store.stored.clear()
    rig.remove("c")
    rig.journal.restore([rig.connections["a"], rig.connections["b"], rig.connections["c"]])
    rig.local.write()
    assert rig.is_marked("a")
    assert rig.journal.is_unreplicated("b")
    rig.store.acknowledge_all()
    rig.local.write()
    assert rig.store.keys == ["a.a", "b.b"]
    assert not rig.is_marked("a")
    assert rig.journal.unreplicated == 0


# A process that was declared dead.


def test_a_process_that_was_declared_dead_writes_nothing_more_about_its_connections(rig):
    rig.added("a1", "a2", "a3", "b1")
    for name in ("a1", "b1"):
        rig.journal.set_context(name, "x")
    rig.remove("a2")
    rig.disconnect()
    rig.add("a4")
    rig.journal.forget("a")
    rig.renew()
    rig.connect()
    rig.store.acknowledge_all()
    assert rig.store.keys == ["a.a1", "a.a3", "b.b1"]
    assert rig.stored("b1").context == "x"
    assert rig.stored("a1").context is None
    rig.journal.set_context("a3", "late")
    assert rig.store.pending == []
    rig.remove("a4")
    rig.store.acknowledge()
    assert rig.journal.unreplicated == 0


def test_a_connection_that_is_just_added_then_counts_as_not_replicated(rig):
    rig.add("a")
    rig.local.write()
    rig.journal.forget("a")
    rig.store.acknowledge()
    rig.local.write()
    assert rig.told == [("a", True)]
    assert rig.is_marked()


def test_after_it_was_declared_dead_nothing_is_published_before_a_new_lease(rig):
    rig.journal.forget("a")
    rig.add("b")
    assert rig.store.pending == []
    rig.renew()
    assert len(rig.store.pending) == 1


def test_an_acknowledgement_of_what_was_forgotten_is_ignored(rig):
    rig.added("a")
    rig.journal.set_context("a", "x")
    rig.journal.forget("a")
    rig.renew()
    rig.add("b")
    rig.store.acknowledge_all()
    rig.store.acknowledge_all()
    assert rig.journal.unreplicated == 0


def test_a_process_that_has_forgotten_everything_still_removes_what_nobody_else_does(rig):
    rig.added("a1", "b1")
    rig.add("a2")
    rig.local.write()
    # NATS has stored it, but has not said so.
    rig.disconnect(applied=1)
    rig.journal.set_context("b1", "x")
    rig.journal.forget("a")
    rig.remove("a2")
    rig.connect()
    assert rig.store.pending == []
    rig.journal.forget("")
    rig.journal.renewed(math.inf)
    rig.store.acknowledge_all()
    assert rig.store.keys == ["a.a1", "b.b1"]
    assert rig.stored("b1").context is None, "another process may have adopted and removed it"
    assert rig.journal.unreplicated == 0


def test_a_disowned_connection_is_removed_only_from_the_local_journal(rig):
    rig.added("a", "b")
    rig.disconnect()
    rig.journal.set_context("b", "x")
    rig.journal.disown("a")
    rig.journal.disown("b")
    rig.connect()
    rig.local.write()
    assert (rig.local.entries, rig.store.pending, rig.store.keys) == ({}, [], ["a.a", "b.b"])


# States.


def test_an_impossible_transition_is_an_error(rig):
    with pytest.raises(AssertionError, match=r"ONLINE to .*ONLINE"):
        rig.journal._move(ONLINE)


def test_a_journal_that_is_not_attached_knows_no_connection():
    store = FakeStore()
    unattached = ReplicatedJournal(NoJournal(), store, EntryCodec((), 1), FakeClock())
    unattached.renewed(2000.0)
    unattached.set_context("a", "x")
    unattached.remove("a")
    store.acknowledge()
    assert store.published == 1


# Any interleaving.


class ReplicationMachine(RuleBasedStateMachine):
    """Compares NATS and the local journal with what is owed, whatever is lost and whenever."""

    numbers = st.integers(0, 5)

    def __init__(self):
        super().__init__()
        self.rig = Rig()
        self.rig.renew()
        self.count = 0
        self.owed = {}
        self.pending = set()

    def choose(self, number):
        """Return the name of a connection, None if there is none."""
        return [*self.owed][number % len(self.owed)] if self.owed else None

    @rule(process=st.sampled_from("ab"))
    def a_client_comes(self, process):
        self.count += 1
        name = f"{process}{self.count}"
        self.pending.add(name)
        entry = self.rig.connections[name] = Entry(name, f"node/{name}", None, None, 1.5)

        def done(written):
            self.pending.remove(name)
            if written:
                self.owed[name] = entry
            else:
                del self.rig.connections[name]

        self.rig.journal.add(Entry(name, f"node/{name}", None, None, 1.5), done)

    @rule(number=numbers, context=st.sampled_from([None, "x", "y"]))
    def it_gets_a_context(self, number, context):
        if name := self.choose(number):
            self.owed[name].context = context
            self.rig.journal.set_context(name, context)

    @rule(number=numbers)
    def its_delete_fails(self, number):
        if name := self.choose(number):
            entry = self.owed[name]
            entry.ended_at, entry.disconnect_body = 3.5, b"{}"
            self.rig.journal.set_disconnect(name, make_closed(b"{}", 3.5))

    @rule(number=numbers)
    def its_delete_is_delivered(self, number):
        if name := self.choose(number):
            del self.owed[name], self.rig.connections[name]
            self.rig.journal.remove(name)

    @rule()
    def the_local_journal_writes(self):
        self.rig.local.write()

    @rule()
    def the_local_journal_fails(self):
        self.rig.local.fail()

    @precondition(lambda self: self.rig.store.pending)
    @rule()
    def nats_acknowledges(self):
        self.rig.store.acknowledge()

    @precondition(lambda self: self.rig.store.pending)
    @rule()
    def nats_refuses(self):
        if self.rig.store.pending[0].on_ack is None:
            self.rig.store.apply()
        else:
            self.rig.store.refuse()

    @precondition(lambda self: self.rig.store.pending)
    @rule(number=st.integers(0, 3))
    def nats_is_slow(self, number):
        self.rig.store.time_out(min(number, len(self.rig.store.pending) - 1))

    @precondition(lambda self: self.rig.store.is_connected)
    @rule(applied=st.integers(0, 3))
    def the_connection_is_lost(self, applied):
        self.rig.disconnect(applied)

    @rule(is_writable=st.booleans())
    def the_server_reads_or_does_not(self, is_writable):
        self.rig.store.is_writable = is_writable

    @rule()
    def the_connection_is_opened(self):
        self.rig.connect()

    @rule()
    def the_lease_is_renewed(self):
        self.rig.renew()

    @rule(seconds=st.sampled_from([0.1, PROBE_INTERVAL_S, LEASE_S]))
    def time_passes(self, seconds):
        self.rig.clock.advance(seconds)

    @rule()
    def all_is_written(self):
        rig = self.rig
        rig.store.is_writable = True
        rig.connect()
        rig.renew()
        while rig.store.pending or rig.local.pending or rig.journal.unreplicated:
            if rig.store.pending:
                rig.store.acknowledge()
            elif not rig.local.write():
                rig.clock.advance(PROBE_INTERVAL_S)
                rig.renew()
        assert self.pending == set()
        assert rig.store.keys == sorted(f"{name[0]}.{name}" for name in self.owed)
        for name, entry in self.owed.items():
            stored = rig.stored(name)
            assert (stored.context, stored.disconnect_body) == (entry.context, entry.disconnect_body)
            assert not rig.is_marked(name)
        assert sorted(rig.local.entries) == sorted(self.owed)

    @invariant()
    def what_the_local_journal_calls_replicated_is_in_nats(self):
        for name in self.owed:
            assert self.rig.is_marked(name) or f"{name[0]}.{name}" in self.rig.store.keys

    @invariant()
    def what_is_in_nats_or_not_is_known(self):
        for name in self.owed:
            assert self.rig.journal.is_unreplicated(name) or f"{name[0]}.{name}" in self.rig.store.keys

    def teardown(self):
        self.all_is_written()


def test_nats_ends_up_with_exactly_what_is_owed():
    ReplicationMachine.TestCase.settings = settings(deadline=None, max_examples=100, stateful_step_count=40)
    ReplicationMachine.TestCase().runTest()


def test_the_bounds_are_those_that_are_documented():
    assert (replicated_journal.MAX_REWRITES, replicated_journal.PROBE_INTERVAL_S) == (256, 1.0)
