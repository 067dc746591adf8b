"""The lines of publishers.py in the log: requests of the backend about many clients, and their answers."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

NEVER = 2**63 - 1
"""The time of what has not been seen to happen."""

WORDS = {"PUBLISH", "SEND", "JOIN", "LEAVE"}
REFUSALS = {"409", "410", "429", "503"}
"""Statuses that say that nothing was done."""


class Span(NamedTuple):
    """The time between a request and its answer, at some point of which the request was carried out."""

    begin: int
    end: int


@dataclass
class Operation:
    """A request. `group` and `client` as the word has them; `recipients`: the ids for each message of a SEND.

    `status`: `unknown` where the answer never came; `end` is its time then, or NEVER after a kill of the backend.
    """

    word: str
    number: int
    begin: int
    group: str = ""
    client: str = ""
    excluded: frozenset[str] = frozenset()
    closes_slow: bool = False
    recipients: list[list[str]] = field(default_factory=list)
    end: int = NEVER
    status: str = "unknown"
    answer: dict[str, Any] = field(default_factory=dict)

    @property
    def is_done(self) -> bool:
        return self.status == "200"

    @property
    def is_refused(self) -> bool:
        return self.status in REFUSALS

    @property
    def span(self) -> Span:
        """When it was carried out. A request without an answer may be carried out after its connection has ended."""
        return Span(self.begin, self.end if self.is_done or self.is_refused else NEVER)

    @property
    def is_complete(self) -> bool:
        """Whether each process answered in time. Otherwise `sent` and the named clients are only a part."""
        return self.is_done and self.answer.get("code") == "OK" and not self.answer.get("missing")

    def named(self, name: str) -> list[str]:
        """Return the ids in a list of the answer, which may have them as `ws_uri`s."""
        return [each.rpartition("/")[2] for each in self.answer.get(name, [])]


class FanOutLog:
    """The requests by their numbers. Each message of a SEND has a number: `messages` has the place of each."""

    def __init__(self) -> None:
        self.operations: dict[int, Operation] = {}
        self.messages: dict[int, tuple[Operation, int]] = {}

    def read(self, words: Sequence[str], time: int) -> bool:
        """Read a line; return whether it is one of these."""
        word = words[0] if words else ""
        if word == "ANSWER":
            self._answer(words, time)
            return True
        if word not in WORDS:
            return False
        operation = Operation(word, int(words[1]), time)
        if word == "SEND":
            operation.recipients = json.loads(words[2])
        else:
            operation.group = words[2]
        if word == "PUBLISH":
            query = dict(each.split("=", 1) for each in words[3].split("&")) if words[3] != "-" else {}
            operation.excluded = frozenset(filter(None, query.get("except", "").split(",")))
            operation.closes_slow = query.get("slow") == "close"
        elif word != "SEND":
            operation.client = words[3]
        self.operations[operation.number] = operation
        for place in range(len(operation.recipients)):
            self.messages[operation.number + place] = operation, place
        return True

    def _answer(self, words: Sequence[str], time: int) -> None:
        operation = self.operations[int(words[1])]
        operation.end, operation.status = time, words[2]
        if operation.is_done:
            operation.answer = json.loads(" ".join(words[3:]))
