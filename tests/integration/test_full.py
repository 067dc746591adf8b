"""A node without free descriptors still serves its backend, and one address cannot take them all."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.clients import Answer, RawClient, upgrade
from tests.support.frames import TEXT, close_frame, frame
from tests.support.gateway_process import GatewayProcess, gateway_process
from tests.support.ports import free_port
from tests.support.stage import Node, Stage
from tests.support.waiting import wait_until, with_timeout

DESCRIPTORS = 256
MANY = 300
SOON = 2.0
"""Seconds within which the backend is served: far less than the time-out of a silent connection."""


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def put(name: str, body: str) -> bytes:
    return f"PUT /{name} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


@asynccontextmanager
async def full_node(
    stage: Stage, log: Path, *, shared: bool
) -> AsyncIterator[tuple[GatewayProcess, int, RawClient, str]]:
    """Run a node with few descriptors and one client; yield it, the port of its REST API, the client and its id."""
    control = 0 if shared else free_port()
    chosen = {} if shared else {"control_listen": f"127.0.0.1:{control}"}
    async with gateway_process(stage, log, descriptors=DESCRIPTORS, **chosen) as node:
        client, answer = await enter(node)
        assert answer.status == 101
        yield node, control or node.port, client, (await stage.backend.take("POST")).client


async def enter(node: GatewayProcess) -> tuple[RawClient, Answer]:
    """Send a handshake; return the connection and the answer."""
    raw = await node.raw()
    raw.send(upgrade())
    return raw, await raw.answer()


async def fill_with_clients(node: GatewayProcess) -> int:
    """Connect clients until one is refused; return how many were accepted."""
    taken = 0
    while taken < MANY:
        answers = await asyncio.gather(*(enter(node) for _ in range(20)), return_exceptions=True)
        inside = sum(not isinstance(each, BaseException) and each[1].status == 101 for each in answers)
        taken += inside
        if inside < len(answers):
            return taken
    raise AssertionError("the node accepts any number of clients")


async def check_backend_is_served(node: GatewayProcess, port: int, client: RawClient, name: str) -> None:
    """Fail unless requests are answered on new connections and on one that is kept alive."""
    kept = await asyncio.wait_for(node.raw(port), SOON)
    for number in range(5):
        for path in ("/healthz", "/readyz"):
            answer = await asyncio.wait_for(node.ask(get(path), port), SOON)
            assert answer.status == 200, answer
        body = f"push {number}"
        assert (await asyncio.wait_for(node.ask(put(name, body), port), SOON)).status == 200
        assert await with_timeout(client.frame()) == (TEXT, body.encode())
        kept.send(put(name, "kept"))
        assert (await asyncio.wait_for(kept.answer(), SOON)).status == 200
        assert await with_timeout(client.frame()) == (TEXT, b"kept")


@pytest.mark.parametrize("shared", [False, True])
async def test_a_node_full_of_clients_serves_its_backend(stage: Stage, tmp_path: Path, shared: bool) -> None:
    async with full_node(stage, tmp_path / "log", shared=shared) as (node, port, client, name):
        taken = await fill_with_clients(node)
        assert DESCRIPTORS // 2 - 2 <= taken < DESCRIPTORS
        await check_backend_is_served(node, port, client, name)
        _, refused = await enter(node)
        assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
        await check_backend_is_served(node, port, client, name)


@pytest.mark.parametrize("shared", [False, True])
async def test_a_node_full_of_silent_connections_serves_its_backend_and_takes_clients(
    stage: Stage, tmp_path: Path, shared: bool
) -> None:
    async with full_node(stage, tmp_path / "log", shared=shared) as (node, port, client, name):
        node.silent(MANY)
        await wait_until(lambda: node.descriptors > DESCRIPTORS // 2)
        await check_backend_is_served(node, port, client, name)
        _, answer = await enter(node)
        assert answer.status == 101


@pytest.mark.parametrize("shared", [False, True])
async def test_a_node_full_of_both_serves_its_backend(stage: Stage, tmp_path: Path, shared: bool) -> None:
    async with full_node(stage, tmp_path / "log", shared=shared) as (node, port, client, name):
        await fill_with_clients(node)
        for _ in range(3):
            node.silent(MANY // 3)
            node.silent(MANY // 3, port)
            await check_backend_is_served(node, port, client, name)


async def test_silent_connections_to_the_control_listener_do_not_fill_it(stage: Stage, tmp_path: Path) -> None:
    async with full_node(stage, tmp_path / "log", shared=False) as (node, port, client, name):
        node.silent(MANY, port)
        await wait_until(lambda: node.descriptors > DESCRIPTORS // 2)
        await check_backend_is_served(node, port, client, name)
        _, answer = await enter(node)
        assert answer.status == 101


# Addresses


async def connect_from(address: str, port: int) -> RawClient:
    return RawClient(*await with_timeout(asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))))


async def test_silent_connections_count_towards_the_limit_of_their_address(stage: Stage) -> None:
    control = free_port()
    node = await stage.node(max_connections_per_address=3, control_listen=f"127.0.0.1:{control}")
    silent = [await node.raw() for _ in range(3)]
    await wait_until(lambda: node.statistics.accepted_connections == 3)
    for _ in range(5):
        raw = await node.raw()
        answer = await raw.answer()
        assert (answer.status, answer.code, answer.headers["Retry-After"]) == (429, "TOO_MANY_REQUESTS", "1")
        await raw.end()
    # Other addresses and the REST API are not affected.
    other = await connect_from("127.0.0.2", node.port)
    stage.stack.callback(other.close)
    other.send(upgrade())
    assert (await other.answer()).status == 101
    for _ in range(5):
        assert (await node.rest("GET", "/connections", port=control)).status == 200
    silent[0].close()
    await wait_until(lambda: node.statistics.accepted_connections < 5)
    await node.connect()


async def test_a_refused_connection_has_a_second_to_read_its_answer(stage: Stage) -> None:
    node = await stage.node(max_connections_per_address=1, control_listen=f"127.0.0.1:{free_port()}")
    await node.connect()
    raw = await node.raw()
    assert (await raw.answer()).status == 429
    # The client keeps the connection open; the gateway closes it.
    await wait_until(lambda: node.statistics.accepted_connections == 1)


async def test_a_backend_shares_its_address_with_clients(stage: Stage) -> None:
    node = await stage.node(max_connections_per_address=3)
    client, name = await node.admit()
    for _ in range(2):
        await node.connect()
    kept = []
    for number in range(12):
        raw = await node.raw()
        raw.send(put(name, str(number)))
        assert (await raw.answer()).status == 200
        assert await with_timeout(client.recv()) == str(number)
        kept.append(raw)
    refused = await node.raw()
    refused.send(upgrade())
    assert (await refused.answer()).status == 429
    for raw in kept:
        raw.send(put(name, "kept"))
        assert (await raw.answer()).status == 200
    # Connections of the backend are not counted: a client that leaves makes room for another one.
    await client.close()
    await stage.backend.take("DELETE")
    await node.connect()


async def handshake_status(node: Node) -> int:
    raw = await node.raw()
    raw.send(upgrade())
    status = (await raw.answer()).status
    if status != 101:
        raw.close()
    return status


async def test_after_a_protocol_violation_a_connection_counts_towards_its_address_until_it_is_closed(
    stage: Stage,
) -> None:
    node = await stage.node(max_connections_per_address=2)
    failed = [await node.upgraded() for _ in range(2)]
    for raw in failed:
        raw.send(frame(TEXT, b"x", masked=False))
        assert (await raw.closing())[0] == 1002
    assert await handshake_status(node) == 429
    failed[0].close()
    await wait_until(lambda: node.statistics.accepted_connections == 1)
    assert await handshake_status(node) == 101
    assert await handshake_status(node) == 429


async def test_a_connection_counts_towards_its_address_until_its_last_messages_are_read(stage: Stage) -> None:
    node = await stage.node(max_connections_per_address=1, send_buffer=8_000_000)
    raw = await node.upgraded(receive=4096)
    post = await stage.backend.take("POST")
    session = node.session(post.client)
    while not session.buffered:
        assert (await node.rest("PUT", post.client, "x" * 1_000_000)).status == 200
    raw.send(close_frame(1000))
    await stage.backend.take("DELETE")
    assert await handshake_status(node) == 429
    raw.reset()
    await wait_until(lambda: node.statistics.accepted_connections == 0)
    assert await handshake_status(node) == 101


async def test_an_address_at_its_limit_has_few_silent_connections(stage: Stage) -> None:
    node = await stage.node(max_connections_per_address=2)
    _, name = await node.admit()
    await node.connect()
    silent = [await node.raw() for _ in range(50)]
    ends = [asyncio.ensure_future(raw.end()) for raw in silent[:40]]
    await with_timeout(asyncio.gather(*ends))
    assert node.statistics.accepted_connections <= 2 + 10
    assert (await node.rest("PUT", name, "x")).status == 200


async def test_a_trusted_proxy_is_not_counted(stage: Stage) -> None:
    node = await stage.node(
        max_connections_per_address=1, trusted_proxies="127.0.0.1", control_listen=f"127.0.0.1:{free_port()}"
    )
    for number in range(5):
        await node.connect(additional_headers={"X-Forwarded-For": f"198.51.100.{number}"})
    raw = await node.raw()
    raw.send(upgrade("/", "X-Forwarded-For: 198.51.100.1"))
    assert (await raw.answer()).status == 429


async def test_the_connections_of_a_network_are_counted_together(stage: Stage) -> None:
    try:
        port = free_port("::1")
    except OSError:
        pytest.skip("no IPv6 loopback here")
    node = await stage.node(
        ws_hostname=f"[::1]:{port}", max_connections_per_address=1, control_listen=f"127.0.0.1:{free_port()}"
    )
    first = await node.raw(host="::1")
    await wait_until(lambda: node.statistics.accepted_connections == 1)
    second = await node.raw(host="::1")
    assert (await second.answer()).status == 429
    first.close()


def test_the_kernel_binds_other_loopback_addresses() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.2", 0))
