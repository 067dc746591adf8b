"""The circuit breaker between all connections and the backend: decides when a delivery is attempted.

Each connection retries by itself, with a back-off. But the retries of thousands of connections would flood a backend
that is down or just starting, so they queue here. At the same time, many failing requests must not hold up the
connections whose requests would succeed.

The outcome of a request is evidence. `NEXT_STATES` is the table of the states that it leads to:

- A complete response is a success, whatever its status, except 502, 503 and 504.
- `UNREACHABLE` concerns the backend as a whole. One such failure is enough.
- Any other failure, and 502, 503 and 504, first concerns that request only. It counts when requests of
  `FAILURE_THRESHOLD` different connections have failed with no success in between. While OPEN, only the probe counts:
  if it failed after it was sent, the backend can be reached.
- `POOL_TIMEOUT` is no evidence: the request was not sent.

What a state means for a delivery (a message or a DELETE; a POST is always sent at once):

- CLOSED: it is sent at once. Deliveries that queued before follow: two after each success, one after any other outcome.
- OPEN (the backend cannot be reached): it queues. One *probe* at a time is sent, the first after 0.1 s, later ones
  every second.
- HALF_OPEN (the backend can be reached, but requests fail): a delivery that failed before queues, and is retried one at
  a time, at the pace of the probes. A delivery that was never attempted is sent at once, as a *trial*, if fewer than
  `MAX_TRIALS` are under way; otherwise it queues for a slot, ahead of the retries. A trial occupies its slot until it
  is answered, for at most `TRIAL_SLOT_S`. Once requests of `SUSTAINED_FAILURES` connections have failed, the problem is
  not limited to a few clients. From then on, a trial occupies its slot for `TRIAL_SLOT_S` even if it is answered, and
  queued deliveries are attempted at the pace of the retries. Only new deliveries may still be sent at once.
"""

from collections import deque
from enum import Enum
from typing import Final, Protocol

from wsaas.clock import Clock, Timer
from wsaas.delivery.pool import Failure, Outcome
from wsaas.http.response import Response
from wsaas.log.throttle import throttle

FAILURE_THRESHOLD: Final = 16
"""The breaker becomes half-open when requests of this many connections failed with no success in between."""

SUSTAINED_FAILURES: Final = 64
"""Trials are paced when requests of this many connections failed with no success in between."""

MAX_TRIALS: Final = 8
"""Maximum number of concurrent trials while the breaker is half-open."""

TRIAL_SLOT_S: Final = 1.0
"""Seconds after which a hung trial frees its slot."""

FIRST_PROBE_DELAY_S: Final = 0.1
MAX_PROBE_DELAY_S: Final = 1.0
"""Seconds before the first probe, and the maximum between two probes. Each delay is twice the previous one."""

UNAVAILABLE: Final = frozenset({502, 503, 504})
"""Statuses of a proxy that gets no answer from the backend, or of an overloaded backend."""

_SERVER_ERROR: Final = 500


class State(Enum):
    """Whether deliveries are sent (CLOSED), queue (OPEN), or queue if they failed before (HALF_OPEN)."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Evidence(Enum):
    """What was learned about the backend."""

    SUCCESS = "the backend answers"
    UNREACHABLE = "the backend cannot be reached"
    FAILURES = "requests of many connections failed"
    FAILED_PROBE = "a request failed, but the backend can be reached"


# Bound once: up to Python 3.11, reading a member from its class is a call in Python.
CLOSED: Final = State.CLOSED
OPEN: Final = State.OPEN
HALF_OPEN: Final = State.HALF_OPEN

NEXT_STATES: Final[dict[tuple[State, Evidence], State]] = {
    (CLOSED, Evidence.UNREACHABLE): OPEN,
    (CLOSED, Evidence.FAILURES): HALF_OPEN,
    (OPEN, Evidence.SUCCESS): CLOSED,
    (OPEN, Evidence.FAILED_PROBE): HALF_OPEN,
    (HALF_OPEN, Evidence.UNREACHABLE): OPEN,
    (HALF_OPEN, Evidence.SUCCESS): CLOSED,
}
"""The next state, by state and evidence. Other evidence changes nothing."""

TRANSITIONS: Final[dict[State, dict[State, str]]] = {
    state: {after: evidence.value for (before, evidence), after in NEXT_STATES.items() if before is state}
    for state in State
}
"""The reason for each transition, by the state before and the state after."""


class QueuedDelivery(Protocol):
    """The current delivery of a connection. A connection has one at a time."""

    @property
    def connection_id(self) -> str:
        """The id of the connection."""

    @property
    def untried(self) -> bool:
        """Whether the backend cannot have seen any attempt."""

    def attempt(self) -> bool:
        """Send it; return False if it has left the queue."""

    def give_up_overdue(self, now: float) -> bool:
        """Give it up if it is overdue at `now`; return whether it has left the queue."""


class Waiting(Protocol):
    """The requests that wait for a connection to the backend."""

    def fail_waiting(self) -> None:
        """Fail all of them."""

    def fail_waiting_retries(self) -> None:
        """Fail the requests that are retried."""


class CircuitBreaker:
    """Decides when deliveries are attempted. `state` changes only as in `NEXT_STATES`."""

    def __init__(self, clock: Clock, waiting: Waiting) -> None:
        """Start closed. `waiting`: the requests to fail when the breaker opens."""
        self._clock = clock
        self._waiting = waiting
        self.state = CLOSED
        self._opened_at = 0.0
        # The ids of the connections whose requests failed since the last success. Empty only while CLOSED.
        self._failed: set[str] = set()
        self._untried: deque[QueuedDelivery] = deque()
        self._retries: deque[QueuedDelivery] = deque()
        self._trials: list[tuple[str, float]] = []
        self._oldest_next = False
        self._probe: QueuedDelivery | None = None
        self._delay = FIRST_PROBE_DELAY_S
        self._timer: Timer | None = None
        self._left_closed_at = 0.0

    def __len__(self) -> int:
        """Return how many deliveries are queued."""
        return len(self._untried) + len(self._retries)

    @property
    def not_closed_since(self) -> float | None:
        """When the breaker left CLOSED (monotonic seconds), None while it is closed."""
        return None if self.state is CLOSED else self._left_closed_at

    def unreachable_for(self, now: float) -> float:
        """Return for how many seconds the breaker has been OPEN; 0 in other states."""
        return now - self._opened_at if self.state is OPEN else 0.0

    def wait(self, delivery: QueuedDelivery) -> None:
        """Attempt `delivery` as soon as the state allows it. Call only while the state is not CLOSED."""
        if not delivery.untried:
            self._retries.append(delivery)
        elif self.state is HALF_OPEN and self._has_slot():
            self._start_trial(delivery)
        else:
            self._untried.append(delivery)
        self._set_timer()

    def observe(self, delivery: QueuedDelivery, outcome: Outcome) -> None:
        """Take the outcome of a request of `delivery` as evidence."""
        if isinstance(outcome, Response) and (outcome.status < _SERVER_ERROR or outcome.status not in UNAVAILABLE):
            if self._failed or self._untried or self._retries:
                self._succeeded()
            return
        if outcome is Failure.UNREACHABLE:
            self._failed = {delivery.connection_id}
            self._change(Evidence.UNREACHABLE)
        elif outcome is Failure.POOL_TIMEOUT:
            self._end_trial(delivery)
        else:
            self._exchange_failed(delivery)
        self._continue_after(delivery)

    def sweep(self, now: float) -> None:
        """Give up the deliveries that are overdue."""
        for line in (self._untried, self._retries):
            waiting = [*line]
            line.clear()
            # Giving up a delivery may queue the next delivery of its connection, which belongs behind the others.
            line.extendleft(reversed([delivery for delivery in waiting if not delivery.give_up_overdue(now)]))

    def stop(self) -> None:
        """Drop the queues, and attempt nothing further."""
        self._untried.clear()
        self._retries.clear()
        self._stop_timer()

    # Evidence.

    def _succeeded(self) -> None:
        self._failed.clear()
        self._change(Evidence.SUCCESS)
        self._release(2)

    def _exchange_failed(self, delivery: QueuedDelivery) -> None:
        if self.state is OPEN:
            # Other requests were sent before the probe, so they do not show that the backend can be reached now.
            if delivery is self._probe:
                self._failed = {delivery.connection_id}
                self._change(Evidence.FAILED_PROBE)
            return
        if not self._is_sustained():
            self._failed.add(delivery.connection_id)
            self._end_trial(delivery)
        if len(self._failed) >= FAILURE_THRESHOLD:
            self._change(Evidence.FAILURES)

    def _continue_after(self, delivery: QueuedDelivery) -> None:
        """Send what may be sent next after a failure."""
        if self.state is CLOSED:
            self._release(1)
            return
        if self.state is HALF_OPEN:
            self._start_trials()
        elif delivery is self._probe:
            self._probe = None
            self._lengthen_delay()
        self._set_timer()

    def _is_sustained(self) -> bool:
        return len(self._failed) >= SUSTAINED_FAILURES

    # States.

    def _change(self, evidence: Evidence) -> None:
        state = NEXT_STATES.get((self.state, evidence))
        if state is None:
            return
        change = self.state, state
        if self.state is CLOSED:
            self._left_closed_at = self._clock.now()
        self.state = state
        self._stop_timer()
        self._delay = FIRST_PROBE_DELAY_S
        # From now on, the outcome of the probe counts like any other outcome.
        self._probe = None
        self._trials.clear()
        self._log(change, evidence)
        if state is OPEN:
            self._opened_at = self._clock.now()
            self._waiting.fail_waiting()
        elif state is HALF_OPEN:
            self._waiting.fail_waiting_retries()

    def _log(self, change: tuple[State, State], evidence: Evidence) -> None:
        """Log a transition. Throttled: HALF_OPEN may come and go while the requests of some clients always fail."""
        if self.state is OPEN:
            message = "circuit breaker %(state)s: %(why)s; messages and DELETEs wait, handshakes get 503"
            throttle.warning(change, message, {"state": self.state.value, "why": evidence.value})
        elif self.state is HALF_OPEN:
            message = "circuit breaker %(state)s: %(why)s; failed deliveries are retried one at a time"
            throttle.warning(change, message, {"state": self.state.value, "why": evidence.value})
        else:
            seconds = self._clock.now() - self._left_closed_at
            message = (
                "circuit breaker %(state)s: %(why)s again after %(after_s).1f s; deliveries still waiting: %(waiting)d"
            )
            fields = {"state": self.state.value, "why": evidence.value, "after_s": seconds, "waiting": len(self)}
            throttle.info(change, message, fields)

    # Deliveries.

    def _release(self, number: int) -> None:
        while number and (line := self._untried or self._retries):
            number -= line.popleft().attempt()

    def _send_next(self, line: deque[QueuedDelivery]) -> QueuedDelivery | None:
        """Attempt the first delivery of `line` that is still queued; return it, or None."""
        while line:
            delivery = line.popleft()
            if delivery.attempt():
                return delivery
        return None

    def _has_slot(self) -> bool:
        """Return whether a slot is free for another trial."""
        now = self._clock.now()
        self._trials = [trial for trial in self._trials if now < trial[1]]
        return len(self._trials) < MAX_TRIALS

    def _start_trial(self, delivery: QueuedDelivery) -> bool:
        if not delivery.attempt():
            return False
        self._trials.append((delivery.connection_id, self._clock.now() + TRIAL_SLOT_S))
        return True

    def _end_trial(self, delivery: QueuedDelivery) -> None:
        self._trials = [trial for trial in self._trials if trial[0] != delivery.connection_id]

    def _start_waiting_trial(self) -> bool:
        """Start the trial of a queued delivery if a slot is free; return whether one was started.

        Alternates between the oldest and the newest, so that many failing deliveries do not block new ones.
        """
        while self._untried and self._has_slot():
            self._oldest_next = not self._oldest_next
            if self._start_trial(self._untried.popleft() if self._oldest_next else self._untried.pop()):
                return True
        return False

    def _start_trials(self) -> None:
        """Fill all slots, unless failures are sustained."""
        while not self._is_sustained() and self._start_waiting_trial():
            pass

    # The pace of probes and retries.

    def _lengthen_delay(self) -> None:
        self._delay = min(MAX_PROBE_DELAY_S, self._delay * 2)

    def _set_timer(self) -> None:
        if self._timer is None and self._probe is None and len(self) and self.state is not CLOSED:
            self._timer = self._clock.call_later(self._delay, self._send_one)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _send_one(self) -> None:
        self._timer = None
        if self.state is OPEN:
            self._probe = self._send_next(self._untried) or self._send_next(self._retries)
        else:
            # Slots of hung trials may have expired.
            self._start_trials()
            if not self._start_waiting_trial():
                self._send_next(self._retries)
            self._lengthen_delay()
        self._set_timer()
