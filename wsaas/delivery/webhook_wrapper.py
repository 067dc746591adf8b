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
        vars(self).update(vars(inner))
        self.inner = inner

    def traced(self, subject: Subject) -> Webhook:
        """Pass it on."""
        return self.inner.traced(subject)

    def given_up(self, subject: Subject, event: Event, why: str) -> None:
        """Pass it on."""
        self.inner.given_up(subject, event, why)

    def abandoned(self) -> None:
        """Pass it on."""
        self.inner.abandoned()

    def explain(self, detail: str, advice: str) -> None:
        """Pass it on."""
        self.inner.explain(detail, advice)

    def request(self, subject: Subject, event: Event) -> bytes:
        """Pass it on."""
        return self.inner.request(subject, event)

    def judge(self, event: Event, outcome: Outcome) -> Verdict:
        """Pass it on."""
        return self.inner.judge(event, outcome)

    def count(self, event: Event, outcome: Outcome, verdict: Verdict, took: float) -> None:
        """Pass it on."""
        self.inner.count(event, outcome, verdict, took)
