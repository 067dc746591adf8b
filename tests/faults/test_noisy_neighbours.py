"""Failing requests of one client do not delay the messages of others.

The latencies of healthy clients must stay within a generous factor of those measured just before. A circuit breaker
that opens for the failures of some clients would delay the others by seconds.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from statistics import median

import pytest
import websockets

from tests.support.backend import Call
from tests.support.clients import RawClient, upgrade
from tests.support.frames import TEXT, frame
from tests.support.stage import Node, Stage

pytestmark = pytest.mark.slow

NOISY, HEALTHY = 60, 20

FAULTS: dict[str, Callable[[Call], None]] = {
    "500": lambda call: call.answer(500),
    "503": lambda call: call.answer(503),
    "reset": Call.reset,
    "garbage": lambda call: call.send(b"\0\1\2 this is not HTTP\r\n\r\n"),
    "silence": lambda _call: None,
}

REFUSALS = {"503": 503, "silence": 504}
"""The status of a handshake whose POST fails so, if it is not 502."""


def is_noisy(call: Call) -> bool:
    return call.text == "noise" or (call.method == "POST" and call.json["request"]["path"] == "/noise")


class Neighbours:
    """Healthy clients beside noisy ones, whose requests fail."""

    def __init__(self, stage: Stage, node: Node, fault: str) -> None:
        self.stage = stage
        self.node = node
        self.failed = 0
        self.failing_clients: set[str] = set()
        self.healthy: list[websockets.ClientConnection] = []
        self._fault = FAULTS[fault]
        self._sent = 0
        for method in ("POST", "PUT"):
            stage.backend.on[method] = self._answer

    def _answer(self, call: Call) -> None:
        if is_noisy(call):
            self.failed += 1
            self.failing_clients.add(call.client)
            self._fault(call)
        else:
            call.ok()

    async def connect(self) -> None:
        self.healthy = [await self.node.connect() for _ in range(HEALTHY)]

    async def latency(self) -> float:
        """Let each healthy client send a message at once; return the seconds until all were delivered."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        self._sent += 1
        text = f"round {self._sent}"
        for client in self.healthy:
            await client.send(text)
        await self.stage.backend.wait(lambda: sum(call.text == text for call in self.stage.backend.calls) >= HEALTHY)
        return loop.time() - started

    async def latency_of_one(self) -> float:
        """Let the next healthy client send a message; return the seconds until it was delivered."""
        loop = asyncio.get_running_loop()
        self._sent += 1
        text = f"round {self._sent}"
        started = loop.time()
        await self.healthy[self._sent % HEALTHY].send(text)
        await self.stage.backend.wait(partial(self._has, text))
        return loop.time() - started

    def _has(self, text: str) -> bool:
        return any(call.text == text for call in self.stage.backend.calls)

    async def baseline(self) -> float:
        return max([await self.latency() for _ in range(3)])

    def check(self, latencies: list[float], baseline: float) -> None:
        """Fail if a message was delayed, repeated or given up."""
        assert max(latencies) < 20 * baseline + 0.5, (latencies, baseline)
        sent = [call.headers["ce-id"] for call in self.stage.backend.calls if call.text.startswith("round")]
        assert len(sent) == len(set(sent))
        assert all(client.close_code is None for client in self.healthy)
        assert not any("not delivered" in text for text in self.stage.messages())


@pytest.mark.parametrize("fault", FAULTS)
async def test_failing_messages_do_not_delay_those_of_other_clients(stage: Stage, fault: str) -> None:
    stage.expected_errors = ["stopped before the DELETE was delivered"]
    node = await stage.node(api_timeout=200 if fault == "silence" else 10_000, drain_timeout=200)
    neighbours = Neighbours(stage, node, fault)
    noisy = [await node.upgraded() for _ in range(NOISY)]
    await neighbours.connect()
    baseline = await neighbours.baseline()
    for raw in noisy:
        raw.send(frame(TEXT, b"noise"))
    await stage.backend.wait(lambda: len(neighbours.failing_clients) == NOISY)
    latencies = []
    # Meanwhile the noisy clients fail, time out and are retried.
    for _ in range(20):
        latencies.append(await neighbours.latency())
        await asyncio.sleep(0.03)
    neighbours.check(latencies, baseline)
    assert median(latencies) < 5 * baseline + 0.02, (latencies, baseline)
    assert neighbours.failed > NOISY, "failing messages were retried meanwhile"
    stage.backend.release()


@pytest.mark.parametrize("fault", FAULTS)
async def test_failing_handshakes_do_not_delay_messages(stage: Stage, fault: str) -> None:
    stage.expected_errors = ["stopped before the DELETE was delivered"]
    node = await stage.node(api_timeout=200 if fault == "silence" else 10_000, drain_timeout=200)
    neighbours = Neighbours(stage, node, fault)
    await neighbours.connect()
    baseline = max([await neighbours.latency_of_one() for _ in range(HEALTHY)])

    async def stranger() -> None:
        raw = await node.raw()
        raw.send(upgrade("/noise"))
        assert (await raw.answer()).status == REFUSALS.get(fault, 502)
        raw.close()

    latencies = []
    for _ in range(8):
        await asyncio.gather(*(stranger() for _ in range(NOISY)))
        latencies.append(await neighbours.latency_of_one())
    neighbours.check(latencies, baseline)
    assert median(latencies) < 5 * baseline + 0.02, (latencies, baseline)
    stage.backend.release()


@pytest.mark.parametrize("fault", ["500", "reset", "garbage"])
async def test_messages_behind_failing_ones_are_each_tried_at_once(stage: Stage, fault: str) -> None:
    # All messages arrive at once, the noisy ones first, and connections to the backend are few.
    stage.expected_errors = ["stopped before the DELETE was delivered"]
    node = await stage.node(api_connections=8, drain_timeout=200)
    neighbours = Neighbours(stage, node, fault)
    noisy = [await node.upgraded() for _ in range(NOISY)]
    await neighbours.connect()
    baseline = await neighbours.baseline()
    for raw in noisy:
        raw.send(frame(TEXT, b"noise"))
    # Each failure closes one of the eight connections.
    neighbours.check([await neighbours.latency()], NOISY / HEALTHY * baseline)
    stage.backend.release()


async def test_untried_messages_are_not_given_up_while_the_backend_can_be_connected_to(stage: Stage) -> None:
    # All requests fail for much longer than API_RETRY. A later message is tried at once.
    node = await stage.node(api_retry=100)
    stage.backend.on["PUT"] = Call.reset
    noisy: list[RawClient] = [await node.upgraded() for _ in range(NOISY)]
    for raw in noisy:
        raw.send(frame(TEXT, b"noise"))
    assert {(await raw.closing())[0] for raw in noisy} == {1011}
    stage.backend.on["PUT"] = Call.ok
    client = await node.connect()
    await client.send("hello")
    await stage.backend.wait(lambda: any(call.text == "hello" for call in stage.backend.calls))
    assert client.close_code is None
