"""Listeners and backends over TCP, IPv6 and Unix sockets; TLS to the backend."""

import asyncio
import socket
import ssl
from pathlib import Path

import aiohttp
import pytest
import trustme
import websockets

from tests.support.backend import Backend
from tests.support.clients import upgrade
from tests.support.frames import TEXT
from tests.support.ports import free_port
from tests.support.stage import Stage
from tests.support.waiting import with_timeout


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 loopback here")


async def test_a_unix_socket(stage: Stage, tmp_path: Path) -> None:
    path = tmp_path / "gateway.sock"
    node = await stage.node(listen=f"unix:{path}", ws_hostname="http://gateway.test/ws")
    async with (
        websockets.unix_connect(str(path), "ws://gateway.test/ws/hello", ping_interval=None) as client,
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as http,
    ):
        post = await stage.backend.take("POST")
        assert post.json["request"]["remote_address"] == ""
        assert post.ws_uri == f"http://gateway.test/ws/{post.client}"
        async with http.put(post.ws_uri, data="hello", headers={"Content-Type": "text/plain"}) as response:
            assert response.status == 200
        assert await with_timeout(client.recv()) == "hello"
        await client.send("hi")
        assert (await stage.backend.take("PUT")).text == "hi"
    await stage.backend.take("DELETE")
    assert await node.drain()
    # The file is removed. A file that a killed process left does not prevent the next start.
    assert not await asyncio.to_thread(path.exists)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    again = await stage.node(listen=f"unix:{path}", ws_hostname="http://gateway.test/ws")
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as http,
        http.get("http://gateway.test/healthz") as response,
    ):
        assert response.status == 200
    assert await again.drain()


@needs_ipv6
async def test_ipv6(stage: Stage) -> None:
    stage.backend = Backend("::1")
    await stage.backend.start()
    port = free_port("::1")
    node = await stage.node(ws_hostname=f"[::1]:{port}")
    raw = await node.raw(host="::1")
    raw.send(upgrade())
    assert (await raw.answer()).status == 101
    post = await stage.backend.take("POST")
    assert post.ws_uri.startswith(f"[::1]:{port}/")
    assert post.json["request"]["remote_address"] == "::1"
    async with aiohttp.ClientSession() as http, http.put(f"http://{post.ws_uri}", data=b"x") as response:
        assert response.status == 200
    assert await raw.frame() == (2, b"x")
    with pytest.raises(ConnectionRefusedError):
        await node.raw(host="127.0.0.1")


@needs_ipv6
async def test_localhost_is_both_families_on_one_port(stage: Stage) -> None:
    port = free_port()
    node = await stage.node(ws_hostname=f"localhost:{port}")
    families = {info[0] for info in socket.getaddrinfo("localhost", port, type=socket.SOCK_STREAM)}
    if socket.AF_INET6 in families:
        raw = await node.raw(host="::1")
        raw.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await raw.answer()).status == 200
    assert (await node.rest("GET", "/healthz")).status == 200


def server_side(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


async def test_a_backend_behind_tls(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    trusted = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(trusted)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    stage.backend = Backend(tls=server_side(authority, "localhost"))
    await stage.backend.start()
    stage.backend.on["PUT"] = lambda call: call.answer(200, call.body, Ws_Reply="binary")
    node = await stage.node(api_uri=f"https://localhost:{stage.backend.port}/hook")
    client, name = await node.admit(max_size=None)
    assert stage.backend.calls[0].headers["host"] == f"localhost:{stage.backend.port}"
    for message in (b"x", b"y" * 1_000_000):
        await client.send(message)
        assert await with_timeout(client.recv()) == message
    assert (await node.rest("PUT", name, "push")).status == 200
    assert await with_timeout(client.recv()) == "push"
    await client.close()
    await stage.backend.take("DELETE")
    assert stage.backend.accepted == 1
    assert await node.drain()


@pytest.mark.parametrize("fault", ["unknown authority", "another name"])
async def test_a_backend_that_cannot_be_trusted_is_503(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    authority = trustme.CA()
    trusted = tmp_path / "ca.pem"
    (trustme.CA() if fault == "unknown authority" else authority).cert_pem.write_to_path(trusted)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    name = "elsewhere.test" if fault == "another name" else "localhost"
    stage.backend = Backend(tls=server_side(authority, name))
    await stage.backend.start()
    node = await stage.node(api_uri=f"https://localhost:{stage.backend.port}/hook")
    for _ in range(2):
        raw = await node.raw()
        raw.send(upgrade())
        answer = await raw.answer()
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) >= 1
    assert not stage.backend.calls


async def test_a_backend_whose_tls_handshake_hangs_is_503(stage: Stage) -> None:
    await stage.backend.start()
    node = await stage.node(api_uri=f"https://localhost:{stage.backend.port}/hook", api_timeout=400)
    raw = await node.raw()
    raw.send(upgrade())
    assert (await raw.answer()).status == 503


async def test_a_backend_that_speaks_no_tls_is_503(stage: Stage) -> None:
    def refuse(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    stage.stack.callback(server.close)
    node = await stage.node(api_uri=f"https://localhost:{server.sockets[0].getsockname()[1]}/hook")
    raw = await node.raw()
    raw.send(upgrade())
    assert (await raw.answer()).status == 503


async def test_clients_of_every_kind_at_once(stage: Stage) -> None:
    stage.backend.on["PUT"] = lambda call: call.answer(200, call.body, Ws_Reply="text")
    node = await stage.node()
    url = f"http://127.0.0.1:{node.port}/"
    async with aiohttp.ClientSession() as http:

        async def with_aiohttp(number: int) -> None:
            async with http.ws_connect(url, autoping=True, protocols=("a", "b")) as socket:
                await socket.ping(b"p")
                await socket.send_str(f"a{number}")
                assert (await with_timeout(socket.receive())).data == f"a{number}"
                await socket.close(code=4000, message=b"done")
                assert socket.close_code == 4000

        async def with_websockets(number: int) -> None:
            client = await node.connect()
            await client.send(f"w{number}")
            assert await with_timeout(client.recv()) == f"w{number}"
            await client.close(4001, "done")

        async def with_bytes(number: int) -> None:
            raw = await node.upgraded()
            raw.send(b"\x81\x82\0\0\0\0r%d" % number)
            assert await raw.frame() == (TEXT, b"r%d" % number)
            raw.close()

        await with_timeout(
            asyncio.gather(*(kind(n) for n in range(8) for kind in (with_aiohttp, with_websockets, with_bytes)))
        )
    await stage.backend.wait(lambda: stage.backend.count("DELETE") == 24)
    codes = [call.json["code"] for call in stage.backend.calls if call.method == "DELETE"]
    assert sorted(codes) == [1006] * 8 + [4000] * 8 + [4001] * 8
