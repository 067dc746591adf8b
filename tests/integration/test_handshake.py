"""The opening handshake: the client is accepted once the backend answers OK; each refusal has its status."""

import asyncio
import logging
import re
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest
import websockets
from websockets.typing import Subprotocol

from tests.support.backend import Backend, Call
from tests.support.clients import ACCEPT, KEY, upgrade
from tests.support.frames import CLOSE, TEXT, frame
from tests.support.ports import free_port
from tests.support.stage import Stage
from tests.support.waiting import wait_until, with_timeout

ID = re.compile(r"[A-Za-z0-9_-]{30}")


async def refusal(connecting: Any) -> Any:
    """Return the HTTP response that a real client receives instead of a 101."""
    with pytest.raises(websockets.InvalidStatus) as caught:
        await connecting
    return caught.value.response


async def test_the_101_is_not_sent_before_the_backend_answered_ok(stage: Stage) -> None:
    node = await stage.node()
    stage.backend.hold("POST")
    raw = await node.raw()
    raw.send(upgrade())
    call = await stage.backend.take("POST")
    assert (await node.information(call.client))["state"] == "connecting"
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(raw.reader.readexactly(1), 0.2)
    call.ok()
    answer = await raw.answer()
    assert answer.status == 101
    assert answer.headers == {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": ACCEPT}
    assert (await node.information(call.client))["state"] == "open"


async def test_the_post_describes_the_client(stage: Stage) -> None:
    node = await stage.node(ws_timeout=12345)
    before = datetime.now(timezone.utc) - timedelta(seconds=1)
    await node.connect(
        "/any/path%20x?a=1&b=%2F&b=2",
        additional_headers={"Authorization": "Bearer abc", "Cookie": "k=v", "X-Custom": "one"},
        subprotocols=[Subprotocol("chat"), Subprotocol("soap")],
        origin="https://example.com",
    )
    call = await stage.backend.take("POST")
    assert call.method == "POST"
    assert call.target == "/hook"
    assert call.version == "HTTP/1.1"
    assert call.headers["host"] == stage.backend.authority
    body = call.json
    assert ID.fullmatch(body["id"])
    assert body["ws_uri"] == f"127.0.0.1:{node.port}/{body['id']}"
    assert body["timeout"] == 12345
    request = body["request"]
    assert request["path"] == "/any/path%20x"
    assert request["query"] == "a=1&b=%2F&b=2"
    assert request["subprotocols"] == ["chat", "soap"]
    assert request["remote_address"] == "127.0.0.1"
    assert request["headers"]["x-custom"] == "one"
    assert request["headers"]["cookie"] == "k=v"
    assert request["headers"]["origin"] == "https://example.com"
    assert request["headers"]["authorization"] == "Bearer abc"
    assert call.headers["authorization"] == "Bearer abc"
    assert call.headers["ws-uri"] == body["ws_uri"]
    assert call.headers["content-type"] == "application/json"
    assert call.headers["ce-specversion"] == "1.0"
    assert call.headers["ce-type"] == "wsaas.connect"
    assert call.headers["ce-source"] == f"127.0.0.1:{node.port}"
    assert call.headers["ce-subject"] == body["id"]
    assert call.headers["ce-id"] == f"{body['id']}:0"
    assert "ws-context" not in call.headers
    at = datetime.fromisoformat(call.headers["ce-time"].replace("Z", "+00:00"))
    assert before <= at <= datetime.now(timezone.utc) + timedelta(seconds=1)


async def test_headers_beyond_ascii_are_utf_8_or_else_latin_1(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.raw()
    lines = b"X-Utf8: Zo\xc3\xab\r\nX-Latin: Zo\xeb\r\nAuthorization: Basic Zo\xc3\xab\r\n\r\n"
    raw.send(upgrade("/caf%C3%A9?a=%E9").removesuffix(b"\r\n") + lines)
    call = await stage.backend.take("POST")
    request = call.json["request"]
    assert (request["path"], request["query"]) == ("/caf%C3%A9", "a=%E9")
    assert (request["headers"]["x-utf8"], request["headers"]["x-latin"]) == ("Zoë", "Zoë")
    assert request["headers"]["authorization"] == "Basic Zoë"
    assert call.headers["authorization"].encode("latin-1") == "Basic Zoë".encode()


async def test_the_headers_of_all_three_requests(stage: Stage) -> None:
    stage.backend.on["POST"] = lambda call: call.ok(context="user=7; room=a b")
    node = await stage.node()
    client, name = await node.admit(additional_headers={"Authorization": "Basic dTpw"})
    await client.send("hello")
    await client.close()
    await stage.backend.take("DELETE")
    post, put, delete = stage.backend.of(name)
    for number, call, kind in ((0, post, "connect"), (1, put, "message"), ("end", delete, "disconnect")):
        assert call.headers["authorization"] == "Basic dTpw"
        assert call.headers["ws-uri"] == f"127.0.0.1:{node.port}/{name}"
        assert call.headers["ce-type"] == f"wsaas.{kind}"
        assert call.headers["ce-id"] == f"{name}:{number}"
        assert call.headers["content-length"] == str(len(call.body))
        assert call.target == "/hook"
    assert "ws-context" not in post.headers
    assert put.headers["ws-context"] == delete.headers["ws-context"] == "user=7; room=a b"
    assert put.headers["content-type"] == "text/plain; charset=utf-8"
    assert delete.headers["content-type"] == "application/json"


async def test_authorization_is_absent_when_the_client_sent_none(stage: Stage) -> None:
    node = await stage.node()
    client, name = await node.admit()
    await client.close()
    await stage.backend.take("DELETE")
    assert all("authorization" not in call.headers for call in stage.backend.of(name))


async def test_authorization_is_passed_on_verbatim_even_beyond_ascii(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.raw()
    raw.send(upgrade("/", "Authorization: Custom  a=\xfc,  b"))
    assert (await raw.answer()).status == 101
    call = await stage.backend.take("POST")
    assert call.headers["authorization"] == "Custom  a=\xfc,  b"


async def test_ids_differ(stage: Stage) -> None:
    node = await stage.node()
    names = [(await node.admit())[1] for _ in range(20)]
    assert len(set(names)) == 20
    assert all(ID.fullmatch(name) for name in names)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, {"code": "NO"}, 403),
        (200, {"code": "ok"}, 403),
        (201, {"code": ""}, 403),
        (200, "", 502),
        (200, "OK", 502),
        (200, "[]", 502),
        (200, {"code": None}, 502),
        (200, {"code": 0}, 502),
        (204, "", 502),
        (200, {"nothing": "here"}, 502),
        (200, {"code": "OK", "subprotocol": "not-offered"}, 502),
        (200, {"code": "OK", "subprotocol": 7}, 502),
        (200, {"code": "OK", "context": "line\nbreak"}, 502),
        (200, {"code": "OK", "context": "x" * 4097}, 502),
        (200, {"code": "OK", "context": ["x"]}, 502),
        (401, "", 401),
        (403, "", 403),
        (404, "", 404),
        (429, "", 429),
        (400, {"code": "OK"}, 502),
        (302, {"code": "OK"}, 502),
        (409, "", 502),
        (500, {"code": "OK"}, 502),
        (503, "", 503),
    ],
)
async def test_a_refusal_has_its_status(stage: Stage, status: int, body: Any, expected: int) -> None:
    stage.backend.on["POST"] = lambda call: call.answer(status, body)
    node = await stage.node()
    response = await refusal(node.connect())
    assert response.status_code == expected
    assert "Content-Length" in response.headers
    assert response.headers["Connection"] == "close"
    call = await stage.backend.take("POST")
    assert (await node.rest("GET", call.client)).status == 410
    assert stage.backend.count("POST") == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 429, 500, 503])
async def test_no_delete_follows_a_refusal_by_status(stage: Stage, status: int) -> None:
    stage.backend.on["POST"] = lambda call: call.answer(status, {"code": "NO"})
    node = await stage.node()
    await refusal(node.connect())
    assert await node.drain()
    assert stage.backend.count("DELETE") == 0


async def test_no_delete_follows_a_refusal_by_code(stage: Stage) -> None:
    stage.backend.on["POST"] = lambda call: call.answer(200, {"code": "NO"})
    node = await stage.node()
    await refusal(node.connect())
    assert await node.drain()
    assert stage.backend.count("DELETE") == 0


@pytest.mark.parametrize("compression", ["off", "on"])
async def test_a_refusal_with_a_close_can_be_read_by_the_client(stage: Stage, compression: str) -> None:
    refused = {"code": "EXPIRED", "close": {"code": 4401, "reason": "token expired"}}
    stage.backend.on["POST"] = lambda call: call.answer(200, refused)
    node = await stage.node(compression=compression)
    client = await node.connect(subprotocols=[Subprotocol("v2"), Subprotocol("v1")])
    assert client.response is not None
    assert (client.subprotocol, client.response.headers.get("Sec-WebSocket-Extensions")) == ("v2", None)
    await with_timeout(client.wait_closed())
    assert (client.close_code, client.close_reason) == (4401, "token expired")
    call = await stage.backend.take("POST")
    assert (await node.rest("GET", call.client)).status == 410
    assert await node.drain()
    assert stage.backend.count("DELETE") == 0


async def test_what_a_client_sends_before_it_is_refused_with_a_close_reaches_nobody(stage: Stage) -> None:
    stage.backend.on["POST"] = lambda call: call.answer(200, {"code": "NO", "close": {"code": 3000}})
    node = await stage.node()
    raw = await node.raw()
    raw.send(upgrade() + frame(TEXT, b"early"))
    assert (await raw.answer()).status == 101
    assert await raw.closing() == (3000, "")
    raw.send(frame(TEXT, b"late") + frame(CLOSE, b"\x0b\xb8"))
    assert await with_timeout(raw.reader.read()) == b""
    assert await node.drain()
    assert (stage.backend.count("PUT"), stage.backend.count("DELETE")) == (0, 0)


async def test_www_authenticate_and_retry_after_are_passed_on(stage: Stage) -> None:
    node = await stage.node()
    stage.backend.on["POST"] = lambda call: call.answer(401, WWW_Authenticate='Basic realm="x"')
    response = await refusal(node.connect())
    assert response.headers["WWW-Authenticate"] == 'Basic realm="x"'
    for status in (429, 503):
        stage.backend.on["POST"] = partial(Call.answer, status=status, Retry_After="17")
        response = await refusal(node.connect())
        assert (response.status_code, response.headers["Retry-After"]) == (status, "17")


async def test_a_backend_that_cannot_be_reached_is_503(stage: Stage) -> None:
    stage.backend.port = free_port()
    node = await stage.node(backend=None)
    response = await refusal(node.connect())
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) >= 1
    assert await node.drain()


async def test_a_post_that_times_out_is_504_and_a_delete_follows(stage: Stage) -> None:
    stage.backend.hold("POST")
    node = await stage.node(api_timeout=300)
    response = await refusal(node.connect())
    assert response.status_code == 504
    post = await stage.backend.take("POST")
    delete = await stage.backend.take("DELETE")
    assert delete.client == post.client
    assert delete.json["code"] == 1006
    assert delete.event == "end"
    assert stage.backend.count("POST") == 1


async def test_a_delete_follows_a_post_whose_connection_closed_without_an_answer(stage: Stage) -> None:
    stage.backend.on["POST"] = Call.hang_up
    node = await stage.node()
    response = await refusal(node.connect())
    assert response.status_code == 502
    post = await stage.backend.take("POST")
    assert (await stage.backend.take("DELETE")).client == post.client
    assert stage.backend.count("POST") == 1


async def test_the_backend_selects_a_subprotocol(stage: Stage) -> None:
    stage.backend.on["POST"] = lambda call: call.ok(subprotocol="soap")
    node = await stage.node(subprotocols="chat")
    client, name = await node.admit(subprotocols=[Subprotocol("chat"), Subprotocol("soap")])
    assert client.subprotocol == "soap"
    assert (await node.information(name))["subprotocol"] == "soap"


async def test_a_subprotocol_is_selected_by_the_setting_where_the_backend_names_none(stage: Stage) -> None:
    node = await stage.node(subprotocols="v2, v1")
    client, _ = await node.admit(subprotocols=[Subprotocol("v1"), Subprotocol("v2"), Subprotocol("v3")])
    assert client.subprotocol == "v2"
    other, name = await node.admit(subprotocols=[Subprotocol("v3")])
    assert other.subprotocol is None
    assert (await node.information(name))["subprotocol"] is None


async def test_a_push_before_the_101_is_the_first_frame_behind_it(stage: Stage) -> None:
    node = await stage.node()

    async def greet(call: Call) -> None:
        for word in ("one", "two"):
            assert (await node.rest("PUT", call.client, word)).status == 200
        call.ok()

    stage.backend.on["POST"] = greet
    stage.backend.on["PUT"] = lambda call: call.answer(200, "three", Ws_Reply="text")
    raw = await node.raw()
    raw.send(upgrade() + frame(TEXT, b"too early, but kept"))
    assert (await raw.answer()).status == 101
    assert [await raw.frame() for _ in range(3)] == [(TEXT, b"one"), (TEXT, b"two"), (TEXT, b"three")]
    put = await stage.backend.take("PUT")
    assert put.text == "too early, but kept"


async def test_pushes_before_the_101_are_limited_by_send_buffer(stage: Stage) -> None:
    node = await stage.node(send_buffer=1000)
    stage.backend.hold("POST")
    raw = await node.raw()
    raw.send(upgrade())
    call = await stage.backend.take("POST")
    assert (await node.rest("PUT", call.client, "x" * 2000)).status == 200
    answer = await node.rest("PUT", call.client, "y")
    assert (answer.status, answer.code) == (429, "SLOW_CLIENT")
    assert (await node.information(call.client))["buffered"] > 2000
    call.ok()
    assert (await raw.answer()).status == 101
    assert await raw.frame() == (TEXT, b"x" * 2000)


async def test_delete_within_the_connect_handler_refuses_the_client(stage: Stage) -> None:
    node = await stage.node()
    stage.backend.hold("POST")
    raw = await node.raw()
    raw.send(upgrade())
    call = await stage.backend.take("POST")
    assert (await node.rest("DELETE", call.client)).status == 200
    assert (await raw.answer()).status == 403
    await raw.end()
    assert (await node.rest("PUT", call.client, "x")).status == 410
    assert stage.backend.count("DELETE") == 0, "the DELETE follows the answer"
    call.ok()
    assert (await stage.backend.take("DELETE")).client == call.client


@pytest.mark.parametrize("accepted", [True, False])
async def test_a_client_may_leave_before_its_post_is_answered(stage: Stage, accepted: bool) -> None:
    node = await stage.node()
    stage.backend.hold("POST")
    raw = await node.raw()
    raw.send(upgrade())
    call = await stage.backend.take("POST")
    raw.close()
    await wait_until(lambda: node.statistics.clients == 0)
    assert (await node.rest("GET", call.client)).status == 410
    assert stage.backend.count("DELETE") == 0, "the DELETE follows the answer"
    if accepted:
        call.ok()
        delete = await stage.backend.take("DELETE")
        assert delete.client == call.client
        assert delete.json["code"] == 1006
    else:
        call.answer(403)
        assert await node.drain()
        assert stage.backend.count("DELETE") == 0


async def test_origins(stage: Stage) -> None:
    node = await stage.node(allowed_origins="https://example.com, https://other.example:8443")
    await node.connect(origin="https://example.com")
    await node.connect(origin="https://OTHER.example:8443")
    await node.connect()
    for origin in ("http://example.com", "https://example.com.evil.test", "null"):
        assert (await refusal(node.connect(origin=origin))).status_code == 403
    assert stage.backend.count("POST") == 3


async def test_any_origin_may_connect_by_default(stage: Stage) -> None:
    node = await stage.node()
    await node.connect(origin="https://anything.example")


async def test_past_max_connections_handshakes_are_503(stage: Stage) -> None:
    node = await stage.node(max_connections=2)
    first = await node.connect()
    await node.connect()
    response = await refusal(node.connect())
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) >= 1
    assert stage.backend.count("POST") == 2
    assert (await node.rest("GET", "/readyz")).status == 200
    await first.close()
    await stage.backend.take("DELETE")
    await node.connect()


async def test_the_id_in_the_path_of_the_backend(stage: Stage) -> None:
    port = (await stage.backend.start()).port
    node = await stage.node(api_uri=f"127.0.0.1:{port}/clients/{{id}}/events?c={{id}}")
    client, name = await node.admit()
    await client.send("x")
    await client.close()
    await stage.backend.take("DELETE")
    assert [call.target for call in stage.backend.of(name)] == [f"/clients/{name}/events?c={name}"] * 3


async def test_a_public_name_with_a_scheme_and_a_prefix(stage: Stage) -> None:
    port = free_port()
    await stage.backend.start()
    node = await stage.node(ws_hostname=f"http://localhost:{port}/ws/node-1", listen=f"127.0.0.1:{port}")
    client, name = await node.admit()
    call = stage.backend.calls[0]
    assert call.ws_uri == f"http://localhost:{port}/ws/node-1/{name}"
    assert (await node.rest("PUT", f"/ws/node-1/{name}", "hello")).status == 200
    assert await with_timeout(client.recv()) == "hello"


MALFORMED = {
    "no key": upgrade(key=None),
    "empty key": upgrade(key=""),
    "short key": upgrade(key="c2hvcnQ="),
    "key that is not base64": upgrade(key="!" * 24),
    "two keys": upgrade("/", f"Sec-WebSocket-Key: {KEY}"),
    "no Connection": upgrade(key=None, version=None).replace(b"Connection: Upgrade\r\n", b""),
    "Connection without upgrade": upgrade(key=None, version=None).replace(b": Upgrade", b": keep-alive"),
    "a POST": upgrade().replace(b"GET", b"POST"),
    "HTTP/1.0": upgrade().replace(b"HTTP/1.1", b"HTTP/1.0"),
    "a body": upgrade("/", "Content-Length: 5") + b"hello",
    "a chunked body": upgrade("/", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "no Host": upgrade().replace(b"Host: localhost\r\n", b""),
    "two Hosts": upgrade("/", "Host: other"),
    "a subprotocol that is not a token": upgrade("/", "Sec-WebSocket-Protocol: a b"),
    "a subprotocol twice": upgrade("/", "Sec-WebSocket-Protocol: a, a"),
}


@pytest.mark.parametrize("what", MALFORMED)
async def test_a_malformed_handshake_is_400(stage: Stage, what: str) -> None:
    node = await stage.node()
    raw = await node.raw()
    raw.send(MALFORMED[what])
    answer = await raw.answer()
    assert answer.status == 400
    assert answer.code == "BAD_REQUEST"
    await raw.end()
    assert not stage.backend.calls


LOST = {
    "no Connection": upgrade().replace(b"Connection: Upgrade\r\n", b""),
    "Connection without upgrade": upgrade().replace(b"Connection: Upgrade", b"Connection: keep-alive"),
    "no Upgrade": upgrade().replace(b"Upgrade: websocket\r\n", b""),
    "as nginx passes it on": upgrade("/room?a=b")
    .replace(b"HTTP/1.1", b"HTTP/1.0")
    .replace(b"Upgrade: websocket\r\nConnection: Upgrade", b"Connection: close"),
    "a path of the REST API": upgrade("/healthz").replace(b"Upgrade: websocket\r\n", b""),
    "a token": upgrade("/", "Authorization: Bearer x").replace(b"Upgrade: websocket\r\n", b""),
    "a strange Host": upgrade().replace(b"Upgrade: websocket\r\n", b"").replace(b": localhost", b": elsewhere.test"),
    "a browser": upgrade("/", "Origin: https://a.test").replace(b"Upgrade: websocket\r\n", b""),
}


@pytest.mark.parametrize("guard", [{}, {"control_token": "secret"}])
@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("what", LOST)
async def test_a_handshake_whose_upgrade_a_proxy_dropped_is_426(
    stage: Stage, what: str, separate: bool, guard: dict[str, str]
) -> None:
    more = {"control_listen": "127.0.0.1:0"} if separate else {}
    node = await stage.node(**guard, **more)
    raw = await node.raw()
    raw.send(LOST[what])
    answer = await raw.answer()
    assert (answer.status, answer.code) == (426, "UPGRADE_REQUIRED")
    assert answer.headers["Upgrade"] == "websocket"
    assert answer.headers["Sec-WebSocket-Version"] == "13"
    assert "proxy in front dropped the Upgrade" in answer.json["message"]
    (said,) = [text for text in stage.messages() if "handshake" in text]
    assert said.startswith(
        "a WebSocket handshake from 127.0.0.1 arrived without its Upgrade header, or as HTTP/1.0: if that is"
    )
    assert "proxy_set_header Upgrade $http_upgrade" in said
    assert not stage.backend.calls


async def test_many_handshakes_that_lost_their_upgrade_are_one_warning(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.raw()
    raw.send(LOST["no Upgrade"] * 100)
    for _ in range(100):
        assert (await raw.answer()).status == 426
    assert len(stage.messages()) == 1


async def test_a_handshake_over_http_1_0_is_400_and_a_warning(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.raw()
    raw.send(MALFORMED["HTTP/1.0"])
    answer = await raw.answer()
    assert answer.status == 400
    assert "proxy_http_version 1.1" in answer.json["message"]
    assert [text for text in stage.messages() if "or as HTTP/1.0" in text]


async def test_on_a_listener_of_the_rest_api_a_malformed_handshake_is_an_ordinary_request(stage: Stage) -> None:
    control = free_port()
    node = await stage.node(control_listen=f"127.0.0.1:{control}")
    raw = await node.raw(control)
    raw.send(LOST["a path of the REST API"])
    assert (await raw.answer()).status == 200
    raw.send(LOST["no Upgrade"])
    assert (await raw.answer()).status == 404
    assert not [text for text in stage.messages() if "handshake" in text]


@pytest.mark.parametrize("version", ["8", "14", "", "13.0", "x"])
async def test_a_wrong_version_is_426(stage: Stage, version: str) -> None:
    node = await stage.node()
    raw = await node.raw()
    raw.send(upgrade(version=version))
    answer = await raw.answer()
    assert answer.status == 426
    assert answer.headers["Sec-WebSocket-Version"] == "13"
    await raw.end()


@pytest.mark.parametrize(
    "handshake",
    [
        upgrade().replace(b"Upgrade: websocket", b"Upgrade: WebSocket"),
        upgrade().replace(b"Connection: Upgrade", b"Connection: keep-alive, upgrade"),
        upgrade("/", "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"),
        upgrade("/", "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=abc"),
        upgrade("/", "Content-Length: 0"),
        upgrade("http://gateway/absolute?x=1"),
        b"\r\n" + upgrade(),
    ],
)
async def test_a_handshake_may_vary_in_case_order_and_lists(stage: Stage, handshake: bytes) -> None:
    node = await stage.node()
    raw = await node.raw()
    raw.send(handshake)
    answer = await raw.answer()
    assert answer.status == 101
    assert "Sec-WebSocket-Extensions" not in answer.headers


async def test_a_handshake_may_arrive_byte_by_byte(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.raw()
    await raw.send_slowly(upgrade() + frame(TEXT, b"hello"))
    assert (await raw.answer()).status == 101
    assert (await stage.backend.take("PUT")).body == b"hello"


async def test_a_handshake_behind_rest_requests_on_one_connection(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.raw()
    raw.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n" * 2 + upgrade())
    assert [(await raw.answer()).status for _ in range(3)] == [200, 200, 101]


async def test_messages_before_the_101_are_kept_in_order(stage: Stage) -> None:
    node = await stage.node(inbox=20_000)
    stage.backend.hold("POST")
    raw = await node.raw()
    sent = [b"%06d" % number * 2000 for number in range(40)]
    raw.send(upgrade() + b"".join(frame(TEXT, data) for data in sent))
    call = await stage.backend.take("POST")
    call.ok()
    assert (await raw.answer()).status == 101
    for data in sent:
        assert (await stage.backend.take("PUT")).body == data


async def test_connections_do_not_wait_for_each_other(stage: Stage) -> None:
    node = await stage.node()
    held: list[Call] = []
    stage.backend.on["POST"] = held.append
    raw = await node.raw()
    raw.send(upgrade())
    await stage.backend.take("POST")
    stage.backend.on["POST"] = Call.ok
    await node.connect()
    held[0].ok()
    assert (await raw.answer()).status == 101


async def test_the_backend_may_be_on_ipv6(stage: Stage) -> None:
    stage.backend = Backend("::1")
    node = await stage.node()
    await node.connect()
    assert (await stage.backend.take("POST")).headers["host"] == f"[::1]:{stage.backend.port}"


async def test_a_handshake_that_the_gateway_refuses_is_logged_with_the_reason(stage: Stage) -> None:
    node = await stage.node(max_connections=1, allowed_origins="https://a.example")
    await node.upgraded()
    for headers, expected in (((), 503), (("Origin: https://b.example/" + "x" * 1000,), 403)):
        raw = await node.raw()
        raw.send(upgrade("/", *headers))
        assert (await raw.answer()).status == expected
    refused = [text for text in stage.messages(logging.INFO) if "was refused" in text]
    assert refused == [
        "a handshake from 127.0.0.1 was refused with 503: This node has reached its limit of clients.",
        (
            "a handshake from 127.0.0.1 was refused with 403: This origin may not connect. "
            "ALLOWED_ORIGINS does not contain "
            f"'https://b.example/{'x' * 82}'"
        ),
    ]
    levels = [record.levelname for record in stage.logged if "was refused" in record.getMessage()]
    assert levels == ["WARNING", "INFO"]


@pytest.mark.parametrize("access_log", ["off", "on"])
async def test_the_reason_of_a_refusal_is_logged_once(stage: Stage, access_log: str) -> None:
    node = await stage.node(access_log=access_log)
    raw = await node.raw()
    raw.send(upgrade("/", key="short"))
    answer = await raw.answer()
    assert answer.status == 400
    (line,) = [text for text in stage.messages(logging.INFO) if "refused" in text]
    assert line.startswith("handshake refused" if access_log == "on" else "a handshake from 127.0.0.1 was refused")
