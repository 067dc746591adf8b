import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.fakes import FakeClock
from wsaas.access import Proxies
from wsaas.errors import TooManyRequests, Unavailable
from wsaas.log.throttle import throttle
from wsaas.sessions.address_limit import AddressLimit
from wsaas.setting_types import proxies
from wsaas.transport.admission import (
    MAX_REFUSED,
    MAX_UNDECIDED_OVER_LIMIT,
    ConnectionTable,
    ControlGate,
    Gate,
    SharedGate,
)
from wsaas.transport.descriptors import DescriptorBudget

# Gates


NO_PROXIES = Proxies()


class Connection:
    def __init__(self, address="192.0.2.1", idle=0.0):
        self.address = address
        self.idle = idle
        self.aborted = False

    def peer_address(self):
        return self.address

    def idle_since(self):
        return self.idle

    def abort(self):
        self.aborted = True


class Rig:
    """Gates of a node with `clients` descriptors for clients and `control` for REST connections."""

    def __init__(self, clients=3, control=2, limit=0, trusted=NO_PROXIES):
        self.clock = FakeClock()
        self.open: set[Connection] = set()
        self.table = ConnectionTable(DescriptorBudget(clients, 1, control, 1), lambda: len(self.open))
        self.addresses = AddressLimit(limit)
        self.clients, self.control, self.shared = (
            kind(self.table, self.addresses, trusted) for kind in (Gate, ControlGate, SharedGate)
        )

    def admit(self, gate, *made, **more):
        """Accept a connection; return it, and the error if it was refused."""
        connection = Connection(*made, **more)
        error = gate.admit(connection)
        if error is not None:
            gate.refuse(connection)
        self.open.add(connection)
        return connection, error

    def close(self, gate, connection):
        self.open.discard(connection)
        gate.discard(connection)

    def client(self, gate, address="192.0.2.1"):
        """Admit a client."""
        connection, error = self.admit(gate, address)
        assert error is None
        gate.check_client()
        gate.discard(connection)


@pytest.fixture
def rig():
    return Rig()


@pytest.mark.parametrize(("name", "room"), [("clients", 3), ("control", 5), ("shared", 5)])
def test_the_oldest_undecided_connection_makes_room(rig, name, room):
    gate = getattr(rig, name)
    first, *others = [rig.admit(gate)[0] for _ in range(room)]
    assert not first.aborted
    latest, error = rig.admit(gate)
    assert error is None
    assert first.aborted
    assert not any(each.aborted for each in [*others, latest])
    # A closing connection is not chosen again.
    assert rig.admit(gate)[1] is None
    assert others[0].aborted


def test_a_node_full_of_clients_refuses_others_and_counts_them_in_the_log(rig, caplog):
    for _ in range(3):
        rig.client(rig.clients)
    for _ in range(3):
        refused, error = rig.admit(rig.clients)
        assert isinstance(error, Unavailable)
        assert error.headers == (("Retry-After", "1"),)
        rig.close(rig.clients, refused)
    throttle.flush()
    assert caplog.messages == [
        "the limit of open files allows only 3 connections: new connections are refused",
        "the limit of open files allows only 3 connections: new connections are refused (2 more in 1 s)",
    ]


def test_clients_cannot_take_the_descriptors_reserved_for_the_rest_api(rig):
    for _ in range(3):
        rig.client(rig.clients)
    kept = []
    for _ in range(2):
        connection, error = rig.admit(rig.control)
        assert error is None
        rig.control.mark_authorized(connection)
        kept.append(connection)
    assert not any(each.aborted for each in kept)


def test_the_rest_api_may_use_descriptors_that_clients_do_not_use(rig):
    kept = [rig.admit(rig.control)[0] for _ in range(5)]
    assert not any(each.aborted for each in kept)
    # The others use descriptors of clients. None of them is aborted for a client, and no client for them.
    _, error = rig.admit(rig.clients)
    assert isinstance(error, Unavailable)
    rig.close(rig.control, kept[0])
    rig.client(rig.clients)
    rig.admit(rig.control)
    assert kept[1].aborted


def test_the_rest_connection_that_is_idle_for_the_longest_time_makes_room(rig):
    connections = [rig.admit(rig.control, idle=idle)[0] for idle in (5.0, 2.0, 3.0, math.inf, 4.0)]
    for connection in connections:
        rig.control.mark_authorized(connection)
    assert rig.admit(rig.control)[1] is None
    assert [each.aborted for each in connections] == [False, True, False, False, False]
    undecided, _ = rig.admit(rig.control)
    # An undecided connection is closed first, whatever its time.
    assert [each.aborted for each in connections] == [False, True, False, False, False]
    assert not undecided.aborted


def test_a_rest_connection_within_a_request_is_not_evicted():
    rig = Rig(clients=0, control=1)
    connection, _ = rig.admit(rig.control, idle=math.inf)
    rig.control.mark_authorized(connection)
    assert isinstance(rig.admit(rig.control)[1], Unavailable)
    assert not connection.aborted


def test_on_a_shared_listener_the_reserve_is_not_for_clients(rig):
    for _ in range(3):
        rig.client(rig.shared)
    connection, error = rig.admit(rig.shared)
    assert error is None
    with pytest.raises(Unavailable):
        rig.shared.check_client()
    rig.shared.mark_authorized(connection)
    with pytest.raises(Unavailable):
        rig.shared.check_client()


def test_a_bounded_number_of_refused_connections_is_answered(rig):
    refused = [Connection() for _ in range(MAX_REFUSED + 2)]
    assert [rig.clients.refuse(each) for each in refused] == [True] * MAX_REFUSED + [False] * 2
    for each in refused:
        rig.clients.discard(each)
    assert rig.clients.refuse(refused[0])


def test_closing_connections_do_not_use_the_descriptors_of_others(rig):
    for _ in range(3):
        connection, _ = rig.admit(rig.clients)
        rig.clients.discard(connection)
        rig.clients.refuse(connection)
    assert rig.table.used == 0
    assert rig.admit(rig.clients)[1] is None


# Addresses


def test_connections_count_for_their_address_from_the_accept():
    rig = Rig(clients=10, limit=2)
    rig.client(rig.clients, "192.0.2.1")
    # The registry counts clients.
    rig.addresses.add("192.0.2.1")
    second, error = rig.admit(rig.clients, "192.0.2.1")
    assert error is None
    assert isinstance(rig.admit(rig.clients, "192.0.2.1")[1], TooManyRequests)
    assert rig.admit(rig.clients, "192.0.2.2")[1] is None
    rig.close(rig.clients, second)
    assert rig.admit(rig.clients, "192.0.2.1")[1] is None


def test_an_ipv6_network_of_64_bits_counts_as_one_address():
    rig = Rig(clients=10, limit=1)
    assert rig.admit(rig.clients, "2001:db8::1")[1] is None
    assert isinstance(rig.admit(rig.clients, "2001:db8::2")[1], TooManyRequests)
    assert rig.admit(rig.clients, "2001:db8:0:1::1")[1] is None


@pytest.mark.parametrize("address", ["", "10.0.0.1"])
def test_a_trusted_proxy_and_a_unix_socket_are_not_counted(address):
    rig = Rig(clients=10, limit=1, trusted=proxies.parse("10.0.0.0/8"))
    for _ in range(5):
        assert rig.admit(rig.clients, address)[1] is None


def test_rest_listeners_do_not_count_addresses():
    rig = Rig(clients=10, limit=1)
    for _ in range(5):
        assert rig.admit(rig.control)[1] is None


def test_an_authorized_rest_request_ends_the_count():
    rig = Rig(clients=10, limit=1)
    for _ in range(5):
        connection, error = rig.admit(rig.shared)
        assert error is None
        rig.shared.mark_authorized(connection)
        assert not rig.addresses.is_reached("192.0.2.1")


def test_a_second_authorized_request_of_a_connection_changes_nothing():
    rig = Rig(limit=1)
    connection, _ = rig.admit(rig.shared)
    for _ in range(2):
        rig.shared.mark_authorized(connection)
        assert not rig.addresses.is_reached("192.0.2.1")


def test_an_address_at_its_limit_may_open_a_few_more_as_the_backend_might():
    rig = Rig(clients=100, limit=1)
    first, _ = rig.admit(rig.shared)
    others = [rig.admit(rig.shared)[0] for _ in range(MAX_UNDECIDED_OVER_LIMIT + 2)]
    assert [each.aborted for each in others] == [True] * 2 + [False] * MAX_UNDECIDED_OVER_LIMIT
    assert not first.aborted
    # These connections do not count, so the first one may still become a client.
    assert rig.shared.count_of(first, "192.0.2.1") == 1
    assert rig.shared.count_of(others[-1], "192.0.2.1") == 0
    assert not rig.addresses.is_reached("192.0.2.1", own=1)
    rig.shared.mark_authorized(others[-1])
    for each in others[2:-1]:
        rig.close(rig.shared, each)
    assert rig.shared._over_limit == {}
    assert rig.addresses.is_reached("192.0.2.1")


class GateMachine(RuleBasedStateMachine):
    """A node whose listeners are used at random. Neither descriptors nor places of an address are given out twice."""

    @initialize(clients=st.integers(1, 6), control=st.integers(1, 3), limit=st.integers(0, 3), shared=st.booleans())
    def start(self, clients, control, limit, shared):
        self.rig = Rig(clients, control, limit)
        self.gates = [self.rig.shared] if shared else [self.rig.clients, self.rig.control]
        self.at = {}
        self.inside = {}
        self.refused = set()

    @property
    def staying(self):
        return [each for each in self.at if not each.aborted and each not in self.refused]

    @rule(which=st.integers(0, 1), last=st.integers(1, 3), idle=st.sampled_from([1.0, 2.0, math.inf]))
    def one_is_accepted(self, which, last, idle):
        gate = self.gates[which % len(self.gates)]
        connection, error = self.rig.admit(gate, f"192.0.2.{last}", idle=idle)
        self.at[connection] = gate
        if error is not None:
            self.refused.add(connection)

    @precondition(lambda self: self.at)
    @rule(data=st.data())
    def one_is_closed(self, data):
        connection = data.draw(st.sampled_from(list(self.at)))
        self.rig.close(self.at.pop(connection), connection)
        self.refused.discard(connection)

    @precondition(lambda self: self.staying)
    @rule(data=st.data())
    def one_proves_to_be_the_backend(self, data):
        connection = data.draw(st.sampled_from(self.staying))
        if self.at[connection] is not self.rig.clients:
            self.at[connection].mark_authorized(connection)

    @precondition(lambda self: self.staying)
    @rule(data=st.data())
    def one_becomes_a_client(self, data):
        connection = data.draw(st.sampled_from(self.staying))
        gate, name = self.at[connection], connection.address
        if gate is self.rig.control or self.rig.addresses.is_reached(name, gate.count_of(connection, name)):
            return
        try:
            gate.check_client()
        except Unavailable:
            return
        gate.discard(connection)
        del self.at[connection]
        self.inside[connection] = name
        if self.rig.addresses.limit:
            self.rig.addresses.add(name)

    @precondition(lambda self: self.inside)
    @rule(data=st.data())
    def a_client_leaves(self, data):
        connection = data.draw(st.sampled_from(list(self.inside)))
        self.rig.open.discard(connection)
        if self.rig.addresses.limit:
            self.rig.addresses.remove(self.inside.pop(connection))
        else:
            del self.inside[connection]

    @invariant()
    def no_descriptor_is_promised_twice(self):
        table = self.rig.table
        assert table.used == len(self.staying) + len(self.inside)
        assert table.used <= table.budget.clients + table.budget.control
        assert len(self.inside) <= table.budget.clients

    @invariant()
    def no_address_has_more_clients_than_it_may(self):
        limit = self.rig.addresses.limit
        names = list(self.inside.values())
        assert not limit or all(names.count(name) <= limit for name in names)
        counted = sum(self.rig.addresses._counts.values())
        assert counted <= len(self.staying) + len(self.inside)
        assert all(count > 0 for count in self.rig.addresses._counts.values())

    @invariant()
    def what_is_gone_is_forgotten(self):
        known = {each for gate in self.gates for each in [*gate._undecided, *gate._rest_connections]}
        assert known == set(self.staying)
        over_limit = {each for gate in self.gates for some in gate._over_limit.values() for each in some}
        assert over_limit <= known
        assert self.rig.table.closing <= set(self.at)


GateMachine.TestCase.settings = settings(deadline=None, max_examples=200, stateful_step_count=40)
TestGateMachine = GateMachine.TestCase
