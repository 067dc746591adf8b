"""Messages and pushes arrive complete and unchanged."""

import asyncio
import gzip
from base64 import b64encode

import pytest

from tests.support.backend import Call
from tests.support.frames import BINARY, CLOSE, PING, PONG, TEXT, close_frame, frame
from tests.support.stage import Stage, received_close
from tests.support.waiting import wait_until, with_timeout
from wsaas.backend import verify

MIB = 1024 * 1024
SECRET = f"whsec_{b64encode(bytes(range(32))).decode()}"


@pytest.mark.parametrize("message", ["hello", "", "Grüße, 世界 🎉", "x" * 125, "x" * 126, "x" * 65535, "x" * 65536])
async def test_text_both_ways(stage: Stage, message: str) -> None:
    node = await stage.node()
    client, name = await node.admit()
    await client.send(message)
    put = await stage.backend.take("PUT")
    assert put.text == message
    assert put.headers["content-type"] == "text/plain; charset=utf-8"
    assert (await node.rest("PUT", name, message, Content_Type="text/plain; charset=utf-8")).status == 200
    assert await with_timeout(client.recv()) == message


async def test_text_has_the_content_type_of_the_setting_also_when_it_is_sent_again(stage: Stage) -> None:
    node = await stage.node(text_content_type="application/json", api_secret=SECRET)
    client, _ = await node.admit()
    stage.backend.on["PUT"] = lambda call: call.answer(503)
    await client.send('{"a": 1}')
    first = await stage.backend.take("PUT")
    stage.backend.on["PUT"] = Call.ok
    again = await stage.backend.take("PUT")
    for put in (first, again):
        assert (put.body, put.headers["content-type"]) == (b'{"a": 1}', "application/json")
        verify(put.headers, put.body, SECRET)
    await client.send(b"{}")
    assert (await stage.backend.take("PUT")).headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize("compression", ["off", "on"])
async def test_the_gateway_answers_a_heartbeat_while_a_message_is_at_the_backend(
    stage: Stage, compression: str
) -> None:
    ping, pong = '{"type": "ping", "padding": "................................"}', "pong " * 20
    node = await stage.node(compression=compression, heartbeat=f"{ping}={pong}")
    client, name = await node.admit()
    stage.backend.hold("PUT")
    await client.send("first")
    await stage.backend.take("PUT")
    await client.send(ping)
    assert await with_timeout(client.recv()) == pong
    information = await node.information(name)
    assert (information["messages_in"], information["messages_out"]) == (1, 0)
    assert stage.backend.count("PUT") == 1


@pytest.mark.parametrize("message", [b"", b"\0\xff\xfe", bytes(range(256)) * 300])
async def test_binary_both_ways(stage: Stage, message: bytes) -> None:
    node = await stage.node()
    client, name = await node.admit()
    await client.send(message)
    put = await stage.backend.take("PUT")
    assert put.body == message
    assert put.headers["content-type"] == "application/octet-stream"
    assert (await node.rest("PUT", name, message, Content_Type="application/octet-stream")).status == 200
    assert await with_timeout(client.recv()) == message


async def test_one_mebibyte_both_ways(stage: Stage) -> None:
    node = await stage.node()
    client, name = await node.admit(max_size=None)
    message = bytes(range(256)) * 4096
    assert len(message) == MIB
    await client.send(message)
    assert (await stage.backend.take("PUT")).body == message
    assert (await node.rest("PUT", name, message, Content_Type="image/png")).status == 200
    assert await with_timeout(client.recv()) == message
    assert stage.backend.calls[1].headers["content-length"] == str(MIB)


async def test_a_message_over_the_limit_closes_with_1009(stage: Stage) -> None:
    node = await stage.node(max_message_size=1000)
    client, name = await node.admit()
    await client.send("x" * 1000)
    assert len((await stage.backend.take("PUT")).body) == 1000
    await client.send("x" * 1001)
    assert (await received_close(client))[0] == 1009
    delete = await stage.backend.take("DELETE")
    assert delete.json["code"] == 1009
    assert [call.method for call in stage.backend.of(name)] == ["POST", "PUT", "DELETE"]


async def test_a_message_is_too_large_by_the_sum_of_its_fragments(stage: Stage) -> None:
    node = await stage.node(max_message_size=1000)
    raw = await node.upgraded()
    raw.send(frame(TEXT, b"x" * 600, fin=False) + frame(0, b"x" * 401))
    assert (await raw.closing())[0] == 1009


async def test_a_declared_length_over_the_limit_is_refused_before_the_payload(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    raw.send(b"\x82\xff" + (1 << 40).to_bytes(8, "big") + b"\0\0\0\0")
    assert (await raw.closing())[0] == 1009
    raw.close()
    await stage.backend.take("DELETE")


async def test_fragments_arrive_as_one_message(stage: Stage) -> None:
    node = await stage.node()
    client, _ = await node.admit()
    await client.send(["frag", "men", "", "ted ü"])
    assert (await stage.backend.take("PUT")).text == "fragmented ü"
    await client.send([b"\0\1", b"\xff"])
    put = await stage.backend.take("PUT")
    assert put.body == b"\0\1\xff"
    assert put.headers["content-type"] == "application/octet-stream"


async def test_control_frames_may_come_between_fragments(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    raw.send(frame(TEXT, b"Gr\xc3", fin=False) + frame(PING, b"?") + frame(0, b"\xbc", fin=False))
    assert await raw.frame() == (PONG, b"?")
    raw.send(frame(PONG) + frame(0, b"n"))
    assert (await stage.backend.take("PUT")).text == "Grün"


async def test_frames_may_be_cut_anywhere(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    await raw.send_slowly(frame(TEXT, b"one") + frame(BINARY, b"2" * 200) + frame(PING, b"3") + frame(TEXT, b""))
    assert [(await stage.backend.take("PUT")).body for _ in range(3)] == [b"one", b"2" * 200, b""]
    assert await raw.frame() == (PONG, b"3")


async def test_many_frames_in_one_read(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    raw.send(b"".join(frame(TEXT, b"%d" % number) for number in range(200)))
    for number in range(200):
        assert (await stage.backend.take("PUT")).body == b"%d" % number


async def test_pings_are_answered_with_their_payload(stage: Stage) -> None:
    node = await stage.node()
    client, _ = await node.admit()
    await with_timeout(await client.ping(b"payload"))
    raw = await node.upgraded()
    raw.send(frame(PING) + frame(PING, b"x" * 125) + frame(PONG, b"nobody asked"))
    assert await raw.frame() == (PONG, b"")
    assert await raw.frame() == (PONG, b"x" * 125)


async def test_a_ping_and_a_close_do_not_wait_for_the_backend(stage: Stage) -> None:
    node = await stage.node()
    stage.backend.hold("PUT")
    raw = await node.upgraded()
    raw.send(frame(TEXT, b"slow"))
    put = await stage.backend.take("PUT")
    raw.send(frame(PING, b"!") + close_frame(4000, "bye"))
    assert await raw.frame() == (PONG, b"!")
    assert await raw.closing() == (4000, "bye")
    await raw.end()
    assert stage.backend.count("DELETE") == 0
    put.ok()
    delete = await stage.backend.take("DELETE")
    assert delete.json["code"] == 4000
    assert delete.json["reason"] == "bye"


async def test_pushes_arrive_in_the_order_of_their_requests(stage: Stage) -> None:
    node = await stage.node()
    client, name = await node.admit()

    async def push() -> None:
        for number in range(100):
            assert (await node.rest("PUT", name, str(number))).status == 200

    pushing = asyncio.ensure_future(push())
    assert [await with_timeout(client.recv()) for _ in range(100)] == [str(number) for number in range(100)]
    await pushing


async def test_counters_count_messages_and_bytes(stage: Stage) -> None:
    stage.backend.on["PUT"] = lambda call: call.answer(200, "reply", Ws_Reply="text")
    node = await stage.node()
    client, name = await node.admit()
    await client.send("12345")
    await client.send(b"123")
    assert [await with_timeout(client.recv()) for _ in range(2)] == ["reply", "reply"]
    await node.rest("PUT", name, "1234567")
    assert await with_timeout(client.recv()) == "1234567"
    information = await node.information(name)
    assert (information["messages_in"], information["bytes_in"]) == (2, 8)
    assert (information["messages_out"], information["bytes_out"]) == (3, 17)
    await client.close()
    delete = await stage.backend.take("DELETE")
    assert (delete.json["messages_in"], delete.json["messages_out"]) == (2, 3)


@pytest.mark.parametrize(("kind", "body"), [("text", "Grüße".encode()), ("binary", b"\0\xff"), ("TEXT", b"")])
async def test_a_reply_is_sent_to_the_client(stage: Stage, kind: str, body: bytes) -> None:
    stage.backend.on["PUT"] = lambda call: call.answer(200, body, Ws_Reply=kind)
    node = await stage.node()
    raw = await node.upgraded()
    raw.send(frame(TEXT, b"?"))
    assert await raw.frame() == (BINARY if kind == "binary" else TEXT, body)


async def test_replies_arrive_in_order_and_only_with_the_header(stage: Stage) -> None:
    def reply(call: Call) -> None:
        if call.text == "quiet":
            call.answer(200, "not for the client")
        else:
            call.answer(202, call.text.upper(), Ws_Reply="text")

    stage.backend.on["PUT"] = reply
    node = await stage.node()
    client, _ = await node.admit()
    for message in ("a", "quiet", "b", "c"):
        await client.send(message)
    assert [await with_timeout(client.recv()) for _ in range(3)] == ["A", "B", "C"]


@pytest.mark.parametrize(
    ("kind", "body"), [("text", b"\xff"), ("json", b"{}"), ("binary", b"x" * 1001), ("text", b"x" * 1001)]
)
async def test_a_reply_that_cannot_be_sent_ends_the_client_with_1011(stage: Stage, kind: str, body: bytes) -> None:
    stage.backend.on["PUT"] = lambda call: call.answer(200, body, Ws_Reply=kind)
    node = await stage.node(max_message_size=1000)
    client, _ = await node.admit()
    await client.send("?")
    assert (await received_close(client))[0] == 1011
    assert (await stage.backend.take("DELETE")).json["code"] == 1011
    assert stage.backend.count("PUT") == 1


@pytest.mark.parametrize("kind", ["text", "binary"])
async def test_a_compressed_reply_never_reaches_the_client(stage: Stage, kind: str) -> None:
    # Some frameworks and proxies compress whatever Accept-Encoding says.
    body = gzip.compress(b"hello")
    stage.backend.on["PUT"] = lambda call: call.answer(200, body, Ws_Reply=kind, Content_Encoding="gzip")
    node = await stage.node()
    client, _ = await node.admit()
    await client.send("?")
    assert (await received_close(client))[0] == 1011
    assert "Content-Encoding gzip" in stage.messages()[-1]
    assert {call.headers["accept-encoding"] for call in stage.backend.calls} == {"identity"}


OK_BODY = b'{"code":"OK"}'
LOOSE = {
    "a folded header": (b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: %d\r\n%b\r\n%b", True),
    "a space before a colon": (b"HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: %d\r\n%b\r\n%b", True),
    "two equal lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%b\r\n%b", True),
    "spaces behind a size": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n%b\r\n%x  \r\n%b\r\n0 \r\n\r\n", True),
    "lines that end with LF alone": (b"HTTP/1.1 200 OK\nContent-Length: %d\n%b\n%b", False),
    "chunks of HTTP/1.0": (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n", False),
}


def written(form: bytes, header: bytes, body: bytes) -> bytes:
    """Return a response in `form`, one of the values of `LOOSE`."""
    if b"%x" in form:
        return form % (header, len(body), body)
    return form % (len(body), header, body)


@pytest.mark.parametrize("what", LOOSE)
async def test_a_response_with_a_common_deviation_from_http_is_understood(stage: Stage, what: str) -> None:
    form, is_kept = LOOSE[what]
    header = b"Content-Length: 13\r\n" if what == "two equal lengths" else b""
    stage.backend.on["POST"] = lambda call: call.send(written(form, header, OK_BODY))
    reply = b"\xe2\x82\xac 13 bytes!!"[:13]
    end = b"\n" if b"OK\n" in form else b"\r\n"
    stage.backend.on["PUT"] = lambda call: call.send(written(form, header + b"Ws-Reply : text" + end, reply))
    node = await stage.node()
    client, name = await node.admit()
    for _ in range(2):
        await client.send("?")
        assert await with_timeout(client.recv()) == reply.decode()
    connections = {id(call.connection) for call in stage.backend.of(name)}
    assert len(connections) == (1 if is_kept else 3)


async def test_a_byte_order_mark_before_the_answer_is_ignored(stage: Stage) -> None:
    stage.backend.on["POST"] = lambda call: call.answer(200, b"\xef\xbb\xbf" + OK_BODY)
    node = await stage.node()
    client, _ = await node.admit()
    await client.send("hello")
    assert (await stage.backend.take("PUT")).text == "hello"


async def test_a_reply_to_a_client_that_is_gone_is_dropped(stage: Stage) -> None:
    node = await stage.node()
    stage.backend.hold("PUT")
    client, _ = await node.admit()
    await client.send("?")
    put = await stage.backend.take("PUT")
    await client.close()
    put.answer(200, "late", Ws_Reply="text")
    assert (await stage.backend.take("DELETE")).json["messages_out"] == 0


async def test_messages_behind_a_close_are_ignored(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    raw.send(close_frame(1000) + frame(TEXT, b"late") + frame(PING))
    assert (await raw.closing())[0] == 1000
    await raw.end()
    await stage.backend.take("DELETE")
    assert stage.backend.count("PUT") == 0


@pytest.mark.slow
async def test_65536_fragments_are_one_message(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    raw.send(frame(BINARY, b"a", fin=False) + frame(0, b"b", fin=False) * 65534 + frame(0, b"c"))
    assert (await stage.backend.take("PUT")).body == b"a" + b"b" * 65534 + b"c"


async def test_information_has_last_seen_and_the_inbox(stage: Stage) -> None:
    node = await stage.node()
    stage.backend.hold("PUT")
    client, name = await node.admit("/p?q=1")
    for _ in range(3):
        await client.send("x" * 1000)
    put = await stage.backend.take("PUT")
    await wait_until(lambda: node.session(name).info.messages_in == 3)
    information = await node.information(name)
    assert information["inbox"] >= 2000
    assert (information["id"], information["ws_uri"], information["state"]) == (
        name,
        f"127.0.0.1:{node.port}/{name}",
        "open",
    )
    assert (information["path"], information["query"], information["remote_address"]) == ("/p", "q=1", "127.0.0.1")
    assert information["context"] is None
    assert information["connected_at"] <= information["last_seen_at"]
    stage.backend.on["PUT"] = Call.ok
    put.ok()
    await stage.backend.wait(lambda: stage.backend.count("PUT") == 3)
    await wait_until(lambda: node.session(name).outbox.level == 0)


async def test_the_gateway_sends_only_control_frames_on_its_own(stage: Stage) -> None:
    node = await stage.node(ws_timeout=400)
    raw = await node.upgraded()
    assert await raw.frame() == (PING, b"")
    raw.send(frame(PONG))
    assert await raw.frame() == (PING, b"")
    raw.send(frame(CLOSE))
    assert (await raw.closing())[0] == 1005
    await raw.end()
    assert (await stage.backend.take("DELETE")).json["code"] == 1005
