"""The addresses that a supervisor reserves for its workers."""
# ruff: noqa: ASYNC240 - tests may access files from the loop

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.stage import Stage
from wsaas.setting_types import Address
from wsaas.transport.listener import Listener, bind
from wsaas.transport.reservation import Reservation

LOCAL = Address("127.0.0.1", 0)


def reservation(stage: Stage) -> Reservation:
    """Return a reservation that is closed at the end."""
    made = Reservation()
    stage.stack.callback(made.close)
    return made


class _Greeter(asyncio.Protocol):
    """Sends a greeting and closes."""

    def __init__(self, number: int, served: list[int]) -> None:
        self._number = number
        self._served = served

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # of a stream
        self._served.append(self._number)
        transport.write(b"hello")
        transport.close()

    @classmethod
    def factory(cls, number: int, served: list[int]) -> Callable[[], asyncio.Protocol]:
        return lambda: cls(number, served)


async def test_a_reserved_port_can_be_shared_by_listeners_and_by_nobody_else(stage: Stage) -> None:
    made = reservation(stage)
    address = await made.reserve(LOCAL, 0o666)
    assert address.port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address.host, address.port))
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            (sock,) = bind(address, shared=True)
            stack.callback(sock.close)
            sock.listen()
        with pytest.raises(OSError, match="in use"):
            bind(address)


async def test_the_port_stays_reserved_while_no_worker_listens(stage: Stage) -> None:
    made = reservation(stage)
    address = await made.reserve(LOCAL, 0o666)
    with pytest.raises(OSError, match="in use"):
        bind(address)


async def test_two_supervisors_cannot_reserve_one_port(stage: Stage) -> None:
    made, other = reservation(stage), reservation(stage)
    address = await made.reserve(LOCAL, 0o666)
    with pytest.raises(OSError, match="in use") as caught:
        await other.reserve(address, 0o666)
    assert caught.value.filename == str(address)
    made.close()
    assert await other.reserve(address, 0o666) == address


async def test_a_port_that_another_process_shares_cannot_be_reserved(stage: Stage) -> None:
    (foreign,) = bind(LOCAL, shared=True)
    made = reservation(stage)
    with foreign:
        foreign.listen()
        with pytest.raises(OSError, match="in use"):
            await made.reserve(Address("127.0.0.1", foreign.getsockname()[1]), 0o666)


async def test_all_addresses_of_a_name_are_reserved_on_one_port(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    places = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 0)) for host in ("127.0.0.1", "127.0.0.2")]
    made = reservation(stage)
    with monkeypatch.context() as patch:
        patch.setattr("wsaas.transport.listener.socket.getaddrinfo", lambda *_args, **_more: places)
        address = await made.reserve(Address("two", 0), 0o666)
        patch.undo()
        for host in ("127.0.0.1", "127.0.0.2"):
            with pytest.raises(OSError, match="in use"):
                bind(Address(host, address.port))


async def test_an_abstract_socket_is_reserved_and_given_up(stage: Stage, tmp_path: Path) -> None:
    made, address = reservation(stage), Address(path=f"@{tmp_path}")
    assert await made.reserve(address, 0o666) == address
    assert [*made.sockets] == [f"unix:@{tmp_path}"]
    with pytest.raises(OSError, match="in use"):
        await reservation(stage).reserve(address, 0o666)
    made.close()
    await reservation(stage).reserve(address, 0o666)


async def test_a_unix_socket_is_shared_by_its_descriptor(stage: Stage, tmp_path: Path) -> None:
    path = str(tmp_path / "clients")
    made = reservation(stage)
    assert await made.reserve(Address(path=path), 0o640) == Address(path=path)
    assert stat.S_IMODE(os.lstat(path).st_mode) == 0o640
    served: list[int] = []
    listeners = [Listener(Address(path=path), inherited=made.sockets[f"unix:{path}"]) for _ in range(2)]
    for number, each in enumerate(listeners):
        await each.start(_Greeter.factory(number, served))
    listeners[0].close()
    # The file belongs to the supervisor, so the other listener still serves it.
    reader, writer = await asyncio.open_unix_connection(path)
    assert await reader.read() == b"hello"
    writer.close()
    await writer.wait_closed()
    assert served == [1]
    listeners[1].close()
    made.close()
    assert not Path(path).exists()


async def test_a_unix_socket_in_use_cannot_be_reserved(stage: Stage, tmp_path: Path) -> None:
    path = str(tmp_path / "clients")
    made, other = reservation(stage), reservation(stage)
    await made.reserve(Address(path=path), 0o666)
    with pytest.raises(OSError, match="in use by another process") as caught:
        await other.reserve(Address(path=path), 0o666)
    assert caught.value.filename == f"unix:{path}"
    other.close()
    assert Path(path).exists()
