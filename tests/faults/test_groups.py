"""Large groups and floods of publishes: the loop never pauses for long, memory is bounded, nothing is lost."""

import asyncio
import gc
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.support.clients import upgrade
from tests.support.frames import BINARY, TEXT
from tests.support.resources import resident_memory
from tests.support.stage import Node, Stage
from tests.support.waiting import wait_until_stable, with_timeout
from wsaas.run_queue import RunQueue
from wsaas.websocket.frames import encode

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
HELLO = b"\x81\x05hello"
MEMBERS, STALLED = 5000, 20


def request(method: str, path: str, body: bytes = b"") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


class Pauses:
    """Measures the longest turn of the loop. `longest`: its seconds."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._last = 0.0
        self._loop = asyncio.get_running_loop()
        self._next: asyncio.Handle | None = None

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Measure within the block, while the garbage collector is off: its pauses are another matter."""
        gc.collect()
        gc.disable()
        self.longest = 0.0
        self._last = time.perf_counter()
        self._tick()
        try:
            yield
        finally:
            assert self._next is not None
            self._next.cancel()
            gc.enable()

    def _tick(self) -> None:
        now = time.perf_counter()
        self.longest = max(self.longest, now - self._last)
        self._last = now
        self._next = self._loop.call_soon(self._tick)


async def join_large_group(stage: Stage, node: Node) -> tuple[list[socket.socket], list[str]]:
    """Connect the members of the group `lobby`, of which the first `STALLED` read nothing and are full.

    Their sockets are not watched by the loop, so that reading costs it no time. Return them, and the ids of the full
    ones.
    """
    stage.backend.on["POST"] = lambda call: call.ok(groups=["lobby"])
    loop = asyncio.get_running_loop()
    members = []

    async def join() -> None:
        sock = socket.socket()
        stage.stack.callback(sock.close)
        sock.setblocking(False)
        members.append(sock)
        await loop.sock_connect(sock, ("127.0.0.1", node.port))
        await loop.sock_sendall(sock, upgrade())
        data = b""
        while b"\r\n\r\n" not in data:
            data += await loop.sock_recv(sock, 4096)
        assert data.startswith(b"HTTP/1.1 101 ")

    for _ in range(0, MEMBERS, 100):
        await with_timeout(asyncio.gather(*[join() for _ in range(100)]))
    sessions = list(node.gateway.sessions.live())[:STALLED]
    for session in sessions:
        while session.buffered < node.settings.send_buffer:
            session.connection.transport.write(encode(BINARY, b"x" * 200_000))
    return members, [session.id for session in sessions]


async def test_a_publish_to_a_large_group_neither_stops_the_loop_nor_delays_others(stage: Stage) -> None:
    node = await stage.node(send_buffer=100_000)
    members, full = await join_large_group(stage, node)
    stage.backend.on["POST"] = lambda call: call.ok()
    neighbour = await node.upgraded()
    name = stage.backend.calls[-1].client
    publisher, other = await node.raw(), await node.raw()
    pauses = Pauses()
    longest = []
    rounds = 5
    for _ in range(rounds):
        with pauses.measured():
            publisher.send(request("PUT", "/groups/lobby", b"hello"))
            answering = asyncio.ensure_future(publisher.answer())
            pushes = 0
            while not answering.done():
                other.send(request("PUT", f"/{name}", b"push"))
                assert (await other.answer()).status == 200
                assert await neighbour.frame() == (TEXT, b"push")
                pushes += 1
        answer = await answering
        assert answer.json["sent"] == MEMBERS - STALLED
        assert (sorted(answer.json["slow"]), answer.json["slow_count"]) == (sorted(full), STALLED)
        assert pushes >= 3, "others are served between the slices"
        longest.append(pauses.longest)
    # Not sliced, it would take 20 ms or more each time. A busy machine may interrupt some of them.
    assert min(longest) < 0.01, longest
    received = 0
    for sock in members:
        data = sock.recv(1 << 16)
        received += data == HELLO * rounds
    assert received == MEMBERS - STALLED


async def test_a_flood_of_publishes_is_refused_at_max_publishes_and_loses_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each member takes a slice of its own.
    monkeypatch.setattr("wsaas.sessions.fan_out.FAN_OUT_SLICE_S", 0.0)
    node = await stage.node(max_publishes=3)
    stage.backend.on["POST"] = lambda call: call.ok(groups=["lobby"])
    members = [await node.upgraded() for _ in range(20)]
    publishers = [await node.raw() for _ in range(20)]
    accepted = set()
    refused = 0
    for round_number in range(10):
        for index, publisher in enumerate(publishers):
            publisher.send(request("PUT", "/groups/lobby", b"%d-%d" % (round_number, index)))
        for index, publisher in enumerate(publishers):
            answer = await publisher.answer()
            if answer.status == 200:
                assert answer.json["sent"] == 20
                accepted.add(b"%d-%d" % (round_number, index))
            else:
                assert (answer.status, answer.code) == (429, "TOO_MANY_REQUESTS")
                assert answer.headers["Retry-After"] == "1"
                refused += 1
    assert len(accepted) >= 30
    assert refused > 0
    orders = set()
    for member in members:
        received = [(await member.frame())[1] for _ in accepted]
        orders.add(tuple(received))
    (order,) = orders
    assert set(order) == accepted
    publishers[0].send(request("PUT", "/groups/lobby", b"last"))
    assert (await publishers[0].answer()).status == 200
    assert [await member.frame() for member in members] == [(TEXT, b"last")] * 20


async def test_a_publisher_that_does_not_wait_is_held_back(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    node = await stage.node(send_buffer=1000)
    stage.backend.on["POST"] = lambda call: call.ok(groups=["lobby"])
    members = [await node.upgraded() for _ in range(3)]
    # The slices of this group do not come up before the test says so.
    held: list[Callable[[], None]] = []
    monkeypatch.setattr("wsaas.sessions.fan_out.FAN_OUT_SLICE_S", 0.0)
    add = RunQueue.add
    monkeypatch.setattr(RunQueue, "add", lambda _queue, work: held.append(work))
    publisher = await node.raw()
    publish = request("PUT", "/groups/lobby", b"x" * 500)
    gc.collect()
    before = resident_memory()
    count = 60_000
    publisher.send(publish * count)
    unsent = await wait_until_stable(publisher.unsent)
    assert unsent > 20 * MIB, "the gateway does not read on"
    assert resident_memory() - before < len(publish) * count + 16 * MIB
    assert len(held) == 1
    monkeypatch.setattr(RunQueue, "add", add)
    held.pop()()
    assert (await publisher.answer()).json["sent"] == 3
    for member in members:
        assert (await member.frame())[1] == b"x" * 500
    publisher.reset()
