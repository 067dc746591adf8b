"""One DELETE follows each POST that the backend may have accepted, although backend and gateway restart."""

import asyncio
from collections.abc import Callable

import pytest

from tests.support.backend import Call
from tests.support.clients import RawClient
from tests.support.frames import TEXT, frame
from tests.support.situations import AFTER_POST, Situation, with_messages_in_the_outbox
from tests.support.stage import Stage
from tests.support.waiting import wait_until, with_timeout


def without_repetitions(calls: list[Call]) -> list[Call]:
    """Return `calls` without direct repetitions, each of which has to be the same request."""
    kept: list[Call] = []
    for call in calls:
        if kept and call.event == kept[-1].event:
            assert (call.method, call.body) == (kept[-1].method, kept[-1].body)
        else:
            kept.append(call)
    return kept


@pytest.mark.slow
async def test_no_event_is_lost_when_the_backend_restarts_under_load(stage: Stage) -> None:
    node = await stage.node()
    chance = iter(range(10**6))

    async def sometimes_slowly(call: Call) -> None:
        if next(chance) % 7 == 0:
            await asyncio.sleep(0.002)
        call.ok()

    stage.backend.on["PUT"] = sometimes_slowly
    clients = [await node.admit() for _ in range(20)]
    messages = 200

    async def talk(number: int) -> None:
        client, _ = clients[number]
        for message in range(messages):
            await client.send(f"{message}")
            await asyncio.sleep(0.001)
        await client.close()

    talking = [asyncio.ensure_future(talk(number)) for number in range(20)]
    for restart in range(1, 6):
        await stage.backend.wait(lambda: stage.backend.count("PUT") > 600 * restart)  # noqa: B023 - called only in this round
        await stage.backend.stop()
        await stage.backend.start()
    await with_timeout(asyncio.gather(*talking), 30)
    await stage.backend.wait(lambda: len({c.client for c in stage.backend.calls if c.method == "DELETE"}) == 20)
    assert await node.drain()
    for _, name in clients:
        calls = without_repetitions(stage.backend.of(name))
        assert [call.event for call in calls] == [*range(messages + 1), "end"]
        assert [call.text for call in calls[1:-1]] == [str(number) for number in range(messages)]
        assert (calls[-1].method, calls[-1].json["code"], calls[-1].json["messages_in"]) == ("DELETE", 1000, messages)


@pytest.mark.parametrize("situation", AFTER_POST)
async def test_a_client_that_vanishes_gets_its_delete(stage: Stage, situation: Situation) -> None:
    # No FIN and no RST: the socket stays open, but sends nothing more, not even a pong.
    node = await stage.node(ws_timeout=200, handshake_timeout=200)
    raw = await situation(stage, node)
    name = stage.backend.calls[0].client
    stage.backend.release()
    delete = await stage.backend.take("DELETE")
    calls = stage.backend.of(name)
    assert [call.event for call in calls] == [*range(len(calls) - 1), "end"], "no event is sent twice or missing"
    assert delete.json["messages_in"] == len(calls) - 2
    assert delete is calls[-1]
    raw.reset()
    assert await node.drain()
    assert stage.backend.count("DELETE") == 1


@pytest.mark.parametrize("end", [RawClient.reset, None])
@pytest.mark.parametrize("situation", AFTER_POST)
async def test_a_stop_sends_one_delete_in_every_situation(
    stage: Stage, situation: Situation, end: Callable[[RawClient], None] | None
) -> None:
    node = await stage.node(drain_timeout=1500)
    raw = await situation(stage, node)
    name = stage.backend.calls[0].client
    stop = asyncio.ensure_future(node.drain())
    await wait_until(lambda: not node.statistics.accepts_clients)
    if end is not None:
        end(raw)
    stage.backend.release()
    assert await stop
    calls = stage.backend.of(name)
    assert [call.event for call in calls] == [*range(len(calls) - 1), "end"]
    assert [call.method for call in calls].count("DELETE") == 1
    assert calls[-1].json["messages_in"] == len(calls) - 2
    if situation is with_messages_in_the_outbox:
        assert len(calls) == 12
    if end is None:
        raw.reset()


class FailingBackend:
    """A backend whose handlers fail with `refuse`. `times`: when each request arrived."""

    def __init__(self, stage: Stage, refuse: Callable[[Call], None]) -> None:
        self.times: list[float] = []
        self._refuse = refuse
        self._stage = stage
        for method in ("PUT", "DELETE"):
            stage.backend.on[method] = self._fail

    def _fail(self, call: Call) -> None:
        self.times.append(asyncio.get_running_loop().time())
        self._refuse(call)


@pytest.mark.slow
@pytest.mark.parametrize("refuse", [lambda call: call.answer(503), Call.hang_up, Call.reset])
async def test_many_waiting_clients_do_not_flood_a_backend_that_fails(
    stage: Stage, refuse: Callable[[Call], None]
) -> None:
    node = await stage.node(api_connections=32)
    clients = [await node.upgraded() for _ in range(500)]
    down = FailingBackend(stage, refuse)
    for client in clients:
        client.send(b"".join(frame(TEXT, b"%d" % number) for number in range(3)))
    await wait_until(lambda: node.statistics.deliveries_waiting == 500)
    first = len(down.times)
    assert first < 100, "only the requests of open connections fail before the circuit breaker opens"
    await asyncio.sleep(1.6)
    assert len(down.times) - first <= 6, "afterwards single trials, with a doubling back-off"
    stage.backend.on["PUT"] = stage.backend.on["DELETE"] = Call.ok
    names = [call.client for call in stage.backend.calls if call.method == "POST"]
    await stage.backend.wait(
        lambda: sum(call.text == "2" for call in stage.backend.calls if call.method == "PUT") == 500
    )
    for name in names:
        calls = without_repetitions(stage.backend.of(name))
        assert [call.text for call in calls[1:]] == ["0", "1", "2"]
    for client in clients:
        client.reset()
    await stage.backend.wait(lambda: stage.backend.count("DELETE") == 500)


@pytest.mark.slow
async def test_messages_of_many_clients_wait_for_a_backend_that_is_down(stage: Stage) -> None:
    node = await stage.node()
    clients = [await node.upgraded() for _ in range(500)]
    await stage.backend.stop()
    for client in clients:
        client.send(b"".join(frame(TEXT, b"%d" % number) for number in range(3)))
    await wait_until(lambda: node.statistics.deliveries_waiting >= 499)
    await stage.backend.start()
    await stage.backend.wait(lambda: stage.backend.count("PUT") == 1500)
    for client in clients:
        client.reset()
    await stage.backend.wait(lambda: stage.backend.count("DELETE") == 500)
    assert await node.drain()
    for name in {call.client for call in stage.backend.calls}:
        calls = stage.backend.of(name)
        assert [call.method for call in calls] == ["POST", "PUT", "PUT", "PUT", "DELETE"]
        assert [call.text for call in calls[1:-1]] == ["0", "1", "2"]
