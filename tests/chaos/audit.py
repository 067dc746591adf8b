"""Checks every promise: compares the log of the backend with the records of the clients. No process, no socket."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.absences import NO_ABSENCES, Absences
from tests.chaos.fan_out_log import FanOutLog, Span
from tests.chaos.link import Address

LAST = 2**53 - 1
"""The number of the event `end`, the last one of a connection."""

HOSTILE = "hostile-"
"""The prefix of the names of hostile clients."""

UNDELIVERED = 1011
SEEN = {"ok", "mute", "hung"}
"""Verdicts after which the backend has processed the event, whether or not the gateway received the answer."""


@dataclass
class Life:
    """One connection as its client knows it.

    `sent`: the number of messages, which are numbered from 1; those in `asked` expect a reply. `end`: empty while it is
    connected, or `clean` (its Close 1000 was answered), `closed 1001` (closed by the gateway), `lost` (the connection
    ended), `left` (the client ended the connection) or `refused 403` (no 101). `received`: the kind and
    the number of each message, in order. `admitted_at`, `closing_at`: when it had its 101, and before it sent a Close.
    `address`: of the node.
    """

    name: str
    sent: int = 0
    asked: list[int] = field(default_factory=list)
    replies: list[int] = field(default_factory=list)
    pushes: list[int] = field(default_factory=list)
    admitted: bool = False
    end: str = ""
    faults: list[str] = field(default_factory=list)
    received: list[tuple[str, int]] = field(default_factory=list)
    admitted_at: int = 0
    closing_at: int = 0
    address: Address = ("", 0)

    @property
    def has_seen_all(self) -> bool:
        """Whether it received everything that was sent to it, because a Close is sent last."""
        return self.end == "clean" or self.end.startswith("closed")


def number_of(event: str) -> int:
    """Return the number of an event, as the log names it."""
    return LAST if event == "end" else int(event)


def is_lost(body: dict[str, Any]) -> bool:
    """Return whether a DELETE reports a lost gateway: then the number of messages is unknown."""
    return body["messages_in"] is None


def reports_loss(body: dict[str, Any]) -> bool:
    """Return whether a DELETE reports that messages may be missing."""
    return is_lost(body) or body["code"] == UNDELIVERED or bool(body.get("undelivered"))


class Order:
    """Checks the order: POST, messages, DELETE. Each follows the answer to the one before; repeats come at once.

    `late`: what came after a DELETE that reports a lost gateway, with its time. This is a fault unless the node was
    absent. `is_cluster`: a node that was killed may come back, and repeat the DELETE with its own body.
    """

    def __init__(self, *, is_cluster: bool = False) -> None:
        self.faults: list[str] = []
        self.late: list[tuple[int, str]] = []
        self._is_cluster = is_cluster
        self._is_lost = False
        self._is_own_end = False
        self._lost_at = 0
        self._last, self._method, self._is_taken = -1, "", True

    def take(self, method: str, event: int, verdict: str, body: dict[str, Any] | None, time: int = 0) -> None:
        """Check the next request. `body`: that of a DELETE."""
        if self._is_lost and body is None:
            self.late.append((time, f"{method} {event} came after the DELETE of a lost gateway"))
        elif not (self._is_lost and self._is_cluster):
            self._take(method, event, verdict, body)
        else:
            self._is_own_end = True
        if body is not None and is_lost(body) and not self._is_lost:
            self._is_lost, self._lost_at = True, time

    def unexcused(self, connection_id: str, absences: Absences) -> list[str]:
        """Return what came too late while the node was not absent.

        A node that has not seen NATS acknowledge a connection delivers all messages and a DELETE of its own.
        """
        if self._is_own_end and absences.cover(connection_id, self._lost_at):
            return []
        return [fault for time, fault in self.late if not absences.cover(connection_id, time)]

    def _take(self, method: str, event: int, verdict: str, body: dict[str, Any] | None) -> None:
        last, is_taken = self._last, verdict == "ok"
        if body is not None and event == LAST and not is_lost(body):
            event = body["messages_in"] + 1
        if event == last:
            self._is_taken = self._is_taken or is_taken
            if method != self._method:
                self.faults.append(f"event {event} was a {self._method} and is a {method}")
            return
        if self._method == "DELETE" and not (body is not None and is_lost(body)):
            self.faults.append(f"{method} {event} came after the DELETE")
        elif body is not None and (last == -1 or is_lost(body)):
            # The gateway was killed, or the backend before it logged the POST.
            pass
        elif event != last + 1 and not (body is not None and reports_loss(body)):
            self.faults.append(f"{method} {event} came after {self._method} {last}")
        elif not self._is_taken and method == "PUT":
            self.faults.append(f"PUT {event} began before {self._method} {last} was answered")
        self._last, self._method, self._is_taken = event, method, is_taken


class HostileAccount:
    """The connection of a hostile client, as the backend logged it. Only the order and the DELETE are checked."""

    def __init__(self, client: str, name: str, *, is_cluster: bool = False) -> None:
        self.id = client
        self.name = name
        self.deletes: set[int] = set()
        self.is_owed = False
        self.is_settled = False
        self.messages = 0
        self.groups: list[str] = []
        self.times: list[tuple[str, int]] = []
        self._order = Order(is_cluster=is_cluster)

    def take(self, method: str, event: int, verdict: str, body: str, time: int) -> None:
        """Check the next request."""
        if method != "PUT":
            self.times.append((method, time))
        if method == "POST" and body:
            self.groups = body.split(",")
        self.is_owed = self.is_owed or (method == "POST" and verdict in SEEN)
        self.messages += method == "PUT"
        if method == "DELETE":
            self.deletes.add(event)
            self.is_settled = self.is_settled or verdict == "ok"
        self._order.take(method, event, verdict, json.loads(body) if method == "DELETE" else None, time)

    def faults(self, absences: Absences) -> list[str]:
        """Return the violations, as sentences."""
        faults = [*self._order.faults, *self._order.unexcused(self.id, absences)][:3]
        if self.is_owed and not self.is_settled:
            faults.append("its DELETE is missing")
        if len(self.deletes) > 1:
            faults.append(f"it has more than one DELETE: {sorted(self.deletes)}")
        return faults


@dataclass
class Account:
    """One connection, as the backend logged it. `refused`: the answer with its refusal was sent.

    `times`: when each of `requests` arrived. `ends`: the number and the body of each DELETE.
    """

    id: str
    name: str = "-"
    requests: list[tuple[str, int, str]] = field(default_factory=list)
    bodies: dict[tuple[str, int], str] = field(default_factory=dict)
    times: list[int] = field(default_factory=list)
    ends: list[tuple[int, str]] = field(default_factory=list)
    pushes: list[tuple[int, str]] = field(default_factory=list)
    push_spans: dict[int, Span] = field(default_factory=dict)
    refused: bool = False
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
        """Whether it may have been accepted, so that a DELETE is owed."""
        return bool(self.verdicts("POST") & SEEN)

    @property
    def is_settled(self) -> bool:
        return "ok" in self.verdicts("DELETE")

    @property
    def repeats(self) -> int:
        return len(self.requests) - len({event for _, event, _ in self.requests})

    @property
    def delete_bodies(self) -> list[tuple[int, dict[str, Any]]]:
        """The number and the body of each DELETE that differs from the others."""
        return [(event, json.loads(body)) for event, body in dict.fromkeys(self.ends)]

    @property
    def reports_loss(self) -> bool:
        """Whether its DELETE reports that messages may be missing."""
        return any(reports_loss(body) for _, body in self.delete_bodies)


class Ledger:
    """The log of the backend, read line by line. In a log without times, the number of a line is its time.

    `is_cluster`: whether the gateway is several nodes.
    """

    def __init__(self, *, is_cluster: bool = False) -> None:
        self.fan_out = FanOutLog()
        self.is_cluster = is_cluster
        self._lines = 0
        self.accounts: dict[str, Account] = {}
        self.hostile: dict[str, HostileAccount] = {}

    def read(self, lines: Iterable[str]) -> None:
        for line in lines:
            words = line.split(" ")
            self._lines += 1
            if words[-1] != ".":
                continue
            time = int(words.pop(-2)[1:]) if words[-2].startswith("@") else self._lines
            if self.fan_out.read(words[:-1], time):
                continue
            word, client, number = words[0], words[1], number_of(words[2])
            if word not in ("PUSH", "REFUSED") and words[4].startswith(HOSTILE):
                hostile = self.hostile.setdefault(client, HostileAccount(client, words[4], is_cluster=self.is_cluster))
                hostile.take(word, number, words[3], " ".join(words[6:-1]), time)
                continue
            account = self.accounts.setdefault(client, Account(client))
            if word == "PUSH":
                account.pushes.append((number, words[3]))
                account.push_spans[number] = Span(int(words[5]) if words[5:-1] else time, time)
            elif word == "REFUSED":
                account.refused = True
            else:
                verdict, name, context, body = words[3], words[4], words[5], " ".join(words[6:-1])
                account.times.append(time)
                self._take(account, (word, number, verdict), (name, context), body)

    def _take(self, account: Account, request: tuple[str, int, str], headers: tuple[str, str], body: str) -> None:
        method, event, _ = request
        name, context = headers
        if account.name not in ("-", name):
            account.faults.append(f"the Authorization of {request} is that of {name}")
        account.name = name
        if method == "PUT" and context != name:
            account.faults.append(f"the Ws-Context of {request} is {context}")
        before = account.bodies.setdefault((method, event), body)
        if before != body and not (method == "DELETE" and event == LAST and self._may_differ(before, body)):
            account.faults.append(f"event {event} was repeated with another body")
        account.requests.append(request)
        if method == "DELETE":
            account.ends.append((event, body))

    def _may_differ(self, before: str, body: str) -> bool:
        """Return whether a DELETE may be repeated with another body: after a kill, one reports a lost gateway."""
        return is_lost(json.loads(body)) or (self.is_cluster and is_lost(json.loads(before)))

    @property
    def unsettled(self) -> list[Account | HostileAccount]:
        """The connections whose DELETE is still owed."""
        everyone: list[Account | HostileAccount] = [*self.accounts.values(), *self.hostile.values()]
        return [each for each in everyone if each.is_owed and not each.is_settled]


@dataclass
class Findings:
    """The violations, as sentences, and the counts."""

    violations: list[str]
    counts: Counter[str]


def audit(
    ledger: Ledger, lives: Iterable[Life], *, has_workers: bool = False, absences: Absences = NO_ABSENCES
) -> Findings:
    """Compare the log with `lives`. No connection may be left, and no request under way.

    `has_workers`: whether the gateway is several processes. Where one is killed, or does not answer another in time,
    what a push came to may be unknown.
    """
    violations: list[str] = []
    counts: Counter[str] = Counter()
    by_name: dict[str, Account] = {}
    for account in ledger.accounts.values():
        if account.name in by_name:
            violations.append(f"{account.id}: {account.name} is {by_name[account.name].id} too")
        by_name[account.name] = account
        faults = [*account.faults, *_order(account, absences, is_cluster=ledger.is_cluster)]
        faults += [*_deletes(account), *_contents(account)]
        violations += [f"{account.id} ({account.name}): {fault}" for fault in faults]
        _count(account, counts)
    for hostile in ledger.hostile.values():
        violations += [f"{hostile.id} ({hostile.name}): {fault}" for fault in hostile.faults(absences)]
        counts["hostile connections"] += 1
        counts["hostile messages"] += hostile.messages
        counts["DELETEs missing"] += hostile.is_owed and not hostile.is_settled
    for life in lives:
        account = by_name.get(life.name, Account("nobody"))
        faults = [*life.faults, *_delivered(life, account, counts), *_replies(life)]
        faults += _pushes(life, account, absences, has_workers=has_workers)
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
    counts["DELETEs of a lost gateway"] += any(is_lost(body) for _, body in account.delete_bodies)
    counts["DELETEs missing"] += account.is_owed and not account.is_settled
    for _, status in account.pushes:
        counts[f"pushes {status}"] += 1


def _order(account: Account, absences: Absences, *, is_cluster: bool) -> list[str]:
    order = Order(is_cluster=is_cluster)
    ends = iter(account.ends)
    for (method, event, verdict), time in zip(account.requests, account.times, strict=True):
        order.take(method, event, verdict, json.loads(next(ends)[1]) if method == "DELETE" else None, time)
    return [*order.faults, *order.unexcused(account.id, absences)]


def _deletes(account: Account) -> list[str]:
    """Check that each possibly accepted client has one DELETE, and each refused client none."""
    faults: list[str] = []
    if account.is_owed and not account.is_settled:
        faults.append("its DELETE is missing")
    if len(account.deletes) > 1:
        faults.append(f"it has more than one DELETE: {sorted(account.deletes)}")
    if account.refused and not account.is_owed and not all(is_lost(body) for _, body in account.delete_bodies):
        faults.append("it was refused, but has a DELETE")
    return faults


def _contents(account: Account) -> list[str]:
    """Check that each message has its own number, and that each DELETE reports the losses."""
    faults: list[str] = []
    for event in account.events("PUT", {"ok", "mute", "hung", "busy"}):
        found = account.bodies["PUT", event].split(" ")[:2]
        if found != [str(event), account.name]:
            faults.append(f"event {event} is message {' of '.join(found)}")
    for event, body in account.delete_bodies:
        if is_lost(body):
            if (body["code"], body["reason"], event) != (1006, "gateway lost", LAST):
                faults.append(f"DELETE {event} of a lost gateway has the body {body}")
            continue
        missing = set(range(1, body["messages_in"] + 1)) - account.events("PUT", {"ok"})
        given_up = body.get("undelivered", len(missing) if body["code"] == UNDELIVERED else 0)
        if len(missing) > given_up:
            faults.append(f"the DELETE has the body {body}, but messages {sorted(missing)} were not delivered")
        if event not in (LAST, body["messages_in"] + 1) and not reports_loss(body):
            faults.append(f"the DELETE is event {event}, but has the body {body}")
    return faults


def _delivered(life: Life, account: Account, counts: Counter[str]) -> list[str]:
    """Check that each lost message was reported to the backend or known to the client."""
    faults: list[str] = []
    if not life.end:
        faults.append("it did not end")
    if life.admitted and "ok" not in account.verdicts("POST"):
        faults.append("it was accepted, but the backend did not log it")
    missing = set(range(1, life.sent + 1)) - account.events("PUT", SEEN)
    acknowledged = {number for number in missing if number <= max(life.replies, default=0)}
    if acknowledged:
        faults.append(f"messages {sorted(acknowledged)} were acknowledged, but the backend has not logged them")
    if life.end == "left":
        counts["messages cut off by their client"] += len(missing)
    elif life.end != "clean" or account.reports_loss:
        counts["messages lost, reported"] += len(missing)
    elif missing:
        counts["messages lost, unreported"] += len(missing)
        faults.append(f"messages {sorted(missing)} are lost, but were not reported")
    return faults


def _replies(life: Life) -> list[str]:
    expected = life.asked[: len(life.replies)]
    return [] if life.replies == expected else [f"replies to {life.replies} arrived, but it asked in {life.asked}"]


def _pushes(life: Life, account: Account, absences: Absences, *, has_workers: bool) -> list[str]:
    """Check that pushes answered 200 arrive in order: all of them before a Close, otherwise all up to some point.

    A push that is answered 410 may have arrived where the worker of its client was killed before it answered, or where
    its node was declared dead, but was alive.
    """
    uncertain = {"unknown", "504"} if has_workers else {"unknown"}
    if has_workers and not life.has_seen_all:
        uncertain.add("410")
    faults: list[str] = []
    if life.pushes != sorted(set(life.pushes)):
        faults.append(f"pushes arrived out of order: {life.pushes}")
    pushed = {number for number, _ in account.pushes}
    unknown = [number for number in life.pushes if number not in pushed]
    # A killed backend may not have logged its last push to a client.
    if len({number // 1_000_000 for number in unknown}) < len(unknown):
        faults.append(f"pushes arrived that were not logged: {unknown}")
    refused = {
        number
        for number, status in account.pushes
        if status not in {"200", *uncertain}
        and not (status == "410" and absences.find(account.id, account.push_spans[number]))
    }
    if refused & set(life.pushes):
        faults.append(f"refused pushes arrived: {sorted(refused & set(life.pushes))}")
    unexpected = {status for _, status in account.pushes} - {"200", "410", "429", *uncertain}
    if has_workers:
        unexpected.discard("503")
    if unexpected:
        faults.append(f"pushes were answered {unexpected}")
    if life.admitted:
        taken = {number for number, status in account.pushes if status == "200"}
        until = max(taken, default=0) if life.has_seen_all else max(life.pushes, default=0)
        gaps = {number for number in taken if number <= until} - set(life.pushes)
        if gaps:
            faults.append(f"pushes {sorted(gaps)} were answered 200, but did not arrive")
    return faults
