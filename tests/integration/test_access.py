"""Access: signatures, client addresses, origins, message rates, tokens; and no secret in the log."""

import asyncio
import json
from base64 import b64encode
from typing import Any

import pytest
import websockets
from standardwebhooks import Webhook, WebhookVerificationError

from tests.support.backend import Call
from tests.support.clients import upgrade
from tests.support.frames import TEXT, frame
from tests.support.stage import Stage
from tests.support.waiting import with_timeout
from wsaas.log.formats import JsonFormatter, TextFormatter

OLD, NEW = (f"whsec_{b64encode(bytes([byte]) * 32).decode()}" for byte in b"on")


async def refusal(connecting: Any) -> websockets.Response:
    with pytest.raises(websockets.InvalidStatus) as refused:
        await connecting
    response: websockets.Response = refused.value.response
    return response


# Signatures


@pytest.mark.parametrize("secret", [OLD, NEW])
async def test_a_backend_verifies_each_request_with_the_library_of_the_standard(stage: Stage, secret: str) -> None:
    seen = []

    def verify(call: Call) -> None:
        assert call.headers["webhook-id"] == call.headers["ce-id"]
        Webhook(secret).verify(call.body, call.headers, json_parse=False)
        seen.append(call.method)
        call.ok()

    stage.backend.on.update(POST=verify, PUT=verify, DELETE=verify)
    node = await stage.node(api_secret=f"{NEW},{OLD}")
    client = await node.connect()
    await client.send("Grüße")
    await client.send(b"")
    await client.close()
    await stage.backend.take("DELETE")
    assert seen == ["POST", "PUT", "PUT", "DELETE"]


async def test_a_repeated_request_is_signed_anew(stage: Stage) -> None:
    statuses = [500, 200]
    stage.backend.on["PUT"] = lambda call: call.answer(statuses.pop(0))
    node = await stage.node(api_secret=NEW)
    client = await node.connect()
    await client.send("hello")
    first, second = await stage.backend.take("PUT"), await stage.backend.take("PUT")
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    for call in (first, second):
        Webhook(NEW).verify(call.body, call.headers, json_parse=False)
    with pytest.raises(WebhookVerificationError):
        Webhook(OLD).verify(second.body, second.headers, json_parse=False)


# Addresses


async def test_a_trusted_proxy_forwards_the_address_of_its_client(stage: Stage) -> None:
    node = await stage.node(trusted_proxies="127.0.0.0/8")
    forwarded = {"X-Forwarded-For": "203.0.113.9, 198.51.100.1, 127.0.0.2"}
    _, name = await node.admit(additional_headers=forwarded)
    assert stage.backend.calls[0].json["request"]["remote_address"] == "198.51.100.1"
    assert (await node.information(name))["remote_address"] == "198.51.100.1"


async def test_each_address_has_its_own_limit_of_clients(stage: Stage) -> None:
    node = await stage.node(trusted_proxies="127.0.0.1", max_connections_per_address="2")

    def connect(address: str) -> Any:
        return node.connect(additional_headers={"X-Forwarded-For": address})

    first, _ = await connect("198.51.100.1"), await connect("198.51.100.1")
    refused = await refusal(connect("198.51.100.1"))
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
    assert json.loads(refused.body)["code"] == "TOO_MANY_REQUESTS"
    await connect("198.51.100.2")
    await first.close()
    await stage.backend.take("DELETE")
    await connect("198.51.100.1")
    assert stage.backend.count("POST") == 4


# Origins


@pytest.mark.parametrize(
    ("origin", "passes"),
    [("https://a.example.com", True), ("https://a.b.example.com", True), ("https://example.com", False),
     ("https://example.com.evil.com", False), ("http://a.example.com", False)],
)  # fmt: skip
async def test_an_origin_may_be_any_subdomain(stage: Stage, origin: str, passes: bool) -> None:
    node = await stage.node(allowed_origins="https://*.example.com")
    if passes:
        await node.connect(origin=origin)
    else:
        assert (await refusal(node.connect(origin=origin))).status_code == 403


@pytest.mark.parametrize(
    ("setting", "origin"),
    [
        # As Cordova, Ionic, Capacitor, Tauri, Electron, extensions, Android's WebView and sandboxed frames send it.
        ("file://", "file://"),
        ("null", "null"),
        ("ionic://localhost", "ionic://localhost"),
        ("capacitor://localhost", "capacitor://localhost"),
        ("tauri://localhost", "tauri://localhost"),
        ("app://.", "app://."),
        ("chrome-extension://aapbdbdomjkkjkaonfhkkikfgjllcleb", "chrome-extension://aapbdbdomjkkjkaonfhkkikfgjllcleb"),
        (
            "moz-extension://6b2a9a3e-1c0e-4d1b-b0f8-0d7f0a1e2c3d",
            "moz-extension://6b2a9a3e-1c0e-4d1b-b0f8-0d7f0a1e2c3d",
        ),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("https://*.bücher.example", "https://www.xn--bcher-kva.example"),
    ],
)
async def test_origins_are_matched_as_browsers_and_web_views_send_them(stage: Stage, setting: str, origin: str) -> None:
    node = await stage.node(allowed_origins=setting)
    await node.connect(origin=origin)
    assert (await refusal(node.connect(origin="https://evil.example"))).status_code == 403


# The rate


async def test_a_client_over_its_rate_is_slowed_down_and_loses_nothing(stage: Stage) -> None:
    rate = 20
    node = await stage.node(max_message_rate=rate)
    client, _ = await node.admit()
    start = asyncio.get_running_loop().time()
    for number in range(3 * rate):
        await client.send(str(number))
    received = [(await stage.backend.take("PUT")).text for _ in range(3 * rate)]
    assert received == [str(number) for number in range(3 * rate)]
    # The first `rate` messages pass at once, the others one by one.
    assert asyncio.get_running_loop().time() - start >= (3 * rate - rate - 1) / rate


async def test_a_client_over_its_rate_does_not_slow_down_others(stage: Stage) -> None:
    node = await stage.node(max_message_rate=1)
    raw = await node.upgraded()
    await stage.backend.take("POST")
    raw.send(frame(TEXT, b"flood") * 1000)
    await stage.backend.take("PUT")
    client, name = await node.admit()
    await client.send("calm")
    assert (await stage.backend.take("PUT", client=name)).text == "calm"
    assert stage.backend.count("PUT") < 20


# Secrets


async def test_no_secret_is_logged_whatever_happens(stage: Stage) -> None:
    secrets = ("t0ken", "s3cretBearer", NEW[6:], "pa55word")
    node = await stage.node(control_token="t0ken", api_secret=NEW, api_retry="50", log_level="DEBUG", api_timeout="500")
    handshake = {"Authorization": "Bearer s3cretBearer", "Cookie": "session=pa55word"}

    # A complete connection; then requests that are refused, malformed or not authorized.
    client, name = await node.admit("/?password=pa55word", additional_headers=handshake)
    await client.send("my pa55word")
    await stage.backend.take("PUT")
    for token in ("t0ken", "t0ken s3cretBearer"):
        await node.rest("PUT", name, "pa55word", Authorization=f"Bearer {token}")
    raw = await node.raw()
    raw.send(upgrade("/chat?password=pa55word", "Authorization: Bearer s3cretBearer", key="pa55word"))
    assert (await raw.answer()).status == 400
    raw = await node.raw()
    raw.send(b"GET / HTTP/1.1\r\nAuthorization: Bearer t0ken\r\nbroken pa55word\r\n\r\n")
    answer = await raw.answer()
    assert answer.status == 400
    assert b"pa55word" not in answer.body
    # A backend that refuses, fails, or sends garbage.
    stage.backend.on["PUT"] = lambda call: call.answer(400, "not for Bearer s3cretBearer")
    await client.send("my pa55word")
    await with_timeout(client.wait_closed())
    stage.backend.on["POST"] = lambda call: call.answer(500, "Authorization: basic s3cretBearer")
    await refusal(node.connect(additional_headers=handshake))
    stage.backend.on["POST"] = lambda call: call.send(b"garbage for bearer s3cretBearer\r\n\r\n")
    await refusal(node.connect(additional_headers=handshake))
    quoted = [text for text in stage.messages() if "(hidden)" in text]
    assert len(quoted) == 3

    lines = [style().format(record) for record in stage.logged for style in (TextFormatter, JsonFormatter)]
    assert len(lines) > 10
    assert not [line for line in lines for secret in secrets if secret in line]


# Web pages


@pytest.mark.parametrize(
    "page",
    [{"Host": "evil.example"}, {"Origin": "http://localhost:3000"}, {"Sec-Fetch-Site": "cross-site"}],
)
async def test_a_web_page_can_neither_list_clients_nor_push_to_them(stage: Stage, page: dict[str, str]) -> None:
    node = await stage.node()
    client, name = await node.admit()
    for method, path in (("GET", "/connections"), ("PUT", name), ("DELETE", name)):
        answer = await node.rest(method, path, headers=page)
        assert (answer.status, answer.code) == (403, "FORBIDDEN")
    assert (await node.rest("GET", "/healthz", headers=page)).status == 200
    assert (await node.rest("PUT", name, "from the backend")).status == 200
    assert await with_timeout(client.recv()) == "from the backend"
