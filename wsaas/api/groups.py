"""`/groups/…` (publish, list, close, join, leave) and `PUT /connections`, which publishes to every client."""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Final

from wsaas import errors
from wsaas.api.connections import MAX_CLOSE_BODY, find_peer, read_close
from wsaas.api.fan_out import FanOutRunner
from wsaas.api.listing import Lists
from wsaas.api.message import check_memory, read_message, refuse_content_coding
from wsaas.api.query import read_query
from wsaas.api.route import Response
from wsaas.cluster.router import Router
from wsaas.grammar import GROUP_NAME_FORM, is_group_name
from wsaas.http import media_type
from wsaas.http.request import Request, too_large
from wsaas.http.serialize import OK
from wsaas.sessions.group import Group
from wsaas.sessions.publication import ACCEPTING, Closing, Publication, Recipients, SharedMessage
from wsaas.sessions.registry import Registry
from wsaas.sessions.session import Session
from wsaas.sessions.session_state import OPEN

EVERYONE: Final = ""
"""The channel of publishes to all clients. No group has this name."""


class GroupResource:
    """Groups by name, and all clients."""

    __slots__ = ("_groups", "_lists", "_max_message_size", "_registry", "_router", "_runner")

    def __init__(
        self, router: Router, registry: Registry, runner: FanOutRunner, lists: Lists, max_message_size: int
    ) -> None:
        """Find the clients that join and leave by `router`; take messages of at most `max_message_size` bytes."""
        self._groups = registry.groups
        self._lists = lists
        self._max_message_size = max_message_size
        self._registry = registry
        self._router = router
        self._runner = runner

    def body_limit(self, request: Request, *names: str) -> int:
        """Return how many bytes of its body a request may have. Raises the `HTTPError` that refuses it before it."""
        if names:
            _check_name(names[0])
        if request.method == b"PUT":
            refuse_content_coding(request)
            media_type.interpret(request.headers.get(b"content-type"))
            check_memory(request, self._registry.services.memory, self._max_message_size)
            return self._max_message_size
        return MAX_CLOSE_BODY if request.method == b"DELETE" else 0

    def publish(self, request: Request, name: str) -> Response:
        """Send the body as one message to each member of the group."""
        _check_name(name)
        recipients = partial(Recipients, partial(self._groups.group, name), ACCEPTING)
        return self._publish(request, name, recipients, partial(self._groups.group, name))

    def publish_to_all(self, request: Request) -> Response:
        """Send the body as one message to each client that the backend has accepted."""
        return self._publish(request, EVERYONE, partial(Recipients, self._registry.live, (OPEN,)))

    def close(self, request: Request, name: str) -> Response:
        """Close each member, with the code and reason that the body asks for, 1000 without one."""
        _check_name(name)
        refuse_content_coding(request)
        if len(request.body) > MAX_CLOSE_BODY:
            raise too_large(MAX_CLOSE_BODY)
        code, reason = read_close(request.body)
        # On the channel of the publishes, so that those before it are delivered first.
        members = Recipients(partial(self._groups.group, name))
        return self._runner.run(Closing(code, reason, members), name, request)

    def get(self, request: Request, name: str) -> Response:
        """Describe a page of the members."""
        _check_name(name)
        return self._lists.members(request, name)

    def join(self, request: Request, name: str, connection_id: str) -> Response:
        """Add a client to the group."""
        _check_name(name)
        session = self._router.find(connection_id)
        if session is None:
            return self._forward(request, connection_id)
        if session.state not in ACCEPTING:
            raise errors.Gone("This connection has ended.")
        self._groups.join(session, name)
        return OK

    def leave(self, request: Request, name: str, connection_id: str) -> Response:
        """Remove a client from the group."""
        _check_name(name)
        session = self._router.find(connection_id)
        if session is None:
            return self._forward(request, connection_id)
        self._groups.leave(connection_id, name)
        return OK

    def _publish(
        self,
        request: Request,
        channel: str,
        recipients: Callable[[Collection[str]], Recipients],
        find_group: Callable[[], Group[Session]] | None = None,
    ) -> Response:
        """Publish to the `recipients` that are left when the ids in `except` are excluded."""
        message = SharedMessage(*read_message(request, self._max_message_size))
        query = read_query(request)
        excluded = frozenset(each.rpartition("/")[2] for each in query.get("except", "").split(",") if each)
        publication = Publication(message, recipients(excluded), find_group=find_group, closes_slow=_closes_slow(query))
        return self._runner.run(publication, channel, request)

    def _forward(self, request: Request, connection_id: str) -> Response:
        """Forward a request to the peer that has the connection."""
        return find_peer(self._router, request, connection_id).forward(request, connection_id)


def _check_name(name: str) -> None:
    """Raise `BadRequest` unless `name` can be that of a group."""
    if not is_group_name(name):
        raise errors.BadRequest(f"The name of a group must be {GROUP_NAME_FORM}.")


def _closes_slow(query: Mapping[str, str]) -> bool:
    """Return whether slow clients are closed, and not only skipped. Raises `BadRequest`."""
    choice = query.get("slow", "skip")
    if choice not in {"skip", "close"}:
        raise errors.BadRequest("slow must be skip or close.")
    return choice == "close"
