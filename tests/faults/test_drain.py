"""A drain in every situation: clients are closed, events are delivered, and no connection is left."""

import asyncio
import logging

import pytest

from tests.support.backend import Call, answer_after
from tests.support.clients import upgrade
from tests.support.frames import BINARY, PING, TEXT, close_frame, frame
from tests.support.network_namespace import full_backlog
from tests.support.stage import Node, Stage
from tests.support.waiting import wait_until, with_timeout
from wsaas.http.request import CONTINUE
from wsaas.log.wording import counted
from wsaas.sessions import drain


def start_drain(node: Node) -> "asyncio.Task[bool]":
    """Start to drain the node."""
    return asyncio.ensure_future(node.drain())


async def test_an_idle_node_stops_at_once(stage: Stage) -> None:
    node = await stage.node()
    start = asyncio.get_running_loop().time()
    assert await node.drain()
    assert asyncio.get_running_loop().time() - start < 1
    with pytest.raises(ConnectionRefusedError):
        await node.raw()


async def test_a_drain_closes_each_client_with_1001_and_sends_its_delete(stage: Stage) -> None:
    node = await stage.node()
    clients = [await node.connect() for _ in range(20)]
    assert await node.drain()
    for client in clients:
        await with_timeout(client.wait_closed())
        assert client.close_code == 1001
    deletes = [call for call in stage.backend.calls if call.method == "DELETE"]
    assert len({call.client for call in deletes}) == len(deletes) == 20
    assert {call.json["code"] for call in deletes} == {1001}
    assert not stage.messages()


async def test_a_drain_spreads_the_close_frames(stage: Stage) -> None:
    node = await stage.node()
    for _ in range(10):
        await node.connect()
    loop = asyncio.get_running_loop()
    times: list[float] = []

    def note(call: Call) -> None:
        times.append(loop.time())
        call.ok()

    stage.backend.on["DELETE"] = note
    assert await node.drain()
    assert times[-1] - times[0] >= 0.3


async def test_the_close_frames_take_at_most_half_of_drain_timeout(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without the limit, it would take 8 s.
    monkeypatch.setattr(drain, "MAX_CLOSE_INTERVAL_S", 1.0)
    node = await stage.node(drain_timeout=3000)
    for _ in range(8):
        await node.connect()
    start = asyncio.get_running_loop().time()
    assert await node.drain()
    assert asyncio.get_running_loop().time() - start < 5
    assert stage.backend.count("DELETE") == 8


async def test_during_a_drain_clients_are_refused_and_readyz_is_503(stage: Stage) -> None:
    node = await stage.node()
    stage.backend.hold("DELETE")
    client, name = await node.admit()
    stop = start_drain(node)
    delete = await stage.backend.take("DELETE")
    answer = await node.rest("GET", "/readyz")
    assert (answer.status, answer.code) == (503, "UNAVAILABLE")
    assert (await node.rest("GET", "/healthz")).status == 200
    assert (await node.rest("PUT", name, "x")).status == 410
    raw = await node.raw()
    raw.send(upgrade())
    refused = await raw.answer()
    assert refused.status == 503
    assert int(refused.headers["Retry-After"]) >= 1
    assert not stop.done()
    delete.ok()
    assert await stop
    await with_timeout(client.wait_closed())
    assert stage.backend.count("POST") == 1


async def test_a_second_signal_cuts_a_drain_short(stage: Stage) -> None:
    stage.expected_errors = ["stopped before the DELETE was delivered"]
    node = await stage.node()
    stage.backend.hold("DELETE")
    await node.connect()
    node.gateway.stop()
    stop = start_drain(node)
    await stage.backend.take("DELETE")
    node.gateway.stop()
    assert not await with_timeout(stop, 1)


@pytest.mark.parametrize("accepted", [True, False])
async def test_a_drain_while_a_post_is_under_way(stage: Stage, accepted: bool) -> None:
    node = await stage.node()
    stage.backend.hold("POST")
    raw = await node.raw()
    raw.send(upgrade())
    post = await stage.backend.take("POST")
    stop = start_drain(node)
    answer = await raw.answer()
    assert answer.status == 503
    assert int(answer.headers["Retry-After"]) >= 1
    await raw.end()
    assert not stop.done()
    if accepted:
        post.ok()
    else:
        post.answer(403)
    assert await stop
    assert stage.backend.count("DELETE") == accepted
    warnings = [text.partition(";")[0] for text in stage.messages()]
    assert warnings == ([] if accepted else ["POST /hook: the backend answered 403"])


async def test_a_drain_delivers_messages_in_the_outbox(stage: Stage) -> None:
    node = await stage.node()
    stage.backend.hold("PUT")
    raw = await node.upgraded()
    raw.send(b"".join(frame(TEXT, b"%d" % number) for number in range(50)))
    put = await stage.backend.take("PUT")
    session = node.session(put.client)
    await wait_until(lambda: session.info.messages_in == 50)
    stop = start_drain(node)
    assert (await raw.closing())[0] == 1001
    raw.send(frame(TEXT, b"50") + close_frame(1001))
    await raw.end()
    stage.backend.on["PUT"] = Call.ok
    put.ok()
    assert await stop
    calls = stage.backend.of(put.client)
    assert [call.method for call in calls] == ["POST", *["PUT"] * 51, "DELETE"]
    assert [call.text for call in calls[1:-1]] == [str(number) for number in range(51)]
    assert calls[-1].json["code"] == 1001
    assert not stage.messages()


async def test_a_drain_delivers_messages_behind_a_full_inbox(stage: Stage) -> None:
    node = await stage.node(inbox=2000)

    stage.backend.on["PUT"] = answer_after(0.002)
    client, name = await node.admit()
    for number in range(100):
        await client.send(f"{number}".ljust(500))
    assert await node.drain()
    calls = stage.backend.of(name)
    assert [int(call.text) for call in calls[1:-1]] == list(range(100))
    assert calls[-1].method == "DELETE"
    assert not stage.messages()


async def test_a_drain_delivers_messages_that_were_not_read_before_it(stage: Stage) -> None:
    node = await stage.node(inbox=20_000, handshake_timeout=100, drain_timeout=20_000)

    stage.backend.on["PUT"] = answer_after(0.002)
    raw = await node.upgraded()
    name = (await stage.backend.take("POST")).client
    raw.send(b"".join(frame(TEXT, b"%d" % number) for number in range(800)) + close_frame(1001))
    session = node.session(name)
    await wait_until(lambda: session.outbox.backlogged)
    # The client's Close waits behind unread messages, so its time-out does not apply yet.
    assert await node.drain()
    calls = stage.backend.of(name)
    assert [int(call.text) for call in calls[1:-1]] == list(range(800))
    assert (calls[-1].method, calls[-1].json["undelivered"]) == ("DELETE", 0)
    assert not stage.messages()


@pytest.mark.parametrize("vanishes", [False, True])
async def test_a_drain_counts_undelivered_messages_exactly(stage: Stage, vanishes: bool) -> None:
    stage.expected_errors = ["stopped before"]
    node = await stage.node(inbox=20_000, drain_timeout=500)

    stage.backend.on["PUT"] = answer_after(0.02)
    raw = await node.upgraded()
    name = (await stage.backend.take("POST")).client
    raw.send(b"".join(frame(TEXT, b"%d" % number) for number in range(2000)))
    session = node.session(name)
    await wait_until(lambda: session.outbox.backlogged)
    if vanishes:
        raw.close()
    else:
        raw.send(close_frame(1001))
    assert not await node.drain()
    delivered = [call for call in stage.backend.of(name) if call.method == "PUT" and call.done.is_set()]
    (error,) = [text for text in stage.messages(logging.ERROR) if name in text]
    lost = int(error.partition("(")[2].partition(" ")[0])
    # The message under way may have arrived without its answer in time.
    assert 2000 <= len(delivered) + lost <= 2001
    assert f"stopping: {counted(lost, 'message')} of 1 connection not delivered" in stage.messages()


async def test_messages_given_up_before_a_drain_are_not_counted_as_lost_by_it(stage: Stage) -> None:
    stage.expected_errors = ["stopped before"]
    node = await stage.node(drain_timeout=300)
    stage.backend.hold("DELETE")
    stage.backend.on["PUT"] = lambda call: call.answer(400)
    client, name = await node.admit()
    await client.send("refused")
    await with_timeout(client.wait_closed())
    assert (await stage.backend.take("DELETE")).json["undelivered"] == 1
    assert not await node.drain()
    assert any(f"{name}: stopped before" in text and "(0 messages lost)" in text for text in stage.messages())


async def test_a_drain_waits_for_the_retries_of_a_message(stage: Stage) -> None:
    node = await stage.node()
    stage.backend.on["PUT"] = lambda call: call.answer(503) if stage.backend.count("PUT") < 3 else call.ok()
    client, name = await node.admit()
    await client.send("hello")
    await stage.backend.take("PUT")
    assert await node.drain()
    assert [call.event for call in stage.backend.of(name)] == [0, 1, 1, 1, "end"]
    assert {text.partition(";")[0] for text in stage.messages()} == {"PUT /hook: the backend answered 503"}


async def test_a_drain_delivers_a_message_whose_frame_was_incomplete(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    raw.send(frame(BINARY, b"x" * 1000)[:500])
    stop = start_drain(node)
    assert (await raw.closing())[0] == 1001
    raw.send(frame(BINARY, b"x" * 1000)[500:] + close_frame(1001))
    assert await stop
    assert (await stage.backend.take("PUT")).body == b"x" * 1000
    assert stage.backend.count("DELETE") == 1


async def test_a_client_may_reset_its_connection_during_a_drain(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    stop = start_drain(node)
    assert (await raw.closing())[0] == 1001
    raw.reset()
    assert await stop
    assert (await stage.backend.take("DELETE")).json["code"] == 1001
    assert not stage.messages()


async def test_a_drain_drops_a_client_that_does_not_answer_its_close(stage: Stage) -> None:
    node = await stage.node(drain_timeout=1000, handshake_timeout=60_000)
    silent = await node.upgraded()
    polite, name = await node.admit()
    assert await node.drain(), "the backend is up, so the DELETEs can be delivered"
    assert stage.backend.count("DELETE") == 2
    assert (await silent.closing())[0] == 1001
    assert await silent.rest() == b""
    assert not stage.messages()
    assert polite.close_code == 1001
    assert name


async def test_a_drain_drops_a_client_that_does_not_read(stage: Stage) -> None:
    node = await stage.node(drain_timeout=1000)
    raw = await node.upgraded(receive=4096)
    name = (await stage.backend.take("POST")).client
    while (await node.rest("PUT", name, "x" * 200_000)).status == 200:
        pass
    raw.send(frame(PING, b"x" * 125) * 1000)
    assert await node.drain()
    assert (await stage.backend.take("DELETE")).json["code"] == 1001
    raw.reset()
    assert not stage.messages()


async def test_a_drain_closes_rest_connections(stage: Stage) -> None:
    node = await stage.node()
    _, name = await node.admit()
    idle, halfway, slow = await node.raw(), await node.raw(), await node.raw(receive=4096)
    idle.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await idle.answer()).status == 200
    head = b"PUT /%s HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n"
    halfway.send(head % name.encode())
    # After the 100, the request was accepted by its head.
    assert await with_timeout(halfway.reader.readuntil(b"\r\n\r\n")) == CONTINUE
    halfway.send(b"hello")
    slow.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100_000)
    await wait_until(lambda: node.statistics.accepted_connections == 4)
    assert await node.drain()
    for raw in (idle, halfway):
        assert await raw.rest() == b""
    await slow.rest()


async def test_a_drain_ends_in_time_although_the_backend_is_down(stage: Stage) -> None:
    stage.expected_errors = ["stopped before the DELETE was delivered"]
    node = await stage.node(drain_timeout=500)
    client, name = await node.admit()
    await stage.backend.stop()
    start = asyncio.get_running_loop().time()
    assert not await node.drain()
    assert 0.4 <= asyncio.get_running_loop().time() - start < 3
    assert any(name in text for text in stage.messages())
    await with_timeout(client.wait_closed())
    assert client.close_code == 1001


async def test_a_drain_delivers_to_a_backend_that_starts_in_time(stage: Stage) -> None:
    node = await stage.node()
    clients = [await node.connect() for _ in range(3)]
    await stage.backend.stop()
    stop = start_drain(node)
    await wait_until(lambda: node.statistics.disconnects_owed == 3)
    await stage.backend.start()
    assert await stop
    assert len(clients) == stage.backend.count("DELETE") == 3
    warnings = {text.partition(":")[0] for text in stage.messages()}
    assert warnings == {"cannot connect to the backend", "circuit breaker open"}


async def test_a_drain_ends_in_time_although_the_backend_hangs(stage: Stage) -> None:
    stage.expected_errors = ["stopped before the DELETE was delivered (2 messages lost)"]
    node = await stage.node(drain_timeout=500)
    stage.backend.hold("PUT")
    client = await node.connect()
    await client.send("1")
    await client.send("2")
    put = await stage.backend.take("PUT")
    assert not await node.drain()
    await with_timeout(put.dropped.wait())


async def test_a_drain_cancels_a_connection_that_is_being_opened(stage: Stage) -> None:
    port = await stage.stack.enter_async_context(full_backlog())
    node = await stage.node(backend=None, api_uri=f"127.0.0.1:{port}/hook", drain_timeout=300, api_timeout=60_000)
    raw = await node.raw()
    raw.send(upgrade())
    await wait_until(lambda: node.statistics.clients == 1)
    stage.expected_errors = ["stopped before the DELETE was delivered"]
    assert not await node.drain()
    assert (await raw.answer()).status == 503


async def test_a_drain_timeout_of_0_ends_at_once(stage: Stage) -> None:
    stage.expected_errors = ["stopped before the DELETE was delivered"]
    node = await stage.node(drain_timeout=0)
    raw = await node.upgraded()
    await node.drain()
    assert await raw.rest() in (b"", b"\x88\x0c\x03\xe9going away")


async def test_a_drain_of_a_busy_node_loses_nothing(stage: Stage) -> None:
    node = await stage.node(api_connections=4)

    stage.backend.on["PUT"] = answer_after(0.001)
    sent: dict[str, int] = {}

    async def talk(number: int) -> None:
        client, name = await node.admit(f"/{number}")
        try:
            while True:
                await client.send(f"{sent.setdefault(name, 0)}")
                sent[name] += 1
                await asyncio.sleep(0.001)
        except Exception:  # noqa: BLE001 - any end of the connection
            assert client.close_code == 1001

    talking = []
    for number in range(8):
        talking.append(asyncio.ensure_future(talk(number)))
        await stage.backend.wait(lambda: stage.backend.count("POST") == number + 1)  # noqa: B023 - called only in this round
    await stage.backend.wait(lambda: stage.backend.count("PUT") > 100)
    assert await node.drain()
    await with_timeout(asyncio.gather(*talking))
    for name, count in sent.items():
        calls = stage.backend.of(name)
        assert [call.method for call in calls] == ["POST", *["PUT"] * (len(calls) - 2), "DELETE"]
        texts = [int(call.text) for call in calls[1:-1]]
        assert texts == list(range(len(texts)))
        assert count - len(texts) <= 1, "messages before the Close were read and delivered"
        assert calls[-1].json["messages_in"] == len(texts)
    assert not stage.messages()
