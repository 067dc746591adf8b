"""`GET /connections`, the list of all connections, and the pages of such lists.

A list goes from process to process, whatever their nodes, in the order of their prefixes. The processes are asked for
their part of a page one after the other, until the page is full. A long page is made of several parts of each process,
so that no process stands still for it.
"""

import math
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import urlencode

import orjson

from wsaas.api.peer_answers import PeerAnswers, missing_at
from wsaas.api.query import MAX_DIGITS, number, read_query, time
from wsaas.api.route import Response
from wsaas.clock import rfc3339
from wsaas.cluster.peer_process import PeerProcess
from wsaas.cluster.router import Router
from wsaas.errors import BadRequest, Gone, HTTPError
from wsaas.http.request import Request
from wsaas.http.serialize import OK, OutgoingResponse, error_response
from wsaas.run_queue import RunQueue
from wsaas.sessions.information import information
from wsaas.sessions.ordered_table import OrderedTable
from wsaas.sessions.registry import PREFIX_LENGTH, Registry
from wsaas.sessions.registry import page as find_page
from wsaas.sessions.session import Session

PAGE: Final = 100
LONGEST_PAGE: Final = 1000
"""Connections on a page: the default of `limit`, and its maximum."""

PART: Final = 100
"""Connections that are added to a page in one turn of the event loop, and that a peer is asked for at a time."""

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
    """What this process has of a list, which `find` returns, and the `fields` of each page with totals."""

    find: Callable[[], OrderedTable[Session]]
    fields: Content


class Lists:
    """The lists of connections, over all processes."""

    __slots__ = ("_registry", "_router", "_turns")

    def __init__(self, registry: Registry, router: Router, run_queue: RunQueue) -> None:
        """List the connections of `registry` and those of the peers that `router` knows.

        `run_queue`: in which long pages take turns with other connections.
        """
        self._registry = registry
        self._router = router
        self._turns = _Turns(run_queue)

    def connections(self, request: Request) -> Response:
        """Answer a page of connections, for a backend to compare its records with.

        The connections are the live ones, oldest first, or with `state=ending` the ended ones whose DELETE is not
        acknowledged yet, in the order in which they ended. Raises `BadRequest`.
        """
        query = read_query(request)
        if query.get("state", "ending") != "ending":
            raise BadRequest('state must be "ending"; leave it out to list live connections.')
        registry = self._registry
        find = registry.ending if "state" in query else registry.live
        fields = {"node": registry.node, "started_at": rfc3339(registry.started_at), "total": len(find())}
        return self._answer(request, query, _Listed(find, fields))

    def members(self, request: Request, name: str) -> Response:
        """Answer a page of the members of the group `name`, in the order in which they joined. Raises `BadRequest`."""
        find = partial(self._registry.groups.group, name)
        fields = {"group": name, "count": len(find())}
        return self._answer(request, read_query(request), _Listed(find, fields))

    def _answer(self, request: Request, query: Query, listed: _Listed) -> Response:
        """Answer the page that `request` is for. Raises `BadRequest`, `Misdirected`."""
        router = self._router.for_request(request)
        filling = _Filling(_PageRequest(request, query), listed, router, self._registry, self._turns)
        return filling.start()


class _PageRequest:
    """What a request for a page asks for. `before`: see `registry.page`."""

    __slots__ = ("_path", "_query", "before", "cursor", "http", "limit")

    def __init__(self, http: Request, query: Query) -> None:
        """Read a query, which may have `after`, `limit` and `connected_before` (RFC 3339). Raises `BadRequest`."""
        self._path = http.target.partition(b"?")[0]
        self._query = query
        self.before = time(query, "connected_before", math.inf)
        self.cursor = _read_cursor(query)
        self.http = http
        self.limit = _limit(query)

    def part(self, place: Cursor, limit: int) -> bytes:
        """Return the target of a request for up to `limit` connections behind `place`."""
        return self._target({**self._query, "after": str(place), "limit": str(limit)})

    def totals(self) -> bytes:
        """Return the target of a request for the totals."""
        state = {"state": self._query["state"]} if "state" in self._query else {}
        return self._target({**state, "after": _END, "limit": "1"})

    def _target(self, query: Query) -> bytes:
        return self._path + b"?" + urlencode(query).encode()


class _Filling:
    """The work on one page: part by part, each of at most `PART` connections.

    A turn of the event loop adds at most one part of this process, so a page of up to `PART` connections of one process
    is complete at once. An HTTP connection has one response under way. The parts of a page are kept as JSON, so that it
    takes no more memory before it is complete than afterwards.
    """

    __slots__ = ("_answers", "_listed", "_page", "_processes", "_registry", "_request", "_turns")

    def __init__(
        self, request: _PageRequest, listed: _Listed, router: Router, registry: Registry, turns: "_Turns"
    ) -> None:
        """Begin a page of what `listed` and the peers of `router` have."""
        self._processes = router.processes
        self._page = _Page(listed.fields, request.cursor, (registry.prefix, *self._processes), request.limit)
        self._page.add_missing(router.unknown)
        self._answers = PeerAnswers(self._page.response)
        self._listed = listed
        self._registry = registry
        self._request = request
        self._turns = turns

    def start(self) -> Response:
        """Ask the peers for their totals, add the first parts, and return the response."""
        totals = self._request.totals()
        # A node answers for the total of all its processes.
        for peer in dict.fromkeys(self._processes.values()):
            self._answers.ask(partial(peer.get, self._request.http, totals), partial(self._page.add_total, peer))
        if self._fill():
            self._turns.add(self)
        return self._answers.response(math.inf)

    def go_on(self) -> bool:
        """Add the next parts; return whether a later turn has to add more. See `_fill`."""
        # If the caller has gone away, the page is dropped.
        return not self._answers.is_cancelled and self._fill()

    def _fill(self) -> bool:
        """Add parts, up to the next one that a peer or a later turn has to add; return whether it is a later turn."""
        page, own = self._page, self._registry.prefix
        has_turn = True
        while not page.is_full:
            prefix = page.place.prefix
            if prefix == own and has_turn:
                self._add_own()
                has_turn = False
            elif prefix == own:
                return True
            elif (peer := self._processes.get(prefix)) is None:
                # It has ended since the page was begun.
                page.go_on()
            elif self._ask(peer):
                return False
        self._answers.done()
        return False

    def _add_own(self) -> None:
        """Add a part of this process."""
        page, registry, table = self._page, self._registry, self._listed.find()
        found, last = find_page(table.after(page.place.order), min(PART, page.room), self._request.before)
        page.add([information(session, registry.services) for session in found])
        if last is None:
            page.go_on()
        else:
            page.place = Cursor(registry.prefix, table.number(last))

    def _ask(self, peer: PeerProcess) -> bool:
        """Ask `peer` for the next part; return whether it will answer."""
        page, request = self._page, self._request
        try:
            deferred = peer.get(request.http, request.part(page.place, min(PART, page.room)))
        except HTTPError as error:
            page.add_answer(peer, error_response(error))
            return False
        self._answers.wait_for(deferred, partial(self._answered, peer))
        return True

    def _answered(self, peer: PeerProcess, answer: OutgoingResponse) -> None:
        """Add what a peer has answered, and go on."""
        self._page.add_answer(peer, answer)
        if self.go_on():
            self._turns.add(self)


class _Turns:
    """The pages that wait for a turn of the event loop.

    The first one gets all its parts before the next one gets more: many pages that are half filled would take much
    memory. All together have the share of one connection in the `run_queue`.
    """

    __slots__ = ("_run_queue", "_waiting")

    def __init__(self, run_queue: RunQueue) -> None:
        self._run_queue = run_queue
        self._waiting: deque[_Filling] = deque()

    def add(self, filling: _Filling) -> None:
        """Let `filling` go on after those that wait already."""
        self._waiting.append(filling)
        if len(self._waiting) == 1:
            self._run_queue.add(self._take_turn)

    def _take_turn(self) -> None:
        waiting, is_waiting = self._waiting, False
        try:
            is_waiting = waiting[0].go_on()
        finally:
            # In `finally`, so that the others continue even after an exception.
            if not is_waiting:
                waiting.popleft()
            if waiting:
                self._run_queue.add(self._take_turn)


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

    def add(self, connections: Sequence[Content]) -> None:
        """Add `connections`, as JSON: that of a whole page takes longer than a turn of the event loop should."""
        self._content["connections"] += [orjson.Fragment(orjson.dumps(each)) for each in connections]
        self.room -= len(connections)

    def add_answer(self, peer: PeerProcess, answer: OutgoingResponse) -> None:
        """Add what a peer has answered for the process at `place`. Without an answer, that process has no part."""
        if answer.status == OK.status:
            part = orjson.loads(answer.body)
            self.add_missing(missing_at(peer.name, part))
            self._add_part(part["connections"], part["next"])
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

    def _add_part(self, connections: Iterable[Content], after: str | None) -> None:
        """Add the `connections` of a peer at `place`. `after`: the `next` behind them."""
        place, following = self.place, None if after is None else _cursor(after)
        # A node may go on to its next worker, whose turn is later. After it was declared dead, it also lists those of
        # its last clients that have not answered the Close: they have another prefix, and may be all that it answers.
        self.add([each for each in connections if each["id"].startswith(place.prefix)])
        if following is not None and following.prefix == place.prefix and following.order > place.order:
            self.place = following
        else:
            self.go_on()

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
