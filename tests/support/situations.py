"""Situations of a client in which its connection may break, or the gateway or the backend may be killed."""

from collections.abc import Callable, Coroutine
from typing import Any

from tests.support.clients import RawClient, upgrade
from tests.support.frames import BINARY, PING, TEXT, frame
from tests.support.stage import Node, Stage
from tests.support.waiting import wait_until

Situation = Callable[[Stage, Node], Coroutine[Any, Any, RawClient]]


async def connected(_stage: Stage, node: Node) -> RawClient:
    return await node.raw()


async def within_a_head(_stage: Stage, node: Node) -> RawClient:
    raw = await node.raw()
    raw.send(upgrade()[:50])
    return raw


async def within_a_rest_body(_stage: Stage, node: Node) -> RawClient:
    raw = await node.raw()
    raw.send(b"PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + b"x" * 50_000)
    return raw


async def with_unread_answers(_stage: Stage, node: Node) -> RawClient:
    raw = await node.raw(receive=4096)
    raw.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n" * 50_000)
    return raw


async def after_a_fault(_stage: Stage, node: Node) -> RawClient:
    raw = await node.raw()
    raw.send(b"nonsense\r\n\r\n")
    assert (await raw.answer()).status == 400
    return raw


async def while_its_post_is_unanswered(stage: Stage, node: Node) -> RawClient:
    stage.backend.hold("POST")
    raw = await node.raw()
    raw.send(upgrade() + frame(TEXT, b"early"))
    await stage.backend.take("POST")
    return raw


async def right_after_the_101(_stage: Stage, node: Node) -> RawClient:
    return await node.upgraded()


async def within_a_frame_header(_stage: Stage, node: Node) -> RawClient:
    raw = await node.upgraded()
    raw.send(frame(BINARY, b"x" * 100_000)[:5])
    return raw


async def within_a_payload(_stage: Stage, node: Node) -> RawClient:
    raw = await node.upgraded()
    raw.send(frame(BINARY, b"x" * 100_000)[:50_000])
    return raw


async def between_fragments(_stage: Stage, node: Node) -> RawClient:
    raw = await node.upgraded()
    raw.send(frame(TEXT, b"to be", fin=False))
    return raw


async def with_messages_in_the_outbox(stage: Stage, node: Node) -> RawClient:
    stage.backend.hold("PUT")
    raw = await node.upgraded()
    raw.send(b"".join(frame(TEXT, b"%d" % number) for number in range(10)))
    put = await stage.backend.take("PUT")
    session = node.session(put.client)
    await wait_until(lambda: session.info.messages_in == 10)
    return raw


async def with_unread_messages(stage: Stage, node: Node) -> RawClient:
    stage.backend.hold("PUT")
    raw = await node.upgraded()
    raw.send(frame(BINARY, b"x" * 60_000) * 100)
    put = await stage.backend.take("PUT")
    session = node.session(put.client)
    await wait_until(lambda: session.outbox.backlogged)
    return raw


async def with_unread_pushes(stage: Stage, node: Node) -> RawClient:
    raw = await node.upgraded(receive=4096)
    name = (await stage.backend.take("POST")).client
    while (await node.rest("PUT", name, "x" * 300_000)).status == 200:
        pass
    return raw


async def with_unanswered_pings(_stage: Stage, node: Node) -> RawClient:
    raw = await node.upgraded(receive=4096)
    raw.send(frame(PING, b"x" * 125) * 20_000)
    return raw


async def while_it_is_closed_by_the_backend(stage: Stage, node: Node) -> RawClient:
    raw = await node.upgraded()
    name = (await stage.backend.take("POST")).client
    assert (await node.rest("DELETE", name, '{"code": 4000}')).status == 200
    return raw


async def after_a_violation(_stage: Stage, node: Node) -> RawClient:
    raw = await node.upgraded()
    raw.send(frame(3))
    await raw.closing()
    return raw


AFTER_POST: list[Situation] = [
    while_its_post_is_unanswered,
    right_after_the_101,
    within_a_frame_header,
    within_a_payload,
    between_fragments,
    with_messages_in_the_outbox,
    with_unread_messages,
    with_unread_pushes,
    with_unanswered_pings,
    while_it_is_closed_by_the_backend,
    after_a_violation,
]
WITHOUT_POST: list[Situation] = [
    connected,
    within_a_head,
    within_a_rest_body,
    with_unread_answers,
    after_a_fault,
]
