"""Tokens of browsers: the backend gets them as `Authorization` with each request, and nobody else gets them."""

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import websockets
from websockets.typing import Subprotocol

from tests.support.clients import upgrade
from tests.support.console import stream
from tests.support.stage import Node, Stage
from tests.support.waiting import wait_until, with_timeout

TOKEN = "s3cr.et-t0ken_1"
PLACES = "query:access_token,subprotocol:bearer.,cookie:session"
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "query": (f"/room?access_token={TOKEN}&nick=ada", {"subprotocols": [Subprotocol("chat")]}),
    "subprotocol": ("/room?nick=ada", {"subprotocols": [Subprotocol(f"bearer.{TOKEN}"), Subprotocol("chat")]}),
    "cookie": (
        "/room?nick=ada",
        {"subprotocols": [Subprotocol("chat")], "additional_headers": {"Cookie": f"session={TOKEN}; theme=dark"}},
    ),
}


async def known(node: Node, name: str) -> str:
    """Return all that the REST API tells about a client."""
    listed, information = await node.rest("GET", "connections"), await node.information(name)
    return f"{listed.body!r} {json.dumps(information)}"


@pytest.mark.parametrize("way", WAYS)
async def test_the_token_is_the_authorization_of_all_requests_and_is_shown_nowhere_else(stage: Stage, way: str) -> None:
    node = await stage.node(browser_authorization=PLACES, log_level="DEBUG", subprotocols="chat")
    path, options = WAYS[way]
    async with stream(node, "connects/events?count=1") as viewer:
        await viewer.next()
        client, name = await node.admit(path, **options)
        await client.send("hello")
        put = await stage.backend.take("PUT")
        await viewer.until("response", ce_id=f"{name}:1")
        assert viewer.kinds[:3] == ["hello", "handshake", "request"]
        assert TOKEN not in json.dumps(viewer.events)
    post = stage.backend.of(name)[0]
    assert client.subprotocol == "chat"
    request = post.json["request"]
    assert (request["path"], request["query"], request["subprotocols"]) == ("/room", "nick=ada", ["chat"])
    assert request["headers"].get("sec-websocket-protocol") == "chat"
    assert request["headers"].get("cookie") == ("theme=dark" if way == "cookie" else None)
    assert TOKEN not in await known(node, name)
    await client.close()
    delete = await stage.backend.take("DELETE")
    for call in (post, put, delete):
        assert call.headers["authorization"] == f"Bearer {TOKEN}"
        del call.headers["authorization"]
        assert TOKEN not in f"{call.target} {call.headers} {call.body!r}"
    assert not [record for record in stage.logged if TOKEN in record.getMessage()]


async def test_aiohttp_with_a_cookie(stage: Stage) -> None:
    node = await stage.node(browser_authorization=PLACES)
    cookies = {"session": TOKEN, "theme": "dark"}
    async with (
        aiohttp.ClientSession(cookies=cookies, cookie_jar=aiohttp.CookieJar(unsafe=True)) as http,
        http.ws_connect(f"ws://127.0.0.1:{node.port}/", protocols=("chat",)),
    ):
        post = await stage.backend.take("POST")
    assert post.headers["authorization"] == f"Bearer {TOKEN}"
    assert post.json["request"]["headers"]["cookie"] == "theme=dark"
    assert TOKEN not in post.body.decode()


async def test_a_client_that_offers_nothing_but_its_token_gets_no_subprotocol(stage: Stage) -> None:
    node = await stage.node(browser_authorization="subprotocol:bearer.")
    client, _ = await node.admit(subprotocols=[Subprotocol(f"bearer.{TOKEN}")])
    assert client.subprotocol is None
    assert stage.backend.calls[-1].json["request"]["subprotocols"] == []
    assert client.response is not None
    assert "Sec-WebSocket-Protocol" not in client.response.headers


async def test_the_backend_cannot_choose_the_token_as_subprotocol(stage: Stage) -> None:
    node = await stage.node(browser_authorization="subprotocol:bearer.")
    stage.backend.on["POST"] = lambda call: call.ok(subprotocol=f"bearer.{TOKEN}")
    with pytest.raises(websockets.InvalidStatus, match="502"):
        await node.connect(subprotocols=[Subprotocol(f"bearer.{TOKEN}"), Subprotocol("chat")])
    assert not [record for record in stage.logged if TOKEN in record.getMessage()]


async def test_the_token_survives_a_crash_in_the_journal(stage: Stage, tmp_path: Path) -> None:
    stage.expected_errors = ["left for the next start"]
    node = await stage.node(browser_authorization=PLACES, journal=tmp_path / "journal")
    stage.backend.hold("DELETE")
    client, name = await node.admit(f"/?access_token={TOKEN}")
    await client.close()
    await stage.backend.take("DELETE", client=name)
    node.gateway.hurry()
    await node.drain()
    stage.backend.release()
    again = await stage.node(journal=tmp_path / "journal")
    await wait_until(lambda: stage.backend.count("DELETE") == 2)
    await wait_until(lambda: not again.statistics.recovered_disconnects_owed)
    assert [call.headers["authorization"] for call in stage.backend.of(name)] == [f"Bearer {TOKEN}"] * 3


async def test_an_authorization_header_comes_first(stage: Stage) -> None:
    node = await stage.node(browser_authorization=PLACES)
    await node.connect("/?access_token=other", additional_headers={"Authorization": "Basic abc", "Cookie": "session=x"})
    post = await stage.backend.take("POST")
    assert post.headers["authorization"] == "Basic abc"
    assert post.json["request"]["query"] == "access_token=other"
    assert post.json["request"]["headers"]["cookie"] == "session=x"


async def test_without_the_setting_a_token_stays_where_it_is(stage: Stage) -> None:
    node = await stage.node()
    await node.connect(f"/?access_token={TOKEN}")
    post = await stage.backend.take("POST")
    assert "authorization" not in post.headers
    assert post.json["request"]["query"] == f"access_token={TOKEN}"


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (
            "access_token=s3cr&access_token=b",
            "There is more than one token: send the query parameter access_token once.",
        ),
        ("access_token=s3cr%0d%0aX-Admin:%201", "The token in the query parameter access_token may only have visible"),
    ],
)
async def test_an_unusable_token_is_refused_with_400(stage: Stage, query: str, message: str) -> None:
    node = await stage.node(browser_authorization=PLACES)
    raw = await node.raw()
    raw.send(upgrade(f"/?{query}"))
    answer = await with_timeout(raw.answer())
    assert answer.status == 400
    assert answer.json["message"].startswith(message)
    assert stage.backend.calls == []
    logged = [f"{record.getMessage()} {record.args}" for record in stage.logged]
    assert any(message in line for line in logged)
    assert not [line for line in logged if "s3cr" in line]
