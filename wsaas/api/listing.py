"""`GET /connections`, the list of all connections, and the pages of such lists.

A list goes from process to process, whatever their nodes, in the order of their prefixes. The processes are asked for
their part of a page one after the other, until the page is full.
"""

import math
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from operator import attrgetter
from typing import Any, Final
from urllib.parse import urlencode

import orjson

from wsaas.api.peer_answers import PeerAnswers, missing_at
from wsaas.api.query import MAX_DIGITS, number, read_query, time
from wsaas.api.route import Response
from wsaas.clock import rfc3339
from wsaas.cluster.peer_process import PeerProcess
from wsaas.cluster.router import Router
from wsaas.errors import BadRequest, Gone
from wsaas.http.request import Request
from wsaas.http.serialize import OK, OutgoingResponse
from wsaas.memory.untracked import untracked_list
from wsaas.sessions.information import information
from wsaas.sessions.registry import PREFIX_LENGTH, Registry
from wsaas.sessions.registry import page as find_page
from wsaas.sessions.session import Session

PAGE: Final = 100
LONGEST_PAGE: Final = 1000
"""Connections on a page: the default of `limit`, and its maximum."""

_CURSOR: Final = re.compile(rf"([A-Za-z0-9_-]{{{PREFIX_LENGTH}}})([0-9]{{1,{MAX_DIGITS}}})")
_TOTALS: Final = {"total", "count"}
_END: Final = "z" * PREFIX_LENGTH + "0"
"""A cursor behind all pages, to get no more than the totals."""

Query = Mapping[str, str]
Content = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a list: behind the connection that has this `order` in the process with this `prefix`."""

    prefix: str
    order: int

    def __str__(self) -> str:
        """Return the `next` of a page."""
        return f"{self.prefix}{self.order}"


@dataclass(frozen=True, slots=True)
class _Listed:
    """What this process has of a list, and the `fields` of each page with totals.

    `after` returns the sessions whose `order` is higher than a number, sorted by it.
    """

    after: Callable[[int], Iterable[Session]]
    order: Callable[[Session], int]
    fields: Content


class Lists:
    """The lists of connections, over all processes."""

    __slots__ = ("_registry", "_router")

    def __init__(self, registry: Registry, router: Router) -> None:
        """List the connections of `registry` and those of the peers that `router` knows."""
        self._registry = registry
        self._router = router

    def connections(self, request: Request) -> Response:
        """Answer a page of connections, for a backend to compare its records with.

        The connections are the live ones, oldest first, or with `state=ending` the ended ones whose DELETE is not
        acknowledged yet, in the order in which they ended. Raises `BadRequest`.
        """
        query = read_query(request)
        if query.get("state", "ending") != "ending":
            raise BadRequest('state must be "ending"; leave it out to list live connections.')
        registry = self._registry
        sessions = registry.ending() if "state" in query else registry.live()
        fields = {"node": registry.node, "started_at": rfc3339(registry.started_at), "total": len(sessions)}
        return self._answer(request, query, _Listed(sessions.after, attrgetter("info.order"), fields))

    def members(self, request: Request, name: str) -> Response:
        """Answer a page of the members of the group `name`, in the order in which they joined. Raises `BadRequest`.

        They are stored in this order, so a page of a large group is found without sorting it.
        """
        groups, query = self._registry.groups, read_query(request)
        members = groups.members(name)

        def order(session: Session) -> int:
            return groups.order(session.id, name)

        def after(number: int) -> Iterable[Session]:
            if not number:
                return members
            ordered = untracked_list(members)
            return islice(ordered, bisect_right(ordered, number, key=order), None)

        fields = {"group": name, "count": len(members)}
        return self._answer(request, query, _Listed(after, order, fields))

    def _answer(self, request: Request, query: Query, listed: _Listed) -> Response:
        """Answer the page behind the cursor in the `query`. Raises `BadRequest`, `Misdirected`.

        The query may have `limit` and `connected_before` (RFC 3339).
        """
        router = self._router.for_request(request)
        own, processes = self._registry.prefix, router.processes
        cursor = _read_cursor(query)
        before = time(query, "connected_before", math.inf)
        page = _Page(listed.fields, cursor, (own, *processes), _limit(query))
        page.add_missing(router.unknown)
        answers = PeerAnswers(page.response)
        path = request.target.partition(b"?")[0]
        state = {"state": query["state"]} if "state" in query else {}
        totals = _target(path, {**state, "after": _END, "limit": "1"})
        # A node answers for the total of all its processes.
        for peer in dict.fromkeys(processes.values()):
            answers.ask(partial(peer.get, request, totals), partial(page.add_total, peer))

        def fill(peer: PeerProcess | None = None, answer: OutgoingResponse | None = None) -> None:
            """Add what a peer has answered for its part of the page; then add the next parts."""
            if peer is not None and answer is not None:
                page.add_answer(peer, answer)
            while not page.is_full:
                holder = processes.get(page.place.prefix)
                if page.place.prefix == own:
                    page.add_part(*self._part(listed, page, before))
                elif holder is None:
                    # It has ended since the page was begun.
                    page.go_on()
                else:
                    target = _target(path, {**query, "after": str(page.place), "limit": str(page.room)})
                    answers.ask(partial(holder.get, request, target), partial(fill, holder))
                    return

        fill()
        answers.done()
        return answers.response(math.inf)

    def _part(self, listed: _Listed, page: "_Page", before: float) -> tuple[list[Content], str | None]:
        """Return the part of this process, and the `next` behind it.

        `before`: clients that connected at this time (seconds since the epoch) or later are left out.
        """
        found, has_more = find_page(listed.after(page.place.order), page.room, before)
        after = str(Cursor(self._registry.prefix, listed.order(found[-1]))) if has_more else None
        return [information(session, self._registry.services) for session in found], after


class _Page:
    """A page, with the totals of all processes.

    `place`: where its next part begins. `room`: how many connections it may still have.
    """

    __slots__ = ("_content", "_left", "place", "room")

    def __init__(self, own: Content, cursor: Cursor, prefixes: Iterable[str], limit: int) -> None:
        """Begin at `cursor`. `own`: the fields and totals of this process. `prefixes`: of all processes."""
        self._content: Content = {"code": "OK", **own, "connections": [], "missing": []}
        self._left = sorted((prefix for prefix in prefixes if prefix >= cursor.prefix), reverse=True)
        self.place = cursor
        self.room = limit
        if not self._left or self._left[-1] != cursor.prefix:
            self.go_on()
        else:
            self._left.pop()

    @property
    def is_full(self) -> bool:
        """Whether nothing can be added."""
        return not self.room or not self.place.prefix

    def add_part(self, connections: Iterable[Content], after: str | None) -> None:
        """Add the `connections` of the process at `place`. `after`: the `next` behind them."""
        prefix = self.place.prefix
        # A node may go on to its next worker, whose turn is later.
        found = [each for each in connections if each["id"].startswith(prefix)]
        self._content["connections"] += found
        self.room -= len(found)
        if found and after is not None and after.startswith(prefix):
            self.place = _cursor(after)
        else:
            self.go_on()

    def add_answer(self, peer: PeerProcess, answer: OutgoingResponse) -> None:
        """Add what a peer has answered for the process at `place`. Without an answer, that process has no part."""
        if answer.status == OK.status:
            part = orjson.loads(answer.body)
            self.add_missing(missing_at(peer.name, part))
            self.add_part(part["connections"], part["next"])
        else:
            self._add_unanswered(peer, answer)
            self.go_on()

    def add_missing(self, names: Sequence[str]) -> None:
        """Name peers that have not answered."""
        missing = self._content["missing"]
        if names:
            self._content["code"] = "PARTIAL"
            missing += [name for name in names if name not in missing]

    def add_total(self, peer: PeerProcess, answer: OutgoingResponse) -> None:
        """Add the total of a peer."""
        if answer.status == OK.status:
            self._add(peer, orjson.loads(answer.body))
        else:
            self._add_unanswered(peer, answer)

    def response(self) -> OutgoingResponse:
        after = str(self.place) if self.place.prefix else None
        return OutgoingResponse(200, orjson.dumps({**self._content, "next": after}))

    def go_on(self) -> None:
        """Let the next part be that of the next process. After the last one, `place` has no prefix."""
        self.place = Cursor(self._left.pop() if self._left else "", 0)

    def _add_unanswered(self, peer: PeerProcess, answer: OutgoingResponse) -> None:
        """Name a peer that has not answered, unless it has ended or has no clients."""
        if answer.status != Gone.status and peer.may_have_clients():
            self.add_missing([peer.name])

    def _add(self, peer: PeerProcess, other: Content) -> None:
        content = self._content
        self.add_missing(missing_at(peer.name, other))
        for key in _TOTALS & content.keys():
            content[key] += other[key]
        if "started_at" in content:
            content["started_at"] = min(content["started_at"], other["started_at"])


def _target(path: bytes, query: Query) -> bytes:
    return path + b"?" + urlencode(query).encode()


def _limit(query: Query) -> int:
    """Return how many connections a page may have. Raises `BadRequest`."""
    limit = number(query, "limit", PAGE)
    if not 0 < limit <= LONGEST_PAGE:
        raise BadRequest(f"limit must be a number from 1 to {LONGEST_PAGE}.")
    return limit


def _read_cursor(query: Query) -> Cursor:
    """Return the cursor `after` of a query; an empty one is that of the first page. Raises `BadRequest`."""
    return _cursor(query["after"]) if query.get("after") else Cursor("", 0)


def _cursor(text: str) -> Cursor:
    """Return the cursor that is the `next` of a page. Raises `BadRequest`."""
    found = _CURSOR.fullmatch(text)
    if found is None:
        raise BadRequest("after must be the next of an earlier page.")
    return Cursor(found[1], int(found[2]))
