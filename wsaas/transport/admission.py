"""Decides which connections are accepted: there are limits for file descriptors and for each address.

Each listener has a `Gate`. It tracks the connections of its listener that are not clients: undecided connections, which
have sent neither a handshake nor an authorized request yet, and REST connections. When there is no room, the gate
closes the oldest undecided connection, as a well-behaved peer sends a request at once. If there is none, it closes the
REST connection that has been idle for the longest time.
"""

import math
from collections.abc import Callable
from itertools import islice
from typing import Final, Protocol

from wsaas.access import Proxies, address_block
from wsaas.counters import Counters
from wsaas.errors import RETRY_AFTER, HTTPError, TooManyRequests, Unavailable
from wsaas.log.throttle import throttle
from wsaas.log.wording import counted
from wsaas.sessions.address_limit import AddressLimit
from wsaas.transport.descriptors import SPARE_DESCRIPTORS, DescriptorBudget

MAX_REFUSED: Final = SPARE_DESCRIPTORS // 2
"""Refused connections that may be open at a time to receive an error response. Further ones are closed at once."""

REFUSAL_S: Final = 1.0
"""Seconds that a refused peer has to read the error response and close."""

MAX_UNDECIDED_OVER_LIMIT: Final = 8
"""Undecided connections that an address at its limit may still open on a listener that also serves REST requests. The
backend may have opened any of them."""

IDLE_SAMPLE: Final = 256
"""Maximum number of REST connections that are compared to find the longest idle one."""


class Connection(Protocol):
    """A connection that is not a client, as a `Gate` sees it."""

    def peer_address(self) -> str:
        """Return the IP address of the peer, empty for a Unix socket."""

    def idle_since(self) -> float:
        """Return a time by which idle connections can be ordered; infinity while a request is being received."""

    def abort(self) -> None:
        """Close at once."""


class ConnectionTable:
    """The accepted connections of all listeners, and the descriptors for them.

    `control`: the number of connections on the listener for REST requests alone. `closing`: connections that were
    refused or evicted and are not closed yet; they use the `spare` descriptors. `counters`: those of the process.
    """

    __slots__ = ("budget", "closing", "control", "counters", "opened")

    def __init__(self, budget: DescriptorBudget, opened: Callable[[], int], counters: Counters | None = None) -> None:
        """`opened` returns the number of accepted connections that are not closed yet."""
        self.opened = opened
        self.budget = budget
        self.counters = counters or Counters()
        self.control = 0
        self.closing: set[Connection] = set()

    @property
    def used(self) -> int:
        """The number of accepted connections without those in `closing`."""
        return self.opened() - len(self.closing)

    def warn(self) -> None:
        """Log that a connection is refused."""
        message = "the limit of open files allows only %(allowed)s: new connections are refused"
        throttle.warning("open files", message, {"allowed": counted(self.used, "connection")})


class Gate:
    """Admits the connections of one listener. This base class is the gate of a listener for clients alone."""

    __slots__ = ("_addresses", "_over_limit", "_proxies", "_rest_connections", "_table", "_undecided")

    def __init__(self, table: ConnectionTable, addresses: AddressLimit, proxies: Proxies) -> None:
        """Count connections in `table`. Connections from `proxies` are counted later, for the forwarded address."""
        self._addresses = addresses
        self._over_limit: dict[str, dict[Connection, None]] = {}
        self._proxies = proxies
        self._rest_connections: dict[Connection, None] = {}
        self._table = table
        self._undecided: dict[Connection, str] = {}

    def admit(self, connection: Connection) -> HTTPError | None:
        """Admit a connection that was just accepted, or return the error to refuse it with."""
        if not self._addresses.limit and self._has_room():
            # The usual case.
            self._undecided[connection] = ""
            return None
        block = self._address_block(connection)
        over_limit = bool(block) and self._addresses.is_reached(block)
        if over_limit and not self._may_be_rest(block):
            return self._refusal(
                connection, TooManyRequests("This address has reached its limit of connections.", RETRY_AFTER)
            )
        if not self._has_room() and not self._make_room():
            self._table.warn()
            return self._refusal(
                connection, Unavailable("This node has reached its limit of connections.", RETRY_AFTER)
            )
        self._undecided[connection] = block
        if over_limit:
            self._over_limit.setdefault(block, {})[connection] = None
        elif block:
            self._addresses.add(block)
        return None

    def refuse(self, connection: Connection) -> bool:
        """Count a connection that was not admitted as closing; return whether to send it an error response first."""
        closing = self._table.closing
        closing.add(connection)
        return len(closing) <= MAX_REFUSED

    def discard(self, connection: Connection) -> None:
        """Stop tracking a connection that is closed, or has become a client."""
        block = self._undecided.pop(connection, None)
        if block is None:
            self._rest_connections.pop(connection, None)
            self._table.closing.discard(connection)
        elif block:
            self._uncount(connection, block)

    def mark_authorized(self, connection: Connection) -> None:
        """Treat a connection with an authorized request as the backend's: no address limit applies to it."""
        block = self._undecided.pop(connection, None)
        if block is not None:
            self._rest_connections[connection] = None
            if block:
                self._uncount(connection, block)

    def check_client(self) -> None:
        """Raise `Unavailable` if there is no descriptor for another client."""

    def count_of(self, connection: Connection, address: str) -> int:
        """Return 1 if `connection` is counted for `address`, else 0."""
        if not self._addresses.limit or not address:
            return 0
        block = address_block(address)
        return int(self._undecided.get(connection) == block and connection not in self._over_limit.get(block, ()))

    def _refusal(self, connection: Connection, error: HTTPError) -> HTTPError:
        """Return `error`, with which a connection of a client is refused; count and log it as a handshake."""
        self._table.counters.count_handshake(error.status)
        if isinstance(error, TooManyRequests):
            message = "a connection from %(remote_address)s was refused with %(status)d: %(why)s"
            fields = {"remote_address": connection.peer_address(), "status": error.status, "why": error.message}
            throttle.info("address limit", message, fields)
        return error

    def _address_block(self, connection: Connection) -> str:
        """Return the address block that a connection is counted for, or an empty string."""
        if not self._addresses.limit:
            return ""
        address = connection.peer_address()
        return "" if not address or self._proxies.trusts(address) else address_block(address)

    def _uncount(self, connection: Connection, block: str) -> None:
        """Stop counting a connection for its address block."""
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
        """Return whether there is a descriptor for another connection."""
        table = self._table
        budget = table.budget
        return table.used - table.control < budget.clients - max(0, table.control - budget.control)

    def _make_room(self) -> bool:
        """Close a connection to make room for another; return False if there is none to close."""
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
        """Raise `Unavailable` if only the descriptors reserved for the REST API are left."""
        table = self._table
        others = len(table.closing) + len(self._undecided) + len(self._rest_connections)
        if table.opened() - others >= table.budget.clients:
            table.warn()
            raise Unavailable("This node has reached its limit of clients.", RETRY_AFTER)

    def _refusal(self, _connection: Connection, error: HTTPError) -> HTTPError:
        """Return `error`, with which a connection is refused. It need not be that of a client."""
        return error

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
    """The gate of a listener for REST requests alone. It has reserved descriptors that clients cannot use up."""

    __slots__ = ()

    def admit(self, connection: Connection) -> HTTPError | None:
        """Admit a connection that was just accepted, or return the error to refuse it with."""
        error = super().admit(connection)
        self._count()
        return error

    def discard(self, connection: Connection) -> None:
        """Stop tracking a connection that is closed."""
        super().discard(connection)
        self._count()

    def _count(self) -> None:
        self._table.control = len(self._undecided) + len(self._rest_connections)

    def _address_block(self, _connection: Connection) -> str:
        """Return an empty string: without clients, no address limit applies."""
        return ""

    def _refusal(self, _connection: Connection, error: HTTPError) -> HTTPError:
        """Return `error`, with which a connection is refused. It need not be that of a client."""
        return error

    def _has_room(self) -> bool:
        table = self._table
        budget = table.budget
        return table.control < budget.control or table.used < budget.clients + budget.control


class PrivateGate(Gate):
    """The gate of the private listener, to which only the other processes of the gateway connect: it admits them all.

    Their number is small and constant.
    """

    __slots__ = ()

    def admit(self, _connection: Connection) -> HTTPError | None:
        """Return None."""
        return None
