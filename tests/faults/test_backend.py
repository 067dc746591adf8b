"""Backends that are down, restart, hang, or send wrong or incomplete responses: no event is lost or sent twice."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.backend import Call
from tests.support.clients import upgrade
from tests.support.frames import PONG, TEXT, close_frame, frame
from tests.support.ports import free_port
from tests.support.stage import Stage
from tests.support.waiting import wait_until, with_timeout

pytestmark = pytest.mark.usefixtures("quick_retries")


def distinct(calls: list[Call]) -> list[int | str]:
    """Return the events of `calls`, without direct repetitions."""
    seen: list[int | str] = []
    for call in calls:
        if not seen or call.event != seen[-1]:
            seen.append(call.event)
    return seen


async def status_of(stage: Stage, node: Any) -> int:
    raw = await node.raw()
    raw.send(upgrade())
    answer = await raw.answer()
    if answer.status == 101:
        raw.send(close_frame(1000))
        assert (await raw.closing())[0] == 1000
        await stage.backend.take("DELETE")
    return int(answer.status)


async def test_a_backend_may_be_down_at_the_start_of_the_gateway(stage: Stage) -> None:
    stage.backend.port = free_port()
    node = await stage.node(backend=None)
    for _ in range(3):
        raw = await node.raw()
        raw.send(upgrade())
        answer = await raw.answer()
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) >= 1
        await raw.end()
    assert (await node.rest("GET", "/readyz")).status == 200
    await stage.backend.start()
    assert await status_of(stage, node) == 101
    refused, breaker, *repeated = stage.messages()
    assert refused.startswith("cannot connect to the backend: ")
    assert (
        breaker == "circuit breaker open: the backend cannot be reached; messages and DELETEs wait, handshakes get 503"
    )
    assert all(text.startswith(refused) for text in repeated)


async def test_a_backend_may_stop_and_start_again(stage: Stage) -> None:
    node = await stage.node()
    client, name = await node.admit()
    await client.send("before")
    await stage.backend.take("PUT")
    for round_ in range(3):
        await stage.backend.stop()
        assert await status_of(stage, node) == 503
        await client.send(f"meanwhile {round_}")
        assert (await node.rest("PUT", name, f"hello {round_}")).status == 200, "the other way stays open"
        assert await with_timeout(client.recv()) == f"hello {round_}"
        await stage.backend.start()
        assert (await stage.backend.take("PUT")).text == f"meanwhile {round_}"
        assert await status_of(stage, node) == 101
    await client.close()
    await stage.backend.take("DELETE")
    assert [call.event for call in stage.backend.of(name)] == [0, 1, 2, 3, 4, "end"]


async def test_a_message_is_repeated_if_the_backend_stops_before_its_answer(stage: Stage) -> None:
    node = await stage.node()
    stage.backend.hold("PUT")
    client, name = await node.admit()
    for number in range(5):
        await client.send(str(number))
    await stage.backend.take("PUT")
    await stage.backend.stop()
    stage.backend.on["PUT"] = Call.ok
    await stage.backend.start()
    await stage.backend.wait(lambda: stage.backend.count("PUT") == 6)
    puts = [call.text for call in stage.backend.of(name) if call.method == "PUT"]
    assert puts == ["0", "0", "1", "2", "3", "4"]


async def test_deletes_are_sent_once_the_backend_is_up_again(stage: Stage) -> None:
    node = await stage.node()
    clients = [await node.admit() for _ in range(20)]
    await stage.backend.stop()
    for client, _ in clients:
        await client.close(4000)
    await wait_until(lambda: node.statistics.disconnects_owed == 20)
    await stage.backend.start()
    await stage.backend.wait(lambda: stage.backend.count("DELETE") == 20)
    deletes = [call for call in stage.backend.calls if call.method == "DELETE"]
    assert {call.client for call in deletes} == {name for _, name in clients}
    assert {call.json["code"] for call in deletes} == {4000}


async def test_requests_that_hang_do_not_delay_other_clients(stage: Stage) -> None:
    node = await stage.node(api_timeout=400)
    hung: list[Call] = []
    stage.backend.on["PUT"] = lambda call: hung.append(call) if call.text == "hang" and len(hung) < 2 else call.ok()
    first, second = await node.connect(), await node.connect()
    await first.send("hang")
    await first.send("after")
    for number in range(20):
        await second.send(str(number))
    await stage.backend.wait(lambda: any(call.text == "19" for call in stage.backend.calls))
    assert not any(call.text == "after" for call in stage.backend.calls)
    await stage.backend.wait(lambda: any(call.text == "after" for call in stage.backend.calls))
    assert [call.event for call in hung] == [1, 1]
    assert all(call.dropped.is_set() for call in hung)


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nX: ",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ",
    ],
)
async def test_a_response_that_arrives_byte_by_byte_has_the_same_timeout(stage: Stage, start: bytes) -> None:
    node = await stage.node(api_timeout=400)
    drops = b"HTTP/1.1 200 " + b"x" * 1000 if not start else b"x" * 1000
    took: list[float] = []

    async def drip(call: Call) -> None:
        if stage.backend.count("PUT") > 1:
            call.ok()
            return
        began = asyncio.get_running_loop().time()
        call.connection.writer.write(start)
        for at in range(1000):
            if call.connection.writer.is_closing() or call.dropped.is_set():
                break
            call.connection.writer.write(drops[at : at + 1])
            await asyncio.sleep(0.01)
        took.append(asyncio.get_running_loop().time() - began)
        call.hang_up()

    stage.backend.on["PUT"] = drip
    client = await node.connect()
    await client.send("hello")
    await stage.backend.wait(lambda: stage.backend.count("PUT") == 2)


async def test_a_backend_may_close_connections_between_requests(stage: Stage) -> None:
    def answer_and_close(call: Call) -> None:
        call.ok()
        call.connection.close()

    for method in ("POST", "PUT", "DELETE"):
        stage.backend.on[method] = answer_and_close
    node = await stage.node()
    client, name = await node.admit()
    for number in range(100):
        await client.send(str(number))
    await stage.backend.wait(lambda: any(call.text == "99" for call in stage.backend.calls))
    await client.close()
    await stage.backend.take("DELETE")
    assert distinct(stage.backend.of(name)) == [*range(101), "end"]
    assert not stage.messages()


async def test_a_backend_may_close_idle_connections_at_any_moment(stage: Stage) -> None:
    chance = random.Random(3)

    async def answer_and_close_soon(call: Call) -> None:
        call.ok()
        if chance.random() < 0.3:
            await asyncio.sleep(chance.uniform(0, 0.003))
            call.connection.close()

    stage.backend.on["PUT"] = answer_and_close_soon
    node = await stage.node()
    clients = [await node.admit() for _ in range(4)]
    for number in range(60):
        for client, _ in clients:
            await client.send(str(number))
        await asyncio.sleep(0.002)
    for client, _ in clients:
        await client.close()
    await stage.backend.wait(lambda: stage.backend.count("DELETE") == 4)
    for _, name in clients:
        calls = stage.backend.of(name)
        assert distinct(calls) == [*range(61), "end"]
        assert all(call.event == int(call.text) + 1 for call in calls if call.method == "PUT")
        assert calls[-1].json["code"] == 1000


@pytest.mark.parametrize("end", [Call.hang_up, Call.reset])
async def test_a_request_is_repeated_if_its_connection_closes(stage: Stage, end: Callable[[Call], None]) -> None:
    node = await stage.node()
    tries: dict[str, int] = {}

    def close_at_first(call: Call) -> None:
        tries[call.headers["ce-id"]] = tries.get(call.headers["ce-id"], 0) + 1
        if tries[call.headers["ce-id"]] == 1 and not call.connection.fresh:
            end(call)
        else:
            call.ok()

    for method in ("POST", "PUT", "DELETE"):
        stage.backend.on[method] = close_at_first
    clients = [await node.connect() for _ in range(3)]
    for client in clients:
        for number in range(10):
            await client.send(str(number))
        await client.close()
    await stage.backend.wait(lambda: len({c.client for c in stage.backend.calls if c.method == "DELETE"}) == 3)
    assert await node.drain()
    for name in {call.client for call in stage.backend.calls}:
        assert distinct(stage.backend.of(name)) == [*range(11), "end"]
    assert max(tries.values()) == 2


SURPLUS = {
    "a second answer": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" * 2,
    "bytes behind the answer": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nwhat else?",
    "half an answer behind the answer": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Le",
    "a body behind 204": b"HTTP/1.1 204 No Content\r\n\r\nbody",
    "a body far over the limit": b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + b"x" * 3_000_000,
    "interim answers": b"HTTP/1.1 100 Continue\r\n\r\n" * 50 + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "a length where there is no body": b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\n",
    "the length of a body over the limit": b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n",
    "many headers": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 99 + b"Content-Length: 0\r\n\r\n",
    "a strange reason": b"HTTP/1.1 200 \xff\xfe\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("what", SURPLUS)
async def test_bytes_behind_a_response_are_ignored(stage: Stage, what: str) -> None:
    stage.backend.on["PUT"] = lambda call: call.send(SURPLUS[what])
    node = await stage.node()
    client, name = await node.admit()
    for number in range(5):
        await client.send(str(number))
    await stage.backend.wait(lambda: any(call.text == "4" for call in stage.backend.calls))
    stage.backend.on["PUT"] = Call.ok
    await client.close()
    await stage.backend.take("DELETE")
    assert distinct(stage.backend.of(name)) == [*range(6), "end"]
    assert len(stage.backend.of(name)) == 7, "an acknowledged message is not sent again"
    assert not stage.messages()


GARBAGE = {
    "noise": b"\x80\x81\x82\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
    "HTTP/2": b"\0\0\x12\x04\0\0\0\0\0",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "a switch": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "an endless head": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 300_000,
    "an endless name": b"HTTP/1.1 200 OK\r\n" + b"y" * 300_000,
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    "a length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a coding below the chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a huge extension": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;" + b"x" * 300_000,
    "endless trailers": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 50_000,
    "too many headers": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100 + b"Content-Length: 0\r\n\r\n",
    "a flood of interim answers": b"HTTP/1.1 100 Continue\r\n\r\n" * 2000,
    "two lengths in lines that end without CR": b"HTTP/1.1 200 OK\nContent-Length: 1\nContent-Length: 2\n\nx",
    "an empty line before the answer": b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("what", GARBAGE)
async def test_a_post_answered_with_garbage_is_502_and_a_delete_follows(stage: Stage, what: str) -> None:
    stage.backend.on["POST"] = lambda call: call.send(GARBAGE[what])
    node = await stage.node()
    assert await status_of(stage, node) == 502
    post = await stage.backend.take("POST")
    assert (await stage.backend.take("DELETE")).client == post.client
    (warning,) = stage.messages()
    assert warning.startswith("POST /hook: the backend did not answer in valid HTTP: ")


@pytest.mark.parametrize("what", GARBAGE)
async def test_a_connection_that_received_garbage_is_not_reused(stage: Stage, what: str) -> None:
    node = await stage.node()
    client, name = await node.admit()
    stage.backend.on["PUT"] = lambda call: call.ok() if stage.backend.count("PUT") > 1 else call.send(GARBAGE[what])
    await client.send("hello")
    await stage.backend.wait(lambda: stage.backend.count("PUT") == 2)
    first, second = (call for call in stage.backend.of(name) if call.method == "PUT")
    assert first.connection is not second.connection
    assert (first.event, first.text) == (second.event, second.text)
    assert first.connection not in stage.backend.connections


@pytest.mark.parametrize("half", [b"HTTP/1.1 2", b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"code": '])
async def test_a_post_with_half_a_response_is_502_or_504(stage: Stage, half: bytes) -> None:
    node = await stage.node(api_timeout=300)
    stage.backend.on["POST"] = lambda call: call.hang_up(half)
    assert await status_of(stage, node) == 502
    stage.backend.on["POST"] = lambda call: call.connection.writer.write(half)
    assert await status_of(stage, node) == 504
    await stage.backend.wait(lambda: stage.backend.count("DELETE") == 2)


async def test_a_delete_is_retried_after_the_retry_after_of_the_backend(stage: Stage) -> None:
    node = await stage.node()
    loop = asyncio.get_running_loop()
    times: list[float] = []

    def answer(call: Call) -> None:
        times.append(loop.time())
        if len(times) <= 1:
            call.answer(503, Retry_After="1")
        else:
            call.ok()

    stage.backend.on["DELETE"] = answer
    client = await node.connect()
    await client.close()
    await stage.backend.wait(lambda: len(times) == 2)
    assert times[1] - times[0] >= 0.95


async def test_no_message_is_lost_when_all_connections_to_the_backend_break_at_once(stage: Stage) -> None:
    node = await stage.node(api_connections=4)
    clients = [await node.upgraded() for _ in range(30)]
    stage.backend.hold("PUT")
    for client in clients:
        client.send(frame(TEXT, b"1") + frame(TEXT, b"2") + frame(PONG))
    await stage.backend.wait(lambda: stage.backend.count("PUT") == 4)
    await stage.backend.stop()
    stage.backend.on["PUT"] = Call.ok
    await stage.backend.start()
    names = {call.client for call in stage.backend.calls}
    await stage.backend.wait(lambda: all(distinct(stage.backend.of(name)) == [0, 1, 2] for name in names))
    assert stage.backend.most_busy <= 4
    warnings = {text.partition(":")[0] for text in stage.messages()}
    assert warnings == {"PUT /hook", "cannot connect to the backend", "circuit breaker open"}
