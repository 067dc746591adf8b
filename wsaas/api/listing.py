"""`GET /connections`, the list of all connections, and the pages of such lists.

A list goes from process to process, whatever their nodes, in the order of their prefixes. A page has connections of one
process, so it may be shorter than the limit although more follow.
"""

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
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
from wsaas.sessions.information import information
from wsaas.sessions.registry import PREFIX_LENGTH, Registry, page
from wsaas.sessions.session import Session

PAGE: Final = 100
LONGEST_PAGE: Final = 1000
"""Connections on a page: the default of `limit`, and its maximum."""

_CURSOR = re.compile(rf"([A-Za-z0-9_-]{{{PREFIX_LENGTH}}})([0-9]{{1,{MAX_DIGITS}}})")
_TOTALS = {"total", "count"}
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
        return self._answer(request, query, partial(self._page, query, sessions, attrgetter("info.order"), fields))

    def members(self, request: Request, name: str) -> Response:
        """Answer a page of the members of the group `name`, in the order in which they joined. Raises `BadRequest`.

        They are stored in this order, so a page of a large group is found without sorting it.
        """
        groups, query = self._registry.groups, read_query(request)
        members = groups.members(name)

        def order(session: Session) -> int:
            return groups.order(session.id, name)

        fields = {"group": name, "count": len(members)}
        return self._answer(request, query, partial(self._page, query, members, order, fields))

    def _answer(self, request: Request, query: Query, own_page: Callable[[int | None], Content]) -> Response:
        """Answer the page behind the cursor in the `query`. Raises `BadRequest`, `Misdirected`.

        `own_page` is called with the order after which the page of this process begins, or None for no page.
        """
        router = self._router.for_request(request)
        own, processes = self._registry.prefix, router.processes
        cursor = _read_cursor(query)
        prefixes = sorted(prefix for prefix in (own, *processes) if prefix >= cursor.prefix)
        here, then = [*prefixes, "", ""][:2]
        after = cursor.order if here == cursor.prefix else 0
        page = _Page(own_page(after if here == own else None), here, str(Cursor(then, 0)) if then else None)
        page.add_missing(router.unknown)
        answers = PeerAnswers(page.response)
        path = request.target.partition(b"?")[0]
        holder = processes.get(here)
        # A node answers for several processes: for the total of all, or with the page of one.
        for peer in dict.fromkeys(processes.values()):
            if peer is holder:
                target = _target(path, {**query, "after": str(Cursor(here, after))})
                answers.ask(partial(peer.get, request, target), partial(page.add_page, peer))
            else:
                state = {"state": query["state"]} if "state" in query else {}
                target = _target(path, {**state, "after": _END, "limit": "1"})
                answers.ask(partial(peer.get, request, target), partial(page.add_total, peer))
        answers.done()
        return answers.response(math.inf)

    def _page(
        self,
        query: Query,
        sessions: Collection[Session],
        order: Callable[[Session], int],
        fields: Content,
        after: int | None,
    ) -> Content:
        """Return the page of `sessions`, which are sorted by `order`, behind `after`. Raises `BadRequest`.

        The query may have `limit` and `connected_before` (RFC 3339).
        """
        limit = number(query, "limit", PAGE)
        if not 0 < limit <= LONGEST_PAGE:
            raise BadRequest(f"limit must be a number from 1 to {LONGEST_PAGE}.")
        before = time(query, "connected_before", math.inf)
        found, has_more = ([], False) if after is None else page(sessions, order, after, limit, before)
        services, prefix = self._registry.services, self._registry.prefix
        return {
            "code": "OK",
            **fields,
            "connections": [information(session, services) for session in found],
            "next": str(Cursor(prefix, order(found[-1]))) if has_more else None,
            "missing": [],
        }


class _Page:
    """A page of the process with `prefix`, with the totals of all. `then`: the cursor of the next process."""

    __slots__ = ("_content", "_prefix", "_then")

    def __init__(self, own: Content, prefix: str, then: str | None) -> None:
        self._content = own
        self._prefix = prefix
        self._then = then

    def add_page(self, peer: PeerProcess, answer: OutgoingResponse) -> None:
        """Show the page of a peer. If it does not answer, the next page is that of the next process."""
        if answer.status == OK.status:
            found = orjson.loads(answer.body)
            connections, after = found["connections"], found["next"]
            # A node goes on to its next worker, whose turn is later.
            if not connections or connections[0]["id"].startswith(self._prefix):
                self._content["connections"] = connections
            if after is not None and after.startswith(self._prefix):
                self._content["next"] = after
            self._add(peer, found)
        else:
            self._add_unanswered(peer, answer)

    def add_missing(self, names: Sequence[str]) -> None:
        """Name peers that have not answered."""
        if names:
            self._content["code"] = "PARTIAL"
            self._content["missing"] += names

    def add_total(self, peer: PeerProcess, answer: OutgoingResponse) -> None:
        """Add the total of a peer."""
        if answer.status == OK.status:
            self._add(peer, orjson.loads(answer.body))
        else:
            self._add_unanswered(peer, answer)

    def response(self) -> OutgoingResponse:
        return OutgoingResponse(200, orjson.dumps({**self._content, "next": self._content["next"] or self._then}))

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


def _read_cursor(query: Query) -> Cursor:
    """Return the cursor `after` of a query. Raises `BadRequest`."""
    text = query.get("after")
    if text is None:
        return Cursor("", 0)
    found = _CURSOR.fullmatch(text)
    if found is None:
        raise BadRequest("after must be the next of an earlier page.")
    return Cursor(found[1], int(found[2]))
