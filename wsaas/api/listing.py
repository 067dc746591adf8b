"""`GET /connections`, the list of all connections, and the pages of such lists."""

import math
from collections.abc import Callable, Collection, Mapping
from operator import attrgetter
from typing import Any, Final

import orjson

from wsaas.api.query import number, read_query, time
from wsaas.clock import rfc3339
from wsaas.errors import BadRequest
from wsaas.http.request import Request
from wsaas.http.serialize import OutgoingResponse
from wsaas.sessions.information import information
from wsaas.sessions.registry import Registry, page
from wsaas.sessions.session import Session

PAGE: Final = 100
LONGEST_PAGE: Final = 1000
"""Connections on a page: the default of `limit`, and its maximum."""


def list_connections(registry: Registry, request: Request) -> OutgoingResponse:
    """Answer a page of connections, for a backend to compare its records with.

    The connections are the live ones, oldest first, or with `state=ending` the ended ones whose DELETE is not
    acknowledged yet, in the order in which they ended. Raises `BadRequest`.
    """
    query = read_query(request)
    if query.get("state", "ending") != "ending":
        raise BadRequest('state must be "ending"; leave it out to list live connections.')
    sessions = registry.ending() if "state" in query else registry.live()
    fields = {"node": registry.node, "started_at": rfc3339(registry.started_at), "total": len(sessions)}
    return _page(query, sessions, attrgetter("info.order"), registry, fields)


def list_members(registry: Registry, name: str, request: Request) -> OutgoingResponse:
    """Answer a page of the members of the group `name`, in the order in which they joined. Raises `BadRequest`.

    They are stored in this order, so a page of a large group is found without sorting it.
    """
    groups = registry.groups
    members = groups.members(name)

    def order(session: Session) -> int:
        return groups.order(session.id, name)

    return _page(read_query(request), members, order, registry, {"group": name, "count": len(members)})


def _page(
    query: Mapping[str, str],
    sessions: Collection[Session],
    order: Callable[[Session], int],
    registry: Registry,
    fields: Mapping[str, Any],
) -> OutgoingResponse:
    """Answer a page of `sessions`, which are sorted by `order`, behind `fields`. Raises `BadRequest`.

    The query may have `limit`, `after` (the `next` of the page before) and `connected_before` (RFC 3339).
    """
    limit = number(query, "limit", PAGE)
    if not 0 < limit <= LONGEST_PAGE:
        raise BadRequest(f"limit must be a number from 1 to {LONGEST_PAGE}.")
    before = time(query, "connected_before", math.inf)
    found, has_more = page(sessions, order, number(query, "after", 0), limit, before)
    connections = [information(session, registry.services) for session in found]
    content = {"code": "OK", **fields, "connections": connections, "next": order(found[-1]) if has_more else None}
    return OutgoingResponse(200, orjson.dumps(content))
