"""`/api/hubs/{hub}/…`: the REST API of Azure Web PubSub, for programs that use an SDK of it.

A hub, a group and a user are groups here (see `wsaas.hubs`). Requests are forwarded to other processes as they are,
since their token is valid there, too.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, cast

import orjson

from wsaas.api.aws import TranslatedResponse, Translation
from wsaas.api.azure_access import HUBS, AzureAccess
from wsaas.api.azure_fan_out import Counting, Joining, Leaving, leave_groups
from wsaas.api.azure_target import Target, with_summary
from wsaas.api.connections import ConnectionResource, find_peer
from wsaas.api.fan_out import FanOutRunner
from wsaas.api.message import check_memory, read_message, refuse_content_coding
from wsaas.api.route import Response, Route
from wsaas.cluster.router import Router
from wsaas.errors import (
    RETRY_AFTER,
    BadRequest,
    Gone,
    MethodNotAllowed,
    NotFound,
    TooManyGroups,
    Unavailable,
    Unsupported,
)
from wsaas.http import media_type
from wsaas.http.deferred import DeferredResponse
from wsaas.http.headers import Head
from wsaas.http.request import Request
from wsaas.http.serialize import OutgoingResponse, error_response
from wsaas.hubs import hub_group, hub_in_path
from wsaas.reason import Reason
from wsaas.sessions.fan_out import FanOut
from wsaas.sessions.publication import ACCEPTING, Closing, Publication, Recipients, SharedMessage
from wsaas.sessions.registry import Registry
from wsaas.sessions.session import Session
from wsaas.sessions.session_state import CONNECTING, OPEN
from wsaas.websocket.frames import MAX_REASON

_SEND: Final = ":send"
_CLOSE: Final = ":closeConnections"
_UNSUPPORTED: Final = frozenset({"permissions", ":generateToken", ":addToGroups", ":removeFromGroups"})
_NORMAL_CLOSURE: Final = 1000
_FIRST_ERROR: Final = 400
_ACCEPTED: Final = 202
_EXISTS: Final = OutgoingResponse(200)
_DONE: Final = OutgoingResponse(204)
_SENT: Final = OutgoingResponse(_ACCEPTED, b'{"code":"OK","sent":1}')
_NOT_SENT: Final = OutgoingResponse(_ACCEPTED, b'{"code":"OK","sent":0}')
"""The answer to a message for a connection that has ended: as in Azure, it is no error. Azure has no body."""

Operation = Callable[[Request, Target], Response]


class AzureResource:
    """Everything in hubs. `SUMMARY` in a query asks for the summary of this process and its peers, for another one."""

    __slots__ = ("_connection", "_groups", "_operations", "_registry", "_router", "_runner")

    def __init__(
        self, connection: ConnectionResource, router: Router, registry: Registry, runner: FanOutRunner
    ) -> None:
        """Push by `connection`; find clients by `router`, and those of this process in `registry`."""
        self._connection = connection
        self._groups = registry.groups
        self._registry = registry
        self._router = router
        self._runner = runner
        self._operations: Mapping[tuple[str, ...], Mapping[bytes, Operation]] = {
            (_SEND,): {b"POST": self._send_to_all},
            (_CLOSE,): {b"POST": self._close_all},
            ("connections", "*"): {b"GET": self._connection_exists, b"DELETE": self._close_connection},
            ("connections", "*", _SEND): {b"POST": self._send_to_connection},
            ("connections", "*", "groups"): {b"DELETE": self._leave_all},
            ("groups", "*"): {b"GET": self._group_exists},
            ("groups", "*", _SEND): {b"POST": self._send_to_group},
            ("groups", "*", _CLOSE): {b"POST": self._close_group},
            ("groups", "*", "connections", "*"): {b"PUT": self._join, b"DELETE": self._leave},
            ("users", "*"): {b"GET": self._user_exists},
            ("users", "*", _SEND): {b"POST": self._send_to_user},
            ("users", "*", _CLOSE): {b"POST": self._close_user},
            ("users", "*", "groups"): {b"DELETE": self._user_leaves_all},
            ("users", "*", "groups", "*"): {b"PUT": self._user_joins, b"DELETE": self._user_leaves},
        }

    def route(self, prefix: bytes, access: AzureAccess) -> Route:
        """Return the route. `prefix`: a pattern for what may stand before the path."""
        methods = dict.fromkeys((b"GET", b"POST", b"PUT", b"DELETE"), self.handle)
        return Route(rb"%b(%b(?s:.*))" % (prefix, HUBS), methods, self.body_limit, check=access.check)

    def body_limit(self, request: Request, _path: str) -> int:
        """Return how many bytes the body may have. Raises the `HTTPError` that refuses the request before it."""
        target = Target(request.target)
        self._find(request, target)
        if target.shape[-1] != _SEND:
            return 0
        refuse_content_coding(request)
        media_type.interpret(request.headers.get(b"content-type"))
        limit = self._registry.services.settings.max_message_size
        check_memory(request, self._registry.services.memory, limit)
        return limit

    def handle(self, request: Request, _path: str) -> Response:
        """Carry out a request."""
        target = Target(request.target)
        return self._find(request, target)(request, target)

    def _find(self, request: Request, target: Target) -> Operation:
        """Return the operation. Raises `BadRequest`, `MethodNotAllowed`, `NotFound`, `Unsupported`."""
        shape = target.shape
        if shape and (shape[0] in _UNSUPPORTED or shape[-1] in _UNSUPPORTED):
            raise Unsupported("This operation of Azure Web PubSub is not supported: see docs/azure.md.")
        methods = self._operations.get(shape)
        if methods is None:
            raise NotFound("No such path.")
        method = b"GET" if request.method == b"HEAD" else request.method
        if method not in methods:
            allowed = ", ".join(each.decode().replace("GET", "GET, HEAD") for each in methods)
            raise MethodNotAllowed(f"This path supports only {allowed}.", ("Allow", allowed))
        if "filter" in target.query:
            raise BadRequest("The parameter filter is not supported: publish to a group instead.")
        return methods[method]

    # One connection.

    def _send_to_connection(self, request: Request, target: Target) -> Response:
        session = self._router.find(target.names[0])
        if session is None:
            return self._forward(request, target.names[0], _NOT_SENT)
        if not self._is_in_hub(session, target):
            return _NOT_SENT
        try:
            self._connection.push(session, request)
        except Gone:
            return _NOT_SENT
        return _SENT

    def _close_connection(self, request: Request, target: Target) -> Response:
        reason = _reason(target)
        session = self._router.find(target.names[0])
        if session is None:
            return self._forward(request, target.names[0], _DONE)
        if self._is_in_hub(session, target):
            session.close(Reason.BACKEND_CLOSED, _NORMAL_CLOSURE, reason)
            self._registry.record_push(session.id, "DELETE", _DONE.status, "OK")
        return _DONE

    def _connection_exists(self, request: Request, target: Target) -> Response:
        session = self._router.find(target.names[0])
        if session is None:
            return self._forward(request, target.names[0], _no_connection())
        return _EXISTS if session.state is OPEN and self._is_in_hub(session, target) else _no_connection()

    def _join(self, request: Request, target: Target) -> Response:
        name, connection_id = target.group(0), target.names[1]
        session = self._router.find(connection_id)
        if session is None:
            return self._forward(request, connection_id, _no_connection())
        if session.state not in ACCEPTING or not self._is_in_hub(session, target):
            return _no_connection()
        self._groups.join(session, name)
        return _EXISTS

    def _leave(self, request: Request, target: Target) -> Response:
        name, connection_id = target.group(0), target.names[1]
        if self._router.find(connection_id) is None:
            return self._forward(request, connection_id, _DONE)
        self._groups.leave(connection_id, name)
        return _DONE

    def _leave_all(self, request: Request, target: Target) -> Response:
        session = self._router.find(target.names[0])
        if session is None:
            return self._forward(request, target.names[0], _DONE)
        leave_groups(self._groups, session, _groups_of(target))
        return _DONE

    def _forward(self, request: Request, connection_id: str, gone: OutgoingResponse) -> Response:
        """Forward a request to the process that has the connection. `gone`: the answer if no process has it."""
        try:
            response = find_peer(self._router, request, connection_id).forward(request, connection_id)
        except Gone:
            return gone
        return TranslatedResponse(response, partial(_unless_gone, gone))

    def _is_in_hub(self, session: Session, target: Target) -> bool:
        if session.state is CONNECTING:
            # It joins the group of its hub when the backend accepts it.
            named = hub_in_path(session.info.path, session.info.query)
            hub = self._registry.services.settings.azure_hub if named is None else named
            return hub.lower() == target.hub.lower()
        return self._groups.has(session.id, hub_group(target.hub))

    # All clients of a hub, a group or a user.

    def _send_to_all(self, request: Request, target: Target) -> Response:
        return self._publish(request, target, hub_group(target.hub))

    def _send_to_group(self, request: Request, target: Target) -> Response:
        return self._publish(request, target, target.group(0))

    def _send_to_user(self, request: Request, target: Target) -> Response:
        return self._publish(request, target, target.user())

    def _close_all(self, request: Request, target: Target) -> Response:
        return self._close(request, target, hub_group(target.hub))

    def _close_group(self, request: Request, target: Target) -> Response:
        return self._close(request, target, target.group(0))

    def _close_user(self, request: Request, target: Target) -> Response:
        return self._close(request, target, target.user())

    def _group_exists(self, request: Request, target: Target) -> Response:
        return self._exists(request, target, target.group(0))

    def _user_exists(self, request: Request, target: Target) -> Response:
        return self._exists(request, target, target.user())

    def _user_joins(self, request: Request, target: Target) -> Response:
        work = Joining(partial(self._groups.group, target.user()), self._groups, target.group(1))
        return self._run(request, target, work, target.group(1), _joined)

    def _user_leaves(self, request: Request, target: Target) -> Response:
        name = target.group(1)
        work = Leaving(partial(self._groups.group, target.user()), self._groups, name.__eq__)
        return self._run(request, target, work, name, _done)

    def _user_leaves_all(self, request: Request, target: Target) -> Response:
        name = target.user()
        work = Leaving(partial(self._groups.group, name), self._groups, _groups_of(target))
        return self._run(request, target, work, name, _done)

    def _publish(self, request: Request, target: Target, name: str) -> Response:
        message = SharedMessage(*read_message(request, self._registry.services.settings.max_message_size))
        recipients = Recipients(partial(self._groups.group, name), ACCEPTING, frozenset(_excluded(target)))
        work = Publication(message, recipients, find_group=partial(self._groups.group, name))
        return self._run(request, target, work, name, _published)

    def _close(self, request: Request, target: Target, name: str) -> Response:
        recipients = Recipients(partial(self._groups.group, name), ACCEPTING, frozenset(_excluded(target)))
        # On the channel of the publishes, so that those before it are delivered first.
        return self._run(request, target, Closing(_NORMAL_CLOSURE, _reason(target), recipients), name, _done)

    def _exists(self, request: Request, target: Target, name: str) -> Response:
        return self._run(request, target, Counting(partial(self._groups.group, name)), name, _found)

    def _run(self, request: Request, target: Target, work: FanOut, channel: str, translate: Translation) -> Response:
        """Do `work` here and at all peers, and `translate` the summary unless it is for another process."""
        if target.is_from_peer:
            return self._runner.run(work, channel, request)
        headers = Head("1.1", request.headers, frozenset())
        forwarded = Request(request.method, with_summary(request.target), headers)
        forwarded.body = request.body
        response = self._runner.run(work, channel, forwarded)
        if isinstance(response, OutgoingResponse):
            return translate(response)
        return TranslatedResponse(cast(DeferredResponse, response), partial(_unless_failed, translate))


def _excluded(target: Target) -> list[str]:
    """Return the ids of the connections that are left out."""
    return target.query.get("excluded", [])


def _reason(target: Target) -> str:
    """Return the reason of a Close. Raises `BadRequest`."""
    reason = target.parameter("reason")
    if len(reason.encode("utf-8", "replace")) > MAX_REASON:
        raise BadRequest(f"The reason may have at most {MAX_REASON} bytes.")
    return reason


def _groups_of(target: Target) -> Callable[[str], bool]:
    """Return a function that returns whether a group is one of the application, in this hub."""
    prefix = f"{target.hub.lower()}:group:"
    return lambda name: name.startswith(prefix)


def _no_connection() -> OutgoingResponse:
    return error_response(NotFound("There is no such connection in this hub."))


def _unless_gone(gone: OutgoingResponse, response: OutgoingResponse) -> OutgoingResponse:
    return gone if response.status == Gone.status else response


def _unless_failed(translate: Translation, response: OutgoingResponse) -> OutgoingResponse:
    """Translate a summary. What is none is an error, such as that the peers did not answer in time."""
    return response if response.status >= _FIRST_ERROR else translate(response)


def _published(response: OutgoingResponse) -> OutgoingResponse:
    """Return the answer to a publish. Its body says what was done; Azure has none."""
    return OutgoingResponse(_ACCEPTED, response.body)


def _done(_response: OutgoingResponse) -> OutgoingResponse:
    return _DONE


def _found(response: OutgoingResponse) -> OutgoingResponse:
    """Return whether there are members."""
    summary: dict[str, Any] = orjson.loads(response.body)
    if summary["members"]:
        return _EXISTS
    if summary["missing"]:
        return error_response(Unavailable("Some nodes did not answer: ask again.", RETRY_AFTER))
    return error_response(NotFound("There is no connection of it."))


def _joined(response: OutgoingResponse) -> OutgoingResponse:
    """Return the answer to the join of a user."""
    if orjson.loads(response.body)["full"]:
        return error_response(TooManyGroups("A connection of the user is in as many groups as MAX_GROUPS allows."))
    return _found(response)
