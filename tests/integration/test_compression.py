"""Deflated messages (RFC 7692) with clients that offer them: `websockets` and `aiohttp`; for Node see test_tools.py."""

from typing import Any

import aiohttp
import pytest
import websockets
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from tests.support.backend import Call
from tests.support.clients import RawClient, upgrade
from tests.support.frames import TEXT, close_frame, frame
from tests.support.stage import Stage
from tests.support.waiting import with_timeout
from wsaas.websocket.deflate import deflate

ANSWER = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
LINES = [f'{{"line": {number}, "text": "lorem ipsum dolor sit amet"}}' for number in range(30)]


def echo(call: Call) -> None:
    call.answer(200, call.body, Ws_Reply="text" if call.headers["content-type"].startswith("text/") else "binary")


@pytest.mark.parametrize(
    "offer",
    [
        {},
        {"server_max_window_bits": 9, "client_max_window_bits": 9},
        {"server_no_context_takeover": True, "client_no_context_takeover": True},
        {"server_max_window_bits": 15, "client_max_window_bits": True},
    ],
)
async def test_websockets_deflates_both_ways(stage: Stage, offer: dict[str, Any]) -> None:
    stage.backend.on["PUT"] = echo
    node = await stage.node(compression="on")
    client, name = await node.admit(compression=None, extensions=[ClientPerMessageDeflateFactory(**offer)])
    assert client.response is not None
    assert client.response.headers["Sec-WebSocket-Extensions"].startswith(ANSWER)
    messages: list[str | bytes] = [*LINES, "".join(LINES), b"\0" * 1_000_000, "", "🎉" * 100, bytes(range(256))]
    for message in messages:
        await client.send(message)
        assert await with_timeout(client.recv()) == message
    await client.send(LINES)
    assert await with_timeout(client.recv()) == "".join(LINES)
    information = await node.information(name)
    assert information["bytes_in"] == information["bytes_out"]


async def test_aiohttp_deflates_both_ways(stage: Stage) -> None:
    stage.backend.on["PUT"] = echo
    node = await stage.node(compression="on")
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"http://127.0.0.1:{node.port}/", compress=15) as socket,
    ):
        assert socket.compress
        for line in LINES:
            await socket.send_str(line * 10)
            assert (await with_timeout(socket.receive())).data == line * 10


async def test_a_push_before_the_answer_to_the_post_is_deflated_too(stage: Stage) -> None:
    node = await stage.node(compression="on")

    async def greet(call: Call) -> None:
        assert (await node.rest("PUT", call.client, "hello " * 100)).status == 200
        call.ok()

    stage.backend.on["POST"] = greet
    client = await node.connect(compression="deflate")
    assert await with_timeout(client.recv()) == "hello " * 100


async def upgraded(stage: Stage, offer: str, **settings: str) -> tuple[RawClient, dict[str, str]]:
    node = await stage.node(**settings)
    raw = await node.raw()
    raw.send(upgrade("/", f"Sec-WebSocket-Extensions: {offer}"))
    answer = await raw.answer()
    return raw, {name.lower(): value for name, value in answer.headers.items()}


async def test_without_the_setting_compression_is_not_negotiated(stage: Stage) -> None:
    raw, headers = await upgraded(stage, "permessage-deflate")
    assert "sec-websocket-extensions" not in headers
    raw.send(frame(TEXT, deflate(b"x"), reserved=4))
    assert (await raw.closing())[0] == 1002


async def test_a_decompression_bomb_is_answered_with_1009(stage: Stage) -> None:
    raw, headers = await upgraded(stage, "permessage-deflate", compression="on", max_message_size="100000")
    assert headers["sec-websocket-extensions"] == ANSWER
    raw.send(frame(TEXT, deflate(b"x" * 100_001), reserved=4))
    assert (await raw.closing())[0] == 1009
    assert (await stage.backend.take("DELETE")).json["code"] == 1009


async def test_invalid_deflate_data_is_answered_with_1007(stage: Stage) -> None:
    raw, _ = await upgraded(stage, "permessage-deflate", compression="on")
    raw.send(frame(TEXT, b"\xff\xff", reserved=4))
    assert (await raw.closing())[0] == 1007
    assert (await stage.backend.take("DELETE")).json["reason"].startswith("deflated data that cannot be inflated")


async def test_a_short_message_is_sent_as_it_is(stage: Stage) -> None:
    raw, _ = await upgraded(stage, "permessage-deflate", compression="on")
    stage.backend.on["PUT"] = echo
    raw.send(frame(TEXT, deflate(b"short"), reserved=4))
    assert await raw.frame() == (TEXT, b"short")
    raw.send(close_frame(1000))
    assert (await raw.closing())[0] == 1000


async def test_a_malformed_offer_is_refused(stage: Stage) -> None:
    node = await stage.node(compression="on")
    with pytest.raises(websockets.InvalidStatus) as refused:
        await node.connect(compression=None, additional_headers={"Sec-WebSocket-Extensions": "permessage-deflate; ="})
    assert refused.value.response.status_code == 400
