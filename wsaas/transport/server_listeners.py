"""The listeners of one node, and the protocols of accepted connections."""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Final, cast

from wsaas.api.api import Api
from wsaas.api.forwarded_pushes import ForwardedPushes
from wsaas.sessions.registry import Registry
from wsaas.setting_types import Address
from wsaas.settings import Settings, control_address, listen_address
from wsaas.transport.admission import ConnectionTable, ControlGate, Gate, PrivateGate, SharedGate
from wsaas.transport.certificates import Certificates
from wsaas.transport.context import ServerContext
from wsaas.transport.http_server import HttpProtocol
from wsaas.transport.listener import ACCEPTORS, Listener
from wsaas.transport.peer_protocol import NodeProtocol, PeerProtocol
from wsaas.transport.proxied import ProxiedConnection, ProxiedPeer, ProxyHeaderProtocol
from wsaas.transport.reservation import NOTHING
from wsaas.transport.server_tls import ProxiedTLSTransport, ServerTLSTransport
from wsaas.transport.site import Site
from wsaas.worker_place import WorkerPlace

MAX_SHORTCUTS: Final = 64
"""Shortcuts that are kept for pushes from other nodes. There is one for each token, and each name of this node."""

PRIVATE_MODE: Final = 0o600
"""File mode of a private socket."""


class ServerListeners:
    """Listens on `LISTEN` for clients and on `CONTROL_LISTEN` for REST requests, or on one address for both."""

    def __init__(
        self,
        context: ServerContext,
        api: Api,
        registry: Registry,
        certificates: Certificates,
        table: ConnectionTable,
    ) -> None:
        """Prepare to listen. `table` counts the connections of all listeners."""
        self._api = api
        self._certificates = certificates
        self._context = context
        self._listeners: list[Listener] = []
        self._private: Listener | None = None
        self._kept: Sequence[str] = ()
        self._place: WorkerPlace | None = None
        self._registry = registry
        self._table = table
        self._find_shortcut = _shortcuts(context.settings, registry)
        self._given: Mapping[str, Sequence[int]] = NOTHING

    @property
    def addresses(self) -> list[Address]:
        """The bound addresses: for clients, then for REST requests if that is a different one."""
        return [each.address for each in self._listeners]

    async def start(self, place: WorkerPlace | None = None, given: Mapping[str, Sequence[int]] = NOTHING) -> None:
        """Listen. Raises `OSError` if an address cannot be bound; call `close` then.

        `place`: that of a worker, which shares its addresses with the others. `given`: descriptors of sockets that
        systemd has opened for a gateway without workers, by address.
        """
        self._place = place
        self._given, self._kept = (given, [*given]) if place is None else (place.sockets, place.kept)
        settings = self._context.settings
        clients, control = listen_address(settings), control_address(settings)
        gate = self._table, self._registry.addresses, settings.trusted_proxies
        if clients == control:
            await self._listen(clients, self._site(self._api, self._registry, SharedGate(*gate)))
        else:
            await self._listen(clients, self._site(None, self._registry, Gate(*gate)))
            await self._listen(control, self._site(self._api, None, ControlGate(*gate)))

    async def start_private(self, path: str, api: Api) -> None:
        """Serve `api` to the other processes of the gateway, by a Unix socket at `path`. Raises `OSError`."""
        context = self._context.for_settings(private_settings(self._context.settings, path))
        pushes = ForwardedPushes(context.settings, self._registry)
        gate = PrivateGate(self._table, self._registry.addresses, context.settings.trusted_proxies)
        self._private = Listener(Address(path=path), mode=PRIVATE_MODE)
        factory = partial(PeerProtocol, Site(context, api, None, gate), pushes)
        await self._private.start(cast(Callable[[], asyncio.Protocol], factory))

    def close_clients(self) -> None:
        """Stop listening for clients, and for REST requests if they have the same address. May be called again."""
        for listener in self._listeners[:1]:
            listener.close()

    def leave_clients(self) -> None:
        """Let the next process have new clients from now on, if their socket outlives this one.

        They wait in the queue of the socket. If REST requests arrive there, too, they are served until the end.
        """
        if len(self._listeners) > 1 and str(self._listeners[0].address) in self._kept:
            self.close_clients()

    def close_public(self) -> None:
        """Stop listening for clients and REST requests. May be called again."""
        for listener in self._listeners:
            listener.close()

    def close(self) -> None:
        """Stop listening. May be called again."""
        self.close_public()
        if self._private is not None:
            self._private.close()

    def _site(self, api: Api | None, registry: Registry | None, gate: Gate) -> Site:
        return Site(self._context, api, registry, gate)

    async def _listen(self, address: Address, site: Site) -> None:
        acceptors = 1 if site.registry is None else ACCEPTORS
        mode = self._context.settings.listen_mode
        inherited, is_shared = self._given.get(str(address), ()), self._place is not None
        listener = Listener(address, mode=mode, acceptors=acceptors, shared=is_shared, inherited=inherited)
        await listener.start(self._factory(site))
        self._listeners.append(listener)

    def _factory(self, site: Site) -> Callable[[], asyncio.Protocol]:
        """Return a function that returns the protocol of a new connection to `site`."""
        if site.registry is None or not self._context.settings.proxy_protocol:
            return partial(self._make_protocol, site)
        factory = partial(ProxyHeaderProtocol, site, partial(self._make_proxied, site))
        return cast(Callable[[], asyncio.Protocol], factory)

    def _make_proxied(self, site: Site, peer: ProxiedPeer) -> asyncio.Protocol:
        """Return the protocol of a connection of a proxy for `peer`, with the current certificate."""
        protocol = cast(asyncio.Protocol, ProxiedConnection(site, peer))
        tls = self._certificates.clients
        return protocol if tls is None else ProxiedTLSTransport(protocol, tls, self._context, site.gate, peer)

    def _make_protocol(self, site: Site) -> asyncio.Protocol:
        """Return the protocol of a new connection, with the current certificates."""
        api = site.api
        if api is None or not self._context.settings.cluster:
            connection = HttpProtocol(site)
        else:
            connection = NodeProtocol(site, api.tokens, self._find_shortcut)
        protocol = cast(asyncio.Protocol, connection)
        tls = self._certificates.control if site.registry is None else self._certificates.clients
        return protocol if tls is None else ServerTLSTransport(protocol, tls, self._context, site.gate)


def _shortcuts(settings: Settings, registry: Registry) -> Callable[[bytes], ForwardedPushes]:
    """Return a function that returns the shortcut for pushes with these first headers."""

    @lru_cache(MAX_SHORTCUTS)
    def find(head: bytes) -> ForwardedPushes:
        return ForwardedPushes(settings, registry, head)

    return find


def private_settings(settings: Settings, path: str) -> Settings:
    """Return the settings for the private socket at `path`.

    The process that forwards a request has authorized it. It has a time limit for each request too, and keeps its
    connections open.
    """
    return replace(
        settings,
        control_listen=Address(path=path),
        control_aws_keys=(),
        control_azure_keys=(),
        control_token=(),
        control_tls_ca=None,
        keep_alive_timeout=math.inf,
    )
