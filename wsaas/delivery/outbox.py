"""Delivers the events of one connection to the backend: in order, one at a time, and in bounded memory."""

from wsaas.clock import NO_TIMER
from wsaas.delivery.event_delivery import NO_EVENT, EventDelivery, OutboxListener
from wsaas.delivery.inbox import Inbox
from wsaas.delivery.outbox_state import ABANDONED, DONE, IDLE
from wsaas.delivery.services import DeliveryServices
from wsaas.delivery.webhook import Subject
from wsaas.events import Event


class Outbox(EventDelivery):
    """Delivers the current event, while later events wait in the inbox.

    `held`: whether to start no further event until `release`.
    """

    __slots__ = ("_inbox", "held")

    def __init__(self, services: DeliveryServices, subject: Subject, listener: OutboxListener) -> None:
        """Deliver the events of `subject` through `services`. `listener`: paused while more than `INBOX` bytes wait."""
        super().__init__(services, subject, listener)
        # Created when an event has to wait: most connections never need it.
        self._inbox: Inbox | None = None
        self.held = False

    @property
    def level(self) -> int:
        """Bytes of the waiting messages."""
        return self._inbox.pressure.level if self._inbox else 0

    @property
    def backlogged(self) -> bool:
        """Whether reading is paused because the backend is slow: then silence does not show that the client is gone."""
        return self.state is not IDLE and self._inbox is not None and self._inbox.pressure.paused

    def put(self, event: Event) -> None:
        """Deliver `event` after all earlier events. Ignored when DONE or ABANDONED."""
        state = self.state
        if state is IDLE and not self.held:
            self._start(event)
        elif state is not ABANDONED and state is not DONE:
            if self._inbox is None:
                services = self._services
                self._inbox = Inbox(services.settings.inbox, self.listener, services.counters)
            self._inbox.add(event)

    def hold(self) -> None:
        """Start no further event until `release`; the current one continues."""
        self.held = True

    def release(self) -> None:
        """Start events again; without `hold`, do nothing."""
        if self.held:
            self.held = False
            if self.state is IDLE:
                self._start_next()

    def discard_messages(self) -> int:
        """Drop the waiting messages, but not a waiting `Closed`; return the number of messages."""
        return self._inbox.discard_messages() if self._inbox else 0

    def abandon(self) -> list[Event]:
        """Stop sending; return the undelivered events, the current one first.

        The verdict on a request that is under way is ignored. A `Closed` that was sent is in the journal afterwards.
        Returns nothing when DONE or ABANDONED.
        """
        if self.state is DONE or self.state is ABANDONED:
            return []
        self._journal_disconnect()
        self._webhook.abandoned()
        undelivered = [] if self.state is IDLE else [self._current]
        if self._inbox is not None:
            undelivered += self._inbox.events()
            self._inbox.pressure.discard()
            self._inbox = None
        self._timer.cancel()
        self._timer = NO_TIMER
        self._move(ABANDONED)
        self._current = NO_EVENT
        return undelivered

    def _start_next(self) -> None:
        inbox = self._inbox
        if inbox and not self.held:
            event = inbox.pop()
            if not inbox:
                self._inbox = None
            self._start(event, is_direct=False)
            # Uncount last: this may resume the client, whose new events must queue after this one.
            inbox.uncount(event)
