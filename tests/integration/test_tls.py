"""TLS listeners: real clients, hostile clients, and certificates that are reloaded."""

import asyncio
import json
import logging
import os
import signal
import ssl
import warnings
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import websockets

from tests.support.certificate_authority import CertificateAuthority
from tests.support.clients import RawClient, upgrade
from tests.support.frames import BINARY, TEXT, close_frame, frame
from tests.support.ports import free_port
from tests.support.stage import Node, Stage
from tests.support.tls_client import TlsClient
from tests.support.tools import needs_curl, run_tool
from tests.support.waiting import wait_until, wait_until_stable, with_timeout
from wsaas import gateway
from wsaas.cli.signals import install_signal_handlers
from wsaas.transport import admission
from wsaas.transport.descriptors import DescriptorBudget
from wsaas.transport.tls import CHUNK_SIZE


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority(tmp_path)


@pytest.fixture
def secured(stage: Stage, authority: CertificateAuthority) -> dict[str, Any]:
    """Settings of a node with TLS, whose certificate the clients of the stage trust."""
    stage.tls = authority.client()
    return authority.issue()


def serial(raw: Any) -> str:
    """Return the serial number of the gateway's certificate."""
    number: str = raw.writer.get_extra_info("ssl_object").getpeercert()["serialNumber"]
    return number


# Clients of every kind.


async def test_websockets_with_large_messages_both_ways(stage: Stage, secured: dict[str, Any]) -> None:
    stage.backend.on["PUT"] = lambda call: call.answer(200, call.body, Ws_Reply="binary")
    node = await stage.node(**secured, max_message_size=2_000_000)
    client, name = await node.admit(max_size=None)
    for size in (0, 1, CHUNK_SIZE - 6, CHUNK_SIZE, CHUNK_SIZE + 1, 16_384, 70_000, 1_500_000):
        message = os.urandom(size)
        await client.send(message)
        assert await with_timeout(client.recv()) == message
    assert (await node.rest("PUT", name, "y" * 900_000)).status == 200
    assert await with_timeout(client.recv()) == "y" * 900_000
    post = stage.backend.calls[0]
    assert post.json["request"]["remote_address"] == "127.0.0.1"
    await client.close(4000, "done")
    delete = await stage.backend.take("DELETE")
    assert (delete.json["code"], delete.json["reason"]) == (4000, "done")
    assert f"listening on 127.0.0.1:{node.port} with TLS" in stage.messages(logging.INFO)[0]


async def test_aiohttp(stage: Stage, secured: dict[str, Any]) -> None:
    node = await stage.node(**secured)
    url = f"https://127.0.0.1:{node.port}"
    async with aiohttp.ClientSession() as http:
        async with http.ws_connect(url, ssl=stage.tls or True) as client:
            await client.send_str("hello")
            put = await stage.backend.take("PUT")
            assert put.text == "hello"
            async with http.put(f"https://{put.ws_uri}", data="hi", ssl=stage.tls or True) as response:
                assert response.status == 200
            assert (await with_timeout(client.receive())).data == "hi"
            async with http.delete(f"https://{put.ws_uri}", ssl=stage.tls or True) as response:
                assert response.status == 200
            assert (await with_timeout(client.receive())).type == aiohttp.WSMsgType.CLOSE
        async with http.get(f"https://{put.ws_uri}", ssl=stage.tls or True) as response:
            assert response.status == 410


@needs_curl
async def test_curl(stage: Stage, secured: dict[str, Any], authority: CertificateAuthority) -> None:
    node = await stage.node(**secured)
    client, name = await node.admit()
    trusting = ("curl", "-sS", "--cacert", str(authority.path), f"https://127.0.0.1:{node.port}/{name}")
    done = await run_tool(*trusting, "-X", "PUT", "-H", "Content-Type: text/plain", "-d", "from curl")
    assert json.loads(done.stdout) == {"code": "OK"}
    assert await with_timeout(client.recv()) == "from curl"
    done = await run_tool(*trusting, "--http2")
    assert json.loads(done.stdout)["id"] == name


async def test_a_unix_socket(stage: Stage, secured: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "gateway.sock"
    await stage.node(**secured, listen=f"unix:{path}", ws_hostname="https://gateway.test")
    connecting = websockets.unix_connect(str(path), "wss://localhost/", ssl=stage.tls, ping_interval=None)
    async with connecting as client:
        await client.send("hi")
        assert (await stage.backend.take("PUT")).text == "hi"
    await stage.backend.take("DELETE")


# Versions.


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_1_2_and_1_3_are_spoken_with_http_1_1(
    stage: Stage, secured: dict[str, Any], version: ssl.TLSVersion
) -> None:
    node = await stage.node(**secured)
    assert stage.tls is not None
    stage.tls.minimum_version = stage.tls.maximum_version = version
    for offered, agreed in ((["h2", "http/1.1"], "http/1.1"), (["h2"], None)):
        stage.tls.set_alpn_protocols(offered)
        raw = await node.upgraded()
        secure = raw.writer.get_extra_info("ssl_object")
        assert secure.version() == version.name.replace("_", ".")
        assert secure.selected_alpn_protocol() == agreed
        raw.send(close_frame(1000))
        assert await raw.closing() == (1000, "")
        await raw.end()


async def test_older_versions_are_refused(stage: Stage, secured: dict[str, Any]) -> None:
    node = await stage.node(**secured)
    assert stage.tls is not None
    # The client's own policy must not refuse them first.
    stage.tls.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        stage.tls.minimum_version = ssl.TLSVersion.TLSv1
        stage.tls.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
        await node.raw()
    await wait_until(lambda: node.statistics.accepted_connections == 0)


# Reading and writing.


async def test_frames_in_the_same_record_as_the_handshake_are_not_lost(stage: Stage, secured: dict[str, Any]) -> None:
    stage.backend.hold("POST")
    node = await stage.node(**secured)
    raw = await node.raw()
    # In the record of the handshake, in later records of one packet, before the answer to the POST, and byte by byte.
    raw.send(upgrade() + frame(TEXT, b"0") + frame(TEXT, b"1")[:3])
    raw.send(frame(TEXT, b"1")[3:] + frame(TEXT, b"2" * 50_000))
    post = await stage.backend.take("POST")
    await raw.send_slowly(frame(TEXT, b"3"))
    raw.send(frame(BINARY, b"4" * 90_000))
    post.ok()
    assert (await raw.answer()).status == 101
    bodies = [(await stage.backend.take("PUT")).body for _ in range(5)]
    assert bodies == [b"0", b"1", b"2" * 50_000, b"3", b"4" * 90_000]


async def test_a_head_in_records_of_one_byte(stage: Stage, secured: dict[str, Any]) -> None:
    node = await stage.node(**secured)
    raw = await node.raw()
    await raw.send_slowly(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await raw.answer()).status == 200


@pytest.mark.slow
async def test_a_full_inbox_stops_the_client_by_tcp_and_loses_nothing(stage: Stage, secured: dict[str, Any]) -> None:
    stage.backend.hold("PUT")
    node = await stage.node(**secured, inbox=64 * 1024)
    raw = await node.upgraded()
    count, size = 1500, 16 * 1024
    sent = 0

    async def pour() -> None:
        nonlocal sent
        for number in range(count):
            raw.send(frame(BINARY, number.to_bytes(4, "big") * (size // 4)))
            await raw.writer.drain()
            sent += 1

    sending = asyncio.ensure_future(pour())
    first = await stage.backend.take("PUT")
    session = node.session(first.client)
    await wait_until(lambda: session.outbox.backlogged)
    # The kernel buffers several megabytes, TLS at most one read.
    assert await wait_until_stable(lambda: sent) < count
    assert not sending.done()
    stage.backend.on["PUT"] = lambda call: call.ok()
    first.ok()
    await with_timeout(sending, 30)
    await stage.backend.wait(lambda: stage.backend.count("PUT") == count)
    puts = [call for call in stage.backend.calls if call.method == "PUT"]
    assert [int.from_bytes(call.body[:4], "big") for call in puts] == list(range(count))


async def test_a_slow_client_is_429_at_its_send_buffer(stage: Stage, secured: dict[str, Any]) -> None:
    node = await stage.node(**secured, send_buffer=200_000)
    raw = await node.upgraded(receive=4096)
    name = (await stage.backend.take("POST")).client
    session = node.session(name)
    body = b"x" * 50_000
    taken, most = 0, 0
    while (answer := await node.rest("PUT", name, body)).status == 200:
        taken += 1
        most = max(most, session.buffered)
        assert taken < 1000, "no push was refused"
    assert (answer.status, answer.code) == (429, "SLOW_CLIENT")
    # Encryption adds 22 bytes to each chunk of the buffered bytes.
    assert 100_000 < most <= 200_000 + 50_000 // CHUNK_SIZE * 22 + 100
    for _ in range(taken):
        assert await raw.frame() == (TEXT, body)
    await wait_until(lambda: session.buffered == 0)
    assert (await node.rest("PUT", name, "last")).status == 200
    assert await raw.frame() == (TEXT, b"last")


# Ends.


async def test_a_refusal_arrives_although_the_client_keeps_sending(stage: Stage, secured: dict[str, Any]) -> None:
    node = await stage.node(**secured)
    raw = await node.raw()
    raw.send(b"GET / HTTP/1.1\r\nno colon\r\n\r\n" + b"x" * 200_000)
    assert (await raw.answer()).status == 400
    await raw.end()
    raw.close()
    await wait_until(lambda: node.statistics.accepted_connections == 0)


async def test_the_close_after_a_violation_arrives_although_the_client_keeps_sending(
    stage: Stage, secured: dict[str, Any]
) -> None:
    node = await stage.node(**secured)
    raw = await node.upgraded()
    raw.send(frame(3, b"x") + frame(TEXT, b"y" * 100_000))
    assert (await raw.closing())[0] == 1002
    await raw.end()
    raw.close()
    assert (await stage.backend.take("DELETE")).json["code"] == 1002


@pytest.mark.parametrize("how", ["reset", "close"])
async def test_a_client_that_vanishes_is_1006(stage: Stage, secured: dict[str, Any], how: str) -> None:
    node = await stage.node(**secured)
    raw = await node.upgraded()
    raw.send(frame(TEXT, b"last words"))
    assert (await stage.backend.take("PUT")).text == "last words"
    getattr(raw, how)()
    assert (await stage.backend.take("DELETE")).json["code"] == 1006


async def upgraded(node: Node) -> tuple[RawClient, TlsClient]:
    """Open a bare connection with its own TLS, and perform the handshakes."""
    raw = await node.raw(tls=False)
    assert node.stage.tls is not None
    client = TlsClient(raw, node.stage.tls)
    await client.upgrade()
    return raw, client


async def test_a_socket_that_ends_without_close_notify_is_1006(stage: Stage, secured: dict[str, Any]) -> None:
    node = await stage.node(**secured)
    raw, _ = await upgraded(node)
    # A FIN, but no close_notify.
    raw.close()
    assert (await stage.backend.take("DELETE")).json["code"] == 1006


async def test_a_record_that_was_tampered_with_ends_the_connection(stage: Stage, secured: dict[str, Any]) -> None:
    node = await stage.node(**secured)
    raw, client = await upgraded(node)
    raw.send(b"\x17\x03\x03\x00\x20" + b"\x55" * 32)
    assert (await stage.backend.take("DELETE")).json["code"] == 1006
    with pytest.raises(ssl.SSLError, match=r"(?i)bad.record.mac"):
        await client.read(1)


async def test_a_stop_closes_with_1001_and_drops_connections_in_their_tls_handshake(
    stage: Stage, secured: dict[str, Any]
) -> None:
    node = await stage.node(**secured)
    client = await node.connect()
    stalled = await node.raw(tls=False)
    await wait_until(lambda: node.statistics.accepted_connections == 2)
    assert await node.drain()
    assert client.close_code == 1001
    await stalled.end()


# Connections that do not complete the TLS handshake.


@pytest.mark.parametrize("request_", [b"GET /healthz", b"DELETE /x", b"PUT /x", b"POST /"])
async def test_the_answer_to_plain_http_says_that_the_port_uses_tls(
    stage: Stage, secured: dict[str, Any], request_: bytes
) -> None:
    node = await stage.node(**secured)
    raw = await node.raw(tls=False)
    raw.send(request_ + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answer = await raw.answer()
    assert (answer.status, answer.code) == (400, "BAD_REQUEST")
    assert "https://" in answer.json["message"]
    await raw.end()
    raw.close()
    await wait_until(lambda: node.statistics.accepted_connections == 0)


@pytest.mark.parametrize("garbage", [b"\0" * 100, b"\x16\x03\x01\xff\xff" + b"x" * 70_000, b"\x80\x2e\x01\0\x02"])
async def test_garbage_is_an_alert_or_a_close(stage: Stage, secured: dict[str, Any], garbage: bytes) -> None:
    node = await stage.node(**secured, handshake_timeout=500)
    raw = await node.raw(tls=False)
    raw.send(garbage)
    said = await raw.rest()
    # An alert (RFC 8446 section 6) or nothing.
    assert said[:1] in (b"\x15", b"")
    assert len(said) <= 7
    raw.close()
    await wait_until(lambda: node.statistics.accepted_connections == 0)
    assert (await node.rest("GET", "/healthz")).status == 200


@pytest.mark.parametrize("said", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"])
async def test_a_stalled_handshake_is_cleaned_up(stage: Stage, secured: dict[str, Any], said: bytes) -> None:
    node = await stage.node(**secured, handshake_timeout=300)
    begin = asyncio.get_running_loop().time()
    stalled = [await node.raw(tls=False) for _ in range(20)]
    for raw in stalled:
        raw.send(said)
    for raw in stalled:
        await raw.end()
    assert asyncio.get_running_loop().time() - begin >= 0.2
    await wait_until(lambda: node.statistics.accepted_connections == 0)


async def test_connections_in_their_tls_handshake_count_towards_the_limit(
    stage: Stage, secured: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "divide_descriptors", lambda *_: DescriptorBudget(2, 1, 1, 1))
    node = await stage.node(**secured)
    stalled = [await node.raw(tls=False) for _ in range(3)]
    await wait_until(lambda: node.statistics.accepted_connections == 3)
    # The oldest connection is closed in favour of one that sends a request.
    assert (await node.rest("GET", "/healthz")).status == 200
    assert await stalled.pop(0).rest() == b""
    for raw in stalled:
        raw.close()
    await wait_until(lambda: node.statistics.accepted_connections == 0)


@pytest.mark.pure  # replaces a constant of a compiled module
async def test_a_refusal_by_a_full_node_arrives_over_tls(
    stage: Stage, secured: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "divide_descriptors", lambda *_: DescriptorBudget(1, 1, 1, 1))
    monkeypatch.setattr(admission, "MAX_REFUSED", 1)
    node = await stage.node(**secured, control_listen=f"127.0.0.1:{free_port()}")
    few, warning = stage.messages()
    assert few == "the limit of open files (4) allows only 1 client, and 1 connection to the backend: raise it"
    assert warning.startswith("WS_HOSTNAME=")
    await node.upgraded()
    answer = await node.rest("GET", "/healthz")
    assert (answer.status, answer.code) == (503, "UNAVAILABLE")
    await wait_until(lambda: node.statistics.accepted_connections == 1)
    stalled = await node.raw(tls=False)
    await wait_until(lambda: node.statistics.accepted_connections == 2)
    refused = await node.raw(tls=False)
    assert await refused.rest() == b""
    assert stage.messages()[2:] == ["the limit of open files allows only 1 connection: new connections are refused"]
    # The other one has a second for the handshake.
    assert await stalled.rest() == b""


# Files that change.


async def test_sighup_changes_the_certificate_and_closes_no_client(
    stage: Stage, secured: dict[str, Any], authority: CertificateAuthority
) -> None:
    node = await stage.node(**secured)
    install_signal_handlers(asyncio.get_running_loop(), node.gateway)
    inside = await node.upgraded()
    authority.issue()
    assert serial(await node.upgraded()) == serial(inside)
    os.kill(os.getpid(), signal.SIGHUP)
    await wait_until(lambda: any("reloaded: TLS_CERT='" in text for text in stage.messages(logging.INFO)))
    assert serial(await node.upgraded()) != serial(inside)
    inside.send(frame(TEXT, b"still here"))
    put = await stage.backend.take("PUT")
    assert put.text == "still here"
    assert (await node.rest("PUT", put.client, "so am I")).status == 200
    assert await inside.frame() == (TEXT, b"so am I")


@pytest.mark.parametrize("fault", ["another key", "half a certificate", "no file"])
async def test_a_broken_file_is_an_error_and_changes_nothing(
    stage: Stage, secured: dict[str, Any], authority: CertificateAuthority, fault: str
) -> None:
    node = await stage.node(**secured)
    before = serial(await node.upgraded())
    cert, key = secured["tls_cert"], secured["tls_key"]
    kept = key.read_bytes()
    authority.issue()
    if fault == "another key":
        key.write_bytes(kept)
    elif fault == "half a certificate":
        cert.write_bytes(cert.read_bytes()[:200])
    else:
        key.unlink()
    stage.expected_errors = ["cannot reload TLS_"]
    node.gateway.reload()
    (error,) = stage.messages(logging.ERROR)
    assert str(cert if fault == "half a certificate" else key) in error
    assert error.endswith("; the previous content stays in use")
    assert "\n" not in error
    assert serial(await node.upgraded()) == before


# Client certificates for the REST API.


async def test_the_rest_api_demands_a_client_certificate_and_the_client_listener_does_not(
    stage: Stage, secured: dict[str, Any], authority: CertificateAuthority, tmp_path: Path
) -> None:
    (tmp_path / "theirs").mkdir()
    theirs = CertificateAuthority(tmp_path / "theirs")
    control = free_port()
    node = await stage.node(**secured, control_listen=f"127.0.0.1:{control}", control_tls_ca=theirs.path)
    client, name = await node.admit()
    # The gateway's own authority does not sign for clients.
    for context in (authority.client(), authority.client(signed_by=authority)):
        with pytest.raises((aiohttp.ClientError, ssl.SSLError, ConnectionError)):
            await node.rest("PUT", name, "let me in", port=control, tls=context)
    known = authority.client(signed_by=theirs)
    assert (await node.rest("PUT", name, "hello", port=control, tls=known)).status == 200
    assert await with_timeout(client.recv()) == "hello"
    assert not any("CONTROL_TOKEN" in text for text in stage.messages())


async def test_the_authority_of_the_rest_api_is_reloaded_too(
    stage: Stage, secured: dict[str, Any], authority: CertificateAuthority, tmp_path: Path
) -> None:
    (tmp_path / "theirs").mkdir()
    first, second = CertificateAuthority(tmp_path / "theirs"), CertificateAuthority(tmp_path / "theirs")
    first.publish()
    control = free_port()
    node = await stage.node(**secured, control_listen=f"127.0.0.1:{control}", control_tls_ca=first.path)
    old, new = (authority.client(signed_by=each) for each in (first, second))
    assert (await node.rest("GET", "/healthz", port=control, tls=old)).status == 200
    second.publish()
    node.gateway.reload()
    assert (await node.rest("GET", "/healthz", port=control, tls=new)).status == 200
    with pytest.raises((aiohttp.ClientError, ssl.SSLError, ConnectionError)):
        await node.rest("GET", "/healthz", port=control, tls=old)
