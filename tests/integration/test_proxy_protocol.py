"""PROXY_PROTOCOL: clients behind HAProxy and nginx, and whatever else connects to such an address."""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import websockets

from tests.support.certificate_authority import CertificateAuthority
from tests.support.clients import RawClient, upgrade
from tests.support.ports import free_port
from tests.support.proxy_headers import LOCAL, SIGNATURE, v1, v2
from tests.support.stage import Node, Stage
from tests.support.tcp_proxies import Proxy, haproxy, needs_haproxy, needs_nginx, nginx
from tests.support.waiting import wait_until, with_timeout

CLIENT = "203.0.113.9"


async def proxied_node(stage: Stage, **chosen: Any) -> Node:
    """Start a gateway whose clients come through a proxy on this machine."""
    control = f"127.0.0.1:{free_port()}"
    name = f"https://{control}" if stage.tls else control
    usual = {"listen": f"127.0.0.1:{free_port()}", "control_listen": control, "ws_hostname": name}
    node = await stage.node(**{**usual, "proxy_protocol": "on", "trusted_proxies": "127.0.0.1", **chosen})
    node.port = node.gateway.addresses[0].port
    return node


Running = Callable[[Path, str], AbstractAsyncContextManager[Proxy]]

PROXIES = [
    pytest.param(partial(haproxy, server="send-proxy"), id="HAProxy, version 1", marks=needs_haproxy),
    pytest.param(partial(haproxy, server="send-proxy-v2"), id="HAProxy, version 2", marks=needs_haproxy),
    pytest.param(
        partial(haproxy, server="send-proxy-v2 proxy-v2-options unique-id,crc32c"),
        id="HAProxy, version 2 with extensions",
        marks=needs_haproxy,
    ),
    pytest.param(nginx, id="nginx, version 1", marks=needs_nginx),
]


@asynccontextmanager
async def client(stage: Stage, **where: Any) -> AsyncIterator[tuple[websockets.ClientConnection, str]]:
    """Connect a real client; return it, and the address that the backend sees."""
    where = {"ping_interval": None, "ssl": stage.tls, **where}
    uri = f"{'wss' if stage.tls else 'ws'}://127.0.0.1"
    async with websockets.connect(uri, **where) as connection:
        post = await stage.backend.take("POST")
        yield connection, post.json["request"]["remote_address"]


@pytest.mark.parametrize("run", PROXIES)
async def test_clients_behind_a_real_proxy_have_their_own_addresses(stage: Stage, tmp_path: Path, run: Running) -> None:
    stage.backend.on["PUT"] = lambda call: call.answer(200, call.body, Ws_Reply="text")
    node = await proxied_node(stage)
    async with run(tmp_path, f"127.0.0.1:{node.port}") as proxy:
        for address in ("127.0.0.1", "127.0.0.77"):
            where = {"host": "127.0.0.1", "port": proxy.port, "local_addr": (address, 0)}
            async with client(stage, **where) as (connection, seen):
                assert seen == address
                await connection.send("hello")
                assert await with_timeout(connection.recv()) == "hello"
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(proxy.socket))
            async with client(stage, sock=sock) as (_, seen):
                # Neither HAProxy nor nginx tells anything about a client of a Unix socket.
                assert seen == "127.0.0.1"
    assert stage.messages() == []


@needs_haproxy
@pytest.mark.parametrize("server", ["send-proxy", "send-proxy-v2"])
async def test_a_client_with_an_ipv6_address(stage: Stage, tmp_path: Path, server: str) -> None:
    node = await proxied_node(stage)
    async with haproxy(tmp_path, f"127.0.0.1:{node.port}", server) as proxy:
        try:
            sock = socket.create_connection(("::1", proxy.port))
        except OSError:
            pytest.skip("no IPv6 loopback here")
        with sock:
            async with client(stage, sock=sock) as (_, seen):
                assert seen == "::1"


@needs_haproxy
@pytest.mark.parametrize("server", ["send-proxy", "send-proxy-v2"])
async def test_tls_passes_through_the_proxy(stage: Stage, tmp_path: Path, server: str) -> None:
    authority = CertificateAuthority(tmp_path)
    stage.tls = authority.client()
    node = await proxied_node(stage, **authority.issue())
    async with haproxy(tmp_path, f"127.0.0.1:{node.port}", server) as proxy:
        where = {"host": "127.0.0.1", "port": proxy.port, "local_addr": ("127.0.0.77", 0)}
        async with client(stage, **where) as (connection, seen):
            assert seen == "127.0.0.77"
            await connection.send("x" * 100_000)
            assert (await stage.backend.take("PUT")).text == "x" * 100_000
    assert stage.messages() == []


@needs_haproxy
@pytest.mark.parametrize("server", ["send-proxy", "send-proxy-v2"])
async def test_the_health_checks_of_the_proxy(stage: Stage, tmp_path: Path, server: str) -> None:
    # HAProxy's checks send a header, too: version 1 with its own address, version 2 as LOCAL.
    node = await proxied_node(stage)
    shared = f"127.0.0.1:{free_port()}"
    both = await proxied_node(stage, listen=shared, control_listen=shared, ws_hostname=shared)
    checks = ("option httpchk GET /readyz", "http-check send hdr Host localhost")
    for number, (port, lines, result) in enumerate([(node.port, (), "L4OK"), (both.port, checks, "L7OK")]):
        folder = tmp_path / str(number)
        folder.mkdir()
        async with haproxy(folder, f"127.0.0.1:{port}", f"{server} check inter 50", *lines) as proxy:
            found: list[str] = []
            while found[-3:] != [result] * 3:
                (row,) = await proxy.servers()
                assert row["status"].startswith("UP"), row
                if not row["check_status"].startswith("*") and row["check_status"] != "INI":
                    found.append(row["check_status"])
                await asyncio.sleep(0.02)
    assert stage.messages() == []


@needs_haproxy
async def test_health_checks_of_an_address_of_its_own_need_no_header(stage: Stage, tmp_path: Path) -> None:
    node = await proxied_node(stage)
    checks = ("option httpchk GET /readyz", "http-check send hdr Host localhost")
    server = f"send-proxy-v2 check port {node.gateway.addresses[1].port} inter 50"
    async with haproxy(tmp_path, f"127.0.0.1:{node.port}", server, *checks) as proxy:
        found = ""
        while found != "L7OK":
            (row,) = await proxy.servers()
            found = row["check_status"]
            await asyncio.sleep(0.02)
    assert stage.messages() == []


@needs_haproxy
async def test_a_proxy_that_sends_no_header_is_named_in_the_log(stage: Stage, tmp_path: Path) -> None:
    node = await proxied_node(stage)
    async with haproxy(tmp_path, f"127.0.0.1:{node.port}", "") as proxy:
        with pytest.raises((websockets.InvalidMessage, OSError)):
            await websockets.connect("ws://127.0.0.1", host="127.0.0.1", port=proxy.port)
    (message,) = stage.messages()
    assert message == (
        "a connection from the proxy at 127.0.0.1 was closed: it does not begin with a header of the PROXY protocol: "
        "with PROXY_PROTOCOL=on, the proxy has to send a header of the PROXY protocol on each connection, those of its "
        "health checks included"
    )


# What proxies do only sometimes, and what attackers do.


@pytest.mark.parametrize("header", [v1(CLIENT), v2(CLIENT, b"\x04\x01\x00" + bytes(256))])
async def test_a_header_may_arrive_in_pieces(stage: Stage, header: bytes) -> None:
    node = await proxied_node(stage)
    raw = await node.raw()
    await raw.send_slowly(header)
    await raw.send_slowly(upgrade())
    assert (await raw.answer()).status == 101
    (post,) = stage.backend.calls
    assert post.json["request"]["remote_address"] == CLIENT


async def test_the_rest_api_has_no_header_at_an_address_of_its_own(stage: Stage) -> None:
    node = await proxied_node(stage)
    raw = await node.raw()
    raw.send(v2(CLIENT) + upgrade())
    assert (await raw.answer()).status == 101
    post = await stage.backend.take("POST")
    control = node.gateway.addresses[1].port
    answer = await node.rest("GET", post.client, port=control)
    assert (answer.status, answer.json["remote_address"]) == (200, CLIENT)
    assert (await node.rest("PUT", post.client, "hello", port=control)).status == 200


async def test_the_rest_api_has_headers_at_the_address_of_clients(stage: Stage) -> None:
    address = f"127.0.0.1:{free_port()}"
    node = await proxied_node(stage, listen=address, control_listen=address, ws_hostname=address)
    raw = await node.raw()
    raw.send(v1(CLIENT) + b"GET /connections HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await raw.answer()).status == 200
    raw = await node.raw()
    raw.send(b"GET /connections HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await raw.end()
    (message,) = stage.messages()
    assert message.endswith("REST requests need no proxy if CONTROL_LISTEN is set")


async def test_a_connection_of_anybody_else_is_closed(stage: Stage) -> None:
    node = await proxied_node(stage, trusted_proxies="127.0.0.99")
    raw = await node.raw()
    raw.send(v2("127.0.0.99") + upgrade())
    await raw.end()
    assert stage.messages() == [
        (
            "a connection from 127.0.0.1 was closed: with PROXY_PROTOCOL=on, only TRUSTED_PROXIES may connect: add "
            "this address if it is a proxy, otherwise connect through one"
        )
    ]
    assert stage.backend.calls == []


async def test_the_limit_of_an_address_counts_the_clients_of_the_header(stage: Stage) -> None:
    node = await proxied_node(stage, max_connections_per_address=2)

    async def handshake(address: str) -> tuple[RawClient, int]:
        raw = await node.raw()
        raw.send(v2(address) + upgrade())
        return raw, (await raw.answer()).status

    first, status = await handshake(CLIENT)
    assert status == 101
    assert [(await handshake(CLIENT))[1] for _ in range(2)] == [101, 429]
    assert (await handshake("203.0.113.10"))[1] == 101
    first.close()
    await stage.backend.take("DELETE")
    assert (await handshake(CLIENT))[1] == 101


async def test_x_forwarded_for_counts_only_if_the_client_of_the_header_is_a_trusted_proxy(stage: Stage) -> None:
    # A load balancer for TCP before a proxy for HTTP, which is at 198.51.100.1.
    node = await proxied_node(stage, trusted_proxies="127.0.0.1, 198.51.100.1")
    for address, seen in (("198.51.100.1", "192.0.2.7"), (CLIENT, CLIENT)):
        raw = await node.raw()
        raw.send(v2(address) + upgrade("/", "X-Forwarded-For: 192.0.2.7"))
        assert (await raw.answer()).status == 101
        assert (await stage.backend.take("POST")).json["request"]["remote_address"] == seen


async def test_proxies_may_connect_by_a_unix_socket(stage: Stage, tmp_path: Path) -> None:
    path = tmp_path / "gateway.sock"
    await stage.node(
        listen=f"unix:{path}", control_listen=f"127.0.0.1:{free_port()}", proxy_protocol="on", trusted_proxies="unix:"
    )
    for header, seen in ((v1(CLIENT), CLIENT), (LOCAL, "")):
        raw = RawClient(*await with_timeout(asyncio.open_unix_connection(str(path))))
        stage.stack.callback(raw.close)
        raw.send(header + upgrade())
        assert (await raw.answer()).status == 101
        assert (await stage.backend.take("POST")).json["request"]["remote_address"] == seen


@pytest.mark.parametrize("start", [b"", b"PROXY TCP4 203.0.113.9", SIGNATURE + b"\x21"])
async def test_a_slow_header_is_closed_in_time(stage: Stage, start: bytes) -> None:
    node = await proxied_node(stage, handshake_timeout=200)
    raw = await node.raw()
    raw.send(start)
    began = asyncio.get_running_loop().time()
    await raw.end()
    assert 0.1 < asyncio.get_running_loop().time() - began < 5
    (message,) = stage.messages()
    assert "its header did not arrive completely in time" in message


async def test_a_flood_of_garbage_harms_nobody(stage: Stage) -> None:
    node = await proxied_node(stage)
    raw = await node.raw()
    raw.send(v2(CLIENT) + upgrade())
    assert (await raw.answer()).status == 101
    connections = [await node.raw() for _ in range(100)]
    starts = (b"", b"PROXY ", SIGNATURE, b"PROXY UNKNOWN ", SIGNATURE + b"\x21\x11\xff\xff")
    for number, other in enumerate(connections):
        other.send(starts[number % len(starts)] + os.urandom(100_000))
    await asyncio.gather(*(other.rest() for other in connections))
    await wait_until(lambda: node.statistics.accepted_connections == 1)
    (post,) = stage.backend.calls
    control = node.gateway.addresses[1].port
    assert (await node.rest("PUT", post.client, "hello", port=control)).status == 200
    assert await raw.frame() == (1, b"hello")
    # Repeated lines are counted.
    assert 1 <= len(stage.messages()) < 10


async def test_a_proxy_may_connect_and_close_without_a_header(stage: Stage) -> None:
    node = await proxied_node(stage)
    for _ in range(3):
        raw = await node.raw()
        raw.close()
    raw = await node.raw()
    raw.reset()
    await wait_until(lambda: node.statistics.accepted_connections == 0)
    assert stage.messages() == []


async def test_a_node_with_connections_without_a_header_stops(stage: Stage) -> None:
    node = await proxied_node(stage)
    raws = [await node.raw() for _ in range(3)]
    await wait_until(lambda: node.statistics.accepted_connections == 3)
    assert await node.drain()
    for raw in raws:
        await raw.end()
    assert stage.messages() == []


async def test_the_access_log_has_the_address_of_the_client(stage: Stage) -> None:
    node = await proxied_node(stage, allowed_origins="https://example.com")
    raw = await node.raw()
    raw.send(v1(CLIENT) + upgrade("/", "Origin: https://evil.example"))
    assert (await raw.answer()).status == 403
    refused = [record.args for record in stage.logged if "refused" in record.getMessage()]
    assert len(refused) == 2
    assert all(f"'remote_address': '{CLIENT}'" in str(fields) for fields in refused), json.dumps(str(refused))
