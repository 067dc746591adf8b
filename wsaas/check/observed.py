"""What one request to the backend led to, and how a finding describes it."""

from dataclasses import dataclass
from typing import Final

from wsaas.delivery.failure_report import Excerpt, advice
from wsaas.delivery.pool import Outcome
from wsaas.delivery.verdicts import Delivered, Rejected, Undeliverable, Verdict
from wsaas.http.response import Response

_SUCCESS: Final = 2
_JSON_ADVICE: Final = 'answer 2xx with a JSON object such as {"code": "OK"}'


@dataclass(frozen=True, slots=True)
class Observed:
    """The outcome of a request, and the gateway's verdict on it.

    `seconds`: until the answer. `detail`, `advice`: what else is known about a failure.
    `opened`: how many connections were opened for it.
    """

    outcome: Outcome
    verdict: Verdict
    seconds: float
    detail: str = ""
    advice: str = ""
    opened: int = 0

    @property
    def status(self) -> int:
        """The status of the response, 0 if there is none."""
        return self.outcome.status if isinstance(self.outcome, Response) else 0

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return self.status // 100 == _SUCCESS

    @property
    def is_delivered(self) -> bool:
        """Whether the backend acknowledged the request."""
        return isinstance(self.verdict, Delivered)

    @property
    def keeps_alive(self) -> bool:
        """Whether the connection can be used again."""
        return isinstance(self.outcome, Response) and self.outcome.keep_alive

    @property
    def took(self) -> str:
        """The time until the answer, for people."""
        return milliseconds(self.seconds)

    def what(self) -> str:
        """Return what the backend did, beginning with "the backend"."""
        if not isinstance(self.outcome, Response):
            return f"the backend {self.outcome.value}{self.detail}"
        if isinstance(self.verdict, Rejected) and self.verdict.unusable:
            return f"the backend answered {self.status} with {self.verdict.unusable}{Excerpt(self.outcome)}"
        if isinstance(self.verdict, Undeliverable) and self.is_success:
            return self.verdict.why
        return f"the backend answered {self.status}{Excerpt(self.outcome)}"

    def mend(self) -> str:
        """Return how to mend it; empty if that is unknown."""
        if not isinstance(self.outcome, Response):
            return self.advice
        if isinstance(self.verdict, Rejected) and self.verdict.unusable:
            return _JSON_ADVICE
        return advice(self.outcome).removeprefix("; ")


def milliseconds(seconds: float) -> str:
    """Return a time for people, with about two digits."""
    value = seconds * 1000
    return f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"  # noqa: PLR2004 - two digits


def joined(*parts: str) -> str:
    """Return the parts of an advice that are not empty, separated by semicolons."""
    return "; ".join(filter(None, parts))
