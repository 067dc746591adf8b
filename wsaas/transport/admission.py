"""Which connections are taken: the division of the descriptors, and the limit of each address.

Connections that are not clients yet are counted from accept on. A `Gate` stands before each listener and knows those
that came by it: the undecided ones, of which no authorized request was read, and those of the REST surface. It makes
room by closing the undecided connection that is the oldest, as whoever means well sends a request at once, and then the
REST connection that is idle for the longest time.
"""

import math
from collections.abc import Callable
from itertools import islice
from typing import Protocol

from wsaas.access import Proxies, customer
from wsaas.clock import Clock
from wsaas.errors import RETRY_AFTER, HTTPError, TooManyRequests, Unavailable
from wsaas.log import logger
from wsaas.log.wording import counted
from wsaas.sessions.address_limit import AddressLimit
from wsaas.transport.descriptors import SPARE_DESCRIPTORS, DescriptorBudget

MAX_REFUSED = SPARE_DESCRIPTORS // 2
"""Connections that may be told at a time why they are refused. Others are closed at once."""

REFUSAL_S = 1.0
"""Seconds that a refused connection has to take its answer."""

MAX_UNDECIDED_OVER_LIMIT = 8
"""Connections that an address at its limit may still open on a listener that has a REST surface too, as any of them may
turn out to be the backend's."""

IDLE_SAMPLE = 256
"""REST connections among which the one is looked for that is idle for the longest time."""

WARNING_GAP_S = 60.0
"""Seconds between two warnings that connections are refused."""


class Connection(Protocol):
    """A connection that is not a client."""

    def peer_address(self) -> str:
        """Return the address of the other end, empty for a Unix socket."""

    def idle_since(self) -> float:
        """Return a time by which idle connections can be ordered, infinity for one that is within a request."""

    def evict(self) -> None:
        """Close at once, for want of descriptors."""


class ConnectionTable:
    """The descriptors of all connections that were accepted.

    `control`: those that came by a listener of the REST surface alone. `leaving`: those that are being closed for want
    of room; they take of `spare`.
    """

    __slots__ = ("_clock", "_warned", "budget", "control", "leaving", "opened")

    def __init__(self, budget: DescriptorBudget, opened: Callable[[], int], clock: Clock) -> None:
        """`opened` returns the number of accepted connections that are not closed."""
        self._clock = clock
        self.opened = opened
        self._warned = -math.inf
        self.budget = budget
        self.control = 0
        self.leaving: set[Connection] = set()

    @property
    def used(self) -> int:
        """Accepted connections that stay."""
        return self.opened() - len(self.leaving)

    def warn(self) -> None:
        """Log, now and then, that connections are refused."""
        now = self._clock.now()
        if now >= self._warned + WARNING_GAP_S:
            self._warned = now
            logger.warning("open files allow no more than %s: others are refused", counted(self.used, "connection"))


class Gate:
    """The connections of one listener that are not clients. This one is for clients alone."""

    __slots__ = ("_addresses", "_over_limit", "_proxies", "_rest", "_table", "_undecided")

    def __init__(self, table: ConnectionTable, addresses: AddressLimit, proxies: Proxies) -> None:
        """Take descriptors of `table`. Connections of `proxies` are counted by the address that they forward, later."""
        self._addresses = addresses
        self._over_limit: dict[str, dict[Connection, None]] = {}
        self._proxies = proxies
        self._rest: dict[Connection, None] = {}
        self._table = table
        self._undecided: dict[Connection, str] = {}

    def enter(self, connection: Connection) -> HTTPError | None:
        """Take a connection that was just accepted; return the fault with which it is refused instead."""
        if not self._addresses.limit and self._has_room():
            # What nearly all come by.
            self._undecided[connection] = ""
            return None
        name = self._customer(connection)
        over_limit = bool(name) and self._addresses.is_reached(name)
        if over_limit and not self._may_be_rest(name):
            return TooManyRequests("This address has reached its limit of connections.", RETRY_AFTER)
        if not self._has_room() and not self._make_room():
            self._table.warn()
            return Unavailable("This node has reached its limit of connections.", RETRY_AFTER)
        self._undecided[connection] = name
        if over_limit:
            self._over_limit.setdefault(name, {})[connection] = None
        elif name:
            self._addresses.add(name)
        return None

    def turn_away(self, connection: Connection) -> bool:
        """Note that a connection which may not `enter` is being closed; return whether there is time to tell it why."""
        leaving = self._table.leaving
        leaving.add(connection)
        return len(leaving) <= MAX_REFUSED

    def leave(self, connection: Connection) -> None:
        """A connection is closed, or is that of a client from now on."""
        name = self._undecided.pop(connection, None)
        if name is None:
            self._rest.pop(connection, None)
            self._table.leaving.discard(connection)
        elif name:
            self._uncount(connection, name)

    def prove(self, connection: Connection) -> None:
        """A connection made an authorized REST request: it is not counted for its address any more."""
        name = self._undecided.pop(connection, None)
        if name is not None:
            self._rest[connection] = None
            if name:
                self._uncount(connection, name)

    def check_client(self) -> None:
        """Raise `Unavailable` where no descriptor may go to a further client."""

    def counted(self, connection: Connection, address: str) -> int:
        """Return how many (0 or 1) of the connections that are counted for `address` `connection` is."""
        if not self._addresses.limit or not address:
            return 0
        name = customer(address)
        return int(self._undecided.get(connection) == name and connection not in self._over_limit.get(name, ()))

    def _customer(self, connection: Connection) -> str:
        """Return for whom a connection is counted; empty for nobody."""
        if not self._addresses.limit:
            return ""
        address = connection.peer_address()
        return "" if not address or self._proxies.trusts(address) else customer(address)

    def _uncount(self, connection: Connection, name: str) -> None:
        """Count a connection for its customer `name` no more."""
        over_limit = self._over_limit.get(name, {})
        if connection in over_limit:
            del over_limit[connection]
            if not over_limit:
                del self._over_limit[name]
        else:
            self._addresses.remove(name)

    def _may_be_rest(self, name: str) -> bool:  # noqa: ARG002 - some listeners know
        """Return whether a connection of a customer at its limit may be one of the backend's."""
        return False

    def _has_room(self) -> bool:
        """Return whether there is a descriptor for one more connection."""
        table = self._table
        budget = table.budget
        return table.used - table.control < budget.clients - max(0, table.control - budget.control)

    def _make_room(self) -> bool:
        """Close a connection for another one; return whether there was one to close."""
        victim = next(iter(self._undecided), None) or self._idlest()
        if victim is None:
            return False
        self._evict(victim)
        return True

    def _evict(self, connection: Connection) -> None:
        self.leave(connection)
        self._table.leaving.add(connection)
        connection.evict()

    def _idlest(self) -> Connection | None:
        found = min(islice(self._rest, IDLE_SAMPLE), key=lambda each: each.idle_since(), default=None)
        return None if found is None or found.idle_since() == math.inf else found


class SharedGate(Gate):
    """Connections of a listener that is both for clients and for REST requests."""

    __slots__ = ()

    def check_client(self) -> None:
        """Raise `Unavailable` where only the descriptors of the REST surface are left."""
        table = self._table
        others = len(table.leaving) + len(self._undecided) + len(self._rest)
        if table.opened() - others >= table.budget.clients:
            table.warn()
            raise Unavailable("This node has reached its limit of clients.", RETRY_AFTER)

    def _has_room(self) -> bool:
        budget = self._table.budget
        return self._table.used < budget.clients + budget.control

    def _may_be_rest(self, name: str) -> bool:
        over_limit = self._over_limit.get(name, {})
        if len(over_limit) >= MAX_UNDECIDED_OVER_LIMIT:
            self._evict(next(iter(over_limit)))
        return True


class ControlGate(Gate):
    """Connections of a listener for REST requests alone. Whatever clients do, there is room for some of them."""

    __slots__ = ()

    def enter(self, connection: Connection) -> HTTPError | None:
        """Take a connection that was just accepted; return the fault with which it is refused instead."""
        fault = super().enter(connection)
        self._count()
        return fault

    def leave(self, connection: Connection) -> None:
        """A connection is closed."""
        super().leave(connection)
        self._count()

    def _count(self) -> None:
        self._table.control = len(self._undecided) + len(self._rest)

    def _customer(self, _connection: Connection) -> str:
        """Count no addresses: no client comes here."""
        return ""

    def _has_room(self) -> bool:
        table = self._table
        budget = table.budget
        return table.control < budget.control or table.used < budget.clients + budget.control
