"""Connections through a proxy that says on whose behalf it connects (PROXY protocol)."""

import asyncio
import math
from collections.abc import Callable
from typing import Final

from wsaas.log.throttle import throttle
from wsaas.proxy_protocol import ProxyHeader, read_header
from wsaas.transport.http_server import HttpProtocol
from wsaas.transport.site import Site
from wsaas.transport.socket_address import name_peer, peer_address
from wsaas.transport.socket_protocol import SocketProtocol

_UNCONNECTED: Final = asyncio.Transport()

_UNTRUSTED: Final = (
    "a connection from %(remote_address)s was closed: with PROXY_PROTOCOL=on, only TRUSTED_PROXIES may connect: add "
    "this address if it is a proxy, otherwise connect through one%(advice)s"
)
_NO_HEADER: Final = (
    "a connection from the proxy at %(remote_address)s was closed: %(why)s: with PROXY_PROTOCOL=on, the proxy has to "
    "send a header of the PROXY protocol on each connection, those of its health checks included%(advice)s"
)
_SHARED: Final = ". REST requests need no proxy if CONTROL_LISTEN is set"


class ProxiedPeer:
    """The peer of a connection through a proxy.

    `address`: of the client, empty for a Unix socket. `deadline`: until when (monotonic seconds) its first request head
    has to be complete. It counts from the accept of the connection, as without a proxy.
    """

    __slots__ = ("address", "deadline")

    def __init__(self, address: str, deadline: float) -> None:
        """Keep the values."""
        self.address = address
        self.deadline = deadline


class ProxyHeaderProtocol(SocketProtocol):
    """Reads the header, then lets the usual protocol take over. Only from trusted proxies, as anybody could forge one.

    It handles time-outs and admission until then.
    """

    __slots__ = ("_data", "_deadline", "_make_protocol", "_site", "_transport")

    def __init__(self, site: Site, make_protocol: Callable[[ProxiedPeer], asyncio.Protocol]) -> None:
        """Let the protocol that `make_protocol` returns serve `site`."""
        self._data = b""
        self._deadline = math.inf
        self._make_protocol = make_protocol
        self._site = site
        self._transport = _UNCONNECTED

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Wait for the header, for `HANDSHAKE_TIMEOUT` at most. Close a connection that no trusted proxy has opened."""
        self._transport = transport
        context, gate = self._site.context, self._site.gate
        if transport.get_extra_info("peername") is None:
            # The peer was faster: it has reset the connection, as some health checks do.
            transport.abort()
        elif not context.settings.trusted_proxies.trusts(self.peer_address()):
            self._reject(_UNTRUSTED)
        elif gate.admit(self) is not None:
            # The proxy would have to be asked for the header before an answer can be sent.
            transport.abort()
        else:
            self._deadline = context.closing_deadline()
            context.timeouts.add(self)

    def data_received(self, data: bytes) -> None:
        """Read the header. The rest of the data is for the next protocol."""
        self._data += data
        try:
            header = read_header(self._data)
        except ValueError as error:
            self._reject(_NO_HEADER, str(error))
        else:
            if header is not None:
                self._hand_over(header)

    def connection_lost(self, _exc: Exception | None) -> None:
        """Leave the gate and the time-outs. A proxy that checks whether somebody listens closes without a header."""
        self._leave()

    def check_deadline(self, now: float) -> None:
        """Close the connection if there is no header in time."""
        if now >= self._deadline and not self._transport.is_closing():
            self._reject(_NO_HEADER, "its header did not arrive completely in time")

    def close_gracefully(self) -> None:
        """Close at once: before the header, there is nothing to send."""
        self._transport.abort()

    def peer_address(self) -> str:
        """Return the IP address of the proxy, empty for a Unix socket."""
        return peer_address(self._transport)

    def idle_since(self) -> float:
        """Return infinity: the connection is not idle while its header is being received."""
        return math.inf

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def _hand_over(self, header: ProxyHeader) -> None:
        """Let the usual protocol take over. A proxy's own connections have its own address."""
        transport = self._transport
        rest = self._data[header.size :]
        address = self.peer_address() if header.address is None else header.address
        protocol = self._make_protocol(ProxiedPeer(address, self._deadline))
        self._leave()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if rest and not transport.is_closing():
            protocol.data_received(rest)

    def _leave(self) -> None:
        self._site.gate.discard(self)
        self._site.context.timeouts.discard(self)

    def _reject(self, message: str, why: str = "") -> None:
        """Log why, and close."""
        advice = "" if self._site.api is None else _SHARED
        fields = {"remote_address": name_peer(self.peer_address()), "why": why, "advice": advice}
        throttle.warning(("proxy header", message), message, fields)
        self._transport.abort()


class ProxiedConnection(HttpProtocol):
    """An HTTP connection through a proxy, after the header."""

    __slots__ = ("_peer",)

    def __init__(self, site: Site, peer: ProxiedPeer) -> None:
        """Serve `site`."""
        super().__init__(site)
        self._peer = peer

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Wait for a request, until `HANDSHAKE_TIMEOUT` after the accept at most."""
        super().connection_made(transport)
        self._deadline = min(self._deadline, self._peer.deadline)

    def peer_address(self) -> str:
        """Return the IP address of the client, empty for a Unix socket."""
        return self._peer.address
