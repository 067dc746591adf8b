"""`/@connections/{id}`: one connection, as in AWS's API Gateway Management API, for programs that use an SDK of AWS."""

import math
import re
from collections.abc import Callable
from typing import Any, Final, cast

import orjson

from wsaas.api.authorization import Authorization
from wsaas.api.aws_errors import as_aws, aws_error
from wsaas.api.connections import ConnectionResource
from wsaas.api.message import check_memory, declared_size
from wsaas.api.peer_answers import ignore
from wsaas.api.route import Handler, Response, Route
from wsaas.api.sigv4 import is_signed
from wsaas.cluster.forwarded import FOR_NODE
from wsaas.errors import HTTPError
from wsaas.http.deferred import DeferredResponse
from wsaas.http.headers import Head
from wsaas.http.request import Request, too_large
from wsaas.http.serialize import OutgoingResponse, error_response
from wsaas.http.trace_context import TRACEPARENT, TRACESTATE
from wsaas.sessions.registry import ID_FORM
from wsaas.sessions.session import Services

_EITHER: Final = b"application/x-www-form-urlencoded"
"""The `Content-Type` of a push that is text if it is valid UTF-8, and otherwise binary."""

_PASSED_ON: Final = (FOR_NODE, TRACEPARENT, TRACESTATE)
_OTHER_ID: Final = re.compile(r"[A-Za-z0-9+_-]{12,}=*")
"""The form of an id of another service, such as API Gateway itself. The connection is gone."""

_SENT: Final = OutgoingResponse(200)
_CLOSED: Final = OutgoingResponse(204)
_FIRST_ERROR: Final = 400

MAX_UNUSED_BODY: Final = 4096
"""Maximum size of a body that has no meaning, in bytes."""

Translation = Callable[[OutgoingResponse], OutgoingResponse]


class TranslatedResponse(DeferredResponse):
    """A deferred response in the form of AWS."""

    __slots__ = ("_translate",)

    def __init__(self, native: DeferredResponse, translate: Translation) -> None:
        """Wait for `native`, and `translate` it."""
        super().__init__(native.deadline, native.cancel)
        self._translate = translate
        native.on_response(self.resolve)

    def resolve(self, response: OutgoingResponse) -> None:
        """Pass the translated `response` to the callback."""
        super().resolve(self._translate(response))
        # It refers to the native response, which refers to this one.
        self._cancelled = ignore

    def cancel(self) -> None:
        """Stop waiting for the native response, too."""
        super().cancel()
        self._cancelled = ignore

    def give_up(self, response: OutgoingResponse) -> None:
        """Cancel, and pass the translated `response` to the callback."""
        super().give_up(self._translate(response))


class AwsRoute(Route):
    """A route whose requests may be signed, and whose errors are in the form of AWS."""

    __slots__ = ()

    def handler(self, method: bytes) -> Handler:
        """Return the handler of `method`. Raises an error in the form of AWS if there is none."""
        try:
            return super().handler(method)
        except HTTPError as error:
            raise as_aws(error) from None

    def verify(self, authorization: Authorization, request: Request) -> None:
        """Raise an error in the form of AWS if the signature of a complete request is wrong."""
        try:
            authorization.verify_aws(request)
        except HTTPError as error:
            raise as_aws(error) from None


class AwsConnectionResource:
    """One connection. Each request becomes the request for its `ws_uri`, and the response to that is translated."""

    __slots__ = ("_authorization", "_connection", "_prefix", "_services")

    def __init__(self, connection: ConnectionResource, authorization: Authorization, services: Services) -> None:
        """Serve what `connection` serves. `authorization`: has the token for requests to other processes."""
        self._authorization = authorization
        self._connection = connection
        self._prefix = services.settings.ws_hostname.prefix.encode() + b"/"
        self._services = services

    def route(self, prefix: bytes) -> Route:
        """Return the route. `prefix`: a pattern for what may stand before the path, with or without a stage."""
        return AwsRoute(
            rb"%b(?:/[^/]+)?/@connections/([^/]*)" % prefix,
            {b"POST": self.post, b"GET": self.get, b"DELETE": self.delete},
            self.body_limit,
            check=_check,
        )

    def body_limit(self, request: Request, _connection_id: str) -> int:
        """Return how many bytes the body may have. Raises the error that refuses the request before it.

        Does not look for the connection: the signature of the request has not been compared yet.
        """
        # The body of any other request is not used, but signed.
        limit = self._services.settings.max_message_size if request.method == b"POST" else MAX_UNUSED_BODY
        try:
            if limit < declared_size(request) < math.inf:
                raise too_large(limit)
            check_memory(request, self._services.memory, limit)
        except HTTPError as error:
            raise as_aws(error) from None
        return limit

    def post(self, request: Request, connection_id: str) -> Response:
        """Send the body: as text if it is valid UTF-8, otherwise as a binary message."""
        native = self._native(b"PUT", request, connection_id)
        return _answer(self._connection.put, native, connection_id, _sent)

    def get(self, request: Request, connection_id: str) -> Response:
        """Describe the connection."""
        native = self._native(request.method, request, connection_id)
        return _answer(self._connection.get, native, connection_id, _description)

    def delete(self, request: Request, connection_id: str) -> Response:
        """Close the connection."""
        native = self._native(b"DELETE", request, connection_id)
        return _answer(self._connection.delete, native, connection_id, _closed)

    def _native(self, method: bytes, request: Request, connection_id: str) -> Request:
        """Return the request for the `ws_uri`. Another process gets it with credentials that are valid there."""
        given = request.headers
        headers = {name: given[name] for name in _PASSED_ON if name in given}
        headers[b"content-type"] = _EITHER
        authorization = given.get(b"authorization")
        if authorization is not None and is_signed(given):
            # The signature is not one of the native request.
            authorization = self._authorization.tokens.header
        if authorization is not None:
            headers[b"authorization"] = authorization
        native = Request(method, self._prefix + connection_id.encode("latin-1"), Head("1.1", headers, frozenset()))
        if method == b"PUT":
            native.body = request.body
        return native


def _check(authorization: Authorization, request: Request) -> None:
    """Raise an error in the form of AWS for a request that is not allowed, as far as its head shows that."""
    try:
        authorization.check_aws(request)
    except HTTPError as error:
        raise as_aws(error) from None


def _answer(
    handler: Callable[[Request, str], Response], native: Request, connection_id: str, translate: Translation
) -> Response:
    """Return what `handler` responds to the `native` request, translated."""
    if not ID_FORM.fullmatch(connection_id):
        if _OTHER_ID.fullmatch(connection_id):
            raise aws_error(410, "This connection has never existed here.")
        raise aws_error(400, "Invalid connectionId.")
    try:
        response = handler(native, connection_id)
    except HTTPError as error:
        return error_response(as_aws(error))
    if isinstance(response, OutgoingResponse):
        return translate(response)
    return TranslatedResponse(cast(DeferredResponse, response), translate)


def _sent(response: OutgoingResponse) -> OutgoingResponse:
    return _SENT if response.status < _FIRST_ERROR else _failed(response)


def _closed(response: OutgoingResponse) -> OutgoingResponse:
    return _CLOSED if response.status < _FIRST_ERROR else _failed(response)


def _description(response: OutgoingResponse) -> OutgoingResponse:
    """Return the description of a connection with the names of AWS."""
    if response.status >= _FIRST_ERROR:
        return _failed(response)
    found: dict[str, Any] = orjson.loads(response.body)
    content = {
        "connectedAt": found["connected_at"],
        "identity": {"sourceIp": found["remote_address"], "userAgent": found.get("user_agent", "")},
        "lastActiveAt": found["last_seen_at"],
    }
    return OutgoingResponse(200, orjson.dumps(content))


def _failed(response: OutgoingResponse) -> OutgoingResponse:
    """Return an error in the form of AWS."""
    return error_response(aws_error(response.status, orjson.loads(response.body)["message"], response.headers))
