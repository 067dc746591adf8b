"""A delivery that records what a webhook decides on it."""

from collections.abc import Callable

from wsaas.delivery.outbox_state import DELIVERING
from wsaas.delivery.verdicts import DELIVERED, Verdict
from wsaas.delivery.webhook import Delivery, Subject


class FakeDelivery(Delivery):
    """Records the verdicts on its event, and calls `on_verdict` after each."""

    def __init__(self, subject: Subject, retry_due: float | None = None):
        self._subject = subject
        self._retry_due = retry_due
        self.state = DELIVERING
        self.verdicts: list[Verdict] = []
        self.on_verdict: Callable[[], object] = lambda: None

    @property
    def subject(self) -> Subject:
        return self._subject

    @property
    def connection_id(self) -> str:
        return self._subject.id

    @property
    def untried(self) -> bool:
        return True

    @property
    def retry_due(self) -> float | None:
        return self._retry_due

    def attempt(self) -> bool:
        return True

    def give_up_overdue(self, _now: float) -> bool:
        return False

    def delivered(self) -> None:
        self.judged(DELIVERED)

    def judged(self, verdict: Verdict) -> None:
        self.verdicts.append(verdict)
        self.on_verdict()
