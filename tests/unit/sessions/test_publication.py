"""Tests of publishing to many clients, and of closing them."""

import math
from collections import defaultdict
from unittest.mock import patch

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.fakes import (
    FakeClock,
    FakePendingClient,
    FakeWebhook,
    Stopwatch,
    make_settings,
    start_session,
)
from wsaas.delivery.journal import NoJournal
from wsaas.delivery.verdicts import Accepted
from wsaas.reason import Reason
from wsaas.run_queue import RunQueue
from wsaas.sessions import group
from wsaas.sessions.fan_out import FAN_OUT_SLICE_S, FanOutQueue
from wsaas.sessions.ordered_table import CHUNK
from wsaas.sessions.publication import MAX_NAMED, Closing, NamedClients, Publication, Recipients, SharedMessage
from wsaas.sessions.registry import Registry
from wsaas.sessions.session_state import OPEN, State
from wsaas.websocket import frames
from wsaas.websocket.deflate import Agreement

HELLO = frames.encode(frames.TEXT, b"hello")


class Rig:
    """Clients in the group `room`."""

    def __init__(self, members=0, **values):
        settings = make_settings(**values)
        self.clock = FakeClock()
        self.webhook = FakeWebhook()
        self.registry = Registry(settings, self.clock, self.webhook, NoJournal(), 10_000)
        self.groups = self.registry.groups
        self.services = self.registry.services
        self.timer = Stopwatch()
        self.members = [self.admit("room") for _ in range(members)]

    def admit(self, *groups):
        """Return a session whose client is open, and a member of `groups`."""
        pending = FakePendingClient()
        session = start_session(self.registry, pending)
        pending.connection.ended = session.lost
        self.webhook.calls.pop()[1](Accepted(None, None, groups))
        return session

    def recipients(self, group="room", **values):
        return Recipients(lambda: self.groups.group(group), **values)

    def publication(self, text=b"hello", *, closes_slow=False, group="room", **values):
        return Publication(
            SharedMessage(frames.TEXT, text),
            self.recipients(group, **values),
            find_group=lambda: self.groups.group(group),
            closes_slow=closes_slow,
        )

    def publish(self, text=b"hello", **values):
        """Publish to all members in one slice."""
        publication = self.publication(text, **values)
        assert publication.advance(self.timer, math.inf)
        return publication

    def slice(self, work, clients=1):
        """Do `work` for a number of clients."""
        self.timer.step = 1.0
        return work.advance(self.timer, self.timer.now + clients)


def written(session):
    return session.connection.written


def sent(session):
    """Return the numbers of messages and of bytes that were sent, as everybody sees them."""
    session.settle()
    return session.info.messages_out, session.info.bytes_out


def test_each_member_gets_the_message_once():
    rig = Rig(3)
    other = rig.admit()
    publication = rig.publish()
    assert publication.summary() == {"sent": 3, "slow": [], "slow_count": 0}
    assert [written(each) for each in rig.members] == [[HELLO]] * 3
    assert [sent(each) for each in rig.members] == [(1, 5)] * 3
    assert written(other) == []


def test_a_publish_to_a_group_without_members_is_sent_to_nobody():
    assert Rig().publish().summary() == {"sent": 0, "slow": [], "slow_count": 0}


def test_clients_that_are_excluded_get_nothing():
    rig = Rig(3)
    excluded = frozenset({rig.members[1].id, "unknown"})
    assert rig.publish(excluded=excluded).sent == 2
    assert [len(written(each)) for each in rig.members] == [1, 0, 1]


@pytest.mark.parametrize("state", list(State))
def test_only_clients_that_are_open_or_wait_for_the_backend_get_a_message(state):
    rig = Rig()
    pending = FakePendingClient()
    session = start_session(rig.registry, pending)
    rig.groups.join(session, "room")
    if state is not State.CONNECTING:
        rig.webhook.answer(Accepted(None, None))
    if state is State.CLOSING:
        session.close(Reason.SHUTDOWN)
    elif state is State.DISCONNECTED:
        session.disconnected(FakePendingClient().connection)
    elif state is State.CLOSED:
        session.lost()
    # Those that have disconnected are no members any more, but may have been when the publish began.
    recipients = Recipients(lambda: [session])
    publication = Publication(SharedMessage(frames.TEXT, b"hello"), recipients)
    assert publication.advance(rig.timer, math.inf)
    assert publication.sent == (state in {State.CONNECTING, State.OPEN})
    assert publication.slow.count == 0
    if state is State.CONNECTING:
        rig.webhook.answer(Accepted(None, None))
        assert pending.accepted == (None, HELLO)
    else:
        assert (HELLO in pending.connection.written) is (state is State.OPEN)


def test_clients_in_other_states_can_be_left_out():
    rig = Rig(1)
    waiting = start_session(rig.registry, FakePendingClient())
    rig.groups.join(waiting, "room")
    assert rig.publish(states=(OPEN,)).sent == 1
    assert sent(waiting) == (0, 0)


def test_a_slow_member_is_skipped_and_named():
    rig = Rig(3, send_buffer="100")
    rig.members[1].connection.backlog = 94
    publication = rig.publish()
    assert publication.summary() == {"sent": 2, "slow": [rig.members[1].id], "slow_count": 1}
    assert rig.members[1].state is OPEN
    assert sent(rig.members[1]) == (0, 0)
    rig.members[1].connection.backlog = 93
    assert rig.publish().sent == 3


def test_a_slow_member_can_be_closed():
    rig = Rig(3, send_buffer="100")
    slow = rig.members[1]
    connection = slow.connection
    connection.backlog = 100
    publication = rig.publish(closes_slow=True)
    assert publication.summary() == {"sent": 2, "slow": [slow.id], "slow_count": 1}
    assert connection.written == [frames.encode_close(1013, "slow client")]
    assert connection.calls[-1] == "close_gracefully"
    assert (slow.state, slow.reason) == (State.CLOSED, Reason.SLOW_CLIENT)
    assert rig.publish().sent == 2


def test_a_publish_to_all_clients_is_sliced_too():
    rig = Rig(2)
    publication = Publication(SharedMessage(frames.TEXT, b"hello"), Recipients(rig.registry.live))
    assert not rig.slice(publication)
    assert [each.info.messages_out for each in rig.members] == [1, 0]
    assert rig.slice(publication, 2)
    assert [each.info.messages_out for each in rig.members] == [1, 1]


def test_a_publish_to_all_clients_can_close_a_slow_one_too():
    rig = Rig(2, send_buffer="100")
    slow = rig.members[0]
    slow.connection.backlog = 100
    publication = Publication(SharedMessage(frames.TEXT, b"hello"), Recipients(rig.registry.live), closes_slow=True)
    assert publication.advance(rig.timer, math.inf)
    assert publication.summary() == {"sent": 1, "slow": [slow.id], "slow_count": 1}
    assert [each.info.messages_out for each in rig.members] == [0, 1]
    assert slow.reason is Reason.SLOW_CLIENT


def test_a_slow_client_that_waits_for_the_backend_is_told_to_come_back():
    rig = Rig(send_buffer="10")
    pending = FakePendingClient()
    session = start_session(rig.registry, pending)
    rig.groups.join(session, "room")
    assert rig.publish(b"first one").sent == 1
    assert rig.publish(b"second", closes_slow=True).slow.ids == [session.id]
    assert pending.refused is not None
    assert (pending.refused.status, pending.refused.headers) == (503, (("Retry-After", "1"),))


def test_a_summary_names_so_many_clients_and_counts_the_others():
    named = NamedClients()
    for number in range(MAX_NAMED + 5):
        named.add(str(number))
    assert named.count == MAX_NAMED + 5
    assert named.ids == [str(number) for number in range(MAX_NAMED)]


# Frames.


class Counting:
    """An encoder that counts its calls."""

    def __init__(self, prefix):
        self.calls = 0
        self.prefix = prefix

    def __call__(self, _opcode, data):
        self.calls += 1
        return self.prefix + data


def test_one_frame_is_made_for_all_members_with_the_same_encoder():
    rig = Rig(6)
    plain, deflated = Counting(b"p"), Counting(b"d")
    for each, encode in zip(rig.members, [plain, deflated] * 3, strict=True):
        each.encode = encode
    assert rig.publish().sent == 6
    assert (plain.calls, deflated.calls) == (1, 1)
    assert [written(each) for each in rig.members] == [[b"phello"], [b"dhello"]] * 3
    (first, _), (second, _) = [*zip(*[iter([written(each)[0] for each in rig.members[:4]])] * 2, strict=True)]
    assert first is second


def test_members_that_agreed_on_the_same_compression_share_an_encoder():
    assert frames.deflating(Agreement(12)) is frames.deflating(Agreement(12))


# Slices.


def test_a_slice_ends_when_its_time_is_over_and_the_next_one_continues():
    rig = Rig(5)
    publication = rig.publication()
    assert not rig.slice(publication, 2)
    assert [len(written(each)) for each in rig.members] == [1, 1, 0, 0, 0]
    assert not rig.slice(publication, 2)
    assert [len(written(each)) for each in rig.members] == [1, 1, 1, 1, 0]
    assert rig.slice(publication, 2)
    assert [len(written(each)) for each in rig.members] == [1] * 5
    assert publication.sent == 5


def test_a_slice_serves_at_least_one_client():
    rig = Rig(2)
    publication = rig.publication()
    assert not rig.slice(publication, 0)
    assert not rig.slice(publication, 0)
    assert rig.slice(publication, 0)
    assert publication.sent == 2


def test_a_client_that_joins_between_two_slices_gets_nothing():
    rig = Rig(2)
    publication = rig.publication()
    rig.slice(publication)
    late = rig.admit("room")
    assert not rig.slice(publication)
    assert rig.slice(publication)
    assert (publication.sent, written(late)) == (2, [])


def test_a_member_that_leaves_between_two_slices_and_returns_is_neither_missed_nor_served_twice():
    rig = Rig(3)
    publication = rig.publication()
    rig.slice(publication)
    for each in rig.members[:2]:
        rig.groups.leave(each.id, "room")
        rig.groups.join(each, "room")
    rig.groups.leave(rig.members[2].id, "room")
    while not rig.slice(publication):
        pass
    assert [written(each) for each in rig.members] == [[HELLO]] * 3


def test_a_member_that_disconnects_between_two_slices_is_not_counted():
    rig = Rig(3)
    publication = rig.publication()
    rig.slice(publication)
    connections = [each.connection for each in rig.members]
    rig.members[0].lost()
    rig.members[1].lost()
    while not rig.slice(publication):
        pass
    assert publication.summary() == {"sent": 2, "slow": [], "slow_count": 0}
    assert [len(each.written) for each in connections] == [1, 0, 1]


def test_a_member_that_is_being_closed_gets_no_message_behind_its_close():
    rig = Rig(2)
    publication = rig.publication()
    rig.slice(publication)
    rig.members[1].close(Reason.SHUTDOWN)
    while not rig.slice(publication):
        pass
    assert publication.sent == 1
    assert written(rig.members[1]) == [frames.encode_close(1001, "going away")]


# Counting.


def test_between_two_slices_members_are_counted_that_have_had_their_turn():
    rig = Rig(3)
    publication = rig.publication()
    rig.slice(publication)
    assert [sent(each) for each in rig.members] == [(1, 5), (0, 0), (0, 0)]
    rig.slice(publication)
    assert [sent(each) for each in rig.members] == [(1, 5), (1, 5), (0, 0)]
    while not rig.slice(publication):
        pass
    assert [sent(each) for each in rig.members] == [(1, 5)] * 3
    rig.slice(rig.publication())
    assert [sent(each) for each in rig.members] == [(2, 10), (1, 5), (1, 5)]


def test_a_slice_that_ends_with_a_member_that_has_left_is_counted_for_those_before_it():
    rig = Rig(3)
    publication = rig.publication()
    rig.slice(publication, 0)
    rig.groups.leave(rig.members[2].id, "room")
    rig.slice(publication, 2)
    assert [sent(each) for each in rig.members] == [(1, 5)] * 3


def test_a_slice_that_ends_with_a_member_that_it_has_closed_is_counted_for_those_before_it():
    rig = Rig(3, send_buffer="100")
    rig.members[1].connection.backlog = 100
    rig.slice(rig.publication(closes_slow=True), 2)
    assert [sent(each) for each in rig.members] == [(1, 5), (0, 0), (0, 0)]


def test_a_member_that_left_during_a_publish_is_counted_once_for_the_next_one():
    rig = Rig(2)
    publication = rig.publication()
    rig.slice(publication, 0)
    rig.groups.leave(rig.members[1].id, "room")
    rig.groups.join(rig.members[1], "room")
    while not rig.slice(publication):
        pass
    rig.publish()
    assert [sent(each) for each in rig.members] == [(2, 10)] * 2


def test_a_member_that_leaves_or_returns_between_two_slices_is_counted_once():
    rig = Rig(4)
    publication = rig.publication()
    rig.slice(publication)
    for each in rig.members[:3]:
        rig.groups.leave(each.id, "room")
    for each in rig.members[:2]:
        rig.groups.join(each, "room")
    assert [sent(each) for each in rig.members] == [(1, 5), (0, 0), (0, 0), (0, 0)]
    while not rig.slice(publication):
        pass
    assert [sent(each) for each in rig.members] == [(1, 5)] * 4


def test_a_client_that_joins_is_not_counted_for_what_was_published_before():
    rig = Rig(1)
    rig.publish()
    publication = rig.publication()
    rig.slice(publication, 0)
    late = rig.admit("room")
    assert rig.slice(publication)
    assert (sent(rig.members[0]), sent(late)) == ((2, 10), (0, 0))


def test_a_client_is_counted_for_all_its_groups():
    rig = Rig()
    client = rig.admit("room", "hall")
    rig.publish()
    rig.publish(b"hi", group="hall")
    rig.publish(group="hall")
    client.send(frames.TEXT, b"you")
    assert sent(client) == (4, 15)
    rig.publish()
    client.lost()
    disconnect = client.info.disconnect()
    assert (disconnect.messages_out, client.info.bytes_out) == (5, 20)


def test_members_that_are_excluded_closing_or_slow_are_not_counted():
    rig = Rig(4, send_buffer="100")
    rig.members[1].close(Reason.SHUTDOWN)
    rig.members[2].connection.backlog = 100
    for closes_slow in (False, True):
        rig.publish(excluded=frozenset({rig.members[0].id}), closes_slow=closes_slow)
    assert [sent(each) for each in rig.members] == [(0, 0), (0, 0), (0, 0), (2, 10)]


# Closing.


def test_all_members_are_closed_with_one_code_and_reason():
    rig = Rig(3)
    connections = [each.connection for each in rig.members]
    closing = Closing(4000, "bye", rig.recipients())
    assert not rig.slice(closing, 2)
    assert closing.closed == 2
    assert rig.slice(closing, 2)
    assert closing.summary() == {"closed": 3}
    assert [each.written for each in connections] == [[frames.encode_close(4000, "bye")]] * 3
    assert {each.reason for each in rig.members} == {Reason.BACKEND_CLOSED}


def test_members_that_are_closed_already_are_not_closed_again():
    rig = Rig(3)
    closing = Closing(4000, "bye", rig.recipients())
    rig.slice(closing)
    rig.members[1].close(Reason.SHUTDOWN)
    rig.members[2].lost()
    while not rig.slice(closing):
        pass
    assert closing.closed == 1
    assert rig.members[1].info.close.code == 1001


def test_members_that_wait_for_the_backend_are_refused():
    rig = Rig()
    pending = FakePendingClient()
    rig.groups.join(start_session(rig.registry, pending), "room")
    closing = Closing(4000, "bye", rig.recipients())
    assert closing.advance(rig.timer, math.inf)
    assert closing.closed == 1
    assert pending.refused is not None
    assert pending.refused.status == 403


def test_members_of_a_large_group_that_leave_before_their_turn_may_miss_a_publish_but_are_counted_truly():
    rig = Rig(members=2 * CHUNK + 10)
    publication = rig.publication()
    assert not rig.slice(publication, 5)
    first, last = rig.members[:CHUNK], rig.members[-1]
    # The first dict has been read, the second has not.
    read, unread = first[7], rig.members[CHUNK + 7]
    for each in (read, unread, last):
        rig.groups.leave(each.id, "room")
    rig.groups.join(unread, "room")
    late = rig.admit("room")
    assert rig.slice(publication, 3 * CHUNK)
    assert [sent(each) for each in (read, last)] == [(1, 5)] * 2
    assert [sent(each) for each in (unread, late)] == [(0, 0)] * 2
    assert [len(written(each)) for each in (read, last, unread, late)] == [1, 1, 0, 0]
    assert publication.sent == 2 * CHUNK + 9
    assert all(sent(each) == (1, 5) for each in rig.members[:-1] if each not in (unread, late))
    rig.publish()
    assert [sent(each) for each in (read, unread, last, late)] == [(1, 5)] * 4


# All of it, against a plain model.

NAMES = st.sampled_from(["red", "green"])


class PublishMachine(RuleBasedStateMachine):
    """Publishes to groups whose members come, go and stall, and compares what each client gets with a model.

    The model has one list of members and one queue of publishes for each group. A publish copies the members when it
    begins, which is when all earlier ones of its group are done. The frames that a client got are also what it must be
    counted to have got, whenever somebody looks and once it has disconnected.
    """

    PER_SLICE = 2

    def __init__(self):
        super().__init__()
        self.chunk = patch.object(group, "CHUNK", 2)
        self.chunk.start()
        self.rig = Rig(send_buffer="60")
        self.queue = FanOutQueue(RunQueue(self.rig.clock, Stopwatch(FAN_OUT_SLICE_S / self.PER_SLICE)), 1000)
        self.clients = []
        self.connections = {}
        # By the number of a publish: its group, its work, and the ids of the members when it began.
        self.names = {}
        self.work = {}
        self.begun = {}
        # The ids of the members that left while it was under way, by its number. They may get it.
        self.left = defaultdict(set)
        # The number of each publish, by its text.
        self.texts = {}

    @initialize(count=st.integers(0, 5))
    def begin_with_members(self, count):
        for _ in range(count):
            self.connect({"red"})

    @rule(names=st.sets(NAMES))
    def connect(self, names):
        client = self.rig.admit(*sorted(names))
        self.clients.append(client)
        self.connections[client.id] = client.connection

    @precondition(lambda self: self.clients)
    @rule(data=st.data(), name=NAMES)
    def join(self, data, name):
        client = data.draw(st.sampled_from(self.clients))
        if client.state is OPEN:
            self.rig.groups.join(client, name)

    @precondition(lambda self: self.clients)
    @rule(data=st.data(), name=NAMES)
    def leave(self, data, name):
        client = data.draw(st.sampled_from(self.clients))
        self.rig.groups.leave(client.id, name)
        for number in self.begun:
            if self.names[number] == name and not self.work[number].is_done:
                self.left[number].add(client.id)

    @precondition(lambda self: self.clients)
    @rule(data=st.data())
    def disconnect(self, data):
        data.draw(st.sampled_from(self.clients)).lost()

    @precondition(lambda self: self.clients)
    @rule(data=st.data())
    def close(self, data):
        data.draw(st.sampled_from(self.clients)).close(Reason.SHUTDOWN)

    @precondition(lambda self: self.clients)
    @rule(data=st.data(), backlog=st.sampled_from([0, 60]))
    def stall(self, data, backlog):
        self.connections[data.draw(st.sampled_from(self.clients)).id].backlog = backlog

    @rule(data=st.data(), name=NAMES, closes_slow=st.booleans())
    def publish(self, data, name, closes_slow):
        number = len(self.work) + 1

        def find_group():
            found = self.rig.groups.group(name)
            self.begun[number] = {each.id for each in found} - excluded
            return found

        ids = [each.id for each in self.clients]
        excluded = data.draw(st.frozensets(st.sampled_from(ids), max_size=2)) if ids else frozenset()
        message = SharedMessage(frames.TEXT, b"%d;" % number * data.draw(st.sampled_from([1, 3])))
        recipients = self.rig.recipients(name, excluded=excluded)
        work = Publication(message, recipients, find_group=find_group, closes_slow=closes_slow)
        self.names[number], self.work[number] = name, work
        self.texts[message.data] = number
        self.queue.start(work, name)

    @rule()
    def publish_to_all(self):
        """Publish to all clients: this is counted for each of them, beside what the groups count."""
        number = len(self.work) + 1

        def find():
            clients = self.rig.registry.live()
            self.begun[number] = {each.id for each in clients}
            return clients

        message = SharedMessage(frames.TEXT, b"%d;" % number)
        work = Publication(message, Recipients(find, (OPEN,)))
        self.names[number], self.work[number] = "", work
        self.texts[message.data] = number
        self.queue.start(work, "")

    @rule()
    def turn(self):
        self.rig.clock.turn()

    @precondition(lambda self: self.clients)
    @rule(data=st.data())
    def look(self, data):
        client = data.draw(st.sampled_from(self.clients))
        assert sent(client) == self.counted(client)

    def texts_of(self, client):
        """Return the messages that a client got, in order."""
        written = self.connections[client.id].written
        return [frame[2:] for frame in written if frame[0] & 0x0F == frames.TEXT]

    def received(self, client):
        """Return the numbers of the publishes that a client got, in order."""
        return [self.texts[text] for text in self.texts_of(client)]

    def counted(self, client):
        """Return how many messages a client got, and their bytes."""
        texts = self.texts_of(client)
        return len(texts), sum(map(len, texts))

    @invariant()
    def a_client_that_has_disconnected_is_counted_completely(self):
        for client in self.clients:
            if client.state is State.CLOSED:
                assert (client.info.messages_out, client.info.bytes_out) == self.counted(client)

    @invariant()
    def each_message_arrives_at_most_once_and_only_at_members(self):
        for client in self.clients:
            numbers = self.received(client)
            assert len(set(numbers)) == len(numbers)
            assert all(client.id in self.begun[number] for number in numbers)

    @invariant()
    def messages_to_a_group_arrive_in_the_order_of_the_publishes(self):
        for client in self.clients:
            for name in ("red", "green", ""):
                numbers = [number for number in self.received(client) if self.names[number] == name]
                assert numbers == sorted(numbers)

    @invariant()
    def what_is_done_is_reported_truly(self):
        for number, work in self.work.items():
            receivers = {client.id for client in self.clients if number in self.received(client)}
            assert work.sent == len(receivers)
            assert not receivers & set(work.slow.ids)

    def teardown(self):
        self.chunk.stop()
        while len(self.queue):
            self.rig.clock.turn()
        for client in self.clients:
            assert sent(client) == self.counted(client)
        for number, work in self.work.items():
            assert work.is_done
            # A member that is still open has either got the message, or was slow.
            for client in self.clients:
                if client.id in self.begun[number] - self.left[number] and client.state is OPEN:
                    assert (number in self.received(client)) is (client.id not in work.slow.ids)


TestPublishMachine = PublishMachine.TestCase
