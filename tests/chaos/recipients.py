"""The clients that publishes may reach: when each was connected, and a member of which group. See fan_out_audit.py."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.chaos.absences import NO_ABSENCES, Absences
from tests.chaos.audit import SEEN, Account, HostileAccount, Ledger, Life
from tests.chaos.fan_out_log import NEVER, FanOutLog, Span

EVERYONE = "*"
"""The group of `PUT /connections`."""


@dataclass
class Membership:
    """The joins and leaves of one client and one group.

    The answer to a message has been processed when the next message arrives, so their spans meet, but do not overlap.
    """

    joins: list[Span] = field(default_factory=list)
    leaves: list[Span] = field(default_factory=list)

    def is_certain(self, span: Span) -> bool:
        """Return whether the client was a member throughout `span`."""
        return any(
            join.end < span.begin and all(leave.end <= join.begin or leave.begin > span.end for leave in self.leaves)
            for join in self.joins
        )

    def is_possible(self, span: Span) -> bool:
        """Return whether the client may have been a member at some point of `span`."""
        return any(
            join.begin <= span.end
            and not any(leave.begin >= join.end and leave.end < span.begin for leave in self.leaves)
            for join in self.joins
        )


NOBODY = Membership()


class Recipient:
    """A connection, as backend and client know it. `life`: None for hostile clients.

    `since`, `gone`: the gateway had it from some time after `since` to some time before `gone`.
    """

    def __init__(self, connection_id: str, life: Life | None, since: int, gone: int) -> None:
        self.absences = NO_ABSENCES
        self.id = connection_id
        self.life = life
        self.since = since
        self.gone = gone
        self.memberships: dict[str, Membership] = {}
        self.received: set[tuple[str, int]] = set(life.received) if life else set()
        self.stayed_until = life.closing_at if life and life.end == "clean" else 0

    @property
    def has_seen_all(self) -> bool:
        return self.life is not None and self.life.has_seen_all

    def membership(self, group: str) -> Membership:
        return self.memberships.get(group, NOBODY)

    def add(self, group: str, span: Span, *, joins: bool) -> None:
        membership = self.memberships.setdefault(group, Membership())
        (membership.joins if joins else membership.leaves).append(span)

    def widen(self, span: Span) -> Span:
        """Return when a request was carried out for this client. A node that was absent does that later."""
        absence = self.absences.find(self.id, span)
        return span if absence is None else Span(span.begin, max(span.end, absence.end))

    def is_absent(self, span: Span) -> bool:
        """Return whether its node may have counted as dead at some point of `span`, although the client was there."""
        return self.absences.find(self.id, span) is not None

    def may_be_there(self, span: Span) -> bool:
        return self.since <= span.end and (span.begin <= self.gone or self.is_absent(span))

    def is_there(self, span: Span) -> bool:
        """Return whether it was certainly connected throughout `span`, for all nodes."""
        return (
            self.life is not None
            and 0 < self.life.admitted_at < span.begin
            and span.end < self.stayed_until
            and not self.is_absent(span)
        )

    def has_stayed(self, span: Span) -> bool:
        """Return whether it was certainly there after `span`, so that it counts as reached if it received a message."""
        return self.stayed_until > span.end and not self.is_absent(span)

    def may_have_lost(self, span: Span) -> bool:
        """Return whether it may have been sent a message in `span` that did not arrive."""
        return not self.has_seen_all and not self.has_stayed(span)


def find_recipients(ledger: Ledger, lives: Iterable[Life], absences: Absences = NO_ABSENCES) -> dict[str, Recipient]:
    """Return all connections in the log, by their ids, with their memberships."""
    by_name = {life.name: life for life in lives}
    recipients = {each.id: _recipient(each, by_name.get(each.name)) for each in ledger.accounts.values()}
    for hostile in ledger.hostile.values():
        recipients[hostile.id] = _hostile_recipient(hostile)
    for recipient in recipients.values():
        recipient.absences = absences
    _add_requests(recipients, ledger.fan_out)
    return recipients


def _recipient(account: Account, life: Life | None) -> Recipient:
    """Return a client with the memberships that the answers to its requests gave it."""
    requests = [(*request, time) for request, time in zip(account.requests, account.times, strict=True)]
    since = next((time for method, *_, time in requests if method == "POST"), 0)
    gone = next((time for method, *_, time in requests if method == "DELETE"), NEVER)
    recipient = Recipient(account.id, life or Life(account.name, end="left"), since, gone)
    admitted_at = recipient.life.admitted_at if recipient.life and recipient.life.admitted_at else NEVER
    if account.verdicts("POST") & SEEN:
        span = Span(since, min(admitted_at, _next_message(account, 0)))
        recipient.add(EVERYONE, span, joins=True)
        for group in filter(None, account.bodies.get(("POST", 0), "").split(",")):
            recipient.add(group, span, joins=True)
    seen: set[int] = set()
    for method, event, verdict, time in requests:
        if method == "PUT" and verdict == "ok" and event not in seen:
            seen.add(event)
            command = [*account.bodies[method, event].split(" "), "", "", "", ""][3]
            if command[:1] in ("+", "-"):
                recipient.add(command[1:], Span(time, _next_message(account, event)), joins=command[0] == "+")
    return recipient


def _hostile_recipient(hostile: HostileAccount) -> Recipient:
    times = dict(reversed(hostile.times))
    recipient = Recipient(hostile.id, None, times.get("POST", 0), times.get("DELETE", NEVER))
    for group in (EVERYONE, *hostile.groups):
        recipient.add(group, Span(recipient.since, NEVER), joins=True)
    return recipient


def _add_requests(recipients: dict[str, Recipient], log: FanOutLog) -> None:
    """Add the joins and leaves by REST.

    One that is answered 410 may have been carried out, if the worker of its client was killed before it answered.
    """
    for operation in log.operations.values():
        if operation.word in ("JOIN", "LEAVE") and operation.client in recipients:
            if operation.is_refused and operation.status != "410":
                continue
            span = operation.span if operation.is_done else Span(operation.begin, NEVER)
            recipients[operation.client].add(operation.group, span, joins=operation.word == "JOIN")


def _next_message(account: Account, event: int) -> int:
    """Return when a later message than `event` arrived first: the answer to `event` had been processed by then."""
    return next(
        (
            time
            for (method, number, _), time in zip(account.requests, account.times, strict=True)
            if method == "PUT" and number > event
        ),
        NEVER,
    )
