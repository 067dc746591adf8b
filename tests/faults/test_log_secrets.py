"""A gateway that gets a secret in every place where there may be one. None of them may be in its log."""

import json
from base64 import b64encode
from pathlib import Path
from secrets import token_hex

import pytest
import websockets
from websockets.typing import Origin

from tests.support.backend import Call
from tests.support.clients import upgrade
from tests.support.gateway_process import GatewayProcess, gateway_process
from tests.support.ports import free_port
from tests.support.stage import Stage
from tests.support.waiting import with_timeout

pytestmark = pytest.mark.slow


class Marks:
    """Secrets, each with the place where it is used, to name it if it is logged."""

    def __init__(self) -> None:
        self._places: dict[str, str] = {}

    def __call__(self, place: str) -> str:
        """Return a new secret."""
        mark = f"s3cr{token_hex(12)}"
        self._places[mark] = place
        return mark

    def found(self, log: str) -> set[str]:
        """Return the places whose secret is in `log`, as it is or in base64."""
        texts = {mark: (mark, b64encode(mark.encode()).decode().rstrip("=")[:-2]) for mark in self._places}
        return {self._places[mark] for mark, shown in texts.items() if any(text in log for text in shown)}


def settings(mark: Marks, tmp_path: Path, nats_port: int) -> dict[str, str]:
    """Return settings with secrets."""
    credentials = tmp_path / "user.creds"
    credentials.write_text(f"-----BEGIN NATS USER JWT-----\n{mark('creds')}\n------END NATS USER JWT------\n")
    signing = "whsec_" + b64encode(mark("API_SECRET").encode()).decode()
    return {
        "CONTROL_TOKEN": f"{mark('CONTROL_TOKEN')},{mark('second CONTROL_TOKEN')}",
        "API_SECRET": signing,
        "CLUSTER": f"nats://user:{mark('CLUSTER password')}@127.0.0.1:{nats_port},"
        f"nats://{mark('CLUSTER token')}@127.0.0.1:{nats_port}",
        "CLUSTER_SECRET": mark("CLUSTER_SECRET"),
        "CLUSTER_CREDENTIALS": str(credentials),
        "NODE_ADDRESS": "127.0.0.1:1",
        "ALLOWED_ORIGINS": "https://a.test",
        "BROWSER_AUTHORIZATION": "query:ticket,subprotocol:ticket.,cookie:ticket",
        "API_RETRY": "100",
        "API_TIMEOUT": "500",
        "DRAIN_TIMEOUT": "2000",
    }


def client_headers(mark: Marks) -> list[str]:
    """Return headers of a handshake, with secrets in the values of all."""
    names = ("Authorization: Bearer", "Cookie: session=", "X-Anything:", "Proxy-Authorization: Basic", "Referer: x?t=")
    protocols = f"Sec-WebSocket-Protocol: chat, bearer.{mark('offered subprotocol')}"
    return [*(f"{name} {mark(name)}" for name in names), protocols, "Origin: https://a.test"]


def browsers(mark: Marks) -> list[bytes]:
    """Return handshakes with a token in each place of `BROWSER_AUTHORIZATION`."""
    origin = "Origin: https://a.test"
    return [
        upgrade(f"/chat?ticket={mark('ticket in the query')}", origin),
        upgrade("/chat", origin, f"Sec-WebSocket-Protocol: chat, ticket.{mark('ticket as subprotocol')}"),
        upgrade("/chat", origin, f"Cookie: a=b; ticket={mark('ticket in a cookie')}"),
    ]


def unusable_tickets(mark: Marks) -> list[bytes]:
    """Return handshakes with a token that is repeated, or that cannot be part of a header."""
    ticket, origin = mark("unusable ticket"), "Origin: https://a.test"
    return [
        upgrade(f"/chat?ticket={ticket}&ticket={ticket}", origin),
        upgrade(f"/chat?ticket={ticket}%0d%0aX:%20{ticket}", origin),
        upgrade("/chat", origin, f"Sec-WebSocket-Protocol: ticket.{ticket}, ticket.{ticket}.2"),
        upgrade("/chat", origin, f"Cookie: ticket={ticket} {ticket}"),
    ]


async def refused(gateway: GatewayProcess, mark: Marks) -> None:
    """Send handshakes and requests that the gateway refuses."""
    secret = f"/chat?token={mark('query of a refused handshake')}"
    for request in (
        upgrade(secret, f"Origin: https://user:{mark('Origin')}@b.test"),
        upgrade(secret, *client_headers(mark), key=mark("key")),
        upgrade(secret, *client_headers(mark)).replace(b"Upgrade: websocket\r\n", b""),
        f"GET / HTTP/1.1\r\nHost: a\r\n{mark('malformed header')}\r\n\r\n".encode(),
        f"{mark('method')} / HTTP/1.1\r\nHost: a\r\n\r\n".encode(),
        f"PUT /{mark('id')}?x={mark('query')} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {mark('wrong token')}\r\n"
        "Content-Length: 2\r\n\r\nhi".encode(),
        *unusable_tickets(mark),
    ):
        assert (await gateway.ask(request)).status >= 400


async def refused_by_backend(gateway: GatewayProcess, mark: Marks) -> None:
    """Send handshakes that the backend refuses, repeating secrets of the client."""
    backend = gateway.stage.backend
    for answer in (
        lambda call: call.answer(403, f'{{"token": "{mark("JSON of the backend")}"}}'),
        lambda call: call.answer(500, f"Authorization: Bearer {mark('body of the backend')}"),
        lambda call: call.answer(302, Location=f"https://u:{mark('Location')}@b.test/?key={mark('its query')}"),
        lambda call: call.ok(subprotocol=f"Bearer.{mark('subprotocol')}"),
        lambda call: call.ok(context=mark("context of a refused client"), subprotocol="other"),
        lambda call: call.answer(200, {"code": "BANNED", "context": mark("context in a refusal")}),
        lambda call: call.hang_up(f"garbage for bearer {mark('garbage')}\r\n\r\n".encode()),
        Call.hang_up,
        lambda _call: None,
    ):
        backend.on["POST"] = answer
        for _ in range(2):
            for request in (upgrade(f"/chat?token={mark('query')}", *client_headers(mark)), *browsers(mark)):
                assert (await gateway.ask(request)).status >= 400


async def admitted(gateway: GatewayProcess, mark: Marks, token: str) -> None:
    """Connect clients that chat, and end in several ways."""
    backend = gateway.stage.backend
    backend.on["POST"] = lambda call: call.ok(context=mark("context"), groups=["all"])
    for handshake in browsers(mark):
        assert (await gateway.ask(handshake)).status == 101
    headers = {"Authorization": f"Bearer {mark('Authorization')}", "Cookie": f"session={mark('Cookie')}"}
    for answer in (
        lambda call: call.answer(200, mark("reply"), Ws_Reply="text", Ws_Context=mark("Ws-Context")),
        lambda call: call.answer(200, "", Ws_Close=f"4000 {mark('Ws-Close')}"),
        lambda call: call.answer(200, "", Ws_Close=f"4 token={mark('invalid Ws-Close')}"),
        lambda call: call.answer(200, "", Ws_Join=f"token={mark('group name')}"),
        lambda call: call.answer(200, mark("reply"), Ws_Reply=f"secret={mark('Ws-Reply')}"),
        lambda call: call.answer(500, f"password={mark('500 of a PUT')}"),
        lambda call: call.answer(400, f"Bearer {mark('400 of a PUT')}"),
    ):
        backend.on["PUT"] = answer
        uri = f"ws://127.0.0.1:{gateway.port}/chat?access_token={mark('query of a client')}"
        async with websockets.connect(uri, additional_headers=headers, origin=Origin("https://a.test")) as client:
            name = backend.calls[-1].client
            await client.send(mark("message"))
            for path in (name, "groups/all", "connections"):
                body = mark("push")
                request = (
                    f"PUT /{path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n"
                    f"Content-Length: {len(body)}\r\n\r\n{body}"
                )
                assert (await gateway.ask(request.encode())).status in {200, 410}
            await with_timeout(client.close(4001, mark("close reason")))


@pytest.mark.parametrize("style", ["text", "json"])
async def test_no_secret_is_in_the_log(stage: Stage, tmp_path: Path, style: str) -> None:
    mark = Marks()
    stage.timeout = 120
    chosen = settings(mark, tmp_path, free_port())
    await stage.backend.start()
    uri = f"{stage.backend.authority}/hook?key={mark('API_URI')}"
    log = tmp_path / "log"
    async with gateway_process(stage, log, api_uri=uri, LOG_LEVEL="DEBUG", LOG_FORMAT=style, **chosen) as gateway:
        await refused(gateway, mark)
        await refused_by_backend(gateway, mark)
        await admitted(gateway, mark, chosen["CONTROL_TOKEN"].partition(",")[0])
        await gateway.stop()
    said = gateway.program.said()
    assert said.count("\n") > 50
    assert mark.found(said) == set()
    lines = [json.loads(line) for line in said.splitlines()] if style == "json" else []
    assert all(isinstance(line["message"], str) for line in lines)
