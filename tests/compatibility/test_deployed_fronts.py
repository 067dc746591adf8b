"""The configurations in `deploy` for proxies in front of gateways, run by the real proxies."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
import websockets
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.backend import Backend, Call
from tests.support.certificate_authority import CertificateAuthority
from tests.support.clients import RawClient
from tests.support.compatibility import MESSAGES
from tests.support.deployed_proxy import FRONTS, HTTP_FRONTS, front, skip_without_proxy
from tests.support.front import CLIENT, Front, Repeated, ask, fronted, gateways, push
from tests.support.ports import free_port
from tests.support.stage import Stage, received_close
from tests.support.waiting import with_timeout

IDLE_S = 1.0
"""The time-out of the proxies in the tests of idle clients."""

TIMEOUTS = {
    "proxy_read_timeout 75s": "proxy_read_timeout 1s",
    "timeout tunnel 75s": "timeout tunnel 1s",
    "timeout client 75s": "timeout client 1s",
    "timeout server 75s": "timeout server 1s",
}
LIMITS = {
    "worker_shutdown_timeout 12h": "worker_shutdown_timeout 300ms",
    "hard-stop-after 12h": "hard-stop-after 300ms",
    "stream_close_delay 12h": "stream_close_delay 300ms",
}
SWITCHING_PROTOCOLS, OK, TOO_MANY_REQUESTS, UNAVAILABLE = 101, 200, 429, 503


@pytest.fixture(autouse=True)
def _needs_the_proxy(request: pytest.FixtureRequest) -> None:
    skip_without_proxy(request.node.callspec.params["file"])


def repeat(call: Call) -> None:
    kind = "text" if call.headers["content-type"].startswith("text/") else "binary"
    call.answer(200, call.body, Ws_Reply=kind)


def setting(stage: Stage, file: str) -> dict[str, str]:
    """Return what the configuration says of the settings of the gateway."""
    stage.backend.on["PUT"] = repeat
    return {"proxy_protocol": "on"} if "tcp" in file else {}


@pytest.mark.parametrize("file", FRONTS)
def test_the_proxy_finds_no_fault_in_the_configuration(tmp_path: Path, file: str) -> None:
    proxy = front(file, tmp_path, CertificateAuthority(tmp_path), [("127.0.0.1:9", "127.0.0.1:9")])
    assert proxy.faults() == ""


@pytest.mark.parametrize("file", FRONTS)
async def test_a_client_has_its_address_its_messages_and_its_close(stage: Stage, tmp_path: Path, file: str) -> None:
    nodes = await gateways(stage, 1, **setting(stage, file))
    async with fronted(stage, tmp_path, file, nodes) as site:
        forged = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "gopher"}
        client = await site.connect("/room%2F1?n=1", additional_headers=forged)
        post = await stage.backend.take("POST")
        told = post.json["request"]
        assert (told["path"], told["query"], told["remote_address"]) == ("/room%2F1", "n=1", CLIENT)
        if file in HTTP_FRONTS:
            assert (told["headers"]["x-forwarded-for"], told["headers"]["x-forwarded-proto"]) == (CLIENT, "https")
            assert told["headers"]["host"] == f"127.0.0.1:{site.port}"
        for message in MESSAGES:
            await client.send(message)
            assert await with_timeout(client.recv()) == message
        assert await push(post.ws_uri, "pushed") == 200
        assert await with_timeout(client.recv()) == "pushed"
        await ask("DELETE", f"http://{post.ws_uri}", '{"code": 4000, "reason": "bye"}', Content_Type="application/json")
        assert await received_close(client) == (4000, "bye")
        assert (await stage.backend.take("DELETE")).json["code"] == 4000
        client, _ = await site.admit()
        await client.close(4001, "done")
        delete = await stage.backend.take("DELETE")
        assert (delete.json["code"], delete.json["reason"]) == (4001, "done")
        stage.backend.on["POST"] = lambda call: call.answer(401)
        with pytest.raises(InvalidStatus) as refused:
            await site.connect()
        assert refused.value.response.status_code == 401
    assert stage.messages() == []


@pytest.mark.parametrize("file", HTTP_FRONTS)
async def test_clients_do_not_reach_the_rest_api_even_if_the_gateway_has_one_listener(
    stage: Stage, tmp_path: Path, file: str
) -> None:
    address = f"127.0.0.1:{free_port()}"
    node = await stage.node(listen=address, control_listen=address, ws_hostname=address, control_token="secret")
    async with fronted(stage, tmp_path, file, [node]) as site:
        client, ws_uri = await site.admit()
        name = "/" + ws_uri.rpartition("/")[2]
        token = {"Authorization": "Bearer secret"}
        for path in ("/metrics", "/connections", "/console", "/openapi.json", "/healthz", "/readyz", name):
            assert await site.status("GET", path, **token) == 404
        for method in ("PUT", "DELETE", "POST"):
            assert await site.status(method, name, "hello", **token) == 404
            upgrading = {"Upgrade": "websocket", "Connection": "Upgrade", **token}
            assert await site.status(method, name, "hello", **upgrading) == 404
        # Half of a handshake: a proxy may drop the header before it passes the request on.
        for half in (
            ["Upgrade: websocket", "Connection: close"],
            ["Upgrade: websocket", "Connection: close, x-upgrade"],
            ["Upgrade: other", "Upgrade: websocket", "Connection: close, Upgrade"],
        ):
            assert await answer_to(site, "GET /metrics HTTP/1.1", *half, AUTHORIZED) >= 400
        stage.backend.hold("PUT")
        await client.send("hello")
        assert (await stage.backend.take("PUT")).text == "hello"
        assert stage.backend.count("POST") == 1
        stage.backend.release()


AUTHORIZED = "Authorization: Bearer secret"


async def answer_to(site: Front, *lines: str) -> int:
    """Send the head of a request by TLS; return the status of the answer, after which the proxy closes."""
    opening = asyncio.open_connection("127.0.0.1", site.port, ssl=site.tls, server_hostname="127.0.0.1")
    raw = RawClient(*await with_timeout(opening))
    raw.send("\r\n".join([*lines, f"Host: 127.0.0.1:{site.port}", "", ""]).encode())
    said = await raw.rest()
    raw.close()
    assert b"wsaas_" not in said
    return int(said.split(b" ", 2)[1])


@pytest.mark.parametrize("file", FRONTS)
async def test_an_idle_client_stays_connected_because_the_gateway_pings_it(
    stage: Stage, tmp_path: Path, file: str
) -> None:
    nodes = await gateways(stage, 1, ws_timeout=800, **setting(stage, file))
    async with fronted(stage, tmp_path, file, nodes, changes=TIMEOUTS) as site:
        client, _ = await site.admit()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.recv(), 2 * IDLE_S)
        await client.send("still there")
        assert await with_timeout(client.recv()) == "still there"


@pytest.mark.parametrize("file", [each for each in FRONTS if not each.startswith("caddy")])
async def test_without_pings_the_proxy_cuts_an_idle_client_off(stage: Stage, tmp_path: Path, file: str) -> None:
    nodes = await gateways(stage, 1, ws_timeout=0, **setting(stage, file))
    async with fronted(stage, tmp_path, file, nodes, changes=TIMEOUTS) as site:
        client, _ = await site.admit()
        with pytest.raises(ConnectionClosed) as cut_off:
            await with_timeout(client.recv())
        assert cut_off.value.rcvd is None
        assert (await stage.backend.take("DELETE")).json["code"] == 1006


@pytest.mark.parametrize("file", [each for each in FRONTS if not each.startswith("caddy")])
async def test_a_client_that_only_sends_is_not_idle(stage: Stage, tmp_path: Path, file: str) -> None:
    nodes = await gateways(stage, 1, ws_timeout=0, **setting(stage, file))
    stage.backend.on["PUT"] = Call.ok
    async with fronted(stage, tmp_path, file, nodes, changes=TIMEOUTS) as site:
        client, _ = await site.admit()
        for number in range(6):
            await client.send(str(number))
            assert (await stage.backend.take("PUT")).text == str(number)
            await asyncio.sleep(IDLE_S / 4)


async def handshake(site: Front) -> int:
    """Connect a client; return the status."""
    try:
        await site.connect()
    except InvalidStatus as refused:
        return refused.response.status_code
    return SWITCHING_PROTOCOLS


ONLY_CHECKED = {"caddy-front.Caddyfile", "haproxy-front-tcp.cfg"}
"""Those that do not try a handshake again that was refused with 503."""


@pytest.mark.parametrize("file", FRONTS)
async def test_new_clients_get_to_another_gateway_while_one_stops_and_when_it_is_gone(
    stage: Stage, tmp_path: Path, file: str
) -> None:
    leaving, staying = await gateways(stage, 2, **setting(stage, file))
    async with fronted(stage, tmp_path, file, [leaving, staying]) as site:
        clients = [await site.admit() for _ in range(4)]
        there = [client for client, ws_uri in clients if ws_uri.startswith("127.0.1.1")]
        others = [client for client, ws_uri in clients if ws_uri.startswith("127.0.1.2")]
        # Each goes to the gateway with the fewest.
        assert len(there) == len(others) == 2
        stage.backend.hold("DELETE")
        draining = asyncio.ensure_future(leaving.drain())
        for client in there:
            assert await received_close(client) == (1001, "going away")
        deletes = [await stage.backend.take("DELETE") for _ in there]
        assert not draining.done()
        while (status := await handshake(site)) != SWITCHING_PROTOCOLS:
            assert (status, site.proxy.config.name in ONLY_CHECKED) == (UNAVAILABLE, True)
        for _ in range(4):
            await site.connect()
        stage.backend.release()
        for delete in deletes:
            delete.ok()
        stage.backend.on["PUT"] = repeat
        assert await with_timeout(draining)
        for _ in range(4):
            await site.connect()
        assert staying.statistics.clients == 2 + 9
        for client in others:
            await client.send("hello")
            assert await with_timeout(client.recv()) == "hello"


@pytest.mark.parametrize("file", FRONTS)
async def test_a_reload_loses_neither_a_client_nor_a_message(stage: Stage, tmp_path: Path, file: str) -> None:
    nodes = await gateways(stage, 2, **setting(stage, file))
    async with fronted(stage, tmp_path, file, nodes) as site:
        clients = [await site.admit() for _ in range(6)]
        talking = [Repeated(talk(client, f"client {number}")) for number, (client, _) in enumerate(clients[:5])]
        listener, ws_uri = clients[5]
        pushing = Repeated(partial(push_number, ws_uri))
        cut_off: list[int] = []
        arriving = Repeated(partial(come_and_go, site, cut_off))
        for _ in range(2):
            await arriving.progress(2)
            await site.proxy.reload()
            for each in (*talking, pushing, arriving):
                await each.progress(5)
        await arriving.stop()
        pushed = await pushing.stop()
        assert [await with_timeout(listener.recv()) for _ in range(pushed)] == [str(each) for each in range(pushed)]
        sent = [await each.stop() for each in talking]
        texts = [call.text for call in stage.backend.calls if call.method == "PUT"]
        for number, messages in enumerate(sent):
            expected = [f"client {number}: {message}" for message in range(messages)]
            assert [text for text in texts if text.startswith(f"client {number}:")] == expected
        assert len(cut_off) <= 2 if file in MAY_CUT_OFF else not cut_off
        assert 0 <= 6 + arriving.number - stage.backend.count("POST") <= len(cut_off)
    assert stage.messages() == []


def talk(client: websockets.ClientConnection, name: str) -> Callable[[int], Awaitable[None]]:
    """Return a step that sends a number and waits for it to come back."""

    async def step(number: int) -> None:
        await client.send(f"{name}: {number}")
        assert await client.recv() == f"{name}: {number}"

    return step


async def push_number(ws_uri: str, number: int) -> None:
    assert await push(ws_uri, str(number)) == OK


MAY_CUT_OFF = {"caddy/front.Caddyfile"}
"""Those that may close a connection without an answer if it was opened at the very moment of a reload."""


async def come_and_go(site: Front, cut_off: list[int], number: int) -> None:
    """Connect a new client, which sends a message and leaves. `cut_off`: where to note it if there is no answer."""
    try:
        client = await site.connect()
    except (websockets.InvalidMessage, ConnectionResetError):
        cut_off.append(number)
        return
    await client.send("hello")
    assert await client.recv() == "hello"
    await client.close()


@pytest.mark.parametrize("file", FRONTS)
async def test_after_the_limit_of_a_reload_clients_are_closed(stage: Stage, tmp_path: Path, file: str) -> None:
    nodes = await gateways(stage, 1, **setting(stage, file))
    async with fronted(stage, tmp_path, file, nodes, changes=LIMITS) as site:
        client, _ = await site.admit()
        await site.proxy.reload()
        with pytest.raises(ConnectionClosed) as closed:
            await with_timeout(client.recv())
        code = (await stage.backend.take("DELETE")).json["code"]
        by_caddy = 1001
        if file.startswith("caddy"):
            assert (closed.value.rcvd and closed.value.rcvd.code, code) == (by_caddy, by_caddy)
        else:
            assert (closed.value.rcvd, code) == (None, 1006)


@pytest.mark.parametrize("file", ["caddy/front.Caddyfile"])
async def test_without_a_delay_a_reload_of_caddy_closes_all_clients_at_once(
    stage: Stage, tmp_path: Path, file: str
) -> None:
    nodes = await gateways(stage, 1)
    async with fronted(stage, tmp_path, file, nodes, changes={"stream_close_delay 12h": ""}) as site:
        client, _ = await site.admit()
        await site.proxy.reload()
        assert await received_close(client) == (1001, "")


@pytest.mark.parametrize("file", [each for each in FRONTS if not each.startswith("caddy")])
async def test_too_many_handshakes_of_one_address_are_refused(stage: Stage, tmp_path: Path, file: str) -> None:
    changes = {"rate=1000r/s": "rate=1r/s", "burst=50": "burst=2", "rate(0) gt 10000": "rate(0) gt 3"}
    nodes = await gateways(stage, 1, **setting(stage, file))
    async with fronted(stage, tmp_path, file, nodes, changes=changes) as site:
        for _ in range(3):
            await site.connect(local_addr=("127.0.0.3", 0))
        if file in HTTP_FRONTS:
            with pytest.raises(InvalidStatus) as refused:
                await site.connect(local_addr=("127.0.0.3", 0))
            assert refused.value.response.status_code == TOO_MANY_REQUESTS
        else:
            with pytest.raises((OSError, ssl.SSLError)):
                await site.connect(local_addr=("127.0.0.3", 0))
        await site.connect(local_addr=("127.0.0.4", 0))


@pytest.mark.parametrize("file", HTTP_FRONTS)
async def test_the_backend_reaches_all_gateways_at_one_address(stage: Stage, tmp_path: Path, file: str) -> None:
    nodes = await stage.workers(2, trusted_proxies="127.0.0.1")
    async with fronted(stage, tmp_path, file, nodes) as site:
        clients = [await site.admit() for _ in range(4)]
        assert [node.statistics.clients for node in nodes] == [2, 2]
        hostname = clients[0][1].partition("/")[0]
        for number in range(2):
            for client, ws_uri in clients:
                url = f"http://127.0.0.1:{site.control_port}/{ws_uri.partition('/')[2]}"
                answer = await ask("PUT", url, str(number), Content_Type="text/plain", Host=hostname)
                assert answer.status == 200
                assert await with_timeout(client.recv()) == str(number)


@pytest.mark.parametrize("file", HTTP_FRONTS)
async def test_a_push_that_may_have_arrived_is_not_sent_again(stage: Stage, tmp_path: Path, file: str) -> None:
    dying = [await Backend().start() for _ in range(2)]
    for each in dying:
        stage.stack.push_async_callback(each.stop)
        each.on |= {"GET": lambda call: call.ok(), "PUT": lambda call: call.hang_up()}
    proxy = front(file, tmp_path, CertificateAuthority(tmp_path), [(each.authority, each.authority) for each in dying])
    async with proxy.running():
        answer = await ask("PUT", f"http://127.0.0.1:{proxy.ports[1]}/id", "hello")
        assert answer.status == 502
    assert sum(each.count("PUT") for each in dying) == 1
