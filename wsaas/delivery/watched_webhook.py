"""The webhook of watched connections: sends the same requests, and reports them and their answers.

`ReplayWebhook` makes the requests that somebody sends again from the console, outside the order of all others.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from wsaas.delivery.pool import Exchange, Outcome, Pool
from wsaas.delivery.verdicts import Verdict
from wsaas.delivery.webhook import Delivery, EventExchange, Subject, Webhook, result_of
from wsaas.delivery.webhook_wrapper import WebhookWrapper
from wsaas.events import Event


class RequestRecorder(Protocol):
    """Records the requests to the backend about one connection."""

    def requested(self, event: Event, request: bytes, subject: Subject, webhook: Webhook) -> int:
        """The `webhook` made a request; return which attempt for this event it is."""

    def answered(self, event: Event, attempt: int, outcome: Outcome, answer: "Answer") -> None:
        """The outcome is about to be judged."""

    def judged(self, result: str, retry_due: float | None) -> None:
        """The answer reported last was acted on. `retry_due`: when the request is sent again (monotonic seconds)."""


class Answer:
    """What else is known about an outcome. `took`: seconds; `detail`: of a failure."""

    __slots__ = ("detail", "took")

    def __init__(self, took: float, detail: str) -> None:
        """Keep the values."""
        self.detail = detail
        self.took = took


class Replayed(NamedTuple):
    """An event that is sent again, for the time `number`. `webhook`: that of its connection."""

    event: Event
    subject: Subject
    webhook: Webhook
    number: int

    def request(self) -> bytes:
        """Return the request of the webhook for the event, but for the `ce-id`, the signature, and a mark."""
        event, subject = self.event, self.subject
        event_id = f"{subject.id}:{event.number}:replay-{self.number}"
        return self.webhook.compose(subject, event, event_id, "Ws-Replay: 1\r\n")


class WatchedWebhook(WebhookWrapper):
    """The webhook of one watched connection: sends what `inner` sends, and reports it to `recorder`."""

    def __init__(self, inner: Webhook, recorder: RequestRecorder) -> None:
        """Wrap the webhook of the outbox."""
        super().__init__(inner)
        # A wrapper has to see the usual answers, too.
        self._has_shortcut = not isinstance(inner, WebhookWrapper)
        self._recorder = recorder
        self._verdict: Verdict | None = None

    def call(self, delivery: Delivery, event: Event, is_direct: bool = False) -> None:
        """Send `event`, and report it."""
        self._pool.send(WatchedExchange(self, delivery, event, is_direct and self._has_shortcut, self._recorder))

    def judge(self, event: Event, outcome: Outcome) -> Verdict:
        """Return the verdict, and keep it."""
        verdict = self._verdict = super().judge(event, outcome)
        return verdict

    def take_verdict(self) -> Verdict | None:
        """Return the verdict since the last call, None if there is none."""
        verdict, self._verdict = self._verdict, None
        return verdict


class WatchedExchange(EventExchange):
    """The request of one event of a watched connection."""

    __slots__ = ("_attempt", "_detail", "_recorder", "_watched")

    def __init__(
        self, webhook: WatchedWebhook, delivery: Delivery, event: Event, is_direct: bool, recorder: RequestRecorder
    ) -> None:
        """Report to `recorder`."""
        super().__init__(webhook, delivery, event, is_direct)
        self._attempt = recorder.requested(event, self.request, delivery.subject, webhook.inner)
        self._detail = ""
        self._recorder = recorder
        self._watched = webhook

    def explain(self, detail: str, advice: str) -> None:
        """Keep what is known about a failure."""
        super().explain(detail, advice)
        self._detail = detail

    def answered(self, outcome: Outcome) -> None:
        """Report the outcome, and what followed."""
        webhook, delivery = self._watched, self._delivery
        self._recorder.answered(self._event, self._attempt, outcome, Answer(self.took, self._detail))
        webhook.take_verdict()
        try:
            super().answered(outcome)
        finally:
            # A usual answer has none.
            verdict = webhook.take_verdict()
            result = "ok" if verdict is None else result_of(outcome, verdict)
            self._recorder.judged(result, delivery.retry_due)


class ReplayWebhook:
    """Sends events again, with requests that are marked as replayed and have another `ce-id`."""

    def __init__(self, pool: Pool) -> None:
        """Send through `pool`."""
        self._pool = pool

    def replay(self, replayed: Replayed, exchange: "ReplayExchange") -> None:
        """Send a request once more, outside of any order."""
        exchange.request = replayed.request()
        exchange.wait_timeout = replayed.webhook.timeout
        self._pool.send(exchange)


class ReplayExchange(Exchange):
    """A request outside of any order. `done` is called with its outcome and, after a failure, what is known of it."""

    __slots__ = ("_detail", "_done")

    def __init__(self, done: Callable[[Outcome, Answer], None]) -> None:
        """Start without a request."""
        super().__init__(b"", 0.0, retried=False)
        self._detail = ""
        self._done = done

    def explain(self, detail: str, advice: str) -> None:  # noqa: ARG002 - see `Exchange`
        """Keep what is known about a failure."""
        self._detail = detail

    def answered(self, outcome: Outcome) -> None:
        """Report the outcome."""
        self._done(outcome, Answer(self.took, self._detail))
