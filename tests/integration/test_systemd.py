"""Sockets that somebody else has opened, and a process that systemd's own program has started."""

import asyncio
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.support.clients import RawClient, upgrade
from tests.support.command import environment
from tests.support.ports import free_port
from tests.support.stage import Stage
from tests.support.waiting import TIMEOUT_S
from wsaas.setting_types import Address
from wsaas.transport.listener import Listener


def opened(stage: Stage, family: int = socket.AF_INET, host: str = "127.0.0.1") -> tuple[int, int]:
    """Return the descriptor of a socket that listens until the end of the test, and its port."""
    sock = stage.stack.enter_context(socket.socket(family))
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind((host, 0))
    sock.listen()
    return sock.fileno(), sock.getsockname()[1]


async def test_an_open_socket_is_served_and_its_ipv4_clients_have_an_ipv4_address(stage: Stage) -> None:
    try:
        descriptor, port = opened(stage, socket.AF_INET6, "::")
    except OSError:
        pytest.skip("no IPv6 here")
    more, other = opened(stage)
    node = await stage.node(listen=f"[::]:{port}", sockets={f"[::]:{port}": [descriptor, more]})
    assert list(map(str, node.gateway.addresses)) == [f"[::]:{port}"]
    assert node.gateway.summary() == f"0 clients, listening on [::]:{port}"
    assert node.gateway.is_alive()
    for each in (port, other):
        await node.upgraded(port=each)
        post = await stage.backend.take("POST")
        assert post.json["request"]["remote_address"] == "127.0.0.1"


async def test_clients_that_connect_during_a_drain_wait_for_the_next_process(stage: Stage) -> None:
    (clients, port), (control, control_port) = opened(stage), opened(stage)
    names = {"listen": f"127.0.0.1:{port}", "control_listen": f"127.0.0.1:{control_port}"}
    given = {**names, "sockets": {names["listen"]: [clients], names["control_listen"]: [control]}}
    old = await stage.node(**given, ws_hostname=names["listen"])
    await old.connect()
    stage.backend.hold("DELETE")
    draining = asyncio.ensure_future(old.drain())
    delete = await stage.backend.take("DELETE")
    raw = await old.raw(port)
    raw.send(upgrade())
    # The backend can still ask the old process.
    asking = await old.raw(control_port)
    asking.send(f"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1:{control_port}\r\n\r\n".encode())
    assert (await asking.answer()).status == 503
    delete.ok()
    assert await draining
    stage.backend.release()
    new = await stage.node(**given)
    assert (await raw.answer()).status == 101
    assert new.statistics.clients == 1


async def test_without_a_socket_for_rest_requests_new_clients_are_refused_during_a_drain(stage: Stage) -> None:
    descriptor, port = opened(stage)
    name = f"127.0.0.1:{port}"
    node = await stage.node(listen=name, ws_hostname=name, sockets={name: [descriptor]})
    await node.connect()
    stage.backend.hold("DELETE")
    draining = asyncio.ensure_future(node.drain())
    delete = await stage.backend.take("DELETE")
    raw = await node.raw(port)
    raw.send(upgrade())
    assert (await raw.answer()).status == 503
    delete.ok()
    assert await draining


async def test_a_listener_can_have_an_abstract_name(stage: Stage, tmp_path: Path) -> None:
    address = Address(path=f"@{tmp_path}")
    node = await stage.node(listen=str(address))
    assert str(node.gateway.addresses[0]) == f"unix:@{tmp_path}"
    # The loop takes no such name.
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(f"\0{tmp_path}")
    raw = RawClient(*await asyncio.open_unix_connection(sock=sock))
    stage.stack.callback(raw.close)
    raw.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await raw.answer()).status == 200
    with pytest.raises(OSError, match="in use"):
        await Listener(address).start(asyncio.Protocol)


@pytest.fixture
def notify(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket that reports go to."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(TIMEOUT_S)
        yield sock


def test_sockets_of_systemd_and_reports_to_it(notify: socket.socket) -> None:
    program = shutil.which("systemd-socket-activate")
    if program is None:
        pytest.skip("needs systemd-socket-activate")
    clients, control = free_port(), free_port()
    variables = {
        "NOTIFY_SOCKET": notify.getsockname(),
        "API_URI": "127.0.0.1:9/hook",
        "WS_HOSTNAME": f"127.0.0.1:{control}",
        "WATCHDOG_USEC": "200000",
    }
    command = [program, "--fdname=listen:control_listen"]
    command += [f"--listen=127.0.0.1:{port}" for port in (clients, control)]
    command += [f"--setenv={name}={value}" for name, value in variables.items()]
    with subprocess.Popen(
        [*command, sys.executable, "-m", "wsaas"], env=environment(), stderr=subprocess.DEVNULL
    ) as process:
        try:
            reports = b""
            while not reports:
                # It starts the command when somebody connects.
                try:
                    socket.create_connection(("127.0.0.1", control), TIMEOUT_S).close()
                except ConnectionRefusedError:
                    continue
                reports = notify.recv(1000)
            assert reports == b"EXTEND_TIMEOUT_USEC=100000000"
            status = f"0 clients, listening on 127.0.0.1:{clients}, 127.0.0.1:{control}"
            assert notify.recv(1000).decode() == f"READY=1\nSTATUS={status}"
            with pytest.raises(Exception, match="HTTP 503"):
                connect(f"ws://127.0.0.1:{clients}/", proxy=None)
            assert notify.recv(1000).startswith(b"WATCHDOG=1\nSTATUS=0 clients")
            process.send_signal(signal.SIGHUP)
            found = [notify.recv(1000)]
            while not found[-1].startswith(b"READY=1"):
                found.append(notify.recv(1000))
            assert re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=\d+", found[-2])
            process.terminate()
            while not (report := notify.recv(1000)).startswith(b"STOPPING=1\nSTATUS=stopping: "):
                assert report.startswith(b"WATCHDOG=1")
            assert report.endswith(b"EXTEND_TIMEOUT_USEC=50000000")
            assert process.wait(TIMEOUT_S) == 0
        finally:
            process.kill()
