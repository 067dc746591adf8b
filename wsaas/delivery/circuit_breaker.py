"""The circuit breaker between all connections and the backend: decides when a delivery is attempted.

Each connection retries by itself, with a back-off. But the retries of thousands of connections would flood a backend
that is down or just starting. So they queue here. At the same time, many failing requests must not hold up the
connections whose requests would succeed.

The outcome of a request is evidence:

- A complete response is a success, whatever its status: the backend works. Except 502, 503 and 504.
- `UNREACHABLE` concerns the backend as a whole. One such failure is enough.
- Any other failure, and 502, 503 and 504, first concerns that request only. It counts when requests of
  `FAILURE_THRESHOLD` different connections have failed with no success in between.
- `POOL_TIMEOUT` is no evidence: the request was not sent.

The transitions, by state and evidence. Other evidence changes nothing:

=========  ==================================================  =========
state      evidence                                            new state
=========  ==================================================  =========
CLOSED     `UNREACHABLE`                                       OPEN
CLOSED     failures of `FAILURE_THRESHOLD` connections         HALF_OPEN
OPEN       a success                                           CLOSED
OPEN       the probe failed, but was sent: connecting works    HALF_OPEN
HALF_OPEN  `UNREACHABLE`                                       OPEN
HALF_OPEN  a success                                           CLOSED
=========  ==================================================  =========

What a state means for a delivery (a message or a DELETE; a POST is always sent at once):

- CLOSED: it is sent at once. Those that have queued follow: two for each success, one for any other outcome.
- OPEN (the backend cannot be reached): it queues. One *probe* at a time is sent, the first after 0.1 s, later ones
  every second.
- HALF_OPEN (the backend can be reached, but requests fail): a delivery that failed before queues, and is retried one at
  a time, at the pace of the probes. A delivery that was never attempted is sent at once, as a *trial*, if fewer than
  `MAX_TRIALS` are under way; otherwise it queues for a slot, ahead of all that failed. A trial occupies its slot until
  it is answered, for at most `TRIAL_SLOT_S`. Once requests of `SUSTAINED_FAILURES` connections have failed, it is not
  only a few clients that fail: then a trial occupies its slot for `TRIAL_SLOT_S` even if it is answered, and queued
  deliveries are attempted at the pace of the retries. Only new ones may still be sent at once.
"""

from collections import deque
from enum import Enum
from typing import Protocol

from wsaas.clock import Clock, Timer
from wsaas.delivery.pool import Failure, Outcome
from wsaas.http.response import Response
from wsaas.log.throttle import throttle

FAILURE_THRESHOLD = 16
"""Different connections whose requests failed, with no success in between, that open the breaker halfway."""

SUSTAINED_FAILURES = 64
"""Different connections whose requests failed, with no success in between, from which on trials are paced."""

MAX_TRIALS = 8
"""Most trials under way at a time while the breaker is half-open."""

TRIAL_SLOT_S = 1.0
"""Most seconds that a trial occupies its slot: a request that hangs does not hold up the next."""

FIRST_PROBE_DELAY_S, MAX_PROBE_DELAY_S = 0.1, 1.0
"""Seconds before the first probe, and at most between two later ones. Each delay is twice the one before."""

UNAVAILABLE = frozenset({502, 503, 504})
"""Statuses by which a proxy says that the backend does not answer, or the backend that it is overloaded."""


_SERVER_ERROR = 500


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
CLOSED, OPEN, HALF_OPEN = State

NEXT_STATES: dict[tuple[State, Evidence], State] = {
    (CLOSED, Evidence.UNREACHABLE): OPEN,
    (CLOSED, Evidence.FAILURES): HALF_OPEN,
    (OPEN, Evidence.SUCCESS): CLOSED,
    (OPEN, Evidence.FAILED_PROBE): HALF_OPEN,
    (HALF_OPEN, Evidence.UNREACHABLE): OPEN,
    (HALF_OPEN, Evidence.SUCCESS): CLOSED,
}
"""The state that follows each state and evidence. See the table in the module's docstring."""

TRANSITIONS: dict[State, dict[State, str]] = {
    state: {after: evidence.value for (before, evidence), after in NEXT_STATES.items() if before is state}
    for state in State
}
"""The reason for each transition, by the state before and the state after."""


class QueuedDelivery(Protocol):
    """The delivery of one connection that is attempted next. A connection has one at a time."""

    @property
    def connection_id(self) -> str:
        """The id of the connection."""

    @property
    def untried(self) -> bool:
        """Whether the backend cannot have seen it yet."""

    def attempt(self) -> bool:
        """Send it; return False if it is not queued any more."""

    def give_up_overdue(self, now: float) -> bool:
        """Give it up if it is overdue at `now`; return whether it is not queued any more."""


class Waiting(Protocol):
    """The requests that wait for a connection to the backend."""

    def fail_waiting(self) -> None:
        """Fail all of them."""

    def fail_waiting_retries(self) -> None:
        """Fail those whose sender retries them."""


class CircuitBreaker:
    """Decides when deliveries are attempted. `state` changes only as in `NEXT_STATES`."""

    def __init__(self, clock: Clock, waiting: Waiting) -> None:
        """Start closed. `waiting`: requests that wait for a connection, and are failed when the breaker opens."""
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

    def unreachable_for(self, now: float) -> float:
        """Return for how many seconds the breaker has been OPEN; 0 in other states."""
        return now - self._opened_at if self.state is OPEN else 0.0

    def wait(self, delivery: QueuedDelivery) -> None:
        """Attempt `delivery` as soon as the state allows it. Only while not CLOSED."""
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
            # Giving one up may queue the next one of its connection, which then is behind the others.
            line.extendleft(reversed([delivery for delivery in waiting if not delivery.give_up_overdue(now)]))

    def stop(self) -> None:
        """Attempt nothing any more."""
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
            # Requests other than the probe were sent before: they do not show that the backend can be reached now.
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
        """Let queued deliveries follow an outcome that is not a success."""
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
        # From now on, the outcome of the probe counts like that of any other request.
        self._probe = None
        self._trials.clear()
        self._log(change, evidence)
        if state is OPEN:
            self._opened_at = self._clock.now()
            self._waiting.fail_waiting()
        elif state is HALF_OPEN:
            self._waiting.fail_waiting_retries()

    def _log(self, change: tuple[State, State], evidence: Evidence) -> None:
        """Log a transition. Throttled, as HALF_OPEN may come and go while the requests of some clients always fail."""
        if self.state is OPEN:
            throttle.warning(
                change, "circuit breaker open: %s; messages and DELETEs wait, handshakes get 503", evidence.value
            )
        elif self.state is HALF_OPEN:
            throttle.warning(change, "circuit breaker half-open: %s; those are retried one at a time", evidence.value)
        else:
            seconds = self._clock.now() - self._left_closed_at
            message = "circuit breaker closed: %s again after %.1f s; deliveries still waiting: %d"
            throttle.info(change, message, evidence.value, seconds, len(self))

    # Deliveries.

    def _release(self, number: int) -> None:
        while number and (line := self._untried or self._retries):
            number -= line.popleft().attempt()

    def _send_next(self, line: deque[QueuedDelivery]) -> QueuedDelivery | None:
        """Attempt the first of `line` that is still queued; return it."""
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
        """Start the trial of a queued delivery; return whether there was one, and a slot.

        Takes the oldest and the newest in turn: the oldest ones get their trial, and many that fail do not hold up
        newer ones.
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
            # The slots of trials that hang may be free again.
            self._start_trials()
            if not self._start_waiting_trial():
                self._send_next(self._retries)
            self._lengthen_delay()
        self._set_timer()
