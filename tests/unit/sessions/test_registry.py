import math
import os
import sys
from dataclasses import replace
from typing import Any

import pytest

from tests.support.fakes import (
    FakeClock,
    FakeJournal,
    FakePendingClient,
    FakeWebhook,
    make_handshake,
    make_settings,
    start_session,
)
from wsaas import errors
from wsaas.delivery.journal import NoJournal
from wsaas.delivery.verdicts import DELIVERED, Accepted, Rejected
from wsaas.memory.limit import REFUSING, THROTTLING, MemoryLimit
from wsaas.sessions.heartbeat_session import HeartbeatSession
from wsaas.sessions.registry import ID_FORM, MAX_PASSED, MAX_SHARED_TEXT, MAX_SHARED_TEXTS, Registry, page
from wsaas.sessions.session import Session
from wsaas.sessions.session_state import State
from wsaas.shared_counts import SharedCounts, create

OK = Accepted(None, None)
REFUSED = Rejected(errors.Forbidden("no"), disconnect_owed=False)


class Rig:
    def __init__(self, limit=2, journal=None, shared=None, **values):
        self.clock = FakeClock()
        self.webhook = FakeWebhook()
        self.journal: Any = journal or NoJournal()
        self.registry = Registry(make_settings(**values), self.clock, self.webhook, self.journal, limit, shared=shared)
        self.deserted = []
        self.emptied = []

    def admit(self, address="192.0.2.7"):
        self.registry.check_admission(address)
        return start_session(self.registry, FakePendingClient(), address)

    def shut(self):
        self.registry.close(lambda: self.deserted.append("deserted"), lambda: self.emptied.append("emptied"))


@pytest.fixture
def rig():
    return Rig()


def test_a_new_registry_is_open_and_empty(rig):
    assert rig.registry.is_open
    assert len(rig.registry) == 0
    assert list(rig.registry.live()) == []
    assert list(rig.registry.ending()) == []
    rig.registry.check_admission("192.0.2.7")


def test_only_with_heartbeats_there_are_sessions_that_answer_them(rig):
    assert type(rig.admit()) is Session
    assert isinstance(Rig(heartbeat="ping=pong").admit(), HeartbeatSession)


def test_ids_are_a_prefix_and_132_random_bits_in_url_safe_characters():
    rig = Rig(limit=1000)
    ids = {rig.admit().id for _ in range(1000)}
    assert len(ids) == 1000
    assert all(ID_FORM.fullmatch(each) for each in ids)
    assert {each[:8] for each in ids} == {rig.registry.prefix}
    # Each character of the alphabet occurs at each position behind the prefix.
    assert {len(each) for each in ids} == {30}
    assert all(len({each[place] for each in ids}) == 64 for place in range(8, 30))


def test_each_process_draws_its_own_prefix():
    assert len({Rig().registry.prefix for _ in range(100)}) == 100


@pytest.mark.parametrize("text", ["", "healthz", "a" * 29, "a" * 31, "a" * 29 + "/", "a" * 29 + "\n", "a" * 30 + "\n"])
def test_only_an_id_has_the_form_of_an_id(text):
    assert not ID_FORM.fullmatch(text)


def test_clients_are_refused_while_memory_is_short():
    rig = Rig()
    memory = MemoryLimit(math.inf, lambda: 0)
    rig.registry.services = replace(rig.registry.services, memory=memory)
    memory.pressure = THROTTLING
    rig.admit()
    memory.pressure = REFUSING
    with pytest.raises(errors.Unavailable) as refused:
        rig.admit()
    assert refused.value.headers == (("Retry-After", "1"),)


def test_clients_are_refused_while_too_many_deletes_are_pending():
    rig = Rig(limit=10, max_owed_disconnects="2")
    sessions = [rig.admit(), rig.admit()]
    for session in sessions:
        session.lost()
    with pytest.raises(errors.Unavailable) as refused:
        rig.admit()
    assert refused.value.headers == (("Retry-After", "1"),)
    assert len(rig.registry) == 0
    rig.registry.session_finished(sessions[0])
    rig.admit()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("192.0.2.7", "192.0.2.8"),
        ("2001:db8:1:2::1", "2001:db8:1:3::1"),
        ("192.0.2.7", "2001:db8:1:2::1"),
    ],
)
def test_clients_per_address_are_limited(one, other):
    rig = Rig(limit=10, max_connections_per_address="2")
    first, _ = rig.admit(one), rig.admit(one)
    with pytest.raises(errors.TooManyRequests) as refused:
        rig.admit(one)
    assert refused.value.headers == (("Retry-After", "1"),)
    assert rig.admit(other).state is State.CONNECTING
    first.lost()
    rig.admit(one)
    with pytest.raises(errors.TooManyRequests):
        rig.admit(one)


def test_addresses_of_one_ipv6_network_count_together():
    rig = Rig(max_connections_per_address="1")
    rig.admit("2001:db8:1:2::1")
    with pytest.raises(errors.TooManyRequests):
        rig.admit("2001:db8:1:2:ffff::1")


def test_clients_without_an_address_are_not_counted():
    rig = Rig(limit=10, max_connections_per_address="1")
    sessions = [rig.admit("") for _ in range(3)]
    sessions[0].lost()
    assert len(rig.registry) == 2


def test_addresses_are_forgotten_with_their_last_client():
    rig = Rig(limit=1000, max_connections_per_address="1")
    sessions = [rig.admit(f"192.0.2.{number}") for number in range(200)]
    for session in sessions:
        session.lost()
    assert not rig.registry.addresses._counts


def test_a_client_is_found_from_registration_to_disconnect(rig):
    session = rig.admit()
    assert rig.registry.find(session.id) is session
    assert len(rig.registry) == 1
    rig.webhook.answer(OK)
    assert rig.registry.find(session.id) is session
    session.lost()
    assert rig.registry.find(session.id) is None
    assert len(rig.registry) == 0


def test_an_id_that_never_was_is_not_found(rig):
    rig.admit()
    assert rig.registry.find("a" * 30) is None


def test_the_backend_is_asked_about_a_client_with_its_id_and_address(rig):
    session = rig.admit()
    assert rig.webhook.subject.id == session.id
    assert session.info.remote_address == "192.0.2.7"
    assert session.state is State.CONNECTING


def test_clients_share_the_text_of_their_address():
    rig = Rig(limit=MAX_SHARED_TEXTS + 3)
    one, other = (rig.admit(b"192.0.2.7".decode()) for _ in range(2))
    assert one.info.remote_address is other.info.remote_address
    # The number of texts that are remembered is limited.
    for number in range(MAX_SHARED_TEXTS):
        rig.admit(f"10.0.{number // 256}.{number % 256}")
    assert rig.admit(b"192.0.2.7".decode()).info.remote_address is not one.info.remote_address


@pytest.mark.parametrize(("length", "is_shared"), [(MAX_SHARED_TEXT, True), (MAX_SHARED_TEXT + 1, False)])
def test_clients_share_the_text_of_a_short_path(rig, length, is_shared):
    paths = ["/" + "p" * (length - 1) for _ in range(2)]
    one, other = (rig.registry.register(replace(make_handshake(), path=path), "192.0.2.7").info.path for path in paths)
    assert one == other == paths[0]
    assert (one is other) is is_shared


def test_the_objects_of_an_idle_client_are_small(rig):
    session = rig.admit()
    objects = [session, session.info, session.outbox]
    assert not any(hasattr(each, "__dict__") for each in objects)
    assert sum(map(sys.getsizeof, objects)) <= 420


def test_clients_are_listed_oldest_first(rig):
    first, second = rig.admit(), rig.admit()
    assert list(rig.registry.live()) == [first, second]


def test_a_disconnected_client_is_ending_until_its_delete_is_delivered(rig):
    session = rig.admit()
    rig.webhook.answer(OK)
    session.lost()
    assert list(rig.registry.live()) == []
    assert list(rig.registry.ending()) == [session]
    rig.webhook.answer(DELIVERED)
    assert list(rig.registry.ending()) == []


def test_a_refused_client_is_in_no_list(rig):
    rig.admit()
    rig.webhook.answer(REFUSED)
    assert len(rig.registry) == 0
    assert list(rig.registry.ending()) == []


def test_at_the_limit_clients_are_refused_until_one_disconnects(rig):
    first, _ = rig.admit(), rig.admit()
    with pytest.raises(errors.Unavailable, match="limit of clients") as caught:
        rig.registry.check_admission("192.0.2.7")
    assert caught.value.headers == (("Retry-After", "1"),)
    first.lost()
    rig.registry.check_admission("192.0.2.7")


def test_a_closed_registry_admits_no_clients(rig):
    rig.shut()
    assert not rig.registry.is_open
    with pytest.raises(errors.Unavailable, match="shutting down") as caught:
        rig.registry.check_admission("192.0.2.7")
    assert caught.value.headers == (("Retry-After", "1"),)


def test_an_empty_registry_reports_all_finished_when_it_is_closed(rig):
    rig.shut()
    assert rig.emptied == ["emptied"]


def test_an_empty_registry_reports_no_clients_when_it_is_closed(rig):
    rig.shut()
    assert rig.deserted == ["deserted"]


def test_no_clients_is_reported_before_the_backend_knows_of_the_last_disconnect(rig):
    first, second = rig.admit(), rig.admit()
    rig.webhook.answer(OK)
    rig.webhook.answer(OK)
    rig.shut()
    first.lost()
    assert rig.deserted == []
    second.lost()
    assert rig.deserted == ["deserted"]
    assert rig.emptied == []


def test_all_finished_is_reported_when_the_backend_knows_of_every_disconnect(rig):
    first, second = rig.admit(), rig.admit()
    rig.webhook.answer(OK)
    rig.webhook.answer(OK)
    first.lost()
    rig.shut()
    second.lost()
    assert rig.emptied == []
    rig.webhook.answer(DELIVERED)
    assert rig.emptied == []
    rig.webhook.answer(DELIVERED)
    assert rig.emptied == ["emptied"]


def test_all_finished_is_not_reported_while_a_client_is_connected(rig):
    first, _ = rig.admit(), rig.admit()
    rig.webhook.answer(OK)
    rig.webhook.answer(OK)
    rig.shut()
    first.lost()
    rig.webhook.answer(DELIVERED)
    assert list(rig.registry.ending()) == []
    assert rig.emptied == []


def test_a_registry_that_stays_open_reports_nothing(rig):
    rig.admit().lost()
    rig.webhook.answer(REFUSED)
    assert (rig.deserted, rig.emptied) == ([], [])
    assert rig.registry.is_open


def test_a_registry_has_the_name_and_the_start_of_its_node(rig):
    assert rig.registry.node == "localhost:8080"
    assert rig.registry.started_at == rig.clock.wall()
    rig.clock.advance(5.0)
    assert rig.registry.started_at == rig.clock.wall() - 5.0


# Pages.


def orders(page):
    """Return the orders of the sessions on a page, and of the one behind which there may be more."""
    sessions, last = page
    return [session.info.order for session in sessions], last and last.info.order


def test_clients_are_numbered_from_one_without_repeats():
    rig = Rig(limit=10)
    first, second = rig.admit(), rig.admit()
    first.lost()
    third = rig.admit()
    assert [first.info.order, second.info.order, third.info.order] == [1, 2, 3]


def test_a_page_is_limited_and_says_whether_there_are_more():
    rig = Rig(limit=10)
    for _ in range(5):
        rig.admit()
    assert orders(page(rig.registry.live().after(0), 2, math.inf)) == ([1, 2], 2)
    assert orders(page(rig.registry.live().after(2), 2, math.inf)) == ([3, 4], 4)
    assert orders(page(rig.registry.live().after(4), 2, math.inf)) == ([5], None)
    assert orders(page(rig.registry.live().after(3), 2, math.inf)) == ([4, 5], None)
    assert orders(page(rig.registry.live().after(0), 5, math.inf)) == ([1, 2, 3, 4, 5], None)
    assert orders(page(rig.registry.live().after(5), 5, math.inf)) == ([], None)
    assert orders(page(rig.registry.live().after(99), 1, math.inf)) == ([], None)


def test_the_next_page_continues_after_a_disconnected_client():
    rig = Rig(limit=10)
    clients = [rig.admit() for _ in range(5)]
    clients[1].lost()
    clients[2].lost()
    assert orders(page(rig.registry.live().after(2), 2, math.inf)) == ([4, 5], None)
    assert orders(page(rig.registry.live().after(0), 2, math.inf)) == ([1, 4], 4)


def test_a_page_leaves_out_clients_that_connected_at_before_or_later():
    rig = Rig(limit=10)
    for _ in range(4):
        rig.admit()
        rig.clock.advance(10.0)
    start = rig.registry.started_at
    assert orders(page(rig.registry.live().after(0), 10, start)) == ([], None)
    assert orders(page(rig.registry.live().after(0), 10, start + 20.0)) == ([1, 2], None)
    assert orders(page(rig.registry.live().after(0), 2, start + 20.1)) == ([1, 2], 2)
    assert orders(page(rig.registry.live().after(0), 3, start + 20.1)) == ([1, 2, 3], None)


def test_a_part_of_a_page_ends_after_many_clients_that_are_left_out():
    rig = Rig(limit=MAX_PASSED + 2)
    sessions = [rig.admit() for _ in range(MAX_PASSED + 2)]
    for each in sessions[1:-1]:
        each.info.connected_at += 3600.0
    before = sessions[0].info.connected_at + 1.0
    live = rig.registry.live()
    assert orders(page(live.after(0), 2, before)) == ([1], MAX_PASSED)
    # What is behind a full page is passed, too.
    assert orders(page(live.after(0), 1, before)) == ([1], 1)
    assert orders(page(live.after(MAX_PASSED), 2, before)) == ([MAX_PASSED + 2], None)


def test_an_earlier_client_is_listed_although_the_clock_was_set_back():
    rig = Rig(limit=10)
    early, late, early_again = rig.admit(), rig.admit(), rig.admit()
    late.info.connected_at = early.info.connected_at + 3600.0
    time = early.info.connected_at + 1.0
    assert orders(page(rig.registry.live().after(0), 2, time)) == ([early.info.order, early_again.info.order], None)
    assert orders(page(rig.registry.live().after(0), 1, time)) == ([early.info.order], early.info.order)


# The journal.


def test_a_client_that_cannot_be_journaled_is_refused_and_makes_room():
    rig = Rig(limit=1, journal=FakeJournal())
    session = rig.admit()
    assert len(rig.registry) == 1
    rig.journal.fail()
    assert session.state is State.CLOSED
    assert len(rig.registry) == 0
    assert list(rig.registry.ending()) == []
    assert rig.webhook.events == []
    rig.registry.check_admission("192.0.2.7")


def test_a_client_that_leaves_before_it_is_journaled_is_ending_until_the_write_is_done():
    rig = Rig(journal=FakeJournal())
    session = rig.admit()
    session.lost()
    rig.shut()
    assert list(rig.registry.ending()) == [session]
    assert (rig.deserted, rig.emptied) == (["deserted"], [])
    rig.journal.write()
    assert list(rig.registry.ending()) == []
    assert rig.emptied == ["emptied"]


@pytest.fixture
def shared():
    """The counts of two workers."""
    descriptor = create(2)
    made = [SharedCounts(descriptor, index, 2) for index in range(2)]
    os.close(descriptor)
    yield made
    for each in made:
        each.close()


def test_workers_count_their_clients_together(shared):
    first, second = (Rig(limit=100, shared=counts, max_connections="3") for counts in shared)
    sessions = [first.admit(), second.admit(), second.admit()]
    for each in (first, second):
        with pytest.raises(errors.Unavailable, match="limit of clients"):
            each.admit()
    first.registry.client_disconnected(sessions[0])
    second.admit()
    with pytest.raises(errors.Unavailable, match="limit of clients"):
        first.admit()


def test_the_shares_of_the_workers_add_up_to_the_limit_of_the_node(shared):
    rigs = [Rig(limit=100, shared=counts, max_connections="3") for counts in shared]
    assert sum(rig.registry.clients_limit for rig in rigs) == 3
    assert Rig(limit=1, shared=shared[0], max_connections="3").registry.clients_limit == 1
    assert Rig(limit=7).registry.clients_limit == 7
    # Whether it is compiled or not, it is a float: a dashboard must not see a difference.
    assert isinstance(Rig(limit=7).registry.clients_limit, float)


def test_a_worker_has_a_limit_of_its_own_too(shared):
    rig = Rig(limit=1, shared=shared[0], max_connections="3")
    rig.admit()
    with pytest.raises(errors.Unavailable, match="limit of clients"):
        rig.admit()


def test_workers_count_the_connections_of_an_address_together(shared):
    first, second = (Rig(limit=100, shared=counts, max_connections_per_address="2") for counts in shared)
    session = first.admit("192.0.2.1")
    second.admit("192.0.2.1")
    for each in (first, second):
        with pytest.raises(errors.TooManyRequests):
            each.admit("192.0.2.1")
        each.registry.check_admission("192.0.2.1", own=1)
        each.admit("192.0.2.2")
    first.registry.client_disconnected(session)
    second.admit("192.0.2.1")
    with pytest.raises(errors.TooManyRequests):
        first.admit("192.0.2.1")


def test_workers_do_not_count_without_a_limit(shared):
    rigs = [Rig(limit=100, shared=counts) for counts in shared]
    for each in rigs:
        each.admit()
    assert [counts.clients_elsewhere() for counts in shared] == [0, 0]
    assert [counts.connections_elsewhere("192.0.2.7") for counts in shared] == [0, 0]


def test_a_connection_is_remembered_until_its_session_has_finished(rig):
    session = rig.admit()
    rig.webhook.answer(OK)
    assert rig.registry.remembered(session.id) is session
    session.lost()
    assert rig.registry.remembered(session.id) is session
    rig.webhook.answer(DELIVERED)
    assert rig.registry.remembered(session.id) is None


def test_a_paused_registry_admits_no_clients_for_the_moment(rig):
    rig.registry.is_paused = True
    with pytest.raises(errors.Unavailable, match="join its cluster again") as caught:
        rig.admit()
    assert caught.value.headers == (errors.RETRY_AFTER,)
    rig.registry.is_paused = False
    rig.admit()


def test_later_connections_may_have_another_prefix(rig):
    first = rig.admit()
    rig.registry.change_prefix()
    second = rig.admit()
    assert rig.registry.find(first.id) is first
    assert second.id.startswith(rig.registry.prefix)
    assert not first.id.startswith(rig.registry.prefix)
