"""The console of one process shows the connections of all workers of the node, and of all nodes of the cluster."""

import pytest

from tests.support.console import ask, stream, watching
from tests.support.stage import Node, Stage
from tests.support.waiting import wait_until, with_timeout
from wsaas.sessions.opening_handshake import OpeningHandshake


async def pair(stage: Stage, kind: str) -> list[Node]:
    return await (stage.workers(2) if kind == "workers" else stage.cluster(2))


@pytest.mark.parametrize("kind", ["workers", "cluster"])
async def test_a_connection_of_another_process_is_followed(stage: Stage, kind: str) -> None:
    first, second = await pair(stage, kind)
    client, name = await second.admit("/far")
    async with watching(first, name) as viewer:
        hello = await viewer.next()
        assert hello["connection"]["id"] == name
        await client.send("hello")
        await stage.backend.take("PUT")
        assert (await viewer.until("frame"))["body"]["text"] == "hello"
        request = await viewer.until("request")
        await viewer.until("response")
        path = f"/console/api/connections/{name}"
        answer = await first.rest("POST", f"{path}/replay", f'{{"seq": {request["seq"]}}}')
        assert (answer.status, answer.json["status"]) == (200, 200)
        replayed = await stage.backend.take("PUT")
        assert replayed.headers["ws-replay"] == "1"
        assert (await first.rest("PUT", path, "pushed", Content_Type="text/plain")).status == 200
        assert await with_timeout(client.recv()) == "pushed"
        assert (await viewer.until("frame", direction="out"))["cause"] == "push"
        assert (await ask(first, f"connections/{name}"))["path"] == "/far"
        last = int(viewer.ids[-1])
    async with watching(first, name, Last_Event_ID=str(last)) as viewer:
        await client.close()
        assert (await viewer.next())["kind"] == "hello"
        assert (await viewer.next())["seq"] > last
        await viewer.rest()
        assert viewer.kinds[-1] == "end"


@pytest.mark.parametrize("kind", ["workers", "cluster"])
async def test_the_connections_of_all_processes_are_listed(stage: Stage, kind: str) -> None:
    first, second = await pair(stage, kind)
    names = [(await node.admit(path))[1] for node, path in ((first, "/a"), (second, "/b"), (first, "/c"))]
    for node in (first, second):
        found = await ask(node, "connections")
        assert [each["id"] for each in found["connections"]] == names[::-1]
        assert (found["matched"], found["next"], found["missing"]) == (3, None, [])
        page = await ask(node, "connections", sort="id", limit="2")
        rest = await ask(node, "connections", sort="id", limit="2", after=page["next"])
        assert [each["id"] for each in page["connections"] + rest["connections"]] == sorted(names)
        assert rest["next"] is None


async def test_a_peer_that_does_not_answer_is_named(stage: Stage) -> None:
    first, second = await stage.cluster(2)
    await second.drain()
    found = await ask(first, "connections")
    assert found["missing"]


async def test_the_next_connects_are_those_of_all_workers(stage: Stage) -> None:
    first, second = await stage.workers(2)
    async with stream(first, "connects/events?count=3&path=/x") as viewer:
        await viewer.next()
        # The other worker knows of the stream after its first answer.
        registry = second.gateway.sessions
        await wait_until(lambda: registry.open_handshake is not OpeningHandshake, "the other worker to know the stream")
        client, far = await second.admit("/x")
        await viewer.until("state", connection=far, state="OPEN")
        await client.close()
        await viewer.until("end", connection=far)
        _, near = await first.admit("/x")
        await viewer.until("state", connection=near, state="OPEN")
        client, last = await second.admit("/x")
        await viewer.until("state", connection=last, state="OPEN")
        _, unwanted = await second.admit("/x")
        await client.close()
        await viewer.until("end", connection=last)
        assert unwanted not in {event["connection"] for event in viewer.events[1:]}
    await wait_until(lambda: registry.open_handshake is OpeningHandshake, "the other worker to forget the stream")


async def test_the_numbers_are_those_of_all_workers(stage: Stage) -> None:
    first, second = await stage.workers(2)
    await first.admit()
    await second.admit()
    for node in (first, second):
        assert (await ask(node, "node"))["numbers"]["clients"] == 2


async def test_the_stream_of_a_connection_ends_with_its_process(stage: Stage) -> None:
    first, second = await stage.workers(2)
    _, name = await second.admit()
    async with watching(first, name) as viewer:
        await viewer.next()
        await second.drain()
        first.gateway.peers.update({})
        await viewer.rest()
