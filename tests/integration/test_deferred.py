"""Requests that a peer answers later: the responses of a connection stay in order."""

import asyncio
from typing import Any

import pytest

from tests.support.clients import RawClient
from tests.support.peers import REMOTE, PeerDouble
from tests.support.ports import free_port
from tests.support.stage import Node, Stage
from tests.support.waiting import wait_until, with_timeout
from wsaas.cluster.peers import Peers
from wsaas.http.serialize import OutgoingResponse
from wsaas.transport.deferring import MAX_BUFFERED_BYTES

GONE = OutgoingResponse(410, b'{"code":"GONE"}')


async def with_peer(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, *, timeout: float = 10.0, **chosen: object
) -> tuple[Node, PeerDouble]:
    """Start a node that has a peer."""
    peer = PeerDouble(asyncio.get_running_loop().time, timeout)
    monkeypatch.setattr(Peers, "find", lambda _peers, connection_id: peer.find_peer(connection_id))
    return await stage.node(**chosen), peer


def push(name: str, body: bytes = b"hello", *, method: str = "PUT", version: str = "1.1", more: str = "") -> bytes:
    head = f"{method} /{name} HTTP/{version}\r\nHost: localhost\r\n{more}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def silent(raw: RawClient) -> bool:
    """Return whether no byte arrives for 0.1 s."""
    try:
        await asyncio.wait_for(raw.reader.read(1), 0.1)
    except asyncio.TimeoutError:
        return True
    return False


async def test_pipelined_pushes_to_this_process_and_a_peer_are_answered_in_order(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, peer = await with_peer(stage, monkeypatch)
    client, name = await node.admit()
    raw = await node.raw()
    raw.send(push(name, b"first") + push(REMOTE) + push(name, b"second"))
    assert (await raw.answer()).status == 200
    assert await with_timeout(client.recv()) == "first"
    await wait_until(lambda: peer.requests)
    assert await silent(raw)
    peer.answer(GONE)
    assert [(await raw.answer()).status for _ in range(2)] == [410, 200]
    assert await with_timeout(client.recv()) == "second"


async def test_two_connections_do_not_wait_for_each_other(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    node, peer = await with_peer(stage, monkeypatch)
    client, name = await node.admit()
    waiting, other = await node.raw(), await node.raw()
    waiting.send(push(REMOTE))
    await wait_until(lambda: peer.requests)
    other.send(push(name, b"not held up"))
    assert (await other.answer()).status == 200
    assert await with_timeout(client.recv()) == "not held up"
    other.send(push(REMOTE, method="DELETE", body=b""))
    await wait_until(lambda: len(peer.requests) == 2)
    peer.answer(GONE, which=1)
    assert (await other.answer()).status == 410
    peer.answer()
    assert (await waiting.answer()).status == 200


@pytest.mark.parametrize("behind", [0, 1000])
async def test_a_lost_connection_to_the_caller_cancels_its_request(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, behind: int
) -> None:
    node, peer = await with_peer(stage, monkeypatch)
    raw = await node.raw()
    raw.send(push(REMOTE) + b"x" * behind)
    await wait_until(lambda: peer.requests)
    raw.reset()
    await wait_until(lambda: peer.cancelled)
    assert peer.cancelled == peer.requests
    peer.answer()
    assert (await node.rest("GET", "/healthz")).status == 200


async def test_a_caller_may_close_its_half_before_a_deferred_answer(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, peer = await with_peer(stage, monkeypatch)
    raw = await node.raw()
    raw.send(push(REMOTE))
    await wait_until(lambda: peer.requests)
    raw.half_close()
    assert await silent(raw)
    assert peer.cancelled == []
    peer.answer(GONE)
    assert (await raw.answer()).status == 410
    await raw.end()


async def test_the_request_of_a_caller_that_closed_is_cancelled_at_its_deadline(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A caller that closed its connection looks like one that closed its half, until something is written to it.
    node, peer = await with_peer(stage, monkeypatch, timeout=0.2)
    raw = await node.raw()
    raw.send(push(REMOTE))
    await wait_until(lambda: peer.requests)
    raw.close()
    await wait_until(lambda: peer.cancelled)
    assert peer.cancelled == peer.requests


@pytest.mark.slow
async def test_a_caller_that_keeps_sending_is_read_up_to_a_limit_and_answered_later(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, peer = await with_peer(stage, monkeypatch)
    raw = await node.raw()
    raw.send(push(REMOTE))
    await wait_until(lambda: peer.requests)
    health = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    count = 20 * MAX_BUFFERED_BYTES // len(health)
    raw.send(health * count)
    assert await silent(raw)
    peer.answer(GONE)
    assert (await raw.answer()).status == 410
    assert {(await raw.answer()).status for _ in range(count)} == {200}


async def test_a_head_request_gets_no_body_and_http_1_0_gets_a_connection_header(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, peer = await with_peer(stage, monkeypatch)
    raw = await node.raw()
    raw.send(push(REMOTE, b"", method="HEAD"))
    await wait_until(lambda: peer.requests)
    peer.answer(GONE)
    head = await raw.answer(head=True)
    assert (head.status, head.headers["Content-Length"]) == (410, str(len(GONE.body)))
    raw.send(push(REMOTE, version="1.0", more="Connection: keep-alive\r\n"))
    await wait_until(lambda: peer.requests)
    peer.answer()
    assert (await raw.answer()).headers["Connection"] == "keep-alive"
    raw.send(push(REMOTE, version="1.0"))
    await wait_until(lambda: peer.requests)
    peer.answer()
    assert (await raw.answer()).headers["Connection"] == "close"
    await raw.end()


async def test_after_the_deadline_the_answer_is_504(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    # The time-outs of idle connections are shorter.
    node, peer = await with_peer(stage, monkeypatch, timeout=1.0, keep_alive_timeout=100, handshake_timeout=100)
    raw = await node.raw()
    raw.send(push(REMOTE) + push("nothing"))
    await wait_until(lambda: peer.requests)
    assert (await raw.answer()).status == 504
    assert peer.cancelled == peer.requests
    assert (await raw.answer()).status == 404


@pytest.mark.parametrize("shared", [True, False])
async def test_a_node_that_drains_answers_504_before_it_closes(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    port = free_port()
    chosen: dict[str, Any] = {} if shared else {"control_listen": f"127.0.0.1:{port}"}
    node, peer = await with_peer(stage, monkeypatch, **chosen)
    raw = await node.raw() if shared else await node.raw(port)
    raw.send(push(REMOTE))
    await wait_until(lambda: peer.requests)
    assert await node.drain()
    assert (await raw.answer()).status == 504
    assert peer.cancelled == peer.requests
    await raw.end()
