"""Events of one connection are sent in order, one at a time, and none is lost; others do not wait for them."""

import asyncio
import random

import pytest

from tests.support.backend import Call
from tests.support.clients import upgrade
from tests.support.frames import BINARY, PING, TEXT, frame
from tests.support.stage import Stage
from tests.support.waiting import wait_until, wait_until_stable, with_timeout


@pytest.mark.slow
async def test_events_of_eight_busy_clients_are_sent_in_order_to_a_slow_backend(stage: Stage) -> None:
    chance = random.Random(7)
    busy: dict[str, int] = {}

    async def slowly(call: Call) -> None:
        busy[call.client] = busy.get(call.client, 0) + 1
        assert busy[call.client] == 1, "two requests of one connection at a time"
        await asyncio.sleep(chance.uniform(0, 0.004))
        busy[call.client] -= 1
        call.ok()

    for method in ("POST", "PUT", "DELETE"):
        stage.backend.on[method] = slowly
    node = await stage.node(api_connections=4)

    async def talk(number: int) -> None:
        client = await node.connect(f"/{number}")
        for count in range(50):
            await client.send(f"{number}:{count}")
        await client.close()

    await with_timeout(asyncio.gather(*map(talk, range(8))), 30)
    await stage.backend.wait(lambda: stage.backend.count("DELETE") == 8)
    assert stage.backend.most_busy <= 4
    assert stage.backend.accepted <= 4
    clients = {call.client for call in stage.backend.calls}
    assert len(clients) == 8
    for client in clients:
        calls = stage.backend.of(client)
        number = calls[0].json["request"]["path"][1:]
        assert [call.method for call in calls] == ["POST", *["PUT"] * 50, "DELETE"]
        assert [call.text for call in calls[1:-1]] == [f"{number}:{count}" for count in range(50)]
        assert [call.event for call in calls] == [*range(51), "end"]
        assert len({call.headers["ce-id"] for call in calls}) == 52
        assert calls[-1].json["messages_in"] == 50


async def test_an_event_is_sent_when_the_one_before_it_was_answered(stage: Stage) -> None:
    node = await stage.node()
    stage.backend.hold("PUT", "DELETE")
    raw = await node.upgraded()
    raw.send(frame(TEXT, b"0") + frame(TEXT, b"1") + frame(TEXT, b"2"))
    raw.close()
    for number in range(3):
        put = await stage.backend.take("PUT")
        assert put.text == str(number)
        assert stage.backend.count("PUT") == number + 1
        assert stage.backend.count("DELETE") == 0
        put.ok()
    (await stage.backend.take("DELETE")).ok()


async def test_api_connections_limits_the_connections_to_the_backend(stage: Stage) -> None:
    node = await stage.node(api_connections=3)
    stage.backend.hold("PUT")
    clients = [await node.upgraded() for _ in range(10)]
    for client in clients:
        client.send(frame(TEXT, b"x"))
    await stage.backend.wait(lambda: stage.backend.count("PUT") == 3)
    await wait_until(lambda: node.statistics.backend_requests_waiting == 7)
    assert stage.backend.accepted <= 3
    for _ in clients:
        (await stage.backend.take("PUT")).ok()
    assert stage.backend.most_busy == 3
    assert stage.backend.accepted <= 3


async def test_connections_to_the_backend_are_kept_and_reused(stage: Stage) -> None:
    node = await stage.node()
    client = await node.connect()
    for number in range(20):
        await client.send(str(number))
        await stage.backend.take("PUT")
    await client.close()
    await stage.backend.take("DELETE")
    assert stage.backend.accepted == 1


async def test_a_post_without_a_free_connection_is_503(stage: Stage) -> None:
    node = await stage.node(api_connections=1, api_timeout=1000)
    others = [await node.upgraded() for _ in range(5)]
    stage.backend.hold("PUT")
    for other in others:
        other.send(frame(TEXT, b"slow"))
    await wait_until(lambda: node.statistics.backend_requests_waiting == 4)
    raw = await node.raw()
    raw.send(upgrade())
    answer = await raw.answer()
    assert answer.status == 503
    assert int(answer.headers["Retry-After"]) >= 1
    assert stage.backend.count("POST") == 5


@pytest.mark.slow
async def test_a_full_inbox_stops_the_client_by_tcp_and_loses_nothing(stage: Stage) -> None:
    node = await stage.node(inbox=64 * 1024)
    stage.backend.hold("PUT")
    raw = await node.upgraded()
    (name,) = {call.client for call in stage.backend.calls}
    count, size = 1500, 16 * 1024

    async def pour() -> None:
        for number in range(count):
            raw.send(frame(BINARY, number.to_bytes(4, "big") * (size // 4)))
            await raw.writer.drain()

    pouring = asyncio.ensure_future(pour())
    put = await stage.backend.take("PUT")
    session = node.session(name)
    await wait_until(lambda: session.outbox.backlogged)
    seen = await wait_until_stable(lambda: session.info.messages_in)
    assert not pouring.done(), "24 MB exceed all buffers, so the client has to wait"
    assert session.outbox.level <= 64 * 1024 + 2 * (size + 512)
    assert seen < 20
    # The REST API, pushes and other clients are not affected.
    assert (await node.rest("PUT", name, "push")).status == 200
    assert await raw.frame() == (TEXT, b"push")
    await node.connect()
    stage.backend.on["PUT"] = Call.ok
    put.ok()
    await with_timeout(pouring, 30)
    raw.close()
    delete = await stage.backend.take("DELETE", client=name)
    puts = [call for call in stage.backend.of(name) if call.method == "PUT"]
    assert [int.from_bytes(call.body[:4], "big") for call in puts] == list(range(count))
    assert all(len(call.body) == size for call in puts)
    assert delete.json["messages_in"] == count


async def test_one_message_larger_than_the_inbox_fits(stage: Stage) -> None:
    node = await stage.node(inbox=100)
    stage.backend.hold("PUT")
    raw = await node.upgraded()
    sent = [b"%d" % number * 5000 for number in range(5)]
    raw.send(b"".join(frame(TEXT, data) for data in sent))
    for data in sent:
        put = await stage.backend.take("PUT")
        assert put.body == data
        put.ok()


async def test_a_client_that_is_not_read_is_not_timed_out(stage: Stage) -> None:
    node = await stage.node(inbox=100, ws_timeout=300)
    stage.backend.hold("PUT")
    raw = await node.upgraded()
    raw.send(b"".join(frame(TEXT, b"%d" % number * 500) for number in range(3)))
    put = await stage.backend.take("PUT")
    session = node.session(put.client)
    await wait_until(lambda: session.outbox.backlogged)
    await asyncio.sleep(1)
    assert session.state.value == "open"
    stage.backend.on["PUT"] = Call.ok
    put.ok()
    await stage.backend.wait(lambda: stage.backend.count("PUT") == 3)
    assert await raw.frame() == (PING, b"")


async def test_a_client_that_leaves_while_it_is_not_read_loses_nothing(stage: Stage) -> None:
    node = await stage.node(inbox=1000)
    stage.backend.hold("PUT")
    raw = await node.upgraded()
    sent = [b"%03d" % number * 300 for number in range(100)]
    raw.send(b"".join(frame(TEXT, data) for data in sent))
    await raw.writer.drain()
    put = await stage.backend.take("PUT")
    raw.close()
    stage.backend.on["PUT"] = Call.ok
    put.ok()
    delete = await stage.backend.take("DELETE")
    assert [call.body for call in stage.backend.of(put.client) if call.method == "PUT"] == sent
    assert delete.json["messages_in"] == 100
    assert delete.json["code"] == 1006
