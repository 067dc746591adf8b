"""The trace of a connection: the headers `traceparent` and `tracestate` of its requests to the backend.

The POST carries those of the handshake. Each later event is a child of the span that the handshake names. The span id
of an event follows from its `ce-id`, so every attempt has the same bytes, whichever process makes it: this one, a
restarted one, or another node.
"""

from hashlib import blake2b
from typing import Final

from wsaas.http.trace_context import TraceContext

_STEP: Final = 0x9E3779B97F4A7C15
"""An odd number: the multiples of the numbers of events are distinct. It spreads them over all 64 bits."""
_MASK: Final = (1 << 64) - 1

_SPAN_AT: Final = len("traceparent: 00-") + 32 + len("-")
_SPAN_SIZE: Final = 16
"""Where the span id is in the header lines of a child, and its size."""

DISCONNECT: Final = -1
HANDSHAKE: Final = -2
"""The numbers of the DELETE and of the handshake itself in a span id. Messages have the numbers from 1 on."""


class Trace:
    """The trace of one connection. `context`: from its handshake."""

    __slots__ = ("_before", "_behind", "_seed", "context")

    def __init__(self, context: TraceContext, connection_id: str) -> None:
        """Use span ids that belong to this connection alone. They do not reveal its id."""
        self._seed = int.from_bytes(blake2b(connection_id.encode(), digest_size=8).digest(), "big")
        self.context = context
        lines = context.child(0)
        self._before, self._behind = lines[:_SPAN_AT], lines[_SPAN_AT + _SPAN_SIZE :]

    def span_id(self, number: int | str) -> int:
        """Return the span id of an event, by its number. That of the DELETE is a text (`Closed.number`)."""
        index = DISCONNECT if isinstance(number, str) else number
        # Zero is not a valid id.
        return (self._seed + index * _STEP) & _MASK or 1

    def headers(self, number: int | str) -> str:
        """Return the header lines of the request of an event."""
        return self._child(number) if number else self.context.lines()

    def _child(self, number: int | str) -> str:
        # What `TraceContext.child` returns, in a third of the time.
        return f"{self._before}{self.span_id(number).to_bytes(8, 'big').hex()}{self._behind}"


class RecordedTrace(Trace):
    """The trace of a connection whose spans are recorded: its POST carries the span of the POST, too."""

    __slots__ = ()

    def headers(self, number: int | str) -> str:
        """Return the header lines of the request of an event."""
        return self._child(number)
