"""Streams of the console: viewers that are slow, leave and come back, and what is shown of everything that fails."""

import asyncio
import time

import pytest

from tests.support.clients import RawClient, upgrade
from tests.support.console import ask, stream, watching
from tests.support.frames import BINARY, frame
from tests.support.ports import free_port
from tests.support.stage import Node, Stage
from tests.support.waiting import wait_until, with_timeout
from wsaas.api.console import viewer_stream
from wsaas.sessions.opening_handshake import OpeningHandshake
from wsaas.watching import watcher
from wsaas.websocket import frames


def stream_request(name: str, version: str = "1.1", *lines: str) -> bytes:
    head = [f"GET /console/api/connections/{name}/events HTTP/{version}", "Host: localhost", *lines, "", ""]
    return "\r\n".join(head).encode()


async def read_until(raw: RawClient, mark: bytes) -> bytes:
    """Read up to some bytes, which are kept for the next call; return all that came before the end of a piece."""
    data = b""
    while mark not in data:
        piece = await with_timeout(raw.reader.read(1 << 16))
        assert piece, data[-1000:]
        data += piece
    return data


def is_watched(node: Node, name: str) -> bool:
    """Return whether the objects of a session are those of a watched one."""
    session = node.session(name)
    found = {
        session.encode is not frames.encode,
        type(session.connection.transport).__name__ == "WatchedTransport",
        name in node.gateway.sessions.push_recorders,
    }
    assert len(found) == 1
    return found.pop()


async def test_a_viewer_that_leaves_and_comes_back_misses_nothing(stage: Stage) -> None:
    node = await stage.node()
    client, name = await node.admit()
    async with watching(node, name) as viewer:
        await viewer.next()
        await client.send("one")
        await viewer.until("response")
        last = viewer.ids[-1]
    await client.send("two")
    await stage.backend.take("PUT")
    await stage.backend.take("PUT")
    async with watching(node, name, Last_Event_ID=last) as viewer:
        assert (await viewer.next())["kind"] == "hello"
        assert (await viewer.next())["body"]["text"] == "two"
        await viewer.until("response")
    # Without the header, everything that is kept is shown once more.
    async with watching(node, name) as viewer:
        await viewer.next()
        assert (await viewer.next())["body"]["text"] == "one"


async def test_a_connection_that_nobody_follows_any_more_gets_its_objects_back(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "LINGER_S", 0.0)
    node = await stage.node(handshake_timeout=100)
    client, name = await node.admit()
    assert not is_watched(node, name)
    async with watching(node, name) as viewer:
        await viewer.next()
        assert is_watched(node, name)
    await wait_until(lambda: not is_watched(node, name), "the objects to be swapped back")
    await client.send("hello")
    await stage.backend.take("PUT")
    assert (await node.rest("PUT", name, "hello")).status == 200
    assert await with_timeout(client.recv()) == "hello"


async def test_handshakes_are_watched_only_while_a_viewer_waits_for_them(stage: Stage) -> None:
    node = await stage.node()
    registry = node.gateway.sessions
    async with stream(node, "connects/events?count=1") as viewer:
        await viewer.next()
        assert registry.open_handshake is not OpeningHandshake
        _, name = await node.admit()
        assert registry.open_handshake is OpeningHandshake
        await viewer.until("state", connection=name)
        last = viewer.ids[-1]
    async with stream(node, "connects/events?count=1") as viewer:
        await viewer.next()
    await wait_until(lambda: registry.open_handshake is OpeningHandshake, "the viewer to be gone")
    # A viewer that comes back follows what it has followed before, and the next handshakes.
    client = await node.connect()
    async with stream(node, "connects/events?count=1", {"Last-Event-ID": last}) as viewer:
        await viewer.next()
        assert (await node.rest("PUT", name, "hello")).status == 200
        assert (await viewer.next())["kind"] == "push"
    await client.close()


async def test_a_viewer_that_does_not_read_loses_events_and_holds_up_nothing(stage: Stage) -> None:
    node = await stage.node()
    client, name = await node.admit()
    raw = await node.raw(receive=65536)
    raw.send(stream_request(name))
    await read_until(raw, b"event: hello")
    text = "x" * 16000
    for number in range(420):
        await client.send(f"{number} {text}")
    await stage.backend.wait(lambda: len(stage.backend.calls) > 420)
    data = await read_until(raw, b"event: lost")
    assert len(data) < 10 * 1024 * 1024
    await client.send("the last one")
    await read_until(raw, b"the last one")


async def test_a_viewer_that_never_reads_is_cut_off(stage: Stage) -> None:
    node = await stage.node(keep_alive_timeout=300)
    client, name = await node.admit()
    raw = await node.raw(receive=4096)
    raw.send(stream_request(name))
    await read_until(raw, b"event: hello")
    for _ in range(600):
        await client.send("x" * 16000)
    await wait_until(lambda: node.statistics.accepted_connections == 1, "the viewer to be gone")


async def test_the_stream_is_a_response_among_others(stage: Stage) -> None:
    node = await stage.node()
    client, name = await node.admit()
    raw = await node.raw()
    # A pipelined request waits for the end of the stream.
    raw.send(stream_request(name) + b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    head = await read_until(raw, b"event: hello")
    assert b"Transfer-Encoding: chunked\r\n" in head
    assert b"Content-Type: text/event-stream\r\n" in head
    await client.close()
    data = await read_until(raw, b'{"code":"OK"}')
    assert data.index(b"event: end") < data.index(b"0\r\n\r\nHTTP/1.1 200 OK")
    raw.close()


async def test_http_1_0_has_no_chunks(stage: Stage) -> None:
    node = await stage.node()
    client, name = await node.admit()
    raw = await node.raw()
    raw.send(stream_request(name, "1.0", "Connection: keep-alive"))
    head = await read_until(raw, b"event: hello")
    assert b"Connection: close\r\n" in head
    assert b"chunked" not in head
    await client.close()
    assert (await raw.rest()).endswith(b"\n\n")


async def test_a_comment_is_sent_when_nothing_happens(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewer_stream, "KEEP_ALIVE_S", 0.05)
    # The time-out between two requests does not end a stream.
    node = await stage.node(keep_alive_timeout=100)
    client, name = await node.admit()
    async with watching(node, name) as viewer:
        await viewer.next()
        begun = time.monotonic()
        reading = asyncio.ensure_future(viewer.until("frame"))
        await wait_until(lambda: viewer.comments >= 3, "comments")
        assert time.monotonic() - begun >= 0.1
        await client.send("hello")
        await reading


async def test_a_drain_ends_the_streams(stage: Stage) -> None:
    node = await stage.node()
    _, name = await node.admit()
    async with watching(node, name) as viewer, stream(node, "connects/events") as other:
        await viewer.next()
        await other.next()
        await node.drain()
        events = await viewer.rest()
        await other.rest()
    assert ("CLOSING", "going away") in [(event.get("state"), event.get("reason")) for event in events]


async def test_a_connection_that_is_reset_ends_with_its_delete(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    name = (await stage.backend.take("POST")).client
    async with watching(node, name) as viewer:
        await viewer.next()
        raw.reset()
        events = await viewer.rest()
    assert [event["kind"] for event in events[1:]] == ["state", "request", "response", "end"]
    assert events[1]["reason"] == "client lost"


async def test_retries_are_shown_with_their_attempts(stage: Stage) -> None:
    stage.backend.hold("PUT")
    node = await stage.node()
    client, name = await node.admit()
    async with watching(node, name) as viewer:
        await viewer.next()
        await client.send(b"\x01\x02")
        (await stage.backend.take("PUT")).answer(500, "oops")
        assert (await viewer.until("frame"))["body"] == {"base64": "AQI=", "size": 2, "truncated": False}
        failed = await viewer.until("response")
        assert (failed["attempt"], failed["status"], failed["result"]) == (1, 500, "error")
        assert failed["body"]["text"] == "oops"
        assert 0 <= failed["retry_in_ms"] <= 200
        call = await stage.backend.take("PUT")
        assert (await viewer.until("request"))["attempt"] == 2
        call.answer(400)
        refused = await viewer.until("response")
        assert (refused["attempt"], refused["result"], refused["retry_in_ms"]) == (2, "refused", None)
        close = await viewer.until("frame", direction="out")
        assert (close["code"], close["cause"]) == (1011, "gateway")
        assert (await viewer.until("state"))["reason"] == "message not delivered"


async def test_a_backend_that_cannot_be_reached_is_shown(stage: Stage) -> None:
    node = await stage.node(api_uri=f"127.0.0.1:{free_port()}/hook", backend=None)
    async with stream(node, "connects/events?count=1") as viewer:
        await viewer.next()
        raw = await node.raw()
        raw.send(upgrade("/"))
        assert (await raw.answer()).status == 503
        failed = await viewer.until("response")
        assert failed["failure"].startswith("cannot be reached")
        assert failed["result"] == "unreachable"
        assert (await viewer.until("refused"))["status"] == 503
        await viewer.rest()
    assert viewer.kinds[-1] == "end"
    content = await ask(node, "node")
    assert content["backend"]["state"] == "down"
    assert content["backend"]["since"] <= content["now"]
    assert content["problems"][0]["severity"] == "error"


async def test_a_client_that_the_backend_refuses_is_shown(stage: Stage) -> None:
    stage.backend.hold("POST")
    node = await stage.node()
    async with stream(node, "connects/events?count=1") as viewer:
        await viewer.next()
        raw = await node.raw()
        raw.send(upgrade("/"))
        (await stage.backend.take("POST")).answer(200, '{"code": "NO"}')
        assert (await raw.answer()).status == 403
        events = await viewer.rest()
    assert [event["kind"] for event in events[1:]] == ["handshake", "request", "response", "refused", "state", "end"]
    assert (events[4]["status"], events[4]["code"]) == (403, "FORBIDDEN")


async def test_a_message_that_is_pushed_before_the_101_is_shown(stage: Stage) -> None:
    stage.backend.hold("POST")
    node = await stage.node(compression="on")
    async with stream(node, "connects/events?count=1") as viewer:
        await viewer.next()
        connecting = asyncio.ensure_future(node.connect())
        call = await stage.backend.take("POST")
        assert (await node.rest("PUT", call.client, "early")).status == 200
        assert (await node.rest("PUT", call.client, "e" * 1000)).status == 200
        call.ok()
        client = await connecting
        assert (await viewer.until("opened"))["compression"] is True
        for text in ("early", "e" * 1000):
            assert await with_timeout(client.recv()) == text
            out = await viewer.until("frame")
            assert (out["cause"], out["body"]["text"]) == ("push", text)


async def test_a_watch_may_begin_while_the_backend_decides(stage: Stage) -> None:
    stage.backend.hold("POST")
    node = await stage.node()
    connecting = asyncio.ensure_future(node.connect(subprotocols=["chat", "bearer.s3cret"]))
    call = await stage.backend.take("POST")
    async with watching(node, call.client) as viewer:
        assert (await viewer.next())["connection"]["state"] == "CONNECTING"
        call.answer(200, '{"code": "OK", "subprotocol": "bearer.s3cret"}')
        client = await connecting
        assert (await viewer.until("opened"))["subprotocol"] == "•••"
        await client.send("hello")
        await viewer.until("frame", direction="in")


async def test_publishes_and_control_frames_are_shown(stage: Stage) -> None:
    node = await stage.node(compression="on")
    client, name = await node.admit()
    text = "hello " * 100
    async with watching(node, name) as viewer:
        await viewer.next()
        assert (await node.rest("PUT", "/connections", text)).status == 200
        shared = await viewer.until("frame")
        assert (shared["cause"], shared["body"]["text"], shared["size"]) == ("publish", text, 600)
        body = f'{{"to": ["{name}", "{name}"], "text": "{text}"}}'
        assert (await node.rest("POST", "/send", body)).json["sent"] == 2
        for _ in range(2):
            assert (await viewer.until("frame"))["body"]["text"] == text
        await client.ping("here")
        for direction, opcode in (("in", "ping"), ("out", "pong")):
            ping = await viewer.until("frame", opcode=opcode)
            assert (ping["direction"], ping["body"]["text"]) == (direction, "here")
        await client.pong()
        await viewer.until("frame", opcode="pong", direction="in")
        assert (await node.rest("DELETE", name, '{"code": 4001, "reason": "bye"}')).status == 200
        close = await viewer.until("frame", opcode="close")
        assert (close["code"], close["reason"], close["cause"]) == (4001, "bye", "gateway")
        assert (await viewer.until("push"))["method"] == "DELETE"
        await viewer.until("state", state="CLOSED")


async def test_a_push_that_is_refused_is_shown(stage: Stage) -> None:
    node = await stage.node()
    _, name = await node.admit()
    async with watching(node, name) as viewer:
        await viewer.next()
        assert (await node.rest("PUT", name, b"\xff", Content_Type="text/plain")).status == 400
        push = await viewer.until("push")
        assert (push["status"], push["code"], push["size"]) == (400, "BAD_TEXT", None)


async def test_a_client_that_breaks_the_protocol_is_shown(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    name = (await stage.backend.take("POST")).client
    async with watching(node, name) as viewer:
        await viewer.next()
        raw.send(frame(BINARY, b"unmasked", masked=False))
        violation = await viewer.until("state")
        assert violation["code"] == 1002
        assert (await viewer.until("frame", direction="out"))["code"] == 1002
        assert (await viewer.until("state"))["reason"] == "protocol violation"


async def test_a_paused_client_is_shown(stage: Stage) -> None:
    stage.backend.hold("PUT")
    node = await stage.node(inbox=1024)
    client, name = await node.admit()
    async with watching(node, name) as viewer:
        await viewer.next()
        for _ in range(4):
            await client.send("x" * 500)
        assert (await viewer.until("state"))["paused"] is True
        content = await ask(node, "node")
        assert content["problems"][0]["text"] == "1 client is paused: the backend is slow."
        stage.backend.release()
        assert (await viewer.until("state"))["paused"] is False


async def test_the_ring_keeps_the_latest_events(stage: Stage) -> None:
    node = await stage.node()
    client, name = await node.admit()
    async with watching(node, name) as viewer:
        await viewer.next()
        for _ in range(400):
            await client.send("hello")
        await stage.backend.wait(lambda: len(stage.backend.calls) > 400)
        while viewer.kinds.count("response") < 400:
            await viewer.next()
    async with watching(node, name) as viewer:
        await viewer.next()
        assert (await viewer.next()) == {"kind": "lost", "count": 200}
        for _ in range(1000):
            await viewer.next()
        assert viewer.ids[-1] == "1200"


async def test_a_request_is_replayed(stage: Stage) -> None:
    node = await stage.node(api_secret="whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz")
    client, name = await node.admit(additional_headers={"Authorization": "Bearer abc"})
    async with watching(node, name) as viewer:
        await viewer.next()
        await client.send("hello")
        request = await viewer.until("request")
        original = await stage.backend.take("PUT")
        await viewer.until("response")
        stage.backend.hold("PUT")
        path = f"/console/api/connections/{name}/replay"
        asking = asyncio.ensure_future(node.rest("POST", path, f'{{"seq": {request["seq"]}}}'))
        call = await stage.backend.take("PUT")
        assert call.body == b"hello"
        assert call.headers["ce-id"] == f"{name}:1:replay-1"
        assert call.headers["authorization"] == "Bearer abc"
        changed = {key for key in call.headers if call.headers[key] != original.headers.get(key)}
        assert changed - {"webhook-timestamp"} == {"ce-id", "ws-replay", "webhook-id", "webhook-signature"}
        assert call.headers.keys() - {"ws-replay"} == original.headers.keys()
        call.answer(200, "not sent to the client", Ws_Reply="text", Set_Cookie="a=b")
        answer = (await asking).json
        assert (answer["status"], answer["body"]["text"]) == (200, "not sent to the client")
        assert dict(answer["headers"])["set-cookie"] == "•••"
        assert answer["took_ms"] >= 0
        assert (await node.rest("POST", path, '{"seq": 0}')).status == 404
        for wrong in ("", "[]", '{"seq": "1"}', '{"seq": true}'):
            assert (await node.rest("POST", path, wrong)).status == 400
        body = f'{{"seq": {request["seq"]}}}'
        waiting = [asyncio.ensure_future(node.rest("POST", path, body)) for _ in range(4)]
        calls = [await stage.backend.take("PUT") for _ in range(4)]
        assert (await node.rest("POST", path, body)).status == 429
        for call in calls:
            call.send(b"no HTTP\r\n\r\n")
        for each in waiting:
            assert (await each).json["failure"].startswith("did not answer in valid HTTP")
    other = (await node.admit())[1]
    assert (await node.rest("POST", f"/console/api/connections/{other}/replay", body)).status == 404
