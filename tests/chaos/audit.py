"""What the backend wrote down against what the clients know: every promise, checked. Knows no process and no socket."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

LOST = 2**53 - 1
"""The number of a DELETE whose gateway was lost."""

UNDELIVERED = 1011
SEEN = {"ok", "mute", "hung"}
"""Verdicts after which the backend has the event, whether the gateway knows it or not."""


@dataclass
class Life:
    """One connection as its client knows it.

    `sent`: messages it wrote, numbered from 1, those in `asked` with a question that is answered by a reply. `end`:
    `clean`: it sent a Close 1000 and got one; `closed 1001`: the gateway closed it; `lost`: the connection broke off;
    `left`: it broke off itself; `refused 403`: it got no 101; empty: it lives.
    """

    name: str
    sent: int = 0
    asked: list[int] = field(default_factory=list)
    replies: list[int] = field(default_factory=list)
    pushes: list[int] = field(default_factory=list)
    admitted: bool = False
    end: str = ""
    faults: list[str] = field(default_factory=list)

    @property
    def has_seen_all(self) -> bool:
        """Whether all that was sent to it came before its end: a Close is the last that is sent."""
        return self.end == "clean" or self.end.startswith("closed")


@dataclass
class Account:
    """One connection as the backend knows it. An event is its number; `told`: its refusal was answered."""

    id: str
    name: str = "-"
    requests: list[tuple[str, int, str]] = field(default_factory=list)
    bodies: dict[tuple[str, int], str] = field(default_factory=dict)
    pushes: list[tuple[int, str]] = field(default_factory=list)
    told: bool = False
    faults: list[str] = field(default_factory=list)

    def verdicts(self, method: str) -> set[str]:
        return {verdict for word, _, verdict in self.requests if word == method}

    def events(self, method: str, verdicts: set[str]) -> set[int]:
        return {event for word, event, verdict in self.requests if word == method and verdict in verdicts}

    @property
    def deletes(self) -> set[int]:
        return {event for word, event, _ in self.requests if word == "DELETE"}

    @property
    def is_owed(self) -> bool:
        """Whether it may have been accepted: it has to get its DELETE."""
        return bool(self.verdicts("POST") & SEEN)

    @property
    def is_settled(self) -> bool:
        return "ok" in self.verdicts("DELETE")

    @property
    def repeats(self) -> int:
        return len(self.requests) - len({event for _, event, _ in self.requests})

    @property
    def says_so(self) -> bool:
        """Whether its DELETE tells that messages may be missing."""
        return any(
            event == LOST or json.loads(self.bodies["DELETE", event])["code"] == UNDELIVERED for event in self.deletes
        )


class Ledger:
    """The books, read line by line."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}

    def read(self, lines: Iterable[str]) -> None:
        for line in lines:
            words = line.split(" ")
            if words[-1] != ".":
                continue
            word, client, number = words[0], words[1], int(words[2])
            account = self.accounts.setdefault(client, Account(client))
            if word == "PUSH":
                account.pushes.append((number, words[3]))
            elif word == "TOLD":
                account.told = True
            else:
                verdict, name, context, body = words[3], words[4], words[5], " ".join(words[6:-1])
                self._take(account, (word, number, verdict), (name, context), body)

    def _take(self, account: Account, request: tuple[str, int, str], headers: tuple[str, str], body: str) -> None:
        method, event, _ = request
        name, context = headers
        if account.name not in ("-", name):
            account.faults.append(f"the Authorization of {request} is that of {name}")
        account.name = name
        if method == "PUT" and context != name:
            account.faults.append(f"the Ws-Context of {request} is {context}")
        if account.bodies.setdefault((method, event), body) != body:
            account.faults.append(f"event {event} was repeated with another body")
        account.requests.append(request)

    @property
    def unsettled(self) -> list[Account]:
        """Who is still owed a DELETE."""
        return [each for each in self.accounts.values() if each.is_owed and not each.is_settled]


@dataclass
class Findings:
    """What is wrong, in sentences, and what was counted."""

    violations: list[str]
    counts: Counter[str]


def audit(ledger: Ledger, lives: Iterable[Life]) -> Findings:
    """Compare. Everything has to be at rest: no connection, and nothing under way."""
    violations: list[str] = []
    counts: Counter[str] = Counter()
    by_name: dict[str, Account] = {}
    for account in ledger.accounts.values():
        if account.name in by_name:
            violations.append(f"{account.id}: {account.name} is {by_name[account.name].id} too")
        by_name[account.name] = account
        faults = [*account.faults, *_order(account), *_deletes(account), *_contents(account)]
        violations += [f"{account.id} ({account.name}): {fault}" for fault in faults]
        _count(account, counts)
    for life in lives:
        account = by_name.get(life.name, Account("nobody"))
        faults = [*life.faults, *_delivered(life, account, counts), *_replies(life), *_pushes(life, account)]
        violations += [f"{life.name} ({account.id}), {life.end}: {fault}" for fault in faults]
        counts["lives"] += 1
        counts[f"end: {life.end}"] += 1
        counts["sent"] += life.sent
        counts["replies"] += len(life.replies)
        counts["pushes received"] += len(life.pushes)
    return Findings(violations, counts)


def _count(account: Account, counts: Counter[str]) -> None:
    counts["accepted"] += account.is_owed
    counts["taken"] += len(account.events("PUT", SEEN))
    counts["requests"] += len(account.requests)
    counts["repeats"] += account.repeats
    counts["DELETEs"] += len(account.deletes)
    counts["DELETEs of a lost gateway"] += LOST in account.deletes
    counts["DELETEs missing"] += account.is_owed and not account.is_settled
    for _, status in account.pushes:
        counts[f"pushes {status}"] += 1


def _order(account: Account) -> list[str]:
    """POST, then each message, then the DELETE: each begins when the one before was answered, and repeats only then."""
    faults: list[str] = []
    last, last_method, is_taken = -1, "", True
    for method, event, verdict in account.requests:
        if event == last:
            is_taken = is_taken or verdict == "ok"
            if method != last_method:
                faults.append(f"event {event} was a {last_method} and is a {method}")
            continue
        if last_method == "DELETE":
            faults.append(f"{method} {event} came after the DELETE")
        elif event == LOST or (last == -1 and method == "DELETE"):
            # Its gateway was killed, or its POST before it was written down.
            pass
        elif event != last + 1 and not (method == "DELETE" and account.says_so):
            faults.append(f"{method} {event} came after {last_method} {last}")
        elif not is_taken and method == "PUT":
            faults.append(f"PUT {event} began before {last_method} {last} was answered")
        last, last_method, is_taken = event, method, verdict == "ok"
    return faults


def _deletes(account: Account) -> list[str]:
    """One for each that may have been accepted, none for whom the gateway knows to be refused."""
    faults: list[str] = []
    if account.is_owed and not account.is_settled:
        faults.append("its DELETE is missing")
    if len(account.deletes) > 1:
        faults.append(f"it has more than one DELETE: {sorted(account.deletes)}")
    if account.told and not account.is_owed and account.deletes - {LOST}:
        faults.append("it was refused, and got a DELETE all the same")
    return faults


def _contents(account: Account) -> list[str]:
    """Each message is the one that its number says; a DELETE that says nothing of a loss comes when there is none."""
    faults: list[str] = []
    for event in account.events("PUT", {"ok", "mute", "hung", "busy"}):
        said = account.bodies["PUT", event].split(" ")[:2]
        if said != [str(event), account.name]:
            faults.append(f"event {event} is message {' of '.join(said)}")
    for event in account.deletes:
        told = json.loads(account.bodies["DELETE", event])
        if event == LOST:
            if (told["code"], told["reason"], told["messages_in"]) != (1006, "gateway lost", None):
                faults.append(f"the DELETE of a lost gateway says {told}")
        elif told["messages_in"] is None:
            faults.append(f"DELETE {event} says {told}")
        elif told["code"] != UNDELIVERED:
            missing = set(range(1, told["messages_in"] + 1)) - account.events("PUT", {"ok"})
            if missing:
                faults.append(f"the DELETE says {told}, but messages {sorted(missing)} were not taken")
            if event != told["messages_in"] + 1:
                faults.append(f"the DELETE is event {event}, but says {told}")
    return faults


def _delivered(life: Life, account: Account, counts: Counter[str]) -> list[str]:
    """No message is lost of which nobody was told."""
    faults: list[str] = []
    if not life.end:
        faults.append("it did not come to an end")
    if life.admitted and "ok" not in account.verdicts("POST"):
        faults.append("it got in, and the backend knows nothing of it")
    missing = set(range(1, life.sent + 1)) - account.events("PUT", SEEN)
    acknowledged = {number for number in missing if number <= max(life.replies, default=0)}
    if acknowledged:
        faults.append(f"messages {sorted(acknowledged)} were acknowledged, and the backend has them not")
    if life.end == "left":
        counts["messages that their client cut off"] += len(missing)
    elif life.end != "clean" or account.says_so:
        counts["messages lost, and told so"] += len(missing)
    elif missing:
        counts["messages lost, untold"] += len(missing)
        faults.append(f"messages {sorted(missing)} are lost, and nobody was told")
    return faults


def _replies(life: Life) -> list[str]:
    expected = life.asked[: len(life.replies)]
    return [] if life.replies == expected else [f"replies came to {life.replies}, it asked in {life.asked}"]


def _pushes(life: Life, account: Account) -> list[str]:
    """What was answered 200 arrives in order: all of it before a Close, else all up to some point."""
    faults: list[str] = []
    if life.pushes != sorted(set(life.pushes)):
        faults.append(f"pushes came out of order: {life.pushes}")
    pushed = {number for number, _ in account.pushes}
    unheard = [number for number in life.pushes if number not in pushed]
    # The last of a backend's life may not have been written down. More than one of a client's were not under way.
    if len({number // 1_000_000 for number in unheard}) < len(unheard):
        faults.append(f"pushes came that nobody made: {unheard}")
    refused = {number for number, status in account.pushes if status not in ("200", "unknown")}
    if refused & set(life.pushes):
        faults.append(f"pushes came that were refused: {sorted(refused & set(life.pushes))}")
    strange = {status for _, status in account.pushes} - {"200", "410", "429", "unknown"}
    if strange:
        faults.append(f"pushes were answered {strange}")
    if life.admitted:
        taken = {number for number, status in account.pushes if status == "200"}
        until = max(taken, default=0) if life.has_seen_all else max(life.pushes, default=0)
        gaps = {number for number in taken if number <= until} - set(life.pushes)
        if gaps:
            faults.append(f"pushes {sorted(gaps)} were answered 200 and never came")
    return faults
