"""A client whose network breaks off, at each point of its life."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.support.stage import BINARY, PING, TEXT, Node, Raw, Stage, frame, until, upgrade

Play = Callable[[Stage, Node], Awaitable[Raw]]


async def connected(_stage: Stage, node: Node) -> Raw:
    return await node.raw()


async def within_a_head(_stage: Stage, node: Node) -> Raw:
    raw = await node.raw()
    raw.send(upgrade()[:50])
    return raw


async def within_a_rest_body(_stage: Stage, node: Node) -> Raw:
    raw = await node.raw()
    raw.send(b"PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + b"x" * 50_000)
    return raw


async def with_answers_unread(_stage: Stage, node: Node) -> Raw:
    raw = await node.raw(receive=4096)
    raw.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n" * 50_000)
    return raw


async def after_a_fault(_stage: Stage, node: Node) -> Raw:
    raw = await node.raw()
    raw.send(b"nonsense\r\n\r\n")
    assert (await raw.answer()).status == 400
    return raw


async def while_the_backend_is_asked(stage: Stage, node: Node) -> Raw:
    stage.backend.hold("POST")
    raw = await node.raw()
    raw.send(upgrade() + frame(TEXT, b"early"))
    await stage.backend.take("POST")
    return raw


async def right_after_the_101(_stage: Stage, node: Node) -> Raw:
    return await node.upgraded()


async def within_a_frame_header(_stage: Stage, node: Node) -> Raw:
    raw = await node.upgraded()
    raw.send(frame(BINARY, b"x" * 100_000)[:5])
    return raw


async def within_a_payload(_stage: Stage, node: Node) -> Raw:
    raw = await node.upgraded()
    raw.send(frame(BINARY, b"x" * 100_000)[:50_000])
    return raw


async def between_fragments(_stage: Stage, node: Node) -> Raw:
    raw = await node.upgraded()
    raw.send(frame(TEXT, b"to be", fin=False))
    return raw


async def with_messages_in_the_outbox(stage: Stage, node: Node) -> Raw:
    stage.backend.hold("PUT")
    raw = await node.upgraded()
    raw.send(b"".join(frame(TEXT, b"%d" % number) for number in range(10)))
    put = await stage.backend.take("PUT")
    session = node.session(put.client)
    await until(lambda: session.info.messages_in == 10)
    return raw


async def with_messages_that_are_not_read(stage: Stage, node: Node) -> Raw:
    stage.backend.hold("PUT")
    raw = await node.upgraded()
    raw.send(frame(BINARY, b"x" * 60_000) * 100)
    put = await stage.backend.take("PUT")
    session = node.session(put.client)
    await until(lambda: session.outbox.backlogged)
    return raw


async def with_pushes_that_it_has_not_read(stage: Stage, node: Node) -> Raw:
    raw = await node.upgraded(receive=4096)
    name = (await stage.backend.take("POST")).client
    while (await node.rest("PUT", name, "x" * 300_000)).status == 200:
        pass
    return raw


async def with_pings_unanswered(_stage: Stage, node: Node) -> Raw:
    raw = await node.upgraded(receive=4096)
    raw.send(frame(PING, b"x" * 125) * 20_000)
    return raw


async def while_it_is_closed_by_the_backend(stage: Stage, node: Node) -> Raw:
    raw = await node.upgraded()
    name = (await stage.backend.take("POST")).client
    assert (await node.rest("DELETE", name, '{"code": 4000}')).status == 200
    return raw


async def after_a_violation(_stage: Stage, node: Node) -> Raw:
    raw = await node.upgraded()
    raw.send(frame(3))
    await raw.closing()
    return raw


ASKED: list[Play] = [
    while_the_backend_is_asked,
    right_after_the_101,
    within_a_frame_header,
    within_a_payload,
    between_fragments,
    with_messages_in_the_outbox,
    with_messages_that_are_not_read,
    with_pushes_that_it_has_not_read,
    with_pings_unanswered,
    while_it_is_closed_by_the_backend,
    after_a_violation,
]
UNASKED: list[Play] = [connected, within_a_head, within_a_rest_body, with_answers_unread, after_a_fault]


@pytest.mark.parametrize("end", [Raw.reset, Raw.close, Raw.half_close])
@pytest.mark.parametrize("play", UNASKED)
async def test_whoever_never_asked_leaves_no_trace(stage: Stage, play: Play, end: Callable[[Raw], None]) -> None:
    node = await stage.node()
    raw = await play(stage, node)
    end(raw)
    reading = asyncio.ensure_future(raw.rest()) if end is Raw.half_close else None
    await until(lambda: node.statistics.accepted_connections == 0)
    if reading is not None:
        await reading
    assert not stage.backend.calls
    assert not stage.messages()


@pytest.mark.parametrize("end", [Raw.reset, Raw.close])
@pytest.mark.parametrize("play", ASKED)
async def test_the_backend_is_told_whatever_the_point(stage: Stage, play: Play, end: Callable[[Raw], None]) -> None:
    node = await stage.node()
    neighbour, other = await node.admit()
    raw = await play(stage, node)
    end(raw)
    name = stage.backend.calls[1].client
    await until(lambda: node.gateway.sessions.find(name) is None or stage.backend.count("PUT"))
    stage.backend.relent()
    delete = await stage.backend.take("DELETE")
    assert delete.client == name
    expected = {while_it_is_closed_by_the_backend: 4000, after_a_violation: 1002}.get(play, 1006)
    assert delete.json["code"] == expected
    calls = stage.backend.of(name)
    assert [call.event for call in calls] == [*range(len(calls) - 1), "end"]
    puts = [call for call in calls if call.method == "PUT"]
    assert len(puts) == delete.json["messages_in"]
    if play is with_messages_in_the_outbox:
        assert len(puts) == 10
    await until(lambda: node.statistics.accepted_connections == 1)
    await neighbour.send("still here")
    assert (await stage.backend.take("PUT", client=other)).text == "still here"
    assert not stage.messages()


async def test_a_hundred_clients_that_break_off_at_once(stage: Stage) -> None:
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
