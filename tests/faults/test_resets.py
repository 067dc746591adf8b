"""Clients whose connection is reset, at each point of their life."""

import asyncio
from collections.abc import Callable

import pytest

from tests.support.clients import RawClient
from tests.support.frames import TEXT, frame
from tests.support.situations import (
    AFTER_POST,
    WITHOUT_POST,
    Situation,
    after_a_violation,
    while_it_is_closed_by_the_backend,
    with_messages_in_the_outbox,
)
from tests.support.stage import Stage
from tests.support.waiting import wait_until


@pytest.mark.slow
@pytest.mark.parametrize("end", [RawClient.reset, RawClient.close, RawClient.half_close])
@pytest.mark.parametrize("situation", WITHOUT_POST)
async def test_a_connection_without_a_handshake_leaves_no_trace(
    stage: Stage, situation: Situation, end: Callable[[RawClient], None]
) -> None:
    node = await stage.node()
    raw = await situation(stage, node)
    end(raw)
    reading = asyncio.ensure_future(raw.rest()) if end is RawClient.half_close else None
    await wait_until(lambda: node.statistics.accepted_connections == 0)
    if reading is not None:
        await reading
    assert not stage.backend.calls
    assert not stage.messages()


@pytest.mark.parametrize("end", [RawClient.reset, RawClient.close])
@pytest.mark.parametrize("situation", AFTER_POST)
async def test_a_delete_follows_in_every_situation(
    stage: Stage, situation: Situation, end: Callable[[RawClient], None]
) -> None:
    node = await stage.node()
    neighbour, other = await node.admit()
    raw = await situation(stage, node)
    end(raw)
    name = stage.backend.calls[1].client
    await wait_until(lambda: node.gateway.sessions.find(name) is None or stage.backend.count("PUT"))
    stage.backend.release()
    delete = await stage.backend.take("DELETE")
    assert delete.client == name
    codes: dict[Situation, int] = {while_it_is_closed_by_the_backend: 4000, after_a_violation: 1002}
    assert delete.json["code"] == codes.get(situation, 1006)
    calls = stage.backend.of(name)
    assert [call.event for call in calls] == [*range(len(calls) - 1), "end"]
    puts = [call for call in calls if call.method == "PUT"]
    assert len(puts) == delete.json["messages_in"]
    if situation is with_messages_in_the_outbox:
        assert len(puts) == 10
    await wait_until(lambda: node.statistics.accepted_connections == 1)
    await neighbour.send("still here")
    assert (await stage.backend.take("PUT", client=other)).text == "still here"
    assert not stage.messages()


async def test_a_hundred_clients_may_be_reset_at_once(stage: Stage) -> None:
    node = await stage.node()
    clients = [await node.upgraded() for _ in range(100)]
    for number, client in enumerate(clients):
        client.send(frame(TEXT, b"%d" % number) + frame(TEXT, b"cut")[: number % 8])
    await stage.backend.wait(lambda: stage.backend.count("PUT") == 100)
    for client in clients:
        client.reset()
    await stage.backend.wait(lambda: stage.backend.count("DELETE") == 100)
    assert len({call.client for call in stage.backend.calls if call.method == "DELETE"}) == 100
    assert not stage.messages()
