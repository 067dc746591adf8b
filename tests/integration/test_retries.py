"""Failed requests are retried with the same id, until they succeed or are given up."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest

from tests.support.backend import Call
from tests.support.frames import TEXT, frame
from tests.support.stage import Stage, received_close
from tests.support.waiting import with_timeout

pytestmark = pytest.mark.usefixtures("quick_retries")


def failing(times: int, how: Callable[[Call], None]) -> Callable[[Call], None]:
    """Return a policy that fails `times` requests, and answers all later ones with success."""
    left = [times]

    def answer(call: Call) -> None:
        left[0] -= 1
        if left[0] >= 0:
            how(call)
        else:
            call.ok()

    return answer


FAULTS: dict[str, Callable[[Call], None]] = {
    "408": lambda call: call.answer(408),
    "425": lambda call: call.answer(425),
    "429": lambda call: call.answer(429),
    "500": lambda call: call.answer(500, {"code": "OK"}),
    "502": lambda call: call.answer(502),
    "503": lambda call: call.answer(503),
    "599": lambda call: call.answer(599),
    "hangs up": Call.hang_up,
    "resets": Call.reset,
    "garbage": lambda call: call.send(b"\0\1\2 this is not HTTP\r\n\r\n"),
    "SSH": lambda call: call.send(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "half a head": lambda call: call.hang_up(b"HTTP/1.1 200 OK\r\nContent-"),
    "half a body": lambda call: call.hang_up(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"),
    "half a chunk": lambda call: call.hang_up(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc"),
    "a switch of protocols": lambda call: call.send(
        b"HTTP/1.1 101 Sure\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_message_is_retried_with_the_same_id(stage: Stage, fault: str) -> None:
    stage.backend.on["PUT"] = failing(2, FAULTS[fault])
    node = await stage.node()
    client, name = await node.admit()
    await client.send("hello")
    await client.send("next")
    await stage.backend.wait(lambda: any(call.text == "next" for call in stage.backend.calls))
    puts = [call for call in stage.backend.of(name) if call.method == "PUT"]
    assert [call.text for call in puts[:-1]] == ["hello"] * (len(puts) - 1)
    assert len(puts) == 4
    assert {call.headers["ce-id"] for call in puts[:-1]} == {f"{name}:1"}
    assert puts[-1].headers["ce-id"] == f"{name}:2"
    assert len({call.headers["ce-time"] for call in puts[:-1]}) == 1
    await client.close()
    assert (await stage.backend.take("DELETE")).json["code"] == 1000


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_delete_is_retried_with_the_same_id(stage: Stage, fault: str) -> None:
    stage.backend.on["DELETE"] = failing(2, FAULTS[fault])
    node = await stage.node()
    client, name = await node.admit()
    await client.close()
    assert await node.drain()
    deletes = [call for call in stage.backend.of(name) if call.method == "DELETE"]
    assert len(deletes) == 3
    assert {call.headers["ce-id"] for call in deletes} == {f"{name}:end"}
    assert len({call.body for call in deletes}) == 1


@pytest.mark.parametrize("status", [200, 204, 299, 404, 410])
async def test_a_delete_is_not_retried_after_these_statuses(stage: Stage, status: int) -> None:
    stage.backend.on["DELETE"] = lambda call: call.answer(status)
    node = await stage.node()
    client = await node.connect()
    await client.close()
    assert await node.drain()
    assert stage.backend.count("DELETE") == 1


@pytest.mark.parametrize("status", [301, 400, 403])
async def test_a_delete_is_retried_after_other_statuses(stage: Stage, status: int) -> None:
    stage.backend.on["DELETE"] = failing(1, lambda call: call.answer(status))
    node = await stage.node()
    client = await node.connect()
    await client.close()
    assert await node.drain()
    assert stage.backend.count("DELETE") == 2


async def test_a_delete_that_is_given_up_is_logged_as_an_error(stage: Stage) -> None:
    stage.backend.on["DELETE"] = lambda call: call.answer(500)
    stage.expected_errors = ["was not told that this connection ended: the backend answered 500"]
    node = await stage.node(api_retry=20)
    client = await node.connect()
    await client.close()
    assert await node.drain()
    assert stage.backend.count("DELETE") >= 2
    assert sum("was not told" in text for text in stage.messages()) == 1


async def test_retry_after_in_seconds_is_honoured(stage: Stage) -> None:
    stage.backend.on["PUT"] = failing(1, lambda call: call.answer(503, Retry_After="1"))
    node = await stage.node()
    client = await node.connect()
    await client.send("hello")
    await stage.backend.take("PUT")
    first = asyncio.get_running_loop().time()
    await stage.backend.take("PUT")
    assert asyncio.get_running_loop().time() - first >= 0.95


async def test_retry_after_as_a_date_is_honoured(stage: Stage) -> None:
    due = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(seconds=2)
    stage.backend.on["PUT"] = failing(1, lambda call: call.answer(429, Retry_After=format_datetime(due, usegmt=True)))
    node = await stage.node()
    client = await node.connect()
    await client.send("hello")
    await stage.backend.take("PUT")
    await stage.backend.take("PUT")
    assert datetime.now(timezone.utc) >= due - timedelta(milliseconds=20)


@pytest.mark.parametrize("value", ["soon", "-1", "", "99999999999999999999", "Thu, 99 Foo 2020", "1.5"])
async def test_an_invalid_or_too_large_retry_after_is_ignored(stage: Stage, value: str) -> None:
    stage.backend.on["PUT"] = failing(1, lambda call: call.answer(503, Retry_After=value))
    node = await stage.node(api_retry=600)
    client = await node.connect()
    await client.send("hello")
    await stage.backend.take("PUT")
    await stage.backend.take("PUT")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 422])
async def test_any_other_4xx_ends_the_client_with_1011(stage: Stage, status: int) -> None:
    stage.backend.on["PUT"] = lambda call: call.answer(status)
    node = await stage.node()
    client, name = await node.admit()
    await client.send("refused")
    assert (await received_close(client))[0] == 1011
    delete = await stage.backend.take("DELETE")
    assert delete.json["code"] == 1011
    assert [call.method for call in stage.backend.of(name)] == ["POST", "PUT", "DELETE"]


async def test_413_ends_the_client_with_1009(stage: Stage) -> None:
    stage.backend.on["PUT"] = lambda call: call.answer(413)
    node = await stage.node()
    client, name = await node.admit()
    await client.send("much")
    assert await received_close(client) == (1009, "message too large")
    delete = await stage.backend.take("DELETE")
    assert (delete.json["code"], delete.json["reason"]) == (1009, "message too large")
    assert [call.method for call in stage.backend.of(name)] == ["POST", "PUT", "DELETE"]


async def test_410_ends_the_client_with_1000(stage: Stage) -> None:
    stage.backend.on["PUT"] = lambda call: call.answer(410)
    node = await stage.node()
    client = await node.connect()
    await client.send("anybody?")
    assert (await received_close(client))[0] == 1000
    assert (await stage.backend.take("DELETE")).json["code"] == 1000


async def test_a_message_given_up_closes_the_client_with_1011_and_discards_later_ones(stage: Stage) -> None:
    stage.backend.on["PUT"] = lambda call: call.answer(500)
    node = await stage.node(api_retry=300)
    client, name = await node.admit()
    for number in range(5):
        await client.send(str(number))
    assert (await received_close(client))[0] == 1011
    delete = await stage.backend.take("DELETE")
    assert delete.json["code"] == 1011
    assert delete.json["messages_in"] == 5
    puts = [call for call in stage.backend.of(name) if call.method == "PUT"]
    assert {call.text for call in puts} == {"0"}
    assert len(puts) >= 2


async def test_a_message_given_up_after_the_client_left_is_counted_in_the_delete(stage: Stage) -> None:
    stage.backend.on["PUT"] = lambda call: call.answer(500)
    node = await stage.node(api_retry=300)
    client = await node.connect()
    await client.send("lost")
    await client.close()
    delete = await stage.backend.take("DELETE")
    assert (delete.json["code"], delete.json["undelivered"]) == (1000, 1)


async def test_an_attempt_that_times_out_is_retried_on_another_connection(stage: Stage) -> None:
    stage.backend.hold("PUT")
    node = await stage.node(api_timeout=500)
    raw = await node.upgraded()
    raw.send(frame(TEXT, b"hello"))
    first = await stage.backend.take("PUT")
    await with_timeout(first.dropped.wait())
    second = await stage.backend.take("PUT")
    assert second.connection is not first.connection
    assert second.headers["ce-id"] == first.headers["ce-id"]
    second.ok()


async def test_a_stale_connection_is_replaced_at_once_even_for_a_post(stage: Stage) -> None:
    node = await stage.node()
    stage.backend.on["POST"] = lambda call: call.ok() if call.number == 0 or call.connection.fresh else call.hang_up()
    await node.connect()
    await node.connect()
    posts = [call for call in stage.backend.calls if call.method == "POST"]
    assert len(posts) == 3
    assert posts[1].headers["ce-id"] == posts[2].headers["ce-id"]
    assert posts[1].body == posts[2].body


HAPROXY = (
    b"HTTP/1.0 408 Request Time-out\r\nCache-Control: no-cache\r\nConnection: close\r\nContent-Type: text/html\r\n\r\n"
    b"<html><body><h1>408 Request Time-out</h1>\nYour browser didn't send a complete request in time.\n</body></html>\n"
)
NODE = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("crossing", [HAPROXY, NODE], ids=["haproxy", "node"])
async def test_a_408_sent_before_a_post_arrived_is_not_its_answer(stage: Stage, crossing: bytes) -> None:
    node = await stage.node()
    stage.backend.on["POST"] = lambda call: (
        call.ok() if call.number == 0 or call.connection.fresh else call.hang_up(crossing)
    )
    await node.connect()
    await node.connect()
    posts = [call for call in stage.backend.calls if call.method == "POST"]
    assert len(posts) == 3
    assert posts[1].headers["ce-id"] == posts[2].headers["ce-id"]


async def test_connection_close_and_http_1_0_answers(stage: Stage) -> None:
    node = await stage.node()
    answers = iter(
        [
            b"HTTP/1.0 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nWs-Reply: text\r\n\r\nuntil the end",
            b"HTTP/1.1 200 OK\r\nWs-Reply: text\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nchu\r\n3\r\nnks\r\n0\r\n\r\n",
            b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
        ]
    )

    def answer(call: Call) -> None:
        data = next(answers)
        call.send(data)
        if b"Transfer" not in data and b"204" not in data:
            call.hang_up()

    stage.backend.on["PUT"] = answer
    client, name = await node.admit()
    for number in range(5):
        await client.send(str(number))
    assert [await with_timeout(client.recv()) for _ in range(2)] == ["until the end", "chunks"]
    await stage.backend.wait(lambda: stage.backend.count("PUT") == 5)
    await client.close()
    await stage.backend.take("DELETE")
    assert [call.event for call in stage.backend.of(name)] == [*range(6), "end"]
