"""The circuit breaker between all connections and the backend: who may try a delivery now, and who waits.

Each connection retries for itself, with a back-off. But thousands that retry for themselves are a flood for a backend
that is down or about to come up, so they wait in line here; and a flood of failures must not hold up those whose
requests would succeed.

What is learned from the outcome of a request:

- A complete response is a success: the backend is there, whatever it answered. But not with 502, 503 or 504.
- `UNREACHABLE` is about the backend. One is enough.
- Any other failure, and 502, 503 and 504, is first about that request. It counts when `FAILURE_THRESHOLD` different
  connections had one and nobody a success in between.
- `POOL_TIMEOUT` says nothing: the request was not sent.

What that leads to; what is not listed changes nothing:

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

What a state means for a delivery (a message or a DELETE; a POST always goes at once):

- CLOSED: it goes at once. Those that waited follow, two for each success and one for any other outcome.
- OPEN (cannot connect): it waits. One *probe* at a time is sent, 0.1 s after the last one and later every second.
- HALF_OPEN (connecting works, requests fail): one that failed before waits; one is retried at a time, at the same pace.
  One that was never tried is sent at once, as a *trial*, while fewer than `MAX_TRIALS` are under way; a trial counts
  until it is answered, or for `TRIAL_SLOT_S`. Otherwise it waits for such a place, before all that failed. When
  `SUSTAINED_FAILURES` connections had a failure, it is no longer a few clients that fail: then a trial counts for
  `TRIAL_SLOT_S` even when it was answered, and what waits is tried at the pace of the retries; only what is new may
  still go at once.
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
"""Deliveries that were never tried that may be under way at a time while the breaker is half-open."""

TRIAL_SLOT_S = 1.0
"""Seconds that one of them counts at most: those that hang do not hold up the next."""

FIRST_PROBE_DELAY_S, MAX_PROBE_DELAY_S = 0.1, 1.0
"""Seconds before the first probe, and between two later ones at most; each pause is twice the one before."""

UNAVAILABLE = frozenset({502, 503, 504})
"""Statuses that a proxy answers for a backend that is not there or does not answer, or the backend for itself."""


_SERVER_ERROR = 500


class State(Enum):
    """Whether deliveries go on (CLOSED), wait (OPEN), or wait unless they were never tried (HALF_OPEN)."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Evidence(Enum):
    """What changes the state."""

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
    """What one connection has to deliver. A connection has one at a time."""

    @property
    def connection_id(self) -> str:
        """The id of the connection."""

    @property
    def untried(self) -> bool:
        """Whether the backend cannot have seen any of it yet."""

    def attempt(self) -> bool:
        """Send it; return False if there is nothing to send any more."""

    def give_up_overdue(self, now: float) -> bool:
        """Give it up if it is overdue at `now`; return whether it does not wait any more."""


class Waiting(Protocol):
    """The requests that wait for a connection to the backend."""

    def fail_waiting(self) -> None:
        """Fail all of them."""

    def fail_waiting_retries(self) -> None:
        """Fail those that their sender sends again."""


class CircuitBreaker:
    """Decides when deliveries are sent. `state` changes only as in `NEXT_STATES`."""

    def __init__(self, clock: Clock, waiting: Waiting) -> None:
        """Start closed. `waiting`: what was sent already, but has no connection yet; it is taken back."""
        self._clock = clock
        self._waiting = waiting
        self.state = CLOSED
        self._opened_at = 0.0
        # The connections whose requests failed since the last success; empty only while CLOSED.
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
        """Return how many deliveries wait."""
        return len(self._untried) + len(self._retries)

    def unreachable_for(self, now: float) -> float:
        """Return for how many seconds the backend could not be reached at all; 0 unless OPEN."""
        return now - self._opened_at if self.state is OPEN else 0.0

    def wait(self, delivery: QueuedDelivery) -> None:
        """Send `delivery` when the state allows it, at once if it does. For those that come while not CLOSED."""
        if not delivery.untried:
            self._retries.append(delivery)
        elif self.state is HALF_OPEN and self._has_place():
            self._start_trial(delivery)
        else:
            self._untried.append(delivery)
        self._set_timer()

    def observe(self, delivery: QueuedDelivery, outcome: Outcome) -> None:
        """Learn from the outcome of one request of `delivery`."""
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
        """Drop the deliveries that are overdue."""
        for line in (self._untried, self._retries):
            waiting = [*line]
            line.clear()
            # One that is overdue may be followed by the next of its connection, behind the others.
            line.extendleft(reversed([delivery for delivery in waiting if not delivery.give_up_overdue(now)]))

    def stop(self) -> None:
        """Send nothing any more."""
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
            # Anything but the probe was sent before: it does not show that connecting works now.
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
        """Let others follow after an outcome that is no success."""
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
        # Its outcome says no more than that of any other request from now on.
        self._probe = None
        self._trials.clear()
        self._log(change, evidence)
        if state is OPEN:
            self._opened_at = self._clock.now()
            self._waiting.fail_waiting()
        elif state is HALF_OPEN:
            self._waiting.fail_waiting_retries()

    def _log(self, change: tuple[State, State], evidence: Evidence) -> None:
        """Log a change. Where some clients' requests always fail, HALF_OPEN comes and goes: hence the throttle."""
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
        """Send the first of `line` that there is still anything of to send; return it."""
        while line:
            delivery = line.popleft()
            if delivery.attempt():
                return delivery
        return None

    def _has_place(self) -> bool:
        """Return whether another trial may be under way."""
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
        """Start a trial of one that waits, if there is a place; return whether there was both.

        It is the oldest and the newest in turn: each has its turn, but many that fail do not hold up what came later.
        """
        while self._untried and self._has_place():
            self._oldest_next = not self._oldest_next
            if self._start_trial(self._untried.popleft() if self._oldest_next else self._untried.pop()):
                return True
        return False

    def _start_trials(self) -> None:
        """Use all places, while only few connections fail."""
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
            # Places of trials that hang may be free again.
            self._start_trials()
            if not self._start_waiting_trial():
                self._send_next(self._retries)
            self._lengthen_delay()
        self._set_timer()
