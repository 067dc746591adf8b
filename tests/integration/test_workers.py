"""Requests for a client of another worker: each is forwarded to the worker that holds the client's connection."""

import asyncio
import json
import os
import stat

import pytest
from websockets.asyncio.client import ClientConnection

from tests.support.stage import Node, Stage, received_close
from tests.support.waiting import with_timeout


def push(client: str, body: bytes) -> bytes:
    return b"PUT /%b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (client.encode(), len(body), body)


async def test_a_push_by_any_worker_reaches_the_client(stage: Stage) -> None:
    workers = await stage.workers(3)
    clients = [await each.admit() for each in workers]
    for number, worker in enumerate(workers):
        for client, name in clients:
            assert (await worker.rest("PUT", name, f"by {number}")).status == 200
            assert await with_timeout(client.recv()) == f"by {number}"


async def test_a_caller_that_closes_its_side_after_its_last_request_gets_all_answers(stage: Stage) -> None:
    first, second = await stage.workers(2)
    client, name = await second.admit()
    health = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for worker in (first, second):
        for requests in (push(name, b"hi"), push(name, b"hi") + health + push(name, b"hi")):
            raw = await worker.raw()
            raw.send(requests)
            raw.half_close()
            for _ in range(requests.count(b"HTTP/1.1")):
                assert (await raw.answer()).status == 200
            assert await with_timeout(raw.reader.read()) == b""
            raw.close()
    assert [await with_timeout(client.recv()) for _ in range(6)] == ["hi"] * 6


async def test_many_large_requests_for_another_worker_are_all_taken(stage: Stage) -> None:
    first, second = await stage.workers(2)
    clients = [await second.admit() for _ in range(3)]
    names = [name for _, name in clients]
    body = b"x" * 1_000_000
    callers = [await first.raw() for _ in range(12)]
    for number, raw in enumerate(callers):
        raw.send(push(names[number % 3], body))
    for client, _ in clients:
        for _ in range(4):
            assert len(await with_timeout(client.recv())) == len(body)
    assert [(await raw.answer()).status for raw in callers] == [200] * 12
    for raw in callers:
        raw.close()


async def test_a_binary_push_stays_binary_and_bad_text_is_refused_by_the_owner(stage: Stage) -> None:
    here, there = await stage.workers(2)
    client, name = await there.admit()
    sent = await here.rest("PUT", name, b"\xff", Content_Type="application/octet-stream")
    assert sent.status == 200
    assert await with_timeout(client.recv()) == b"\xff"
    refused = await here.rest("PUT", name, b"\xff", Content_Type="text/plain")
    assert (refused.status, refused.json["code"]) == (400, "BAD_TEXT")


async def test_a_close_and_a_description_by_another_worker(stage: Stage) -> None:
    here, there = await stage.workers(2)
    client, name = await there.admit("/room?a=b")
    information = await here.information(name)
    assert information.keys() == (await there.information(name)).keys()
    assert (information["id"], information["query"]) == (name, "a=b")
    head = await here.rest("HEAD", name)
    assert (head.status, head.body) == (200, b"")
    assert int(head.headers["Content-Length"]) > 100
    assert (await here.rest("DELETE", name, json.dumps({"code": 4000, "reason": "bye"}))).status == 200
    assert await received_close(client) == (4000, "bye")
    await stage.backend.take("DELETE")
    assert (await here.rest("GET", name)).status == 410
    assert (await here.rest("PUT", name, "late")).status == 410


async def test_ids_of_no_worker_are_gone_and_paths_that_look_like_ids_are_not_found(stage: Stage) -> None:
    here, there = await stage.workers(2)
    statuses = [(await here.rest("PUT", prefix + "a" * 22)).status for prefix in (here.prefix, there.prefix, "a" * 8)]
    assert statuses == [410] * 3
    for rest in ("a" * 21, "a" * 23, "a" * 21 + "!", "?" + "a" * 21, "/" + "a" * 21):
        assert (await here.rest("PUT", there.prefix + rest)).status == 404


async def test_the_caller_needs_the_token_at_the_worker_that_it_calls_and_only_there(stage: Stage) -> None:
    here, there = await stage.workers(2, control_token="s3cret")
    client, name = await there.admit()
    assert (await here.rest("PUT", name, "hello")).status == 401
    assert (await here.rest("PUT", name, "hello", Authorization="Bearer s3cret")).status == 200
    assert await with_timeout(client.recv()) == "hello"


async def test_a_web_page_is_refused_before_its_request_is_forwarded(stage: Stage) -> None:
    here, there = await stage.workers(2)
    _, name = await there.admit()
    assert (await here.rest("PUT", name, "hello", Origin="https://evil.example")).status == 403
    assert (await here.rest("PUT", name, "hello", Host="evil.example")).status == 403


async def test_the_private_socket_is_for_this_user_alone_and_admits_no_clients(stage: Stage) -> None:
    (worker,) = await stage.workers(1)
    assert stat.S_IMODE(os.stat(worker.private_path).st_mode) == 0o600  # noqa: PTH116 - a local file
    reader, writer = await asyncio.open_unix_connection(worker.private_path)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
    writer.write(b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    assert (await with_timeout(reader.readline())).startswith(b"HTTP/1.1 404 ")
    writer.close()
    await writer.wait_closed()


async def test_a_message_of_the_maximum_size_is_forwarded_and_a_larger_one_is_refused(stage: Stage) -> None:
    here, there = await stage.workers(2, max_message_size=300_000)
    client, name = await there.admit()
    assert (await here.rest("PUT", name, "x" * 300_000)).status == 200
    assert len(await with_timeout(client.recv())) == 300_000
    assert (await here.rest("PUT", name, "x" * 300_001)).status == 413


async def test_a_slow_client_of_another_worker_is_reported(stage: Stage) -> None:
    here, there = await stage.workers(2)
    raw = await there.upgraded(receive=4096)
    name = (await stage.backend.take("POST")).client
    while (answer := await here.rest("PUT", name, "x" * 200_000)).status == 200:
        pass
    assert (answer.status, answer.json["code"], answer.headers["Retry-After"]) == (429, "SLOW_CLIENT", "1")
    raw.reset()
    await stage.backend.take("DELETE")


async def test_pipelined_pushes_to_local_and_remote_clients_keep_their_order(stage: Stage) -> None:
    here, there = await stage.workers(2)
    own, own_name = await here.admit()
    other, other_name = await there.admit()
    raw = await here.raw()
    count = 200
    raw.send(b"".join(push((own_name, other_name)[number % 2], b"%d" % number) for number in range(2 * count)))
    assert {(await raw.answer()).status for _ in range(2 * count)} == {200}
    assert [int(await with_timeout(own.recv())) for _ in range(count)] == list(range(0, 2 * count, 2))
    assert [int(await with_timeout(other.recv())) for _ in range(count)] == list(range(1, 2 * count, 2))


async def test_pushes_to_one_client_by_changing_workers_keep_their_order(stage: Stage) -> None:
    workers = await stage.workers(3)
    client, name = await workers[0].admit()
    callers = [await each.raw() for each in workers]
    for number in range(90):
        caller = callers[number % 3]
        caller.send(push(name, b"%d" % number))
        assert (await caller.answer()).status == 200
    assert [int(await with_timeout(client.recv())) for _ in range(90)] == list(range(90))


async def take(client: ClientConnection, count: int) -> list[int]:
    return [int(await with_timeout(client.recv())) for _ in range(count)]


async def call(worker: Node, names: list[str], numbers: range) -> set[int]:
    raw = await worker.raw()
    statuses = set()
    for number in numbers:
        raw.send(push(names[number % len(names)], b"%d" % number))
        statuses.add((await raw.answer()).status)
    return statuses


@pytest.mark.slow
async def test_30_000_pushes_by_many_callers_arrive_once_each(stage: Stage) -> None:
    workers = await stage.workers(3)
    clients = [await worker.admit() for worker in workers for _ in range(4)]
    names = [name for _, name in clients]
    per_caller = 1000
    calling = [
        asyncio.ensure_future(call(workers[caller % 3], names, range(caller * per_caller, (caller + 1) * per_caller)))
        for caller in range(30)
    ]
    received = [await take(client, 2500) for client, _ in clients]
    assert {status for statuses in await asyncio.gather(*calling) for status in statuses} == {200}
    assert sorted(number for numbers in received for number in numbers) == list(range(30_000))
    for numbers in received:
        for caller in range(30):
            own = [number for number in numbers if number // per_caller == caller]
            assert own == sorted(own)
