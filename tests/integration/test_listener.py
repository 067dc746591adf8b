"""Listening: TCP sockets of every family on one port, and Unix sockets at a contended path."""
# ruff: noqa: ASYNC240 - tests may access files from the loop

import asyncio
import contextlib
import errno
import fcntl
import multiprocessing
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.command import environment, run_wsaas
from tests.support.ports import free_port
from tests.support.stage import Node, Stage, load_settings
from tests.support.waiting import TIMEOUT_S, with_timeout
from wsaas.setting_types import Address
from wsaas.transport import listener
from wsaas.transport.listener import Listener, bind

STALE_BUT_UNLOCKED = (
    "nobody listens on the socket there, but its directory is not readable, so it cannot be locked to replace the "
    "socket: remove the socket, or make the directory readable"
)

# TCP.


def found(*hosts: str) -> Any:
    """Return a fake `getaddrinfo` that resolves every name to `hosts`."""

    def look_up(_host: str, port: int, **_more: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in hosts]

    return look_up


def test_a_host_with_one_usable_address_of_two_can_be_listened_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsaas.transport.listener.socket.getaddrinfo", found("127.0.0.1", "203.0.113.1"))
    (only,) = bind(Address("anything", 0))
    with only:
        assert only.getsockname()[0] == "127.0.0.1"


def test_all_addresses_of_a_host_get_the_same_port_or_none_is_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsaas.transport.listener.socket.getaddrinfo", found("127.0.0.1", "127.0.0.2"))
    first, second = bind(Address("anything", 0))
    with first, second:
        assert first.getsockname()[1] == second.getsockname()[1]
        second.listen()
        first.close()
        with pytest.raises(OSError, match="in use"):
            bind(Address("anything", second.getsockname()[1]))


async def test_no_socket_stays_open_when_one_of_them_cannot_listen(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    (other,) = bind(Address("127.0.0.1", 0))
    address = Address("127.0.0.1", other.getsockname()[1])

    bound: list[socket.socket] = []

    def bind_and_lose(wanted: Address, *, shared: bool) -> list[socket.socket]:
        # With SO_REUSEADDR two sockets can be bound to one port, but only one can listen.
        bound.extend(bind(wanted, shared=shared))
        other.listen()
        return bound

    monkeypatch.setattr(listener, "bind", bind_and_lose)
    with other, pytest.raises(OSError, match="in use") as caught:
        await Listener(address, acceptors=3).start(asyncio.Protocol)
    assert caught.value.filename == str(address)
    assert stage.nodes == []


# Unix sockets.


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.sock"


async def answers(path: Path) -> bool:
    """Return whether a gateway answers at `path`."""
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as http,
        http.get("http://localhost/healthz") as response,
    ):
        return response.status == 200


async def refused(stage: Stage, **chosen: Any) -> OSError:
    """Start a node that cannot listen; return the error."""
    node = Node(stage, load_settings(**chosen))
    stage.nodes.append(node)
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the caller looks at it
        await node.gateway.start()
    return caught.value


def leave_socket(path: Path) -> None:
    """Leave a socket file, as a killed process does."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


@pytest.fixture
def _umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_umask")
@pytest.mark.parametrize(("chosen", "expected"), [({}, 0o666), ({"listen_mode": "600"}, 0o600)])
async def test_the_file_has_the_mode_that_was_set_whatever_the_umask(
    stage: Stage, path: Path, chosen: dict[str, str], expected: int
) -> None:
    rest = path.with_name("rest.sock")
    await stage.node(listen=f"unix:{path}", control_listen=f"unix:{rest}", **chosen)
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(rest.stat().st_mode) == expected


async def test_nobody_can_connect_before_the_file_has_its_mode(
    stage: Stage, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    chmod = Path.chmod

    def look_and_chmod(self: Path, mode: int) -> None:
        with socket.socket(socket.AF_UNIX) as visitor:
            seen.append(visitor.connect_ex(str(path)))
        chmod(self, mode)

    monkeypatch.setattr(Path, "chmod", look_and_chmod)
    await stage.node(listen=f"unix:{path}", listen_mode="600")
    with socket.socket(socket.AF_UNIX) as visitor:
        assert visitor.connect_ex(str(path)) == 0
    assert seen == [errno.ECONNREFUSED]


async def test_a_socket_that_nobody_listens_on_is_replaced(stage: Stage, path: Path) -> None:
    leave_socket(path)
    await stage.node(listen=f"unix:{path}")
    assert await answers(path)


async def test_a_socket_that_another_process_listens_on_is_left_alone(stage: Stage, path: Path) -> None:
    await stage.node(listen=f"unix:{path}")
    before = path.stat().st_ino
    error = await refused(stage, listen=f"unix:{path}")
    assert (error.errno, error.strerror) == (errno.EADDRINUSE, "it is in use by another process")
    assert error.filename == f"unix:{path}"
    assert path.stat().st_ino == before
    assert await answers(path)


async def test_a_socket_with_a_full_backlog_counts_as_in_use(stage: Stage, path: Path) -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket(socket.AF_UNIX))
        server.bind(str(path))
        server.listen(0)
        for _ in range(2):
            visitor = stack.enter_context(socket.socket(socket.AF_UNIX))
            visitor.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                visitor.connect(str(path))
        assert (await refused(stage, listen=f"unix:{path}")).errno == errno.EADDRINUSE


async def test_a_datagram_socket_counts_as_in_use(stage: Stage, path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        assert (await refused(stage, listen=f"unix:{path}")).errno == errno.EADDRINUSE
    assert path.exists()


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
async def test_a_file_that_is_not_a_socket_is_left_alone(stage: Stage, path: Path, kind: str) -> None:
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    else:
        leave_socket(path.with_name("other.sock"))
        path.symlink_to("other.sock")
    before = path.lstat()
    error = await refused(stage, listen=f"unix:{path}")
    assert error.strerror == "a file that is not a socket exists there; it was not replaced"
    assert path.lstat() == before


async def test_a_socket_without_permission_to_connect_is_left_alone(
    stage: Stage, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_socket(path)
    # Root may connect to any socket, so the refusal is faked.
    monkeypatch.setattr("wsaas.transport.listener.socket.socket.connect_ex", lambda *_: errno.EACCES)
    error = await refused(stage, listen=f"unix:{path}")
    assert error.strerror == "a socket exists there, but connecting to it failed: Permission denied"
    assert path.exists()


@pytest.mark.parametrize("where", ["missing/gateway.sock", "x" * 200])
async def test_a_path_that_cannot_be_bound_is_an_error_that_names_it(stage: Stage, tmp_path: Path, where: str) -> None:
    error = await refused(stage, listen=f"unix:{tmp_path / where}")
    assert error.strerror in {"No such file or directory", "AF_UNIX path too long"}
    assert error.filename == f"unix:{tmp_path / where}"


async def test_the_file_of_a_socket_is_removed_when_the_gateway_stops(stage: Stage, path: Path) -> None:
    node = await stage.node(listen=f"unix:{path}")
    assert await node.drain()
    assert not path.exists()


async def test_the_file_of_another_process_is_not_removed_when_the_gateway_stops(stage: Stage, path: Path) -> None:
    node = await stage.node(listen=f"unix:{path}")
    path.unlink()
    leave_socket(path)
    assert await node.drain()
    assert path.exists()


async def test_a_missing_file_is_no_error_when_the_gateway_stops(stage: Stage, path: Path) -> None:
    node = await stage.node(listen=f"unix:{path}")
    path.unlink()
    assert await node.drain()


async def test_the_file_is_removed_when_the_other_address_cannot_be_bound(stage: Stage, path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        await refused(stage, listen=f"unix:{path}", control_listen=f"127.0.0.1:{port}")
    assert not path.exists()


async def test_a_start_waits_while_another_process_is_starting(stage: Stage, path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    leave_socket(path)
    before = path.stat().st_ino
    starting = asyncio.ensure_future(stage.node(listen=f"unix:{path}"))
    for _ in range(20):
        await asyncio.sleep(0)
    await asyncio.sleep(0.05)
    assert not starting.done()
    assert path.stat().st_ino == before
    os.close(folder)
    await with_timeout(starting)
    assert await answers(path)


async def test_a_start_waits_for_another_process_for_a_limited_time(
    stage: Stage, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "LOCK_TIMEOUT_S", 0.02)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        error = await refused(stage, listen=f"unix:{path}")
    finally:
        os.close(folder)
    assert error.strerror == f"another process keeps the directory {path.parent} locked"
    assert not path.exists()


async def test_without_a_lock_a_free_path_is_bound_but_no_stale_socket_removed(
    stage: Stage, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    actual = os.open

    def refuse(name: Any, *more: Any) -> int:
        if name == path.parent:
            raise PermissionError(errno.EACCES, "Permission denied")
        return actual(name, *more)

    monkeypatch.setattr("wsaas.transport.listener.os.open", refuse)
    node = await stage.node(listen=f"unix:{path}")
    assert (await refused(stage, listen=f"unix:{path}")).strerror == "it is in use by another process"
    await node.drain()
    leave_socket(path)
    before = path.stat().st_ino
    assert (await refused(stage, listen=f"unix:{path}")).strerror == STALE_BUT_UNLOCKED
    assert path.stat().st_ino == before


# In other processes.


def test_a_path_in_use_is_status_1_and_one_line(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        done = run_wsaas(API_URI="localhost:8000/x", LISTEN=f"unix:{path}")
    assert (done.returncode, done.stdout) == (1, "")
    line = f" ERROR cannot listen on unix:{path}: it is in use by another process\n"
    assert done.stderr.endswith(line)
    assert done.stderr.count("\n") == 1


UNREADABLE = """
import asyncio, encodings.idna, os, socket, sys
from wsaas.transport.listener import Listener
from wsaas.setting_types import Address

async def main():
    for _ in range(2):
        listener = Listener(Address(path=sys.argv[1]))
        try:
            await listener.start(asyncio.Protocol)
        except OSError as error:
            print(error.strerror)
        else:
            print("listening")
            listener.close()
            # What a process leaves behind that is killed.
            with socket.socket(socket.AF_UNIX) as left:
                left.bind(sys.argv[1])

if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
asyncio.run(main())
"""


def test_a_writable_directory_that_cannot_be_read_is_enough_for_a_free_path() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        if os.getuid() == 0:
            os.chown(folder, 65534, 65534)
        Path(folder).chmod(0o300)
        command = [sys.executable, "-c", UNREADABLE, f"{folder}/listener"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        Path(folder).chmod(0o700)
    assert (done.stdout.splitlines(), done.stderr) == (["listening", STALE_BUT_UNLOCKED], "")


def contend(path: str, rounds: int, start: Any, wins: Any) -> None:
    """Try to listen at `path` in each round; put the error into `wins`, or None for success."""

    async def take_part() -> None:
        for _ in range(rounds):
            contender = Listener(Address(path=path))
            start.wait(TIMEOUT_S)
            try:
                await contender.start(asyncio.Protocol)
            except OSError as error:
                wins.put(error.strerror)
            else:
                wins.put(None)
            # All have tried before one closes.
            start.wait(TIMEOUT_S)
            contender.close()

    asyncio.run(take_part())


def test_of_many_listeners_that_replace_a_stale_socket_at_once_one_gets_it(path: Path) -> None:
    contenders, rounds = 4, 50
    spawn = multiprocessing.get_context("spawn")
    start, wins = spawn.Barrier(contenders + 1), spawn.Queue()
    processes = [spawn.Process(target=contend, args=(str(path), rounds, start, wins)) for _ in range(contenders)]
    for each in processes:
        each.start()
    try:
        for _ in range(rounds):
            path.unlink(missing_ok=True)
            leave_socket(path)
            start.wait(TIMEOUT_S)
            results = [wins.get(timeout=TIMEOUT_S) for _ in processes]
            assert results.count(None) == 1, results
            assert results.count("it is in use by another process") == contenders - 1
            start.wait(TIMEOUT_S)
    finally:
        start.abort()
        for each in processes:
            each.join(TIMEOUT_S)
            each.kill()
            each.close()
        wins.close()


def test_of_many_commands_that_start_at_once_one_gets_the_path(path: Path) -> None:
    leave_socket(path)
    command = [sys.executable, "-m", "wsaas", "--listen", f"unix:{path}", "--api-uri", f"localhost:{free_port()}/"]
    started = [
        subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True, bufsize=1) for _ in range(6)
    ]
    with contextlib.ExitStack() as stack:
        for each in started:
            stack.enter_context(each)
            stack.callback(each.kill)
        # The first line of each says whether it listens.
        said = [each.stderr.readline() for each in started if each.stderr]
        winners = [each for each, line in zip(started, said, strict=True) if "listening on" in line]
        assert len(winners) == 1, said
        losers = [each for each in started if each not in winners]
        assert [each.wait(TIMEOUT_S) for each in losers] == [1] * 5
        assert sum("it is in use by another process" in line for line in said) == 5
        assert asyncio.run(answers(path))
        winners[0].send_signal(signal.SIGTERM)
        assert winners[0].wait(TIMEOUT_S) == 0
    assert not path.exists()
