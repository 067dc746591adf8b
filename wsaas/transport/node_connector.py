"""Opens connections to the REST API of other nodes."""

import asyncio
import ssl
from collections.abc import Callable, Collection
from functools import partial
from typing import Final

from wsaas.setting_types import split_url
from wsaas.transport.connector import Connector, Destination, OnError, ProtocolFactory

CONNECT_TIMEOUT_S: Final = 3.0
"""Seconds that a connection to another node may take to open."""


class NodeConnectors:
    """A connector to each address, made when it is first used."""

    def __init__(self, loop: asyncio.AbstractEventLoop, tls: Callable[[], ssl.SSLContext | None]) -> None:
        """Connect without TLS to `http://` addresses, and with the context that `tls` returns to `https://` ones."""
        self._connectors: dict[str, Connector] = {}
        self._loop = loop
        self._tls = tls

    def to(self, address: str) -> Callable[[ProtocolFactory, OnError], None]:
        """Return a function that connects to `address`, such as `https://10.0.0.5:8081`."""
        return partial(self._open, address)

    def retain(self, addresses: Collection[str]) -> None:
        """Forget what is known about all other addresses, except those to which a connection is being opened."""
        self._connectors = {
            address: connector
            for address, connector in self._connectors.items()
            if address in addresses or connector.pending
        }

    async def close(self) -> None:
        """Cancel all attempts. Neither `factory` nor `on_error` is called any more."""
        for connector in self._connectors.values():
            await connector.close()

    def _open(self, address: str, factory: ProtocolFactory, on_error: OnError) -> None:
        connector = self._connectors.get(address)
        if connector is None:
            try:
                scheme, host, port, _ = split_url(address)
            except ValueError:
                # It came from another node, perhaps one of another version.
                self._loop.call_soon(on_error, ValueError("this is not the address of a node"))
                return
            tls = self._tls if scheme == "https" else _no_tls
            connector = Connector(self._loop, Destination(host, port, tls, CONNECT_TIMEOUT_S))
            self._connectors[address] = connector
        connector.open(factory, lambda error: on_error(explain(error)))


def explain(error: Exception) -> Exception:
    """Return `error`, with what to do about an error of TLS."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return ValueError(
            f"its certificate is not accepted ({error.verify_message}): NODE_TLS_CA of this node has to contain the "
            "authority of that node's TLS_CERT, and its NODE_ADDRESS a name that is in TLS_CERT"
        )
    if isinstance(error, ssl.SSLError):
        return ValueError(f"{error}: the NODE_ADDRESS of that node begins with https://: does it have TLS_CERT?")
    return error


def _no_tls() -> None:
    return None
