"""The state that the connections of one listener share, and how they answer requests and handshakes."""

import asyncio
from collections.abc import Callable
from typing import Final

from wsaas.api.api import Api
from wsaas.api.route import Response
from wsaas.errors import Forbidden, HTTPError, NotFound, Unavailable
from wsaas.http.deferred import DeferredResponse
from wsaas.http.request import Item, RejectedRequest, Request
from wsaas.http.serialize import OutgoingResponse, error_response, serialize
from wsaas.http.streamed import StreamedResponse
from wsaas.log.redaction import hide_secrets
from wsaas.log.throttle import throttle
from wsaas.sessions.access_log import log_refused_at_once
from wsaas.sessions.opening_handshake import OpeningHandshake
from wsaas.sessions.registry import Registry
from wsaas.transport.admission import Connection, Gate
from wsaas.transport.context import ServerContext
from wsaas.transport.pending_client import PendingClientProtocol
from wsaas.transport.socket_address import name_peer
from wsaas.websocket import handshake
from wsaas.websocket.browser_authorization import take_token
from wsaas.websocket.hub_access import HubAccess

MAX_LOGGED_ORIGIN: Final = 100
"""Maximum number of characters of an `Origin` that are logged."""

_NO_API: Final = "This address serves only WebSockets."


class Site:
    """What one listener serves. `api` is None if it has no REST API, `registry` is None if it admits no clients.

    `respond_to_path` answers a request whose target is a path.
    """

    __slots__ = (
        "_checks_forwarded",
        "_hub_access",
        "_server_options",
        "api",
        "context",
        "gate",
        "registry",
        "respond_to_path",
    )

    def __init__(self, context: ServerContext, api: Api | None, registry: Registry | None, gate: Gate) -> None:
        """Serve the REST API, clients, or both. `gate`: admits the connections."""
        self.api = api
        self.context = context
        self.gate = gate
        self._checks_forwarded = context.settings.event_format == "aws"
        self._hub_access: HubAccess | None = None
        if registry is not None and context.settings.event_format == "azure":
            self._hub_access = HubAccess(context.settings.azure_hub, registry.services.webhook.access_keys)
        self.registry = registry
        self.respond_to_path: Callable[[Request], Response] = _no_api if api is None else api.respond
        self._server_options = _server_options(api)

    def body_limit(self, request: Request) -> int:
        """Return how many bytes of the body are needed to answer `request` (see `http.request.BodyLimit`)."""
        if request.target == b"*":
            return 0
        if self.api is None:
            raise NotFound(_NO_API)
        return self.api.body_limit(request)

    def authorizes(self, request: Request) -> bool:
        """Return whether `request` is an authorized REST request, so that its connection is not counted as a client."""
        return self.api is not None and not self._lost_upgrade(request) and self.api.authorizes(request)

    def answer(self, item: Item, connection: Connection) -> bytes | DeferredResponse | StreamedResponse:
        """Return the response to an `item` of the parser of `connection` that is not a handshake."""
        if isinstance(item, bytes):
            return item
        if isinstance(item, HTTPError):
            return self.serialize_error(item)
        request = item.request if isinstance(item, RejectedRequest) else item
        response: Response
        if item is request and request.method == b"PUT":
            # Nearly every request, without the checks for others.
            response = self.respond_to_path(request)
        elif self._lost_upgrade(request):
            peer = connection.peer_address()
            _warn_of_proxy(peer)
            error = handshake.upgrade_lost()
            self._note_refusal(error, peer, request.target)
            response = error_response(error)
        elif isinstance(item, RejectedRequest):
            response = error_response(item.error)
        else:
            response = self._server_options if request.target == b"*" else self.respond_to_path(request)
        if not isinstance(response, OutgoingResponse):
            return response
        return serialize(response, self.context.clock.wall(), request)

    def serialize_error(self, error: HTTPError) -> bytes:
        """Return `error` as the serialized last response of a connection."""
        return serialize(error_response(error), self.context.clock.wall())

    def admit(
        self, request: Request, connection: Connection, transport: asyncio.Transport, early_data: bytes
    ) -> tuple[OpeningHandshake, PendingClientProtocol]:
        """Register the client of a handshake; return its `OpeningHandshake`, which the caller starts, and its protocol.

        `early_data`: bytes received after `request` on `transport`. If the gateway itself refuses the handshake, logs
        and raises the `HTTPError`.
        """
        peer = address = connection.peer_address()
        registry = self.registry
        try:
            if registry is None:
                raise NotFound("This address does not serve WebSockets.")
            settings = self.context.settings
            accepted = handshake.read(request, settings.allowed_origins, compression=settings.compression)
            if settings.browser_authorization:
                accepted = take_token(accepted, settings.browser_authorization)
            if self._hub_access is not None:
                self._hub_access.check(accepted, self.context.clock.wall())
            if self._checks_forwarded and not settings.trusted_proxies.trusts(peer):
                handshake.drop_forwarded(accepted)
            if b"x-forwarded-for" in request.headers:
                address = self._forwarded_address(request, peer)
            self.gate.check_client()
            registry.check_admission(address, self.gate.count_of(connection, address))
        except HTTPError as error:
            _log_refusal(peer, request, error, has_access_log=self.context.settings.access_log)
            self._note_refusal(error, address, request.target)
            raise
        session = registry.register(accepted, address)
        client = PendingClientProtocol(self.context, transport, session, accepted, early_data)
        return registry.open_handshake(registry.services, session, accepted, client), client

    def note_malformed(self, error: HTTPError, path: bytes, peer: str) -> None:
        """Count and log a handshake from `peer` that is not valid HTTP, and is answered with `error`."""
        if not self.context.settings.access_log:
            _log_why(throttle.info, peer, error, error.message)
        self._note_refusal(error, peer, path)

    def _note_refusal(self, error: HTTPError, remote_address: str, target: bytes) -> None:
        """Count and log a handshake that is answered with `error`."""
        self.context.counters.count_handshake(error.status)
        if self.context.settings.access_log:
            log_refused_at_once(error, remote_address, target.decode("latin-1"))

    def _lost_upgrade(self, request: Request) -> bool:
        """Return whether `request` is a handshake from which a proxy removed the upgrade."""
        return self.registry is not None and handshake.lost_upgrade(request)

    def _forwarded_address(self, request: Request, peer: str) -> str:
        """Return the address of the client. `peer`: the sender of `request`, which may be a trusted proxy."""
        forwarded = [entry.decode("latin-1") for entry in request.tokens(b"x-forwarded-for")]
        return self.context.settings.trusted_proxies.client(peer, forwarded)


def _server_options(api: Api | None) -> OutgoingResponse:
    """Return the response to `OPTIONS *`, which asks about the server, not about a resource (RFC 9110 section 9.3.7).

    `Allow` has the methods of all routes, and GET for handshakes.
    """
    routes = () if api is None else api.routes
    methods = {b"GET", b"OPTIONS"}.union(*(route.methods for route in routes))
    return OutgoingResponse(200, b"", (("Allow", ", ".join(sorted(method.decode() for method in methods))),))


def _no_api(_request: Request) -> OutgoingResponse:
    return error_response(NotFound(_NO_API))


def _log_refusal(peer: str, request: Request, error: HTTPError, *, has_access_log: bool) -> None:
    """Log that a handshake from `peer` was refused with `error`, unless the access log says the same."""
    if handshake.lost_upgrade(request) or (request.method == b"GET" and request.version == "1.0"):
        _warn_of_proxy(peer)
        return
    if has_access_log and not isinstance(error, Unavailable | Forbidden):
        return
    log = throttle.warning if isinstance(error, Unavailable) else throttle.info
    why = error.message
    if isinstance(error, Forbidden):
        origin = hide_secrets(request.headers.get(b"origin", b"").decode("latin-1"))
        why += f" ALLOWED_ORIGINS does not contain {origin[:MAX_LOGGED_ORIGIN]!r}"
    _log_why(log, peer, error, why)


def _log_why(log: Callable[..., None], peer: str, error: HTTPError, why: str) -> None:
    fields = {"remote_address": name_peer(peer), "status": error.status, "why": why}
    text = "a handshake from %(remote_address)s was refused with %(status)d: %(why)s"
    log(("handshake", error.message), text, fields)


def _warn_of_proxy(peer: str) -> None:
    """Log that the proxy at `peer` does not forward WebSocket handshakes."""
    throttle.warning(
        "upgrade lost",
        "a WebSocket handshake from %(remote_address)s arrived without its Upgrade header, or as HTTP/1.0: if that is "
        "a proxy, %(advice)s",
        {"remote_address": name_peer(peer), "advice": handshake.UPGRADE_ADVICE},
    )
