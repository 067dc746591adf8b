"""The way to the backend: the name, the connection, the certificate."""

import asyncio
import ssl
from dataclasses import replace
from functools import partial
from ipaddress import ip_address
from socket import gaierror
from time import perf_counter
from typing import Final

from wsaas.access import UNIX
from wsaas.check.context import Context, Stop
from wsaas.check.observed import milliseconds
from wsaas.delivery.failure_report import connect_advice
from wsaas.membership.tasks import wait_for
from wsaas.transport.connector import Connector, Destination
from wsaas.transport.resolver import Resolver
from wsaas.transport.socket_address import format_address

MAX_SHOWN_ADDRESSES: Final = 4


class _Opened(asyncio.Protocol):
    """Reports the address of the peer, and closes."""

    def __init__(self, done: "asyncio.Future[str | Exception]") -> None:
        self._done = done

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peer = transport.get_extra_info("peername")
        self._done.set_result(format_address(peer) if isinstance(peer, tuple) else f"{UNIX}{peer}")
        transport.close()


async def check_name(context: Context) -> None:
    """Resolve the host of API_URI, unless that is a Unix socket."""
    uri, loop = context.settings.api_uri, context.gateway.loop
    if uri.socket:
        return
    try:
        ip_address(uri.host.partition("%")[0])
    except ValueError:
        pass
    else:
        context.report.ok("DNS", f"{uri.host} is an address")
        return
    try:
        found = await wait_for(Resolver(loop, uri.host, uri.port).resolve(), context.settings.api_timeout)
    except (gaierror, asyncio.TimeoutError) as error:
        text = str(error) or f"no DNS server answers for {uri.host}"
        context.report.fail("DNS", text, connect_advice(gaierror()))
        raise Stop from None
    addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
    shown = ", ".join(addresses[:MAX_SHOWN_ADDRESSES])
    more = len(addresses) - MAX_SHOWN_ADDRESSES
    context.report.ok("DNS", f"{uri.host} is {shown}{f' and {more} more' if more > 0 else ''}")


async def check_connection(context: Context) -> None:
    """Open a connection to the backend, without TLS."""
    plain = replace(context.gateway.destination, tls=lambda: None)
    check = "Unix socket" if plain.socket else "TCP"
    address, seconds = await _open(context, check, plain)
    context.report.ok(check, f"connected to {address} in {milliseconds(seconds)}")


async def check_certificate(context: Context) -> None:
    """Open a TLS connection to the backend, if API_URI asks for it."""
    destination = context.gateway.destination
    if destination.tls() is not None:
        _, seconds = await _open(context, "TLS", destination)
        name = destination.server_name
        context.report.ok("TLS", f"the certificate is valid for {name}; handshake done in {milliseconds(seconds)}")


async def try_connection(loop: asyncio.AbstractEventLoop, destination: Destination) -> str | Exception:
    """Open a connection and close it; return the address of the peer, or the error."""
    done: asyncio.Future[str | Exception] = loop.create_future()
    connector = Connector(loop, destination)
    connector.open(partial(_Opened, done), done.set_result)
    try:
        return await done
    finally:
        await connector.close()


async def _open(context: Context, check: str, destination: Destination) -> tuple[str, float]:
    """Open a connection and close it; return the address of the peer, and the seconds that it took."""
    started = perf_counter()
    result = await try_connection(context.gateway.loop, destination)
    if isinstance(result, Exception):
        is_late = isinstance(result, TimeoutError) and destination.tls() is not None
        context.report.fail(check, str(result), connect_advice(ssl.SSLError() if is_late else result))
        raise Stop
    return result, perf_counter() - started
