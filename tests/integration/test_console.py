"""The console shows what happens on a connection, on the real gateway."""

import asyncio

import orjson

from tests.support.console import ask, stream, watching
from tests.support.stage import Stage
from tests.support.waiting import with_timeout


async def test_a_watched_connection_shows_each_step_of_a_message(stage: Stage) -> None:
    stage.backend.hold("PUT")
    node = await stage.node()
    client, name = await node.admit("/chat?a=b")
    async with watching(node, name) as viewer:
        hello = await viewer.next()
        assert hello["connection"]["path"] == "/chat"
        assert hello["limits"] == {"events": 1000, "body_bytes": 16384}
        await client.send("hello")
        call = await stage.backend.take("PUT")
        frame = await viewer.until("frame")
        assert frame["direction"] == "in"
        assert frame["opcode"] == "text"
        assert frame["body"] == {"text": "hello", "size": 5, "truncated": False}
        request = await viewer.until("request")
        assert (request["event"], request["ce_id"], request["attempt"]) == ("message", f"{name}:1", 1)
        assert (request["method"], request["target"]) == ("PUT", "/hook")
        assert ["ce-id", f"{name}:1"] in request["headers"]
        assert request["body"]["text"] == "hello"
        call.answer(200, "reply", Ws_Reply="text")
        response = await viewer.until("response")
        assert (response["status"], response["result"], response["retry_in_ms"]) == (200, "ok", None)
        assert response["body"]["text"] == "reply"
        out = await viewer.until("frame", direction="out")
        assert (out["cause"], out["body"]["text"]) == ("reply", "reply")
        assert await with_timeout(client.recv()) == "reply"
        assert (await node.rest("PUT", name, "pushed")).status == 200
        push = await viewer.until("push")
        assert (push["method"], push["status"], push["size"]) == ("PUT", 200, 6)
        assert (await viewer.until("frame"))["cause"] == "push"
        await client.close(4000, "bye")
        assert (await viewer.until("frame", opcode="close"))["code"] == 4000
        rest = await viewer.rest()
    assert viewer.kinds[-1] == "end"
    assert [event["state"] for event in rest if event["kind"] == "state"] == ["CLOSED"]
    assert rest[-2]["ce_id"] == f"{name}:end"
    assert [event["seq"] for event in rest[1:]] == sorted({event["seq"] for event in rest[1:]})


async def test_the_next_connects_are_watched_from_their_first_byte(stage: Stage) -> None:
    node = await stage.node()
    async with stream(node, "connects/events?count=2&path=/x") as viewer:
        assert (await viewer.next())["count"] == 2
        await node.admit("/other")
        client, name = await node.admit(
            "/x?token=s3cret&try=1", additional_headers={"Authorization": "Bearer abc", "Cookie": "a=b"}
        )
        handshake = await viewer.next()
        assert handshake["kind"] == "handshake"
        assert handshake["connection"] == name
        assert handshake["query"] == "token=(hidden)&try=1"
        headers = dict(handshake["headers"])
        assert headers["authorization"] == headers["cookie"] == "•••"
        request = await viewer.until("request")
        assert dict(request["headers"])["Authorization"] == "•••"
        body = orjson.loads(request["body"]["text"])
        assert body["request"]["headers"]["cookie"] == "•••"
        assert body["request"]["query"] == "token=(hidden)&try=1"
        opened = await viewer.until("opened")
        assert (opened["status"], opened["subprotocol"], opened["compression"]) == (101, None, False)
        assert (await viewer.until("state"))["state"] == "OPEN"
        await client.close()
        await viewer.until("end")
        _, name = await node.admit("/x")
        assert (await viewer.until("handshake"))["connection"] == name
        # No further ones.
        await node.admit("/x")
        async with watching(node, name) as other:
            assert (await other.until("handshake"))["connection"] == name
            assert (await other.until("state"))["state"] == "OPEN"


async def test_the_page_and_the_node(stage: Stage) -> None:
    node = await stage.node()
    await node.admit()
    page = await node.rest("GET", "/console")
    assert page.status == 200
    assert page.headers["Cache-Control"] == "no-store"
    content = await ask(node, "node")
    assert content["numbers"]["clients"] == 1
    assert content["numbers"]["connects"] == 1
    assert content["backend"]["state"] == "up"
    assert content["problems"] == []
    listed = await ask(node, "connections")
    assert listed["matched"] == 1
    await asyncio.sleep(0)
