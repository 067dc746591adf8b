"""What the backend wrote down against what the clients know: every promise, checked. Knows no process and no socket."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

LAST = 2**53 - 1
"""The number of an event that is the last, whatever came before: `end`, or what a gateway gives the DELETEs of one that
was lost."""

HOSTILE = "hostile-"
"""What names of hostile clients begin with."""

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


def number_of(event: str) -> int:
    """Return the number of an event, as it stands in the books behind the id."""
    return LAST if event == "end" else int(event)


def is_lost(told: dict[str, Any]) -> bool:
    """Return whether a DELETE is that of a gateway that was lost: it does not know how many messages came."""
    return told["messages_in"] is None


def tells_of_loss(told: dict[str, Any]) -> bool:
    """Return whether a DELETE says that messages may be missing."""
    return is_lost(told) or told["code"] == UNDELIVERED or bool(told.get("undelivered"))


class Order:
    """POST, then each message, then the DELETE: each begins when the one before was answered, and repeats only then."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self._last, self._method, self._is_taken = -1, "", True

    def take(self, method: str, event: int, verdict: str, told: dict[str, Any] | None) -> None:
        """Look at the next request. `told`: the body of a DELETE."""
        last, is_taken = self._last, verdict == "ok"
        if told is not None and event == LAST and not is_lost(told):
            event = told["messages_in"] + 1
        if event == last:
            self._is_taken = self._is_taken or is_taken
            if method != self._method:
                self.faults.append(f"event {event} was a {self._method} and is a {method}")
            return
        if self._method == "DELETE" and not (told is not None and is_lost(told)):
            self.faults.append(f"{method} {event} came after the DELETE")
        elif told is not None and (last == -1 or is_lost(told)):
            # Its gateway was killed, or its POST before it was written down.
            pass
        elif event != last + 1 and not (told is not None and tells_of_loss(told)):
            self.faults.append(f"{method} {event} came after {self._method} {last}")
        elif not self._is_taken and method == "PUT":
            self.faults.append(f"PUT {event} began before {self._method} {last} was answered")
        self._last, self._method, self._is_taken = event, method, is_taken


class HostileAccount:
    """A hostile client's connection as the backend knows it: only what it is owed is kept."""

    def __init__(self, client: str, name: str) -> None:
        self.id = client
        self.name = name
        self.deletes: set[int] = set()
        self.is_owed = False
        self.is_settled = False
        self.messages = 0
        self._order = Order()

    def take(self, method: str, event: int, verdict: str, body: str) -> None:
        """Look at the next request."""
        self.is_owed = self.is_owed or (method == "POST" and verdict in SEEN)
        self.messages += method == "PUT"
        if method == "DELETE":
            self.deletes.add(event)
            self.is_settled = self.is_settled or verdict == "ok"
        self._order.take(method, event, verdict, json.loads(body) if method == "DELETE" else None)

    @property
    def faults(self) -> list[str]:
        """What is wrong, in sentences."""
        faults = self._order.faults[:3]
        if self.is_owed and not self.is_settled:
            faults.append("its DELETE is missing")
        if len(self.deletes) > 1:
            faults.append(f"it has more than one DELETE: {sorted(self.deletes)}")
        return faults


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

    def told_by(self, event: int) -> dict[str, Any]:
        """Return what the DELETE of this number tells."""
        told: dict[str, Any] = json.loads(self.bodies["DELETE", event])
        return told

    @property
    def deletes_told(self) -> list[tuple[int, dict[str, Any]]]:
        """The number of each DELETE, and what it tells."""
        return [(event, self.told_by(event)) for event in sorted(self.deletes)]

    @property
    def says_so(self) -> bool:
        """Whether its DELETE tells that messages may be missing."""
        return any(tells_of_loss(told) for _, told in self.deletes_told)


class Ledger:
    """The books, read line by line."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.hostile: dict[str, HostileAccount] = {}

    def read(self, lines: Iterable[str]) -> None:
        for line in lines:
            words = line.split(" ")
            if words[-1] != ".":
                continue
            word, client, number = words[0], words[1], number_of(words[2])
            if word not in ("PUSH", "TOLD") and words[4].startswith(HOSTILE):
                hostile = self.hostile.setdefault(client, HostileAccount(client, words[4]))
                hostile.take(word, number, words[3], " ".join(words[6:-1]))
                continue
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
        # The successor of a lost gateway does not know what that one said, only that it is the same event.
        is_end = method == "DELETE" and event == LAST and is_lost(json.loads(body))
        if account.bodies.setdefault((method, event), body) != body and not is_end:
            account.faults.append(f"event {event} was repeated with another body")
        account.requests.append(request)

    @property
    def unsettled(self) -> list[Account | HostileAccount]:
        """Who is still owed a DELETE."""
        everybody: list[Account | HostileAccount] = [*self.accounts.values(), *self.hostile.values()]
        return [each for each in everybody if each.is_owed and not each.is_settled]


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
    for hostile in ledger.hostile.values():
        violations += [f"{hostile.id} ({hostile.name}): {fault}" for fault in hostile.faults]
        counts["hostile connections"] += 1
        counts["hostile messages"] += hostile.messages
        counts["DELETEs missing"] += hostile.is_owed and not hostile.is_settled
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
    counts["DELETEs of a lost gateway"] += any(is_lost(told) for _, told in account.deletes_told)
    counts["DELETEs missing"] += account.is_owed and not account.is_settled
    for _, status in account.pushes:
        counts[f"pushes {status}"] += 1


def _order(account: Account) -> list[str]:
    order = Order()
    for method, event, verdict in account.requests:
        order.take(method, event, verdict, account.told_by(event) if method == "DELETE" else None)
    return order.faults


def _deletes(account: Account) -> list[str]:
    """One for each that may have been accepted, none for whom the gateway knows to be refused."""
    faults: list[str] = []
    if account.is_owed and not account.is_settled:
        faults.append("its DELETE is missing")
    if len(account.deletes) > 1:
        faults.append(f"it has more than one DELETE: {sorted(account.deletes)}")
    if account.told and not account.is_owed and not all(is_lost(told) for _, told in account.deletes_told):
        faults.append("it was refused, and got a DELETE all the same")
    return faults


def _contents(account: Account) -> list[str]:
    """Each message is the one that its number says; a DELETE that says nothing of a loss comes when there is none."""
    faults: list[str] = []
    for event in account.events("PUT", {"ok", "mute", "hung", "busy"}):
        said = account.bodies["PUT", event].split(" ")[:2]
        if said != [str(event), account.name]:
            faults.append(f"event {event} is message {' of '.join(said)}")
    for event, told in account.deletes_told:
        if is_lost(told):
            if (told["code"], told["reason"], event) != (1006, "gateway lost", LAST):
                faults.append(f"DELETE {event} of a lost gateway says {told}")
            continue
        missing = set(range(1, told["messages_in"] + 1)) - account.events("PUT", {"ok"})
        given_up = told.get("undelivered", len(missing) if told["code"] == UNDELIVERED else 0)
        if len(missing) > given_up:
            faults.append(f"the DELETE says {told}, but messages {sorted(missing)} were not taken")
        if event not in (LAST, told["messages_in"] + 1) and not tells_of_loss(told):
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
