"""Connections to the backend: opened, or failed in every way, without garbage for the collector."""

import asyncio
import gc
import logging
import os
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from tests.support.certificate_authority import CertificateAuthority
from tests.support.network_namespace import full_backlog
from tests.support.ports import free_port
from tests.support.stage import Stage
from tests.support.waiting import wait_until, with_timeout
from wsaas import settings
from wsaas.transport.certificates import Certificates
from wsaas.transport.connector import Connector, Destination
from wsaas.transport.happy_eyeballs import adopt

ATTEMPTS = 5


def fail_test(error: Exception) -> None:
    pytest.fail(str(error))


class Peer(asyncio.Protocol):
    """The protocol of a connection that a connector opens."""

    def __init__(self) -> None:
        self.made: asyncio.Future[asyncio.BaseTransport] = asyncio.get_running_loop().create_future()
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.made.set_result(transport)

    def connection_lost(self, _exc: Exception | None) -> None:
        self.lost.set()


def connector(api_uri: str, **chosen: Any) -> Connector:
    given = {name: str(value) for name, value in chosen.items()}
    loaded = settings.load({"api_uri": api_uri, **given}, {})
    certificates = Certificates(loaded)
    certificates.load()
    uri = loaded.api_uri
    destination = Destination(uri.host, uri.port, lambda: certificates.backend, loaded.api_timeout, uri.socket)
    return Connector(asyncio.get_running_loop(), destination)


async def failure(opening: Connector) -> type[Exception]:
    """Let a connection fail; return the type of the error."""
    errors: list[type[Exception]] = []
    failed = asyncio.Event()

    def fail(error: Exception) -> None:
        errors.append(type(error))
        failed.set()

    opening.open(Peer, fail)
    await failed.wait()
    await opening.close()
    (only,) = errors
    return only


Way = Callable[[Stage, Path], Awaitable[tuple[Connector, Any]]]
"""Returns a connector that fails, and the type of its error."""


async def refused(_stage: Stage, _folder: Path) -> tuple[Connector, Any]:
    return connector(f"127.0.0.1:{free_port()}/"), ConnectionRefusedError


async def refused_at_each_address(_stage: Stage, _folder: Path) -> tuple[Connector, Any]:
    return connector(f"localhost:{free_port()}/"), OSError


async def no_address(_stage: Stage, _folder: Path) -> tuple[Connector, Any]:
    return connector("nowhere.invalid:80/"), OSError


async def timed_out(stage: Stage, _folder: Path) -> tuple[Connector, Any]:
    port = await stage.stack.enter_async_context(full_backlog())
    return connector(f"127.0.0.1:{port}/", api_timeout=50), TimeoutError


async def untrusted(stage: Stage, folder: Path) -> tuple[Connector, Any]:
    (folder / "other").mkdir()
    context = CertificateAuthority(folder / "other").server("localhost")
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    stage.stack.callback(server.close)
    port = server.sockets[0].getsockname()[1]
    trusted = CertificateAuthority(folder).path
    return connector(f"https://localhost:{port}/", api_tls_ca=trusted), ssl.SSLCertVerificationError


async def no_socket(_stage: Stage, folder: Path) -> tuple[Connector, Any]:
    return connector(f"unix:{folder}/missing.sock:/"), FileNotFoundError


async def no_listener_at_the_socket(_stage: Stage, folder: Path) -> tuple[Connector, Any]:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(folder / "left.sock"))
    return connector(f"unix:{folder}/left.sock:/"), ConnectionRefusedError


def full_queue(stage: Stage, folder: Path) -> str:
    """Return the path of a Unix socket whose listener does not accept connections, and has no room for more."""
    path = str(folder / "full.sock")
    listener = stage.stack.enter_context(socket.socket(socket.AF_UNIX))
    listener.bind(path)
    listener.listen(0)
    stage.stack.enter_context(socket.socket(socket.AF_UNIX)).connect(path)
    return path


async def timed_out_at_the_socket(stage: Stage, folder: Path) -> tuple[Connector, Any]:
    return connector(f"unix:{full_queue(stage, folder)}:/", api_timeout=50), TimeoutError


class Silent(asyncio.Protocol):
    """A server that accepts connections and stays silent, or closes them at the first byte."""

    def __init__(self, *, hangs_up: bool) -> None:
        self._hangs_up = hangs_up

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, _data: bytes) -> None:
        if self._hangs_up:
            self._transport.close()


async def behind_tls(stage: Stage, folder: Path, *, hangs_up: bool) -> str:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Silent(hangs_up=hangs_up), "127.0.0.1", 0)
    stage.stack.callback(server.close)
    CertificateAuthority(folder)
    return f"https://localhost:{server.sockets[0].getsockname()[1]}/"


async def hung_up_within_the_tls_handshake(stage: Stage, folder: Path) -> tuple[Connector, Any]:
    uri = await behind_tls(stage, folder, hangs_up=True)
    return connector(uri, api_tls_ca=folder / "authority.pem"), ConnectionResetError


async def timed_out_within_the_tls_handshake(stage: Stage, folder: Path) -> tuple[Connector, Any]:
    uri = await behind_tls(stage, folder, hangs_up=False)
    return connector(uri, api_tls_ca=folder / "authority.pem", api_timeout=50), TimeoutError


@pytest.mark.parametrize(
    "way",
    [
        refused,
        refused_at_each_address,
        no_address,
        timed_out,
        untrusted,
        hung_up_within_the_tls_handshake,
        timed_out_within_the_tls_handshake,
        no_socket,
        no_listener_at_the_socket,
        timed_out_at_the_socket,
    ],
)
async def test_a_failed_connection_leaves_nothing_to_the_garbage_collector(
    stage: Stage, tmp_path: Path, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening, expected = await way(stage, tmp_path)
    # A log record would keep its error alive.
    monkeypatch.setattr(logging.getLogger("wsaas"), "disabled", True)
    # The first attempt also makes what is made only once.
    assert issubclass(await failure(opening), expected)
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for _ in range(ATTEMPTS):
            assert issubclass(await failure(opening), expected)
        # Transports are closed in a later turn.
        for _ in range(5):
            await asyncio.sleep(0)
        gc.collect()
        left = sorted(type(each).__qualname__ for each in gc.garbage if not is_ours(each))
    finally:
        gc.set_debug(0)
        gc.enable()
        gc.garbage.clear()
    assert left == []


def is_ours(thing: Any) -> bool:
    """Return whether `thing` belongs to the server of the test."""
    return type(thing).__module__.startswith(("tests.support", "asyncio.streams"))


async def test_a_connection_is_opened(stage: Stage) -> None:
    backend = await stage.backend.start()
    opening = connector(f"{backend.authority}/")
    peer = Peer()
    opening.open(lambda: peer, lambda error: pytest.fail(str(error)))
    assert opening.pending == 1
    transport = await peer.made
    await backend.wait(lambda: backend.accepted == 1)
    await wait_until(lambda: opening.pending == 0)
    await opening.close()
    transport.close()
    await peer.lost.wait()


async def test_a_closed_connector_calls_neither_factory_nor_on_error(stage: Stage) -> None:
    port = await stage.stack.enter_async_context(full_backlog())
    opening = connector(f"127.0.0.1:{port}/")
    for _ in range(3):
        opening.open(Peer, lambda error: pytest.fail(str(error)))
    await asyncio.sleep(0)
    assert opening.pending == 3
    await opening.close()
    assert opening.pending == 0


async def test_a_closed_connector_does_not_try_a_full_socket_again(stage: Stage, tmp_path: Path) -> None:
    opening = connector(f"unix:{full_queue(stage, tmp_path)}:/")
    for _ in range(3):
        opening.open(Peer, lambda error: pytest.fail(str(error)))
    await asyncio.sleep(0.05)
    assert opening.pending == 3
    await opening.close()
    assert opening.pending == 0


async def test_a_connection_that_opened_while_the_process_stood_still_is_used(stage: Stage) -> None:
    backend = await stage.backend.start()
    opening = connector(f"{backend.authority}/", api_timeout=200)
    peer = Peer()
    opening.open(lambda: peer, lambda error: pytest.fail(str(error)))
    await asyncio.sleep(0)
    time.sleep(0.4)  # noqa: ASYNC251 - everything stands still
    (await with_timeout(peer.made)).close()
    await peer.lost.wait()
    await opening.close()


async def failure_after_stall(stage: Stage) -> type[Exception]:
    """Let a connection fail to open while the process stands still; return the type of the error."""
    port = await stage.stack.enter_async_context(full_backlog())
    opening = connector(f"127.0.0.1:{port}/", api_timeout=50)
    failing = asyncio.ensure_future(failure(opening))
    await asyncio.sleep(0)
    time.sleep(0.2)  # noqa: ASYNC251 - everything stands still
    return await with_timeout(failing)


async def test_a_connection_that_did_not_open_while_the_process_stood_still_fails_soon_after(stage: Stage) -> None:
    assert await failure_after_stall(stage) is TimeoutError


async def test_a_time_out_before_the_first_step_of_a_connection_is_reported(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsaas.transport.connector.STALL_S", 60)
    assert await failure_after_stall(stage) is TimeoutError


async def test_an_exception_in_the_protocol_factory_fails_the_connection(stage: Stage) -> None:
    backend = await stage.backend.start()
    opening = connector(f"{backend.authority}/")
    errors: asyncio.Queue[Exception] = asyncio.Queue()

    def make() -> asyncio.Protocol:
        raise ValueError("broken")

    opening.open(make, errors.put_nowait)
    assert isinstance(await errors.get(), ValueError)
    await opening.close()


async def opened(address: tuple[str, int], make: Callable[[], asyncio.Protocol]) -> None:
    opening = connector(f"{address[0]}:{address[1]}/")
    opening.open(make, fail_test)
    await wait_until(lambda: not opening.pending)


async def adopted(address: tuple[str, int], make: Callable[[], asyncio.Protocol]) -> None:
    await adopt(asyncio.get_running_loop(), socket.create_connection(address), make)


@pytest.mark.parametrize("connect", [opened, adopted])
async def test_a_connection_that_is_closed_as_soon_as_it_is_open_closes_no_other_descriptor(
    stage: Stage, connect: Callable[..., Awaitable[None]]
) -> None:
    # The number of a closed descriptor is soon reused.
    await stage.backend.start()
    loop = asyncio.get_running_loop()
    others: list[int] = []

    def take(times: int) -> None:
        others.append(os.open(os.devnull, os.O_RDONLY))
        if times:
            loop.call_soon(take, times - 1)

    class Closing(Peer):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            cast(asyncio.Transport, transport).abort()
            take(10)
            super().connection_made(transport)

    for _ in range(3):
        peer = Closing()
        await connect(("127.0.0.1", stage.backend.port), lambda peer=peer: peer)
        await with_timeout(peer.lost.wait())
    await wait_until(lambda: len(others) == 33)
    gc.collect()
    for descriptor in others:
        os.close(descriptor)


async def test_a_connection_that_is_cancelled_while_it_opens_closes_no_other_descriptor(stage: Stage) -> None:
    await stage.backend.start()
    sock = socket.create_connection(("127.0.0.1", stage.backend.port))
    adopting = asyncio.ensure_future(adopt(asyncio.get_running_loop(), sock, Peer))
    await asyncio.sleep(0)
    adopting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await adopting
    assert sock.fileno() == -1


async def test_the_connection_goes_to_the_address_that_answers(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    await stage.backend.start()
    port = stage.backend.port
    addresses = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in ("127.0.0.9", "127.0.0.1", "127.0.0.8")
    ]
    monkeypatch.setattr("wsaas.transport.resolver.socket.getaddrinfo", lambda *_, **__: addresses)
    opening = connector(f"backend.test:{port}/")
    peer = Peer()
    opening.open(lambda: peer, fail_test)
    transport = await with_timeout(peer.made)
    assert transport.get_extra_info("peername") == ("127.0.0.1", port)
    transport.close()
    await with_timeout(peer.lost.wait())


async def test_a_connection_that_is_cancelled_after_its_tls_handshake_is_closed(stage: Stage, tmp_path: Path) -> None:
    context = CertificateAuthority(tmp_path).server("localhost")
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    stage.stack.callback(server.close)
    uri = f"https://localhost:{server.sockets[0].getsockname()[1]}/"
    opening = connector(uri, api_tls_ca=tmp_path / "authority.pem")

    before = asyncio.all_tasks()

    class Cancelled(Peer):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            # The transport has not yet reported the handshake.
            task.cancel()

    peer = Cancelled()
    opening.open(lambda: peer, fail_test)
    (task,) = asyncio.all_tasks() - before
    await with_timeout(peer.lost.wait())
    await wait_until(lambda: not opening.pending)
    assert task.cancelled()
