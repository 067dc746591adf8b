"""Delivers the current event of an outbox: sends it, and retries until it is delivered or given up.

The states and the transitions between them are in `outbox_state`.
"""

from typing import Final

from wsaas.clock import NO_TIMER
from wsaas.delivery.circuit_breaker import CLOSED
from wsaas.delivery.outbox_state import (
    ABANDONED,
    BACKING_OFF,
    DELAYED,
    DELIVERING,
    DONE,
    IDLE,
    QUEUED,
    TRANSITIONS,
    State,
)
from wsaas.delivery.retries import NO_RETRIES, Retries
from wsaas.delivery.services import DeliveryServices
from wsaas.delivery.verdicts import Accepted, Actions, Delivered, Rejected, Retry, Undeliverable, Verdict
from wsaas.delivery.webhook import Subject, Webhook
from wsaas.events import Closed, Disconnect, Event, Message, Opened
from wsaas.log import about, logger
from wsaas.reason import Reason


class OutboxListener:
    """Callbacks about the events of one connection. Each does nothing unless overridden."""

    __slots__ = ()

    def decided(self, verdict: Accepted | Rejected) -> None:
        """The backend answered the `Opened`."""

    def requested(self, actions: Actions) -> None:
        """The backend acknowledged a message, and asks for `actions` in its answer."""

    def undelivered(self, reason: Reason, why: str) -> None:
        """A message was given up: close the client for `reason`."""

    def disconnecting(self, closed: Closed) -> None:
        """`closed` is the next event to be sent: set its `disconnect`."""

    def disconnect_delayed(self) -> None:
        """The first attempt to deliver the `Closed` failed, or waits for the circuit breaker. May be called again."""

    def disconnect_delivered(self) -> None:
        """The `Closed` was delivered, and the connection removed from the journal."""

    def disconnect_failed(self, why: str) -> None:
        """The `Closed` was given up."""

    def pause(self) -> None:
        """Stop reading from the client: the inbox is full."""

    def resume(self) -> None:
        """Read from the client again."""


NO_LISTENER: Final = OutboxListener()


NO_EVENT: Final = Message(text=False, data=b"")
"""The current event when there is none."""


class EventDelivery:
    """Delivers one event at a time through the webhook. `state` changes only by `TRANSITIONS`.

    A late `Closed` is written to the journal; a delivered one removes the connection from it. `listener` may be
    replaced.
    """

    __slots__ = ("_current", "_retries", "_services", "_timer", "_webhook", "listener", "state", "subject")

    def __init__(self, services: DeliveryServices, subject: Subject, listener: OutboxListener) -> None:
        """Deliver the events of `subject` through `services`. `listener`: gets the results."""
        self._current: Event = NO_EVENT
        self.listener = listener
        self._retries = NO_RETRIES
        self._services = services
        self._timer = NO_TIMER
        webhook = services.webhook
        is_shared = subject.trace is None and not webhook.is_per_connection
        self._webhook = webhook if is_shared else webhook.for_connection(subject)
        self.state = IDLE
        self.subject = subject

    @property
    def late(self) -> Closed | None:
        """The `Closed` if its first attempt failed or waits for the circuit breaker; else None."""
        return self._current if isinstance(self._current, Closed) and self._retries is not NO_RETRIES else None

    def skip_delay(self) -> None:
        """End the delay of a `Closed` that is DELAYED."""
        if self.state is DELAYED:
            self._timer.cancel()
            self._end_delay()

    @property
    def webhook(self) -> Webhook:
        """What requests are sent through."""
        return self._webhook

    def use_webhook(self, webhook: Webhook) -> None:
        """Send later requests through `webhook`. It has the circuit breaker and the counters of the one before."""
        self._webhook = webhook

    @property
    def retry_due(self) -> float | None:
        """When the current event is sent again (monotonic seconds), None if that is not known."""
        return self._retries.due if self.state is BACKING_OFF else None

    # What the circuit breaker and the webhook call (see `webhook.Delivery`).

    @property
    def connection_id(self) -> str:
        """The id of the connection."""
        return self.subject.id

    @property
    def untried(self) -> bool:
        """Whether the backend cannot have seen the current event."""
        return not self._retries.failures

    def attempt(self) -> bool:
        """Send the current event; return False if it has left the queue."""
        if self.state is not QUEUED:
            return False
        self._send()
        return True

    def give_up_overdue(self, now: float) -> bool:
        """Give up the current event if it is overdue at `now`; return whether it has left the queue."""
        if self.state is not QUEUED:
            return True
        if not self._is_overdue(now):
            return False
        self._give_up("the backend cannot be reached" if self.untried else self._retries.explain("its requests failed"))
        return True

    def judged(self, verdict: Verdict) -> None:
        """Act on the answer to the current event. Ignored after the outbox was abandoned."""
        if self.state is not DELIVERING:
            return
        if isinstance(verdict, Delivered):
            if verdict.actions is not None:
                self.listener.requested(verdict.actions)
        elif isinstance(verdict, Retry):
            self._retry(verdict)
            return
        elif isinstance(verdict, Undeliverable):
            self.listener.undelivered(verdict.reason, verdict.why)
        else:
            self.listener.decided(verdict)
        self._finish()

    def delivered(self) -> None:
        """Do what `judged` does with `DELIVERED`, for a message that is being delivered."""
        self._move(IDLE)
        self._current = NO_EVENT
        self._start_next()

    # Transitions. A listener may abandon the outbox in any callback, so the state is checked after each callback.

    def _move(self, state: State) -> None:
        if state not in TRANSITIONS[self.state]:
            raise AssertionError(f"{self.subject.id}: {self.state} to {state}")
        self.state = state

    def _start(self, event: Event, is_direct: bool = True) -> None:
        """Make `event` the current event; send it, or let it wait. `is_direct`: it has not waited yet."""
        self._current = event
        self._retries = NO_RETRIES
        if isinstance(event, Message) and self._webhook.breaker.state is CLOSED:
            self._move(DELIVERING)
            self._webhook.call(self, event, is_direct)
        elif isinstance(event, Opened):
            self._move(DELIVERING)
            self._webhook.call(self, event)
        elif isinstance(event, Closed) and event.delay:
            self._move(DELAYED)
            self._timer = self._services.clock.call_later(event.delay, self._end_delay)
        else:
            self._attempt_first(event)

    def _end_delay(self) -> None:
        self._timer = NO_TIMER
        self._attempt_first(self._current)

    def _attempt_first(self, event: Event) -> None:
        """Send `event` for the first time, unless the circuit breaker makes it wait."""
        self._move(DELIVERING if self._webhook.breaker.state is CLOSED else QUEUED)
        if isinstance(event, Closed):
            self.listener.disconnecting(event)
        if self.state is DELIVERING:
            self._webhook.call(self, event)
        elif self.state is QUEUED:
            self._begin_retries()
            self._wait_in_queue()

    def _send(self) -> None:
        if self._retries.failures:
            self._services.counters.requests[type(self._current)].retries += 1
        self._move(DELIVERING)
        self._webhook.call(self, self._current)

    def _begin_retries(self, failures: int = 0) -> None:
        """Start the retry window of the current event."""
        self._journal_disconnect()
        self._retries = Retries(self._webhook.windows[type(self._current)], self._services.clock.now(), failures)
        if isinstance(self._current, Closed):
            self.listener.disconnect_delayed()

    def _journal_disconnect(self) -> None:
        """Write the current event to the journal if it is a `Closed` that may have been sent, unless it is there.

        So this process and the next one send the same bytes.
        """
        event = self._current
        # A body as bytes comes from the journal or, if it is empty, is not set yet.
        if isinstance(event, Closed) and isinstance(event.disconnect, Disconnect) and self._retries is NO_RETRIES:
            self._services.journal.set_disconnect(self.subject.id, event)

    def _wait_in_queue(self) -> None:
        if self.state is QUEUED:
            self._webhook.breaker.wait(self)

    def _retry(self, verdict: Retry) -> None:
        """Send the current event again later, or give it up.

        The window starts with the first failure. It starts again with the first failure of a request that the backend
        may have seen. While the circuit breaker is not closed, it decides when to retry, but no sooner than the backend
        asked for.
        """
        if self._retries is NO_RETRIES or (verdict.sent and self.untried):
            self._begin_retries(int(verdict.sent))
            if self.state is ABANDONED:
                return
        else:
            self._retries.failures += verdict.sent
        if self._is_overdue(self._services.clock.now()):
            self._give_up(self._retries.explain(verdict.why))
        elif self._webhook.breaker.state is not CLOSED and not verdict.after:
            self._move(QUEUED)
            self._wait_in_queue()
        else:
            delay = self._retries.delay(self._services.clock.now(), verdict.after)
            more = {"number": self._current.number, "why": verdict.why, "delay_s": delay}
            fields = about(self.subject.ws_uri, **more)
            logger.debug("%(id)s:%(number)s: %(why)s; again in %(delay_s).3f s", fields)
            self._move(BACKING_OFF)
            self._timer = self._services.clock.call_later(delay, self._end_back_off)

    def _end_back_off(self) -> None:
        self._timer = NO_TIMER
        if self._webhook.breaker.state is CLOSED:
            self._send()
        else:
            self._move(QUEUED)
            self._wait_in_queue()

    def _is_overdue(self, now: float) -> bool:
        return self._retries.is_overdue(now, self._webhook.breaker.unreachable_for(now))

    def _give_up(self, why: str) -> None:
        self._webhook.given_up(self.subject, self._current, why)
        if not isinstance(self._current, Closed):
            self.listener.undelivered(Reason.UNDELIVERED, why)
        self._finish(why)

    def _finish(self, why: str = "") -> None:
        """Finish the current event and start the next. `why`: why it was given up, empty if it was delivered."""
        if self.state is ABANDONED:
            return
        if isinstance(self._current, Closed):
            self._move(DONE)
            if why:
                self.listener.disconnect_failed(why)
            else:
                self._services.journal.remove(self.subject.id)
                self.listener.disconnect_delivered()
            return
        self._move(IDLE)
        self._current = NO_EVENT
        self._start_next()

    def _start_next(self) -> None:
        """Start the next event. A subclass that keeps waiting events overrides this."""
