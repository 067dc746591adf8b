"""Which connections are accepted: descriptors, and the limit of connections of each address.

Each listener has a `Gate`. It knows the connections of its listener that are not clients: the undecided ones, which
have sent neither a handshake nor an authorized request yet, and those of the REST API. When there is no room, it
closes the oldest undecided connection, as a well-behaved peer sends a request at once, or else the REST connection that
has been idle for the longest time.
"""

import math
from collections.abc import Callable
from itertools import islice
from typing import Protocol

from wsaas.access import Proxies, address_block
from wsaas.clock import Clock
from wsaas.errors import RETRY_AFTER, HTTPError, TooManyRequests, Unavailable
from wsaas.log import logger
from wsaas.log.wording import counted
from wsaas.sessions.address_limit import AddressLimit
from wsaas.transport.descriptors import SPARE_DESCRIPTORS, DescriptorBudget

MAX_REFUSED = SPARE_DESCRIPTORS // 2
"""Refused connections that may wait for their answer at a time. Others are closed at once."""

REFUSAL_S = 1.0
"""Seconds that a refused connection may take to read its answer and close."""

MAX_UNDECIDED_OVER_LIMIT = 8
"""Connections that an address at its limit may still open on a listener that also serves REST requests: any of them
may turn out to be the backend's."""

IDLE_SAMPLE = 256
"""REST connections that are compared to find the one that has been idle for the longest time."""

WARNING_GAP_S = 60.0
"""Seconds between two warnings that connections are refused."""


class Connection(Protocol):
    """A connection that is not a client, as a `Gate` sees it."""

    def peer_address(self) -> str:
        """Return the IP address of the peer, empty for a Unix socket."""

    def idle_since(self) -> float:
        """Return a time that grows with how recently it became idle, infinity for one that is within a request."""

    def abort(self) -> None:
        """Close at once."""


class ConnectionTable:
    """The accepted connections of all listeners, and the descriptors for them.

    `control`: the number of connections of a listener for REST requests alone. `closing`: connections that are being
    closed for want of room; they use the `spare` descriptors.
    """

    __slots__ = ("_clock", "_warned_at", "budget", "closing", "control", "opened")

    def __init__(self, budget: DescriptorBudget, opened: Callable[[], int], clock: Clock) -> None:
        """`opened` returns how many accepted connections are not closed yet."""
        self._clock = clock
        self.opened = opened
        self._warned_at = -math.inf
        self.budget = budget
        self.control = 0
        self.closing: set[Connection] = set()

    @property
    def used(self) -> int:
        """The accepted connections that are not being closed for want of room."""
        return self.opened() - len(self.closing)

    def warn(self) -> None:
        """Log that connections are refused, at most once in `WARNING_GAP_S`."""
        now = self._clock.now()
        if now >= self._warned_at + WARNING_GAP_S:
            self._warned_at = now
            logger.warning(
                "the limit of open files allows no more than %s: new ones are refused", counted(self.used, "connection")
            )


class Gate:
    """Admits the connections of one listener, and knows those that are not clients. This one is for clients alone."""

    __slots__ = ("_addresses", "_over_limit", "_proxies", "_rest_connections", "_table", "_undecided")

    def __init__(self, table: ConnectionTable, addresses: AddressLimit, proxies: Proxies) -> None:
        """Count connections in `table`. Those of `proxies` count later, for the address that they forward."""
        self._addresses = addresses
        self._over_limit: dict[str, dict[Connection, None]] = {}
        self._proxies = proxies
        self._rest_connections: dict[Connection, None] = {}
        self._table = table
        self._undecided: dict[Connection, str] = {}

    def admit(self, connection: Connection) -> HTTPError | None:
        """Admit a connection that was just accepted; return the error with which to refuse it instead."""
        if not self._addresses.limit and self._has_room():
            # The usual case.
            self._undecided[connection] = ""
            return None
        block = self._address_block(connection)
        over_limit = bool(block) and self._addresses.is_reached(block)
        if over_limit and not self._may_be_rest(block):
            return TooManyRequests("This address has reached its limit of connections.", RETRY_AFTER)
        if not self._has_room() and not self._make_room():
            self._table.warn()
            return Unavailable("This node has reached its limit of connections.", RETRY_AFTER)
        self._undecided[connection] = block
        if over_limit:
            self._over_limit.setdefault(block, {})[connection] = None
        elif block:
            self._addresses.add(block)
        return None

    def refuse(self, connection: Connection) -> bool:
        """Count a connection that was not admitted as closing; return whether there is room to answer it first."""
        closing = self._table.closing
        closing.add(connection)
        return len(closing) <= MAX_REFUSED

    def discard(self, connection: Connection) -> None:
        """Forget a connection: it is closed, or is that of a client from now on."""
        block = self._undecided.pop(connection, None)
        if block is None:
            self._rest_connections.pop(connection, None)
            self._table.closing.discard(connection)
        elif block:
            self._uncount(connection, block)

    def mark_authorized(self, connection: Connection) -> None:
        """Treat a connection that made an authorized request as the backend's: it counts for no address any more."""
        block = self._undecided.pop(connection, None)
        if block is not None:
            self._rest_connections[connection] = None
            if block:
                self._uncount(connection, block)

    def check_client(self) -> None:
        """Raise `Unavailable` when there is no descriptor for a further client."""

    def count_of(self, connection: Connection, address: str) -> int:
        """Return 1 if `connection` is one of those that are counted for `address`, else 0."""
        if not self._addresses.limit or not address:
            return 0
        block = address_block(address)
        return int(self._undecided.get(connection) == block and connection not in self._over_limit.get(block, ()))

    def _address_block(self, connection: Connection) -> str:
        """Return the address block that a connection is counted for, empty for none."""
        if not self._addresses.limit:
            return ""
        address = connection.peer_address()
        return "" if not address or self._proxies.trusts(address) else address_block(address)

    def _uncount(self, connection: Connection, block: str) -> None:
        """Count a connection for its address block no more."""
        over_limit = self._over_limit.get(block, {})
        if connection in over_limit:
            del over_limit[connection]
            if not over_limit:
                del self._over_limit[block]
        else:
            self._addresses.remove(block)

    def _may_be_rest(self, block: str) -> bool:  # noqa: ARG002 - `SharedGate` needs it
        """Return whether a connection of an address at its limit may be the backend's."""
        return False

    def _has_room(self) -> bool:
        """Return whether there is a descriptor for a further connection."""
        table = self._table
        budget = table.budget
        return table.used - table.control < budget.clients - max(0, table.control - budget.control)

    def _make_room(self) -> bool:
        """Close a connection to make room for another; return whether there was one to close."""
        connection = next(iter(self._undecided), None) or self._longest_idle()
        if connection is None:
            return False
        self._evict(connection)
        return True

    def _evict(self, connection: Connection) -> None:
        self.discard(connection)
        self._table.closing.add(connection)
        connection.abort()

    def _longest_idle(self) -> Connection | None:
        found = min(islice(self._rest_connections, IDLE_SAMPLE), key=lambda each: each.idle_since(), default=None)
        return None if found is None or found.idle_since() == math.inf else found


class SharedGate(Gate):
    """The gate of a listener for both clients and REST requests."""

    __slots__ = ()

    def check_client(self) -> None:
        """Raise `Unavailable` when only the descriptors of the REST API are left."""
        table = self._table
        others = len(table.closing) + len(self._undecided) + len(self._rest_connections)
        if table.opened() - others >= table.budget.clients:
            table.warn()
            raise Unavailable("This node has reached its limit of clients.", RETRY_AFTER)

    def _has_room(self) -> bool:
        table = self._table
        budget = table.budget
        return table.opened() - len(table.closing) < budget.clients + budget.control

    def _may_be_rest(self, block: str) -> bool:
        over_limit = self._over_limit.get(block, {})
        if len(over_limit) >= MAX_UNDECIDED_OVER_LIMIT:
            self._evict(next(iter(over_limit)))
        return True


class ControlGate(Gate):
    """The gate of a listener for REST requests alone. Descriptors are reserved for some, whatever clients do."""

    __slots__ = ()

    def admit(self, connection: Connection) -> HTTPError | None:
        """Admit a connection that was just accepted; return the error with which to refuse it instead."""
        error = super().admit(connection)
        self._count()
        return error

    def discard(self, connection: Connection) -> None:
        """Forget a connection, which is closed."""
        super().discard(connection)
        self._count()

    def _count(self) -> None:
        self._table.control = len(self._undecided) + len(self._rest_connections)

    def _address_block(self, _connection: Connection) -> str:
        """Return an empty text: addresses are not limited here, as there are no clients."""
        return ""

    def _has_room(self) -> bool:
        table = self._table
        budget = table.budget
        return table.control < budget.control or table.used < budget.clients + budget.control
