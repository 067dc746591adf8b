# ruff: noqa: SLF001 - a wrapper takes over the private parts of what it wraps
"""A webhook that adds something to another one, for the events of one connection or of all."""

from wsaas.delivery.pool import Outcome
from wsaas.delivery.verdicts import Verdict
from wsaas.delivery.webhook import Subject, Webhook
from wsaas.events import Event


class WebhookWrapper(Webhook):
    """Passes everything on to the webhook `inner`, which may be a wrapper itself.

    A subclass that overrides `judge` or `count` also has to override `call`, so that it sees the usual answers, too.
    """

    def __init__(self, inner: Webhook) -> None:
        """Send what `inner` would send. Its signer and its counters are shared."""
        # Not `vars`, which a compiled class does not have, and not the constructor, which would make other parts.
        self._hints = inner._hints
        self._methods = inner._methods
        self._names = inner._names
        self._pool = inner._pool
        self._starts = inner._starts
        self._static_headers = inner._static_headers
        self._target = inner._target
        self._text = inner._text
        self._wall = inner._wall
        self.access_keys = inner.access_keys
        self.breaker = inner.breaker
        self.counters = inner.counters
        self.direct = inner.direct
        self.inner = inner
        self.is_per_connection = inner.is_per_connection
        self.signer = inner.signer
        self.timeout = inner.timeout
        self.waits = inner.waits
        self.windows = inner.windows

    def for_connection(self, subject: Subject) -> Webhook:
        """Pass it on."""
        return self.inner.for_connection(subject)

    def user_agent(self) -> str:
        """Pass it on."""
        return self.inner.user_agent()

    def given_up(self, subject: Subject, event: Event, why: str) -> None:
        """Pass it on."""
        self.inner.given_up(subject, event, why)

    def abandoned(self) -> None:
        """Pass it on."""
        self.inner.abandoned()

    def explain(self, detail: str, advice: str) -> None:
        """Pass it on."""
        self.inner.explain(detail, advice)

    def content(self, subject: Subject, event: Event, event_id: str) -> tuple[str, bytes]:
        """Pass it on."""
        return self.inner.content(subject, event, event_id)

    def compose(self, subject: Subject, event: Event, event_id: str, more: str = "") -> bytes:
        """Pass it on."""
        return self.inner.compose(subject, event, event_id, more)

    def request(self, subject: Subject, event: Event) -> bytes:
        """Pass it on."""
        return self.inner.request(subject, event)

    def judge(self, event: Event, outcome: Outcome) -> Verdict:
        """Pass it on."""
        return self.inner.judge(event, outcome)

    def count(self, event: Event, outcome: Outcome, verdict: Verdict, took: float) -> None:
        """Pass it on."""
        self.inner.count(event, outcome, verdict, took)
