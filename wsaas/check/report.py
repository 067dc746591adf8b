"""What a check found, and where it is collected."""

import html
import json
from base64 import b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final
from urllib.parse import parse_qsl

from wsaas.delivery.failure_report import ELLIPSIS
from wsaas.log.redaction import HIDDEN
from wsaas.settings import Settings

MIN_SECRET_LENGTH: Final = 4
"""Characters from which on a value is hidden wherever it appears. Shorter ones are parts of ordinary words."""


class Status(Enum):
    """How bad a finding is. Only a FAIL makes the command fail."""

    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. `message`: what was seen; `advice`: how to mend it, empty if there is nothing to do."""

    status: Status
    check: str
    message: str
    advice: str = ""

    def line(self) -> str:
        """Return the finding on one line."""
        return f"{self.status.value:<4}  {self.check}: {self.message}{self.advice and '; '}{self.advice}"


class Report:
    """The findings so far. Each is passed to `show` at once."""

    def __init__(self, show: Callable[[Finding], None], secrets: Iterable[str] = ()) -> None:
        """Start empty. `secrets`: texts that are hidden in every finding."""
        self._show = show
        # Longest first, as one may contain another.
        spelled = {form for each in secrets if len(each) >= MIN_SECRET_LENGTH for form in _spellings(each)}
        self._secrets = sorted(spelled, key=len, reverse=True)
        self.findings: list[Finding] = []
        self.is_complete = False
        """Whether all checks were tried."""

    @property
    def worst(self) -> Status:
        """The worst status of all findings."""
        found = {each.status for each in self.findings}
        return next((status for status in (Status.FAIL, Status.WARN) if status in found), Status.OK)

    def ok(self, check: str, message: str) -> None:
        """Add a finding that needs no action."""
        self._add(Status.OK, check, message, "")

    def warn(self, check: str, message: str, advice: str) -> None:
        """Add a finding about something that works, but not as well as it could."""
        self._add(Status.WARN, check, message, advice)

    def fail(self, check: str, message: str, advice: str) -> None:
        """Add a finding about something that breaks the contract."""
        self._add(Status.FAIL, check, message, advice)

    def count(self, status: Status) -> int:
        """Return the number of findings with `status`."""
        return sum(each.status is status for each in self.findings)

    def _add(self, status: Status, check: str, message: str, advice: str) -> None:
        finding = Finding(status, check, self._hide(message), self._hide(advice))
        self.findings.append(finding)
        self._show(finding)

    def _hide(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        *cut, rest = text.split(ELLIPSIS)
        return ELLIPSIS.join([*map(self._hide_start, cut), rest])

    def _hide_start(self, text: str) -> str:
        """Hide the start of a secret at the end of `text`, which was cut off there."""
        for secret in self._secrets:
            for size in range(min(len(secret), len(text)), MIN_SECRET_LENGTH - 1, -1):
                if text.endswith(secret[:size]):
                    return text[:-size] + HIDDEN
        return text


def _spellings(secret: str) -> set[str]:
    """Return how a response may spell `secret` (as it is, in JSON, in HTML), and how a finding quotes that."""
    said = {secret, json.dumps(secret)[1:-1], html.escape(secret)}
    # The quotes that `repr` takes depend on the rest of the response.
    return {form for each in said for form in (each, repr(each)[1:-1], repr(f"{each}'\"")[1:-4])}


def secrets_of(settings: Settings, query: str, headers: Iterable[tuple[str, str]]) -> list[str]:
    """Return the texts that no finding may contain: a backend may repeat them in an error page.

    `query`, `headers`: of the handshake.
    """
    found = [token.decode() for token in settings.control_token]
    found += [b64encode(secret).decode() for secret in settings.api_secret]
    for text in (query, settings.api_uri.target.partition("?")[2]):
        found += [value for _, value in parse_qsl(text)]
        found.append(text)
    for _, value in headers:
        found += [value, *value.split()]
    return found
