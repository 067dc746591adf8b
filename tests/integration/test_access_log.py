"""The access log of a gateway with real clients: one line for each connection and for each refused handshake."""

from typing import Any

import pytest
import websockets

from tests.support.clients import upgrade
from tests.support.exposition import Exposition
from tests.support.stage import Stage
from tests.support.waiting import wait_until, with_timeout


def events(stage: Stage) -> list[dict[str, Any]]:
    """Return the fields of the lines of the access log."""
    found = [record.args for record in stage.logged if isinstance(record.args, dict)]
    return [fields for fields in found if fields.get("event") in {"closed", "refused", "abandoned"}]


async def test_a_connection_is_logged_when_it_has_ended(stage: Stage) -> None:
    node = await stage.node()
    client, name = await node.admit("/chat?token=s3cret")
    await client.send("hello")
    await stage.backend.take("PUT")
    assert (await node.rest("PUT", f"groups/all/connections/{name}")).status == 200
    assert (await node.rest("PUT", "groups/all", "hi")).status == 200
    assert (await node.rest("PUT", name, "hi")).status == 200
    await client.close(4000, "s3cret")
    await stage.backend.take("DELETE")
    (line,) = events(stage)
    assert isinstance(line.pop("duration_ms"), int)
    assert line == {
        "event": "closed",
        "id": name,
        "reason": "client closed",
        "code": 4000,
        "messages_in": 1,
        "messages_out": 2,
        "remote_address": "127.0.0.1",
        "path": "/chat",
    }


async def test_a_handshake_that_the_gateway_refuses_is_logged_with_the_address_of_the_client(stage: Stage) -> None:
    node = await stage.node(allowed_origins="https://a.test", trusted_proxies="127.0.0.1", max_connections="1")
    forwarded = "X-Forwarded-For: 192.0.2.7"
    for status, request in (
        (403, upgrade("/a?t=s3cret", "Origin: https://b.test", forwarded)),
        (426, b"GET /b?t=s3cret HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Key: x\r\n\r\n"),
    ):
        raw = await node.raw()
        raw.send(request)
        assert (await raw.answer()).status == status
    await node.connect()
    raw = await node.raw()
    raw.send(upgrade("http://a.test/c", forwarded))
    assert (await raw.answer()).status == 503
    shown = [(line["status"], line["path"], line["remote_address"]) for line in events(stage)]
    assert shown == [(403, "/a", "127.0.0.1"), (426, "/b", "127.0.0.1"), (503, "/c", "192.0.2.7")]
    assert all(line["reason"] and "id" not in line for line in events(stage))


@pytest.mark.parametrize(
    ("status", "target", "more", "path"),
    [
        (400, "/a?t=s3cret#b", "", "/a"),
        (400, "ws://ada:s3cret@a.test/b?t=s3cret", "", "/b"),
        (400, "*", "", ""),
        (400, "/a\xe9 b#s3cret", "", "/a%C3%A9%20b"),
        (400, "/a", "Host: b\r\n", "/a"),
        (400, "/a", "Connection: upgrade\r\nContent-Length: 5\r\n", "/a"),
        (414, "/" + "a" * 9000, "", "/" + "a" * 999 + "..."),
        (431, "/a", f"Cookie: {'s3cret' * 12_000}\r\n", "/a"),
    ],
)
async def test_a_handshake_that_is_no_valid_http_is_logged_and_counted(
    stage: Stage, status: int, target: str, more: str, path: str
) -> None:
    node = await stage.node()
    raw = await node.raw()
    raw.send(f"GET {target} HTTP/1.1\r\nHost: a\r\nupgrade:WebSocket\r\n{more}\r\n".encode())
    answer = await raw.answer()
    assert answer.status == status
    (line,) = events(stage)
    assert line == {
        "event": "refused",
        "reason": answer.json["message"],
        "status": status,
        "remote_address": "127.0.0.1",
        "path": path,
    }
    found = Exposition((await node.rest("GET", "/metrics")).body)
    assert found.labelled("handshakes_total", "status") == {"400" if status == 400 else "other": 1}


async def test_other_requests_that_are_no_valid_http_are_not_in_the_access_log(stage: Stage) -> None:
    node = await stage.node()
    handshake = b"GET / HTTP/1.1\r\nHost: b\r\nHost: a\r\nUpgrade: websocket\r\n\r\n"
    for request in (
        b"GET /#a HTTP/1.1\r\nHost: a\r\n\r\n" + handshake,
        b"PUT /#a HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
        b"GET /#a HTTP/1.1\n" + b"x" * 70_000,
        b"GET /" + b"a" * 9000,
        b"PUT /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx" + handshake,
    ):
        raw = await node.raw()
        raw.send(request)
        assert (await raw.answer()).status >= 400
    assert events(stage) == []


async def test_a_handshake_that_the_backend_refuses_or_the_client_gives_up_is_logged(stage: Stage) -> None:
    node = await stage.node()
    stage.backend.on["POST"] = lambda call: call.answer(401)
    with pytest.raises(websockets.InvalidStatus):
        await node.connect("/a")
    stage.backend.hold("POST")
    raw = await node.raw()
    raw.send(upgrade("/b"))
    await stage.backend.wait(lambda: stage.backend.count("POST") == 2)
    raw.close()
    await wait_until(lambda: len(events(stage)) == 2)
    stage.backend.release()
    refused, abandoned = events(stage)
    assert (refused["event"], refused["status"], refused["path"]) == ("refused", 401, "/a")
    assert (abandoned["event"], abandoned["path"], "status" in abandoned) == ("abandoned", "/b", False)
    assert {refused["id"], abandoned["id"]} == {call.client for call in stage.backend.calls if call.method == "POST"}


async def test_without_an_access_log_there_are_no_such_lines(stage: Stage) -> None:
    node = await stage.node(access_log="off")
    client = await node.connect()
    await client.close()
    raw = await node.raw()
    raw.send(upgrade(key="x"))
    assert (await raw.answer()).status == 400
    raw = await node.raw()
    raw.send(upgrade("/#a"))
    assert (await raw.answer()).status == 400
    await with_timeout(stage.backend.take("DELETE"))
    assert events(stage) == []
