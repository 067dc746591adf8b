"""Workers that die, hang, answer late or answer garbage."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.stage import Node, Stage, introduce
from tests.support.waiting import wait_until, with_timeout
from wsaas.cluster import peers
from wsaas.cluster.link_policy import WORKER_POLICY
from wsaas.cluster.peers import Place

PREFIX = "p" * 8
REMOTE = PREFIX + "x" * 22
OK = b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"code":"OK"}'
SUMMARY = b'{"code":"OK","sent":5,"slow":["a"],"slow_count":1,"missing":[]}'


class Peer:
    """A fake worker. `requests`: the requests so far, as bytes; `writers`: its connections."""

    def __init__(self) -> None:
        self.requests = b""
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        while data := await reader.read(65536):
            self.requests += data
        writer.close()

    async def received(self, text: bytes) -> None:
        await wait_until(lambda: text in self.requests, "the request to be forwarded", lambda: self.requests)

    def say(self, data: bytes) -> None:
        self.writers[-1].write(data)


@asynccontextmanager
async def beside_peer(stage: Stage, tmp_path: Path, **chosen: Any) -> AsyncIterator[tuple[Node, Peer]]:
    """Start a worker, and a fake one beside it that says what a test wants."""
    (node,) = await stage.workers(1, **chosen)
    peer = Peer()
    path = str(tmp_path / "peer.sock")
    server = await asyncio.start_unix_server(peer.serve, path)
    node.gateway.peers.update({PREFIX: Place("worker 2", path)})
    try:
        yield node, peer
    finally:
        server.close()
        for writer in peer.writers:
            writer.close()
        await server.wait_closed()


@pytest.fixture
def short_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "WORKER_POLICY", replace(WORKER_POLICY, timeout=0.3, verdict=0.3))


async def ask(node: Node, method: str, target: str, body: str = "hello") -> tuple[int, Any]:
    answer = await node.rest(method, target, body)
    return answer.status, answer.json


@pytest.mark.usefixtures("short_timeout")
async def test_a_push_to_a_worker_that_hangs_is_504(stage: Stage, tmp_path: Path) -> None:
    async with beside_peer(stage, tmp_path, api_timeout=500) as (node, peer):
        status, content = await ask(node, "PUT", REMOTE)
        assert (status, content["code"]) == (504, "UNKNOWN")
        await peer.received(b"hello")


@pytest.mark.usefixtures("short_timeout")
async def test_a_late_answer_is_not_taken_for_that_of_a_later_push(stage: Stage, tmp_path: Path) -> None:
    async with beside_peer(stage, tmp_path, api_timeout=500) as (node, peer):
        assert (await ask(node, "PUT", REMOTE))[0] == 504
        pushing = asyncio.ensure_future(ask(node, "PUT", REMOTE, "second"))
        await peer.received(b"second")
        gone = b'{"code":"GONE"}'
        peer.say(b"HTTP/1.1 410 Gone\r\nContent-Length: %d\r\n\r\n%b" % (len(gone), gone) + OK)
        assert await pushing == (200, {"code": "OK"})


@pytest.mark.usefixtures("short_timeout")
@pytest.mark.parametrize(
    "harm",
    [
        lambda peer: peer.say(b"garbage\r\n\r\n"),
        lambda peer: peer.say(OK[:30]) or peer.writers[-1].close(),
        lambda peer: peer.writers[-1].transport.abort(),
    ],
    ids=["garbage", "half an answer", "reset"],
)
async def test_after_a_broken_answer_the_outcome_is_unknown_and_the_next_push_is_forwarded(
    stage: Stage, tmp_path: Path, harm: Callable[[Peer], None]
) -> None:
    async with beside_peer(stage, tmp_path, api_timeout=500) as (node, peer):
        pushing = asyncio.ensure_future(ask(node, "PUT", REMOTE))
        await peer.received(b"hello")
        harm(peer)
        status, content = await pushing
        assert (status, content["code"]) == (504, "UNKNOWN")
        pushing = asyncio.ensure_future(ask(node, "PUT", REMOTE, "second"))
        await peer.received(b"second")
        peer.say(OK)
        assert (await pushing)[0] == 200


@pytest.mark.usefixtures("short_timeout")
async def test_a_push_to_a_worker_that_cannot_be_reached_is_503(stage: Stage, tmp_path: Path) -> None:
    (node,) = await stage.workers(1, api_timeout=500)
    node.gateway.peers.update({PREFIX: Place("worker 2", str(tmp_path / "none.sock"))})
    status, content = await ask(node, "PUT", REMOTE)
    assert (status, content["code"]) == (503, "UNAVAILABLE")
    assert "worker 2" in content["message"]


async def test_what_waits_for_a_worker_is_answered_as_soon_as_it_is_known_to_be_dead(
    stage: Stage, tmp_path: Path
) -> None:
    async with beside_peer(stage, tmp_path) as (node, peer):
        _, own = await node.admit()
        await ask(node, "PUT", f"/groups/lobby/connections/{own}", "")
        message = json.dumps({"to": [REMOTE, own], "text": "hi"})
        asking = [
            asyncio.ensure_future(ask(node, *each))
            for each in (
                ("PUT", REMOTE),
                ("GET", REMOTE, ""),
                ("PUT", "/groups/lobby"),
                ("POST", "/send", message),
                ("GET", "/connections", ""),
                ("DELETE", "/groups/none", ""),
            )
        ]
        for text in (b"PUT /p", b"GET /p", b"PUT /groups/lobby", b"POST /send", b"GET /conn", b"DELETE /groups"):
            await peer.received(text)
        node.gateway.peers.update({})
        push, get, publish, send, listing, closing = await with_timeout(asyncio.gather(*asking))
        assert (push[0], get[0]) == (410, 410)
        assert publish == (200, {"code": "OK", "sent": 1, "slow": [], "slow_count": 0, "missing": []})
        assert (send[1]["code"], send[1]["sent"], send[1]["gone"], send[1]["gone_count"]) == ("OK", 1, [REMOTE], 1)
        assert (listing[1]["code"], listing[1]["total"], listing[1]["missing"]) == ("OK", 1, [])
        assert closing == (200, {"code": "OK", "closed": 0, "missing": []})


@pytest.mark.usefixtures("short_timeout")
async def test_a_worker_that_hangs_is_named_and_the_others_are_served(stage: Stage, tmp_path: Path) -> None:
    async with beside_peer(stage, tmp_path, api_timeout=500) as (node, _):
        client, own = await node.admit()
        await ask(node, "PUT", f"/groups/lobby/connections/{own}", "")
        message = json.dumps({"to": [REMOTE, own, REMOTE], "text": "hi"})
        status, publish = await ask(node, "PUT", "/groups/lobby")
        assert (status, publish["code"], publish["sent"], publish["missing"]) == (200, "PARTIAL", 1, ["worker 2"])
        status, send = await ask(node, "POST", "/send", message)
        assert (status, send["code"], send["sent"], send["gone"]) == (200, "PARTIAL", 1, [])
        assert (send["unreached"], send["unreached_count"]) == ([REMOTE, REMOTE], 2)
        assert [await with_timeout(client.recv()) for _ in range(2)] == ["hello", "hi"]
        status, listing = await ask(node, "GET", f"/connections?after={node.prefix}0", "")
        assert (listing["code"], listing["total"], listing["missing"]) == ("PARTIAL", 1, ["worker 2"])
        status, listing = await ask(node, "GET", f"/connections?after={PREFIX}0", "")
        assert (status, listing["code"], listing["missing"]) == (200, "PARTIAL", ["worker 2"])
        assert [each["id"] for each in listing["connections"]] == ([own] if own > PREFIX else [])


async def test_a_list_goes_on_behind_a_worker_that_dies(stage: Stage, tmp_path: Path) -> None:
    async with beside_peer(stage, tmp_path) as (node, peer):
        _, own = await node.admit()
        asking = asyncio.ensure_future(ask(node, "GET", f"/connections?after={PREFIX}0", ""))
        await peer.received(b"GET")
        node.gateway.peers.update({})
        status, page = await asking
        following = [own] if own > PREFIX else []
        assert (status, page["next"], page["total"]) == (200, None, 1)
        assert [each["id"] for each in page["connections"]] == following


async def test_the_summaries_of_workers_are_added(stage: Stage, tmp_path: Path) -> None:
    async with beside_peer(stage, tmp_path) as (node, peer):
        asking = asyncio.ensure_future(ask(node, "PUT", "/groups/lobby?slow=skip"))
        await peer.received(b"PUT /groups/lobby?slow=skip HTTP/1.1\r\nHost: peer\r\n")
        peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(SUMMARY), SUMMARY))
        assert await asking == (200, {"code": "OK", "sent": 5, "slow": ["a"], "slow_count": 1, "missing": []})


async def test_a_worker_that_dies_while_it_is_published_to(stage: Stage) -> None:
    workers = await stage.workers(3)
    clients = [await worker.admit() for worker in workers for _ in range(5)]
    for _, name in clients:
        assert (await ask(workers[0], "PUT", f"/groups/lobby/connections/{name}", ""))[0] == 200

    async def publish(number: int) -> int:
        status, content = await ask(workers[number % 2], "PUT", "/groups/lobby", str(number))
        assert (status, content["code"], content["missing"]) == (200, "OK", [])
        sent: int = content["sent"]
        return sent

    publishing = [asyncio.ensure_future(publish(number)) for number in range(40)]
    # Its listener and its links end while publishes are on their way; then the others get the new table.
    dying = asyncio.ensure_future(workers[2].drain())
    await asyncio.wait_for(dying, 20)
    introduce(workers[:2])
    sent = await with_timeout(asyncio.gather(*publishing))
    assert all(10 <= each <= 15 for each in sent)
    for client, _ in clients[:10]:
        received = [int(await with_timeout(client.recv())) for _ in range(40)]
        assert sorted(received) == list(range(40))
    assert (await ask(workers[0], "PUT", clients[-1][1]))[0] == 410


async def test_a_caller_that_goes_away_leaves_nothing_behind(stage: Stage, tmp_path: Path) -> None:
    async with beside_peer(stage, tmp_path) as (node, peer):
        for number in range(3):
            raw = await node.raw()
            raw.send(f"PUT /{REMOTE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n{number}".encode())
            await peer.received(b"\r\n\r\n%d" % number)
            raw.close()
            await raw.writer.wait_closed()
        pushing = asyncio.ensure_future(ask(node, "PUT", REMOTE, "last"))
        await peer.received(b"last")
        peer.say(OK * 4)
        assert (await pushing)[0] == 200


async def test_a_worker_that_stops_answers_its_callers_before_it_closes(stage: Stage, tmp_path: Path) -> None:
    async with beside_peer(stage, tmp_path) as (node, peer):
        raw = await node.raw()
        raw.send(f"PUT /{REMOTE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode())
        await peer.received(b"PUT")
        assert await node.drain()
        assert (await raw.answer()).status == 504
        await raw.end()
