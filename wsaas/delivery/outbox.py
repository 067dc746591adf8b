"""The events of one connection on their way to the backend: in order, one at a time, retried, and never too many."""

import random
from collections import deque
from enum import Enum

from wsaas.clock import Clock, Timer
from wsaas.delivery.circuit_breaker import CLOSED
from wsaas.delivery.pool import UNSENT, Outcome
from wsaas.delivery.webhook import Accepted, Delivered, Rejected, Retry, Subject, Undeliverable, Webhook
from wsaas.events import Closed, Event, Message, Opened, Reason
from wsaas.log import logger
from wsaas.log.wording import counted

OVERHEAD = 512
"""Bytes that a waiting message is counted with beyond its data: about what its objects take."""

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 10.0


class OutboxListener:
    """Whose events they are. Hears nothing of what it does not ask for."""

    __slots__ = ()

    def decided(self, verdict: Accepted | Rejected) -> None:
        """The backend answered the `Opened`."""

    def replied(self, reply: Message) -> None:
        """The backend answered a message with one for the client."""

    def undelivered(self, reason: Reason, why: str) -> None:
        """The backend will not take a message."""

    def leaving(self, farewell: Closed) -> None:
        """All before the `Closed` is done with: it is about to be sent."""

    def delayed(self, farewell: Closed) -> None:
        """The `Closed` was not taken at its first attempt, or may have to wait for that; it may be told again."""

    def settled(self, why: str) -> None:
        """The `Closed` is done; `why` is empty if the backend took it."""

    def pause(self) -> None:
        """Take no more messages from the client for now."""

    def resume(self) -> None:
        """Take messages from the client again."""


_NOBODY = OutboxListener()


class Flow(Enum):
    """Whether the next event starts when the one before it is done."""

    RUNNING = "running"
    HELD = "held until the client takes what waits for it"
    ABANDONED = "nothing starts any more"


# A member of an enumeration is searched for each time, a name is there.
RUNNING, HELD, ABANDONED = Flow


class Backpressure:
    """How much of something waits. Above `high` its source is paused, at half of it resumed."""

    __slots__ = ("_high", "_owner", "level", "paused")

    def __init__(self, high: int, owner: OutboxListener) -> None:
        """Pause and resume `owner`."""
        self._high = high
        self._owner = owner
        self.level = 0
        self.paused = False

    def add(self, amount: int) -> None:
        """Count what came to wait."""
        self.level += amount
        if self.level > self._high and not self.paused:
            self.paused = True
            self._owner.pause()

    def remove(self, amount: int) -> None:
        """Count off what waits no longer."""
        self.level -= amount
        if self.paused and self.level <= self._high // 2:
            self.paused = False
            self._owner.resume()


class Inbox:
    """The events that wait. `pressure` weighs their messages, each with `OVERHEAD`."""

    __slots__ = ("_events", "pressure")

    def __init__(self, high: int, owner: OutboxListener) -> None:
        """Start empty; pause `owner` above `high` bytes."""
        self._events: deque[Event] = deque()
        self.pressure = Backpressure(high, owner)

    def __bool__(self) -> bool:
        """Whether any wait."""
        return bool(self._events)

    def add(self, event: Event) -> None:
        """Let `event` wait behind the others."""
        self._events.append(event)
        self.pressure.add(_weight(event))

    def pop(self) -> Event:
        """Take the one that waits longest; it still weighs until `weigh_off`."""
        return self._events.popleft()

    def weigh_off(self, event: Event) -> None:
        """Count off an event that was taken: its owner may be resumed, and add more, at once."""
        self.pressure.remove(_weight(event))

    def discard(self) -> int:
        """Let go of the messages; return how many those were. Their owner may be resumed."""
        messages = [event for event in self._events if isinstance(event, Message)]
        self._events = deque(event for event in self._events if not isinstance(event, Message))
        for message in messages:
            self.weigh_off(message)
        return len(messages)

    def left(self) -> list[Event]:
        """Return all, the one that waits longest first."""
        return [*self._events]


def _weight(event: Event) -> int:
    return OVERHEAD + len(event.data) if isinstance(event, Message) else 0


class Outbox:
    """Delivers events through `webhook`. One whose way is free goes at once; only those that wait are counted."""

    __slots__ = (
        "_breaker",
        "_clock",
        "_current",
        "_flow",
        "_high",
        "_inbox",
        "_owner",
        "_timer",
        "_tries",
        "_until",
        "_webhook",
        "subject",
    )

    def __init__(self, webhook: Webhook, clock: Clock, subject: Subject, owner: OutboxListener, inbox: int) -> None:
        """Deliver for `owner`, pausing it when more than `inbox` bytes wait."""
        self._webhook = webhook
        self._clock = clock
        self._owner = owner
        self._breaker = webhook.breaker
        self._high = inbox
        # Made when something has to wait: a client that is quiet does not pay for it.
        self._inbox: Inbox | None = None
        self.subject = subject
        self._current: Event | None = None
        self._flow = RUNNING
        self._timer: Timer | None = None
        self._tries = 0
        self._until = 0.0

    @property
    def level(self) -> int:
        """Bytes of messages that wait."""
        return self._inbox.pressure.level if self._inbox else 0

    @property
    def backlogged(self) -> bool:
        """Whether the client is paused because the backend is slow: its silence is then not its own fault."""
        return self._current is not None and self._inbox is not None and self._inbox.pressure.paused

    def put(self, event: Event) -> None:
        """Deliver `event` after those that came before; after `abandon`, not at all."""
        if self._current is None and self._flow is RUNNING:
            self._start(event)
            return
        if self._flow is ABANDONED:
            return
        if self._inbox is None:
            self._inbox = Inbox(self._high, self._owner)
        self._inbox.add(event)

    def hurry(self) -> None:
        """Wait no longer for the pause before a `Closed`."""
        if self._timer is not None and isinstance(self._current, Closed) and self._current.pause:
            self._timer.cancel()
            self._end_pause(self._current)

    @property
    def late(self) -> Closed | None:
        """The `Closed` that was not taken at its first attempt, if that is under way."""
        return self._current if isinstance(self._current, Closed) and self._until else None

    @property
    def held(self) -> bool:
        """Whether `hold` was called and `release` was not since."""
        return self._flow is HELD

    def hold(self) -> None:
        """Start nothing more until `release`; what is on its way goes on."""
        if self._flow is RUNNING:
            self._flow = HELD

    def release(self) -> None:
        """Go on after `hold`; harmless without one."""
        if self._flow is HELD:
            self._flow = RUNNING
            if self._current is None:
                self._next()

    def discard(self) -> int:
        """Give up the messages that wait, but not the `Closed` behind them; return how many those were."""
        return self._inbox.discard() if self._inbox else 0

    def abandon(self) -> list[Event]:
        """Stop for good; return the events that are not delivered, that on its way first."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._flow = ABANDONED
        current, inbox, self._current, self._inbox = self._current, self._inbox, None, None
        return ([] if current is None else [current]) + (inbox.left() if inbox else [])

    def leave(self) -> None:
        """Tell the owner nothing more: they know each other, and one that is done with has to be let go."""
        self._owner = _NOBODY

    # What the circuit breaker needs (see `circuit_breaker.QueuedDelivery`).

    @property
    def connection_id(self) -> str:
        """The id of the connection whose events these are."""
        return self.subject.id

    @property
    def untried(self) -> bool:
        """Whether the backend cannot have seen the event on its way: nothing of it was sent yet."""
        return not self._tries

    def attempt(self) -> bool:
        """Send the event on its way; return whether there is one."""
        if self._current is None:
            return False
        self._webhook.call(self.subject, self._current, self._answered)
        return True

    def overdue(self, now: float) -> bool:
        """Give up the event on its way if that is due; return whether there is none any more."""
        if self._current is not None:
            if not self._is_spent(self._current, now):
                return False
            why = (
                "the backend cannot be reached"
                if self.untried
                else f"its requests failed, {counted(self._tries, 'time')}"
            )
            self._give_up(self._current, why)
        return True

    def _start(self, event: Event) -> None:
        self._current = event
        self._tries = 0
        self._until = 0.0
        if isinstance(event, Message) and self._breaker.state is CLOSED:
            self._webhook.call(self.subject, event, self._answered)
        elif isinstance(event, Closed):
            if event.pause:
                self._timer = self._clock.call_later(event.pause, self._end_pause, event)
                return
            self._owner.leaving(event)
            self._send(event)
        else:
            self._send(event)

    def _end_pause(self, event: Closed) -> None:
        self._timer = None
        event.pause = 0.0
        self._start(event)

    def _send(self, event: Event) -> None:
        if self._breaker.state is CLOSED or isinstance(event, Opened):
            self._webhook.call(self.subject, event, self._answered)
        else:
            self._until = self._clock.now() + self._webhook.windows[type(event)]
            if not self._is_abandoned_late(event):
                self._breaker.wait(self)

    def _is_abandoned_late(self, event: Event) -> bool:
        """Tell the owner that `event` is late, where that is of interest; return whether it gave up then."""
        if isinstance(event, Closed):
            self._owner.delayed(event)
        return self._current is None

    def _next(self) -> None:
        self._current = None
        inbox = self._inbox
        if inbox and self._flow is RUNNING:
            event = inbox.pop()
            if not inbox:
                self._inbox = None
            self._start(event)
            # Only now: a client that is resumed may put more, which has to come behind.
            inbox.weigh_off(event)

    def _answered(self, outcome: Outcome) -> None:
        self._breaker.observe(self, outcome)
        event = self._current
        if event is None:
            return
        verdict = self._webhook.judge(event, outcome)
        if isinstance(verdict, Retry):
            self._retry_later(event, verdict, sent=outcome not in UNSENT)
            return
        if isinstance(verdict, Delivered):
            if verdict.reply is not None:
                self._owner.replied(verdict.reply)
        elif isinstance(verdict, Undeliverable):
            self._owner.undelivered(verdict.reason, verdict.why)
        else:
            self._owner.decided(verdict)
        if isinstance(event, Closed):
            self._owner.settled("")
        else:
            self._next()

    def _retry_later(self, event: Event, verdict: Retry, *, sent: bool) -> None:
        """Try again after a pause with full jitter that doubles each time; a client never waits beyond its window.

        While the breaker is not closed it decides instead, but no sooner than the backend asked for.
        """
        now = self._clock.now()
        begins = not self._until or (sent and self.untried)
        self._tries += sent
        if begins:
            self._until = now + self._webhook.windows[type(event)]
            if self._is_abandoned_late(event):
                return
        if self._is_spent(event, now):
            self._give_up(event, verdict.why if self.untried else f"{verdict.why}, {counted(self._tries, 'time')}")
        elif self._breaker.state is not CLOSED and not verdict.after:
            self._breaker.wait(self)
        else:
            pause = random.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._tries, 16)))  # noqa: S311
            pause = max(pause, verdict.after)
            if not self.untried:
                pause = min(pause, self._until - now)
            logger.debug("%s:%s: %s; again in %.3f s", self.subject.id, event.number, verdict.why, pause)
            self._timer = self._clock.call_later(pause, self._try_again)

    def _is_spent(self, event: Event, now: float) -> bool:
        """Return whether `event` is to be given up at `now`.

        After a failure that is so when its window is over; untried, only when the backend could not be reached during
        a whole window.
        """
        if now < self._until:
            return False
        return not self.untried or self._breaker.unreachable_for(now) >= self._webhook.windows[type(event)]

    def _try_again(self) -> None:
        self._timer = None
        if self._breaker.state is CLOSED:
            self.attempt()
        else:
            self._breaker.wait(self)

    def _give_up(self, event: Event, why: str) -> None:
        if isinstance(event, Closed):
            self._owner.settled(why)
        else:
            self._owner.undelivered(Reason.UNDELIVERED, why)
            self._next()
