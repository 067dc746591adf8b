"""Checks the promises about groups, publishes and `POST /send`. No process, no socket.

What is provable
----------------
Backend and clients stamp their records with one monotonic clock. A request was carried out at some point of its span,
from its line in the log, written before it was sent, to the line of its answer. Nothing is known about that point, and
two requests with overlapping spans have no order. So each rule has a certain and a possible reading, and a violation
needs the certain one:

- A join is *in force since* the end of its span, a leave *since the begin* of its span. A client is a certain member
  during a publish, if a join ended before it began, and each leave either ended before that join began, or began after
  the publish had ended. It is a possible member unless each join that began before the publish ended was followed by a
  leave that began after that join and ended before the publish began.
- A join or leave in the answer to message n begins with the first request for n that was answered. The answer was
  processed, at the latest, when message n + 1 arrives (it is sent after that), a repeated n does not show it. The join
  of the connect answer has ended when the client has its 101, or when its first message arrives.
- A request without an answer (a kill, a lost connection) has no end: it may be carried out at any later time. It
  proves no join, and no order.
- A client *stayed* past a time t, if it received a message whose request began after t: its connection was open, and
  not yet closing, when that message was written. It also stayed until it sent a Close that was answered with 1000: the
  gateway had no reason of its own to close. That a connection ended proves nothing about t: the gateway may have been
  killed long before the client noticed, and a client that leaves may have lost its connection before.
- The messages of one client arrive in the order in which the gateway wrote them, and a Close is last. So a client that
  stayed past t, or received a Close, received all that was written to it before t: kernel and gateway lose the end of
  a stream only, and never for a client that has seen the Close.

The rules
---------
1. At most once: no client receives a number twice.
2. Order: if the answer to A came before B was sent, no client receives B before A. The messages of one SEND arrive
   in the order of their numbers. This includes pushes and replies.
3. Complete: a publish answered `OK` reached each certain member that stayed past the answer, unless it is named in
   `slow` or `except`. A message of a SEND reached each recipient that stayed past the answer, unless it is named.
4. Nothing else: who receives a publish is a possible member and not in `except`; who receives a SEND is one of its
   recipients. Refused requests reach nobody.
5. `sent` is honest. For a publish it is at least the number of its receivers (with workers: of those that stayed, since
   the clients of a worker that dies count as gone), and at most that number and the possible members whose stream may
   have lost its end. For a SEND, `sent`, `gone_count` and `slow_count` add up to its recipients.
6. Who is named in `slow` did not receive it, was a possible member and, with `slow=close`, stayed no longer and got
   no Close but 1013. Who is `gone`, or answered 410, was not certainly connected.
7. Each request is answered in time, by one of the documented statuses.

The clients of a node that was absent (absences.py) are exempt from rules 3, 5 and 6 at that time, and what was sent to
them meanwhile may have been carried out at its end.

Hostile clients are members too, but keep no records: they only widen what `sent` may be.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

from tests.chaos.absences import NO_ABSENCES, Absences
from tests.chaos.audit import Account, Findings, Ledger, Life
from tests.chaos.fan_out_log import NEVER, Operation, Span
from tests.chaos.recipients import Recipient, find_recipients

STATUSES = {"200", "429", "503", "504", "unknown"}
"""Statuses that a request may be answered with. One for a single client may be answered 410 too."""

BUCKET = 10**9
"""Nanoseconds. Recipients are looked up by the seconds in which they were there."""


def audit_fan_out(
    ledger: Ledger, lives: Iterable[Life], *, has_workers: bool = False, absences: Absences = NO_ABSENCES
) -> Findings:
    """Compare the log with `lives`. No connection may be left, and no request under way."""
    return _FanOutAudit(ledger, lives, absences, has_workers=has_workers).run()


class _FanOutAudit:
    """`has_workers`: whether the gateway is several processes, each of which may have been killed."""

    def __init__(self, ledger: Ledger, lives: Iterable[Life], absences: Absences, *, has_workers: bool) -> None:
        self._has_workers = has_workers
        self._log = ledger.fan_out
        self._counts: Counter[str] = Counter()
        self._violations: list[str] = []
        self._accounts = ledger.accounts
        self._recipients = find_recipients(ledger, lives, absences)
        self._receivers: dict[int, list[Recipient]] = {}
        self._buckets: dict[tuple[str, int], list[Recipient]] = {}

    def run(self) -> Findings:
        for recipient in self._recipients.values():
            if recipient.life is not None:
                self._check_received(recipient, recipient.life)
        # Only now are all `stayed_until` known.
        self._fill_buckets()
        for recipient in self._recipients.values():
            if recipient.life is not None:
                self._check_pushes(recipient)
        for operation in self._log.operations.values():
            self._counts[f"{operation.word}s {operation.status}"] += 1
            allowed = STATUSES if operation.word in ("PUBLISH", "SEND") else {*STATUSES, "410"}
            if operation.status not in allowed:
                self._add(operation, f"it was answered {operation.status}")
            if operation.word == "PUBLISH":
                self._check_publish(operation)
            elif operation.word == "SEND":
                self._check_send(operation)
            elif operation.status == "410" and self._is_there(operation.client, operation.span):
                self._add(operation, f"it was answered 410, but {operation.client} was connected")
        return Findings(self._violations, self._counts)

    def _add(self, operation: Operation, fault: str) -> None:
        self._violations.append(f"{operation.word} {operation.number} {operation.group}: {fault}")

    def _is_there(self, client: str, span: Span) -> bool:
        return client in self._recipients and self._recipients[client].is_there(span)

    # One client.

    def _check_received(self, recipient: Recipient, life: Life) -> None:
        """Check rules 1 and 2, and find out until when it stayed."""
        replies = _reply_spans(self._accounts[recipient.id])
        faults: list[str] = []
        latest, latest_message = 0, ("", 0)
        seen: set[tuple[str, int]] = set()
        in_batch: dict[int, int] = {}
        for message in life.received:
            kind, number = message
            if message in seen:
                faults.append(f"{kind} {number} arrived twice")
            seen.add(message)
            span = self._span(recipient, kind, number, replies)
            if span is None:
                faults.append(f"{kind} {number} arrived, but it was never sent to it")
                continue
            span = recipient.widen(span)
            if span.end < latest:
                faults.append(f"{kind} {number} arrived after {' '.join(map(str, latest_message))}, which came later")
            if span.begin > latest:
                latest, latest_message = span.begin, message
            if kind == "g":
                self._receivers.setdefault(number, []).append(recipient)
            elif kind == "s":
                batch = self._log.messages[number][0].number
                if in_batch.get(batch, 0) > number:
                    faults.append(f"s {number} arrived after s {in_batch[batch]} of one SEND")
                in_batch[batch] = max(in_batch.get(batch, 0), number)
        recipient.stayed_until = max(recipient.stayed_until, latest)
        self._violations += [f"{life.name} ({recipient.id}), {life.end}: {fault}" for fault in faults[:5]]

    def _span(self, recipient: Recipient, kind: str, number: int, replies: dict[int, Span]) -> Span | None:
        """Return when a message was on its way, None if nobody sent it."""
        if kind == "g":
            operation = self._log.operations.get(number)
            return operation.span if operation is not None and operation.word == "PUBLISH" else None
        if kind == "s":
            operation, place = self._log.messages.get(number, (None, 0))
            is_addressed = operation is not None and recipient.id in operation.recipients[place]
            return operation.span if operation is not None and is_addressed else None
        if kind == "r":
            return replies.get(number, Span(0, NEVER))
        account = self._accounts[recipient.id]
        # A killed backend may not have logged its last push. `audit` checks that it is not more than one.
        span = account.push_spans.get(number, Span(0, NEVER))
        return span if (number, "200") in account.pushes else Span(span.begin, NEVER)

    def _check_pushes(self, recipient: Recipient) -> None:
        account = self._accounts[recipient.id]
        for number, status in account.pushes:
            if status == "410" and recipient.is_there(account.push_spans[number]):
                self._violations.append(f"{recipient.id}: push {number} was answered 410, but it was connected")

    # One publish.

    def _check_publish(self, operation: Operation) -> None:
        """Check rules 3 to 6."""
        receivers = self._receivers.get(operation.number, [])
        self._counts["publishes received"] += len(receivers)
        slow = operation.named("slow")
        for each in receivers:
            if operation.is_refused:
                self._add(operation, f"it was refused, but reached {each.id}")
            if each.id in operation.excluded:
                self._add(operation, f"it reached {each.id}, which is in except")
            if not self._is_possible(each, operation):
                self._add(operation, f"it reached {each.id}, which is not a member")
            if each.id in slow:
                self._add(operation, f"it reached {each.id}, which is named as slow")
        if operation.is_done:
            self._check_slow(operation, slow)
            self._check_sent(operation, receivers, frozenset(slow))

    def _check_slow(self, operation: Operation, slow: list[str]) -> None:
        self._counts["slow clients named"] += len(slow)
        if operation.answer["slow_count"] != len(slow) or len(set(slow)) != len(slow):
            self._add(operation, f"slow_count is {operation.answer['slow_count']}, slow is {slow}")
        for client in slow:
            recipient = self._recipients.get(client)
            if recipient is None or not self._is_possible(recipient, operation) or client in operation.excluded:
                self._add(operation, f"{client} is named as slow, but it is not a member")
            elif operation.closes_slow and recipient.life is not None:
                self._counts["slow clients closed"] += 1
                if recipient.stayed_until > operation.end:
                    self._add(operation, f"slow=close did not close {client}")
                if recipient.has_seen_all and recipient.life.end != "closed 1013":
                    self._add(operation, f"slow=close closed {client} with {recipient.life.end}")

    def _check_sent(self, operation: Operation, receivers: list[Recipient], slow: frozenset[str]) -> None:
        sent, span = operation.answer["sent"], operation.span
        got = {each.id for each in receivers}
        uncertain = 0
        for each in self._candidates(operation):
            if each.id in got or each.id in slow or each.id in operation.excluded:
                continue
            may_have_lost = each.may_have_lost(span) or each.is_absent(span)
            if may_have_lost and self._is_possible(each, operation):
                uncertain += 1
            elif operation.is_complete and each.is_there(span) and each.membership(operation.group).is_certain(span):
                self._add(operation, f"it did not reach {each.id}, which was a member and stayed")
        counted = [each for each in receivers if not self._has_workers or each.has_stayed(span)]
        if operation.is_complete and sent < len(counted):
            self._add(operation, f"sent is {sent}, but {len(counted)} clients received it")
        if sent > len(receivers) + uncertain:
            self._add(
                operation, f"sent is {sent}, but {len(receivers)} received it, and {uncertain} may have been sent it"
            )
        self._counts["publishes incomplete"] += not operation.is_complete
        self._counts["publishes sent, by their answers"] += sent
        self._counts["publishes to clients that may not have read them"] += uncertain
        self._counts["publishes to members that certainly stayed"] += sum(
            each.is_there(span) and each.membership(operation.group).is_certain(span) for each in receivers
        )

    def _is_possible(self, recipient: Recipient, operation: Operation) -> bool:
        span = recipient.widen(operation.span)
        return recipient.may_be_there(span) and recipient.membership(operation.group).is_possible(span)

    # One SEND.

    def _check_send(self, operation: Operation) -> None:
        """Check rules 3 to 6 for each recipient."""
        gone, slow = Counter(operation.named("gone")), Counter(operation.named("slow"))
        self._counts["SEND recipients"] += sum(map(len, operation.recipients))
        self._counts["SEND recipients named"] += gone.total() + slow.total()
        if operation.is_complete:
            sums = operation.answer["sent"] + operation.answer["gone_count"] + operation.answer["slow_count"]
            if sums != sum(map(len, operation.recipients)):
                self._add(operation, f"the numbers of {operation.answer} do not add up")
        numbers: dict[str, list[int]] = {}
        for place, recipients in enumerate(operation.recipients):
            for client in recipients:
                numbers.setdefault(client, []).append(operation.number + place)
        for client, expected in numbers.items():
            recipient = self._recipients.get(client)
            if recipient is None or recipient.life is None:
                continue
            got = sum(("s", number) in recipient.received for number in expected)
            self._counts["SENDs received"] += got
            self._check_send_to(operation, recipient, got, len(expected) - gone[client] - slow[client])
            if gone[client] and recipient.is_there(operation.span):
                self._add(operation, f"{client} is named as gone, but was connected")
        for client in (gone.keys() | slow.keys()) - numbers.keys():
            self._add(operation, f"{client} is named, but was no recipient")

    def _check_send_to(self, operation: Operation, recipient: Recipient, got: int, sent: int) -> None:
        """Check what one client received: `got` of the messages, `sent` by the answer."""
        stayed = recipient.has_stayed(operation.span)
        if operation.is_refused and got:
            self._add(operation, f"it was refused, but reached {recipient.id}")
        if not operation.is_complete:
            return
        has_seen_all = recipient.has_seen_all and not recipient.is_absent(operation.span)
        if got < sent and (stayed or has_seen_all):
            self._add(operation, f"{recipient.id} received {got} messages, but {sent} were sent")
        if got > sent and (stayed or not self._has_workers):
            self._add(operation, f"{recipient.id} received {got} messages, but only {sent} were sent")

    # The members at a time.

    def _fill_buckets(self) -> None:
        times = [operation.begin for operation in self._log.operations.values()]
        last = max(times, default=0) // BUCKET
        for recipient in self._recipients.values():
            gone = recipient.widen(Span(recipient.gone, recipient.gone)).end
            for group in recipient.memberships:
                for second in range(recipient.since // BUCKET, min(gone // BUCKET, last) + 1):
                    self._buckets.setdefault((group, second), []).append(recipient)

    def _candidates(self, operation: Operation) -> Iterator[Recipient]:
        """Return all clients that may have been in the group during a publish, and others."""
        seen: set[str] = set()
        for second in range(operation.begin // BUCKET, operation.end // BUCKET + 1):
            for recipient in self._buckets.get((operation.group, second), ()):
                if recipient.id not in seen:
                    seen.add(recipient.id)
                    yield recipient


def _reply_spans(account: Account) -> dict[int, Span]:
    """Return for each message the time between its arrival and that of the next: when its reply was sent."""
    spans: dict[int, Span] = {}
    for (method, event, _), time in zip(account.requests, account.times, strict=True):
        if method == "PUT" and event not in spans:
            if event - 1 in spans:
                spans[event - 1] = Span(spans[event - 1].begin, time)
            spans[event] = Span(time, NEVER)
    return spans
