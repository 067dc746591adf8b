"""`GET /console/api/connections`: finds and sorts the connections of all processes, without holding up the loop."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from bisect import insort
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Final

import orjson

from wsaas.api.connections import find_peer
from wsaas.api.peer_answers import PeerAnswers, ignore, missing_at
from wsaas.api.query import number, read_query
from wsaas.api.route import Response
from wsaas.cluster.peer_process import PeerProcess
from wsaas.cluster.router import Router
from wsaas.errors import BadRequest, Gone
from wsaas.http.request import Request
from wsaas.http.serialize import OK, OutgoingResponse
from wsaas.metrics.own import OwnMetrics
from wsaas.run_queue import SLICE_S, RunQueue
from wsaas.sessions.information import information
from wsaas.sessions.registry import Registry
from wsaas.sessions.session import Session
from wsaas.watching.masking import mask_query, mask_subprotocol

PAGE: Final = 50
LONGEST_PAGE: Final = 200
"""Connections on a page: the default of `limit`, and its maximum."""

MAX_GROUPS_SHOWN: Final = 10
MAX_SEARCH: Final = 200
"""Characters of the text that is searched for."""

FIRST_SLICE_S: Final = 0.0005
"""Seconds that a scan may take before it is continued in later turns of the loop."""

CHECKED_EVERY: Final = 16
"""After how many connections a scan looks at the time."""

Key = tuple[Any, ...]
Entry = dict[str, Any]

FIELDS: Final = ("any", "id", "path", "address", "context", "group")
SORTS: Final = ("id", "waiting", "connected")


class ConsoleConnections:
    """The connections as the console shows them."""

    __slots__ = ("_own", "_registry", "_router", "_run_queue")

    def __init__(self, registry: Registry, own: OwnMetrics, router: Router, run_queue: RunQueue) -> None:
        """List the connections of `registry` and those of the peers that `router` knows."""
        self._own = own
        self._registry = registry
        self._router = router
        self._run_queue = run_queue

    def list(self, request: Request) -> Response:
        """Answer a page of the connections that match. Raises `BadRequest`, `Misdirected`."""
        search = read_search(read_query(request))
        router = self._router.for_request(request)
        page = _Page(search, router.unknown)
        answers = PeerAnswers(page.response)
        # A node answers for several processes.
        for peer in dict.fromkeys(router.processes.values()):
            answers.ask(partial(peer.get, request, request.target), partial(page.add_answer, peer))
        scan = Scan(self._registry, search, self._run_queue)

        def scanned() -> None:
            page.add(map(self.entry, scan.found), scan.matched, has_more=scan.has_more)
            answers.done()

        scan.start(scanned)
        return answers.response(float("inf"))

    def get(self, request: Request, connection_id: str) -> Response:
        """Describe one connection, also once it has ended but its DELETE is pending. Raises `Gone`.

        Unlike `GET ws_uri`, it shows no credentials: it is for the screen.
        """
        session = self._registry.remembered(connection_id)
        if session is None:
            return find_peer(self._router, request, connection_id).forward(request, connection_id)
        content = {
            "code": "OK",
            **information(session, self._registry.services),
            **self.entry(session),
            "query": mask_query(session.info.query),
            "subprotocol": session.info.subprotocol and mask_subprotocol(session.info.subprotocol),
        }
        return OutgoingResponse(200, orjson.dumps(content))

    def entry(self, session: Session) -> Entry:
        """Return the JSON object of a session in a list."""
        info, groups = session.info, self._registry.services.groups.names(session.id)
        session.settle()
        own = self._own
        return {
            "id": info.id,
            "path": info.path,
            "remote_address": info.remote_address,
            "context": info.context,
            "groups": [*islice(groups, MAX_GROUPS_SHOWN)],
            "groups_count": len(groups),
            "state": session.state.name,
            "connected_at": info.connected_at,
            "messages_in": info.messages_in,
            "messages_out": info.messages_out,
            "inbox_bytes": session.outbox.level,
            "send_buffer_bytes": session.buffered,
            "paused": session.outbox.backlogged,
            "worker": str(own.index) if own.workers > 1 else None,
        }


@dataclass(frozen=True, slots=True)
class Search:
    """What is searched for. `after`: the key of the last connection of the page before."""

    text: str
    field: str
    sort: str
    limit: int
    after: Key | None

    def key(self, session: Session) -> Key:
        """Return what a session is sorted by."""
        return self._key(session.id, session.outbox.level + session.buffered, session.info.connected_at)

    def key_of(self, entry: Entry) -> Key:
        """Return what an entry is sorted by."""
        return self._key(entry["id"], entry["inbox_bytes"] + entry["send_buffer_bytes"], entry["connected_at"])

    def _key(self, connection_id: str, waiting: int, connected_at: float) -> Key:
        if self.sort == "id":
            return (connection_id,)
        # What waits most, and what has connected last, comes first.
        return -(waiting if self.sort == "waiting" else connected_at), connection_id


def read_search(query: dict[str, str]) -> Search:
    """Return what a query searches for. Raises `BadRequest`."""
    field, sort, limit = query.get("field", "any"), query.get("sort", "connected"), number(query, "limit", PAGE)
    if field not in FIELDS:
        raise BadRequest(f"field must be one of {', '.join(FIELDS)}.")
    if sort not in SORTS:
        raise BadRequest(f"sort must be one of {', '.join(SORTS)}.")
    if not 0 < limit <= LONGEST_PAGE:
        raise BadRequest(f"limit must be a number from 1 to {LONGEST_PAGE}.")
    if len(query.get("search", "")) > MAX_SEARCH:
        raise BadRequest(f"search may have at most {MAX_SEARCH} characters.")
    after = _read_cursor(query["after"], sort) if query.get("after") else None
    return Search(query.get("search", "").lower(), field, sort, limit, after)


class Scan:
    """Looks at all connections of this process, in slices, and keeps those of one page.

    `found`: the sessions of the page. `matched`: how many sessions match, on all pages. `has_more`: whether some come
    after this page.
    """

    __slots__ = ("_best", "_matches", "_on_done", "_run_queue", "_search", "_sessions", "has_more", "matched")

    def __init__(self, registry: Registry, search: Search, run_queue: RunQueue) -> None:
        """Look at the connections of `registry` as they are now."""
        self._best: list[tuple[Key, Session]] = []
        self._matches = _matcher(registry, search)
        self._on_done: Callable[[], None] = ignore
        self._run_queue = run_queue
        self._search = search
        self._sessions = iter(registry.live())
        self.has_more = False
        self.matched = 0

    @property
    def found(self) -> list[Session]:
        """The sessions of the page, in order."""
        return [session for _, session in self._best]

    def start(self, on_done: Callable[[], None]) -> None:
        """Begin, and call `on_done` at the end: before this returns, if there are few connections."""
        self._on_done = on_done
        self._advance(FIRST_SLICE_S)

    def _turn(self) -> None:
        self._advance(SLICE_S)

    def _advance(self, seconds: float) -> None:
        timer = self._run_queue.timer
        end = timer() + seconds
        while batch := [*islice(self._sessions, CHECKED_EVERY)]:
            self._look_at(batch)
            if timer() >= end:
                self._run_queue.add(self._turn)
                return
        self._on_done()

    def _look_at(self, batch: Iterable[Session]) -> None:
        best, search, matches = self._best, self._search, self._matches
        for session in batch:
            if not matches(session):
                continue
            self.matched += 1
            key = search.key(session)
            if search.after is not None and key <= search.after:
                continue
            if len(best) < search.limit:
                insort(best, (key, session))
                continue
            self.has_more = True
            if key < best[-1][0]:
                best.pop()
                insort(best, (key, session))


class _Page:
    """A page, made of the parts of all processes."""

    __slots__ = ("_entries", "_has_more", "_matched", "_missing", "_search")

    def __init__(self, search: Search, unknown: Iterable[str]) -> None:
        """Start empty. `unknown`: names for peers that are not known."""
        self._entries: list[Entry] = []
        self._has_more = False
        self._matched = 0
        self._missing = [*unknown]
        self._search = search

    def add(self, entries: Iterable[Entry], matched: int, *, has_more: bool) -> None:
        """Add a part. `has_more`: whether the process has more behind it."""
        self._entries += entries
        self._has_more |= has_more
        self._matched += matched

    def add_answer(self, peer: PeerProcess, answer: OutgoingResponse) -> None:
        """Add what a peer has answered."""
        if answer.status == OK.status:
            part = orjson.loads(answer.body)
            self._missing += missing_at(peer.name, part)
            self.add(part["connections"], part["matched"], has_more=part["next"] is not None)
        elif answer.status != Gone.status and peer.may_have_clients():
            self._missing.append(peer.name)

    def response(self) -> OutgoingResponse:
        """Return the page."""
        search = self._search
        shown = sorted(self._entries, key=search.key_of)[: search.limit]
        # The key of a connection that waits changes all the time, so these have one page.
        has_more = self._has_more or len(self._entries) > len(shown)
        after = _cursor(search.key_of(shown[-1]), search.sort) if has_more and search.sort != "waiting" else None
        content = {
            "code": "OK",
            "connections": shown,
            "next": after,
            "matched": self._matched,
            "missing": self._missing,
        }
        return OutgoingResponse(200, orjson.dumps(content))


def _matcher(registry: Registry, search: Search) -> Callable[[Session], bool]:
    """Return a function that tells whether a session matches."""
    text, field = search.text, search.field
    if not text:
        return _any
    names = registry.services.groups.names

    def in_group(session: Session) -> bool:
        return any(text in name.lower() for name in names(session.id))

    tests: dict[str, Callable[[Session], bool]] = {
        "id": lambda session: text in session.info.id.lower(),
        "path": lambda session: text in session.info.path.lower(),
        "address": lambda session: text in session.info.remote_address.lower(),
        "context": lambda session: text in (session.info.context or "").lower(),
        "group": in_group,
    }
    return tests.get(field) or (lambda session: any(test(session) for test in tests.values()))


def _any(_session: Session) -> bool:
    return True


def _cursor(key: Key, sort: str) -> str:
    return urlsafe_b64encode(orjson.dumps([sort, *key])).decode().rstrip("=")


def _read_cursor(text: str, sort: str) -> Key:
    """Return the key in a cursor. Raises `BadRequest`."""
    try:
        of, *key = orjson.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, TypeError):
        of, key = None, []
    kinds = [type(each) for each in key]
    if of != sort or kinds != ([str] if sort == "id" else [float, str]):
        raise BadRequest("after must be the next of an earlier page with the same sort.")
    return tuple(key)
