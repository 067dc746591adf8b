"""The counters of a process. They are plain integers, added to where something happens, so they cost next to nothing.

`metrics.table` says what is made of them. The gauges are in `statistics`.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from wsaas.events import Closed, Event, Message, Opened
from wsaas.reason import Reason

FIRST_BOUND: Final = 0.005

REQUEST_BOUNDS: Final[tuple[float, ...]] = (FIRST_BOUND, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
"""Seconds. For requests to the backend, and for the delivery of messages: they share a histogram, `Counters.direct`."""

CONNECTION_BOUNDS: Final[tuple[float, ...]] = (1.0, 10.0, 60.0, 600.0, 3600.0, 86400.0)
"""Seconds."""

LAG_BOUNDS: Final[tuple[float, ...]] = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0)
"""Seconds."""

EVENT_NAMES: Final[dict[type[Event], str]] = {Opened: "connect", Message: "message", Closed: "disconnect"}

RESULTS: Final = (
    "ok",
    "refused",
    "error",
    "unreachable",
    "no_connection",
    "broken",
    "timeout",
    "invalid",
)
"""The results of requests to the backend."""

NO_STATUS: Final = 0
OTHER_STATUS: Final = 1
"""Stand for the status of a handshake whose client went away before it was answered, and for unexpected statuses."""

HANDSHAKE_STATUSES: Final = (101, 400, 401, 403, 404, 426, 429, 502, 503, 504, OTHER_STATUS, NO_STATUS)

PUSH_RESULTS: Final = ("gone", "slow", "no_memory", "rejected")
"""The results of pushes that were not sent. Those that were sent have a counter of their own."""


class Histogram:
    """How many values are at most as high as each of `bounds`, and their sum.

    `counts`: of the values above the bound before and up to this one, and then of those above the last bound.
    `first`: further values up to the first bound, which were counted without a call.
    """

    __slots__ = ("bounds", "counts", "first", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        """Start empty. `bounds`: ascending."""
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.first = 0
        self.sum = 0.0

    @property
    def count(self) -> int:
        """How many values were counted."""
        return self.first + sum(self.counts)

    def observe(self, value: float) -> None:
        """Count `value`."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class RequestCounters:
    """The requests to the backend for one kind of event. Messages that are `Counters.direct` are not among them."""

    __slots__ = ("durations", "results", "retries")

    def __init__(self) -> None:
        """Start at zero."""
        self.durations = Histogram(REQUEST_BOUNDS)
        self.results = dict.fromkeys(RESULTS, 0)
        self.retries = 0


class Counters:
    """What happened in this process since its start, and a few counts that also fall.

    `direct`: the durations of the requests for messages that neither waited nor were retried. For these, the time of
    the delivery is that of the request, so one histogram is enough. `delayed`: the times of all other deliveries.
    `pushed`, `published`, `batched`, `replied`: messages that were sent to clients, by where they came from.
    `open`, `closing`: clients in this state. `backlog`: bytes of messages that wait for the backend. `paused`: clients
    that are not read because of that.
    """

    __slots__ = (
        "backlog",
        "batched",
        "bytes_in",
        "bytes_out",
        "closed",
        "closing",
        "connection_durations",
        "delayed",
        "direct",
        "disconnects_given_up",
        "group_slow",
        "handshakes",
        "heartbeats",
        "loop_lag",
        "messages_in",
        "messages_undelivered",
        "open",
        "paused",
        "published",
        "pushed",
        "refused_pushes",
        "replied",
        "requests",
    )

    def __init__(self) -> None:
        """Start at zero."""
        self.backlog = self.closing = self.open = self.paused = 0
        self.batched = self.published = self.pushed = self.replied = self.group_slow = 0
        self.bytes_in = self.bytes_out = 0
        self.closed = dict.fromkeys(Reason, 0)
        self.connection_durations = Histogram(CONNECTION_BOUNDS)
        self.delayed = Histogram(REQUEST_BOUNDS)
        self.direct = Histogram(REQUEST_BOUNDS)
        self.disconnects_given_up = 0
        self.handshakes = dict.fromkeys(HANDSHAKE_STATUSES, 0)
        self.heartbeats = 0
        self.loop_lag = Histogram(LAG_BOUNDS)
        self.messages_in = self.messages_undelivered = 0
        self.refused_pushes = dict.fromkeys(PUSH_RESULTS, 0)
        self.requests = {kind: RequestCounters() for kind in EVENT_NAMES}

    def count_handshake(self, status: int) -> None:
        """Count a handshake that was answered with `status`."""
        self.handshakes[status if status in self.handshakes else OTHER_STATUS] += 1

    def count_reply(self, size: int) -> None:
        """Count a reply of the backend to a message, `size` bytes."""
        self.replied += 1
        self.bytes_out += size
