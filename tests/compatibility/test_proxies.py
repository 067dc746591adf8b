"""Proxies that others wrote, both in front of the gateway and between the gateway and its backend.

Those for which `deploy` has configurations are in tests of their own.
"""

import asyncio
from pathlib import Path

import aiohttp
import pytest
import websockets

from tests.support.backend import Backend, Call
from tests.support.compatibility import FOLDER, MESSAGES, filled, running, words
from tests.support.ports import free_port
from tests.support.stage import Stage, received_close
from tests.support.waiting import POLL_S, with_timeout

CLIENT = "127.0.0.2"
IDLE_S = 3.0
"""Longer than the 2 s after which most of the proxies close a connection on which nothing is sent."""

WS_TIMEOUT_MS = 2000
PROXIES = {
    "traefik.yml": "traefik --configFile={config}",
    "envoy.yaml": "envoy --config-path {config} --use-dynamic-base-id --concurrency 1",
    "apache.conf": "apache2 -X -f {config}",
    "varnish.vcl": (
        "varnishd -F -j none -n {folder} -a front=127.0.0.1:{front} -a back=127.0.0.1:{back} -f {config} "
        "-p pipe_timeout=2 -s malloc,16m"
    ),
    "lighttpd.conf": "lighttpd -D -f {config}",
    "http_proxy_middleware.mjs": "node {config} {front} {gateway} {back} {backend}",
}


def connect(call: Call) -> None:
    if call.headers.get("authorization") == "Bearer ada":
        call.ok(subprotocol="chat")
    else:
        call.answer(401)


def repeat(call: Call) -> None:
    kind = "text" if call.headers["content-type"].startswith("text/") else "binary"
    call.answer(200, call.body, Ws_Reply=kind)


async def wait_for_200(http: aiohttp.ClientSession, url: str) -> None:
    """Ask until the answer is 200."""
    for _ in range(100):
        async with http.get(url) as answer:
            if answer.status == 200:
                return
        await asyncio.sleep(10 * POLL_S)
    raise AssertionError(url)


@pytest.mark.parametrize("config", PROXIES)
async def test_a_proxy_on_both_sides_of_the_gateway(
    stage: Stage, request: pytest.FixtureRequest, tmp_path: Path, config: str
) -> None:
    words(PROXIES[config])
    folder = tmp_path
    if config.endswith(".mjs"):
        folder = request.getfixturevalue("npm_packages") / "proxies"
    # Not that of `stage`, whose requests are compared with the OpenAPI document: proxies add headers.
    backend = await Backend().start()
    backend.on["POST"], backend.on["PUT"] = connect, repeat
    front, gateway, back = free_port(), free_port(), free_port()
    places = {"front": front, "gateway": gateway, "back": back, "backend": backend.port, "folder": folder}
    for source in (FOLDER / "proxies").glob(f"{config.partition('.')[0]}*"):
        values = {name.upper(): str(value) for name, value in places.items()}
        (folder / source.name).write_text(filled(source, values))
    command = PROXIES[config].format(config=folder / config, **places)
    async with running(command, folder, front, back):
        node = await stage.node(
            backend=None,
            ws_hostname=f"127.0.0.1:{gateway}",
            api_uri=f"127.0.0.1:{back}/hook",
            trusted_proxies="127.0.0.1",
            ws_timeout=WS_TIMEOUT_MS,
        )
        async with aiohttp.ClientSession() as http:
            # Some listen before they have read what they serve.
            await wait_for_200(http, f"http://127.0.0.1:{front}/healthz")
        url = f"ws://127.0.0.1:{front}/room?n=1"
        with pytest.raises(websockets.InvalidStatus) as refused:
            await websockets.connect(url)
        assert refused.value.response.status_code == 401
        await backend.take("POST")
        opening = websockets.connect(
            url,
            additional_headers={"Authorization": "Bearer ada"},
            subprotocols=[websockets.Subprotocol("chat")],
            ping_interval=None,
            local_addr=(CLIENT, 0),
        )
        async with opening as client:
            post = await backend.take("POST")
            told = post.json["request"]
            assert (told["path"], told["query"], told["remote_address"]) == ("/room", "n=1", CLIENT)
            assert client.subprotocol == "chat"
            await asyncio.sleep(IDLE_S)
            for message in MESSAGES:
                await client.send(message)
                assert await with_timeout(client.recv()) == message
            async with aiohttp.ClientSession() as http:
                answer = await http.put(f"http://127.0.0.1:{front}/{post.client}", data="pushed")
                assert await answer.json() == {"code": "OK"}
            assert await with_timeout(client.recv()) == "pushed"
            await node.rest("DELETE", post.client, '{"code": 4000, "reason": "bye"}', Content_Type="application/json")
            assert await received_close(client) == (4000, "bye")
        delete = await backend.take("DELETE")
        assert (delete.json["code"], delete.json["reason"]) == (4000, "bye")
        assert await node.drain()
        assert stage.messages() == []
    await backend.stop()
