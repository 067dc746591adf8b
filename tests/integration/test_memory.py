"""Objects are freed without the garbage collector: finished clients leave no reference cycles."""

import gc
import logging
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

import pytest

from tests.support.clients import RawClient, upgrade
from tests.support.frames import PING, TEXT, close_frame, frame
from tests.support.stage import Node, Stage
from tests.support.waiting import wait_until
from wsaas.statistics import Statistics

Life = Callable[[Stage, Node], Awaitable[None]]


async def enter(stage: Stage, node: Node) -> tuple[RawClient, str]:
    """Connect a client; return it and the path of its `ws_uri`."""
    raw = await node.upgraded()
    call = await stage.backend.take("POST")
    return raw, f"/{call.client}"


async def closes(stage: Stage, node: Node) -> None:
    raw, _ = await enter(stage, node)
    raw.send(frame(TEXT, b"hello") + frame(PING, b"") + close_frame(1000))
    await raw.rest()


async def vanishes(stage: Stage, node: Node) -> None:
    raw, _ = await enter(stage, node)
    raw.send(frame(TEXT, b"cut", fin=False))
    raw.reset()


async def breaks_the_protocol(stage: Stage, node: Node) -> None:
    raw, _ = await enter(stage, node)
    raw.send(frame(TEXT, b"\xff"))
    assert await raw.closing() == (1007, "text that is not UTF-8")
    raw.close()


async def is_closed_by_the_backend(stage: Stage, node: Node) -> None:
    raw, target = await enter(stage, node)
    assert (await node.rest("PUT", target, b"hi")).status == 200
    assert (await node.rest("DELETE", target)).status == 200
    raw.send(close_frame(1000))
    await raw.rest()


async def is_refused(stage: Stage, node: Node) -> None:
    stage.backend.hold("POST")
    raw = await node.raw()
    raw.send(upgrade())
    (await stage.backend.take("POST")).answer(403)
    assert (await raw.answer()).status == 403
    stage.backend.release()
    raw.close()


async def leaves_before_its_101(stage: Stage, node: Node) -> None:
    stage.backend.hold("POST")
    raw = await node.raw()
    raw.send(upgrade())
    call = await stage.backend.take("POST")
    raw.reset()
    await wait_until(lambda: node.statistics.clients == 0)
    call.ok()
    stage.backend.release()


async def waits_for_a_slow_backend(stage: Stage, node: Node) -> None:
    raw, _ = await enter(stage, node)
    stage.backend.hold("PUT")
    raw.send(frame(TEXT, b"one") + frame(TEXT, b"two") + close_frame(1000))
    await raw.rest()
    stage.backend.release()


async def meets_a_backend_that_is_down(stage: Stage, node: Node) -> None:
    await stage.backend.stop()
    raw = await node.raw()
    raw.send(upgrade())
    assert (await raw.answer()).status == 503
    raw.close()


def is_ours(thing: Any) -> bool:
    """Return whether `thing` is an object or a stack frame of the gateway."""
    if isinstance(thing, FrameType):
        return "/wsaas/" in thing.f_code.co_filename
    return type(thing).__module__.startswith("wsaas.")


def is_empty(statistics: Statistics) -> bool:
    return statistics.accepted_connections == statistics.clients == statistics.disconnects_owed == 0


@pytest.mark.parametrize(
    "life",
    [
        closes,
        vanishes,
        breaks_the_protocol,
        is_closed_by_the_backend,
        is_refused,
        leaves_before_its_101,
        waits_for_a_slow_backend,
        meets_a_backend_that_is_down,
    ],
)
async def test_a_client_that_is_gone_leaves_nothing_to_the_garbage_collector(
    stage: Stage, life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A log record would keep its arguments alive.
    monkeypatch.setattr(logging.getLogger("wsaas"), "disabled", True)
    node = await stage.node()
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        await life(stage, node)
        await wait_until(lambda: is_empty(node.statistics))
        gc.collect()
        left = sorted({type(each).__qualname__ for each in gc.garbage if is_ours(each)})
    finally:
        gc.set_debug(0)
        gc.enable()
        gc.garbage.clear()
    assert left == []
