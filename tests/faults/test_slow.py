"""Slow readers: the sender waits or is refused, and the gateway's memory stays bounded."""

import asyncio
import gc
from pathlib import Path
from unittest.mock import Mock

import pytest

from tests.support.backend import Call
from tests.support.certificate_authority import CertificateAuthority
from tests.support.frames import BINARY, PING, PONG, TEXT, close_frame, frame
from tests.support.resources import resident_memory
from tests.support.stage import Stage
from tests.support.tls_client import TlsClient
from tests.support.waiting import wait_until, wait_until_stable, with_timeout
from wsaas.api import listing
from wsaas.sessions.registry import page

MIB = 1024 * 1024


@pytest.mark.slow
async def test_pushes_to_a_client_that_does_not_read_are_refused_at_send_buffer(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.upgraded(receive=4096)
    name = (await stage.backend.take("POST")).client
    neighbour, other = await node.admit()
    session = node.session(name)
    body = b"x" * 200_000
    gc.collect()
    before = resident_memory()
    taken, most = 0, 0
    for _ in range(100):
        answer = await node.rest("PUT", name, body)
        most = max(most, session.buffered)
        if answer.status == 200:
            taken += 1
        else:
            assert (answer.status, answer.code) == (429, "SLOW_CLIENT")
            assert int(answer.headers["Retry-After"]) >= 1
        assert (await node.rest("PUT", other, "quick")).status == 200
        assert await with_timeout(neighbour.recv()) == "quick"
    assert 5 <= taken < 90
    assert most <= MIB + 14
    assert resident_memory() - before < 12 * MIB
    information = await node.information(name)
    assert information["buffered"] > MIB / 2
    assert information["messages_out"] == taken
    # Refused pushes were not sent at all; accepted ones arrive.
    for _ in range(taken):
        assert await raw.frame() == (TEXT, body)
    assert (await node.rest("PUT", name, "last")).status == 200
    assert await raw.frame() == (TEXT, b"last")


async def test_one_message_fits_into_any_send_buffer(stage: Stage) -> None:
    node = await stage.node(send_buffer=1000)
    raw = await node.upgraded(receive=4096)
    name = stage.backend.calls[0].client
    sent = 0
    while (await node.rest("PUT", name, b"x" * MIB)).status == 200:
        sent += 1
    assert sent >= 1
    assert (await node.rest("PUT", name, "y")).status == 429
    for _ in range(sent):
        assert await raw.frame() == (TEXT, b"x" * MIB)
    await wait_until(lambda: node.session(name).buffered == 0)
    assert (await node.rest("PUT", name, "y")).status == 200
    assert await raw.frame() == (TEXT, b"y")


async def test_replies_wait_for_a_client_that_does_not_read(stage: Stage) -> None:
    node = await stage.node(send_buffer=300_000)
    stage.backend.on["PUT"] = lambda call: call.answer(200, call.body + b"." * 100_000, Ws_Reply="text")
    raw = await node.upgraded(receive=4096)
    name = stage.backend.calls[0].client
    session = node.session(name)
    count = 200
    raw.send(b"".join(frame(TEXT, b"%03d" % number) for number in range(count)))
    await wait_until(lambda: session.buffered > 300_000)
    assert await wait_until_stable(lambda: stage.backend.count("PUT")) < count, "the outbox waits for the client"
    assert session.buffered <= 300_000 + 100_100
    for number in range(count):
        opcode, payload = await raw.frame()
        assert opcode == TEXT
        assert payload[:4] == b"%03d." % number
    raw.close()
    delete = await stage.backend.take("DELETE")
    assert (delete.json["messages_in"], delete.json["messages_out"]) == (count, count)


async def test_messages_of_a_client_that_leaves_with_waiting_replies_are_delivered(stage: Stage) -> None:
    node = await stage.node(send_buffer=100_000)
    stage.backend.on["PUT"] = lambda call: call.answer(200, b"." * 1_000_000, Ws_Reply="binary")
    raw = await node.upgraded(receive=4096)
    name = stage.backend.calls[0].client
    session = node.session(name)
    raw.send(frame(TEXT, b"x") * 50)
    await wait_until(lambda: session.buffered > 100_000)
    assert await wait_until_stable(lambda: stage.backend.count("PUT")) < 50, "the outbox waits for the client"
    raw.reset()
    assert (await stage.backend.take("DELETE")).json["code"] == 1006
    assert stage.backend.count("PUT") == 50


async def test_pongs_to_a_client_that_does_not_read_are_bounded(stage: Stage) -> None:
    node = await stage.node(send_buffer=50_000)
    raw = await node.upgraded(receive=4096)
    name = stage.backend.calls[0].client
    session = node.session(name)

    async def flood() -> None:
        for _ in range(40):
            raw.send(frame(PING, b"x" * 125) * 1000)
            await raw.writer.drain()
        raw.send(frame(TEXT, b"done"))

    await with_timeout(flood(), 30)
    assert (await stage.backend.take("PUT")).text == "done"
    assert session.buffered <= 50_000 + 200
    assert await raw.frame() == (PONG, b"x" * 125)


@pytest.mark.slow
async def test_a_caller_that_does_not_read_its_answers_is_not_read(stage: Stage) -> None:
    node = await stage.node()
    client, name = await node.admit()
    raw = await node.raw(receive=4096)
    request = b"GET /%s HTTP/1.1\r\nHost: localhost\r\nX-Padding: %s\r\n\r\n" % (name.encode(), b"x" * 900)
    count = 20_000
    gc.collect()
    before = resident_memory()
    sending = asyncio.ensure_future(pour(raw.writer, request * 100, count // 100))
    await wait_until_stable(resident_memory)
    assert not sending.done()
    assert resident_memory() - before < 24 * MIB
    await client.send("meanwhile")
    await stage.backend.take("PUT")
    for _ in range(count):
        assert (await raw.answer()).status == 200
    await with_timeout(sending)


@pytest.mark.slow
async def test_large_answers_to_a_burst_of_requests_are_not_buffered(stage: Stage) -> None:
    node = await stage.node()
    for _ in range(100):
        await node.upgraded()
    client, name = await node.admit()
    raw = await node.raw(receive=4096)
    request = b"GET /connections HTTP/1.1\r\nHost: localhost\r\n\r\n"
    count = 3000
    gc.collect()
    before = resident_memory()
    raw.send(request * count)
    await wait_until_stable(resident_memory)
    # The answers add up to a hundred megabytes. Only one of them is buffered, beside the transport's buffer.
    assert resident_memory() - before < 16 * MIB
    await client.send("meanwhile")
    await stage.backend.take("PUT")
    assert (await node.rest("PUT", name, "meanwhile too")).status == 200
    for _ in range(50):
        assert len((await raw.answer()).json["connections"]) == 100
    assert resident_memory() - before < 16 * MIB
    raw.reset()


@pytest.mark.slow
async def test_a_burst_of_requests_does_not_delay_other_connections(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await stage.node()
    made_page = Mock(side_effect=page)
    monkeypatch.setattr(listing, "find_page", made_page)
    raw, other = await node.raw(), await node.raw()
    count = 5000
    raw.send(b"HEAD /connections HTTP/1.1\r\nHost: localhost\r\n\r\n" * count)
    for _ in range(5):
        other.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await other.answer()).status == 200
    # The loop, which the test shares, has served only part of the burst.
    assert 0 < made_page.call_count < count / 2
    for _ in range(count):
        assert (await raw.answer(head=True)).status == 200


async def pour(writer: asyncio.StreamWriter, piece: bytes, times: int) -> None:
    for _ in range(times):
        writer.write(piece)
        await writer.drain()


async def test_a_slow_backend_does_not_let_memory_grow(stage: Stage) -> None:
    node = await stage.node(inbox=100_000)
    held: list[Call] = []
    stage.backend.on["PUT"] = held.append
    clients = [await node.upgraded() for _ in range(20)]
    gc.collect()
    before = resident_memory()
    pouring = [asyncio.ensure_future(pour(client.writer, frame(BINARY, b"x" * 20_000), 500)) for client in clients]
    await stage.backend.wait(lambda: len(held) == 20)
    sessions = [node.gateway.sessions.find(call.client) for call in held]
    await wait_until(lambda: all(session is not None and session.outbox.backlogged for session in sessions))
    await asyncio.sleep(0.3)
    assert all(session is not None and session.outbox.level < 250_000 for session in sessions)
    assert resident_memory() - before < 40 * MIB
    assert not any(task.done() for task in pouring)
    for client in clients:
        client.reset()
    await asyncio.gather(*pouring, return_exceptions=True)
    stage.backend.release()
    await stage.backend.wait(lambda: stage.backend.count("DELETE") == 20)


async def test_a_slow_reader_receives_all_pushes(stage: Stage) -> None:
    node = await stage.node(send_buffer=100_000)
    raw = await node.upgraded(receive=4096)
    name = stage.backend.calls[0].client
    count, size = 200, 20_000

    async def push() -> int:
        refused = 0
        for number in range(count):
            body = b"%04d" % number + b"x" * size
            while (await node.rest("PUT", name, body)).status == 429:
                refused += 1
                await asyncio.sleep(0.01)
        return refused

    pushing = asyncio.ensure_future(push())
    for number in range(count):
        opcode, payload = await raw.frame()
        assert (opcode, payload[:4], len(payload)) == (TEXT, b"%04d" % number, size + 4)
        if number % 20 == 0:
            await asyncio.sleep(0.05)
    await with_timeout(pushing)


async def test_a_client_that_reads_slowly_is_not_timed_out_while_its_pong_waits_behind_messages(stage: Stage) -> None:
    node = await stage.node(ws_timeout=600, send_buffer=4 * MIB)
    raw = await node.upgraded(receive=4096)
    name = stage.backend.calls[0].client
    for _ in range(3):
        assert (await node.rest("PUT", name, b"x" * MIB)).status == 200
    loop = asyncio.get_running_loop()
    end = loop.time() + 2.5
    taken = 0
    # So slow that the pings of four time-outs wait behind the messages.
    while loop.time() < end:
        taken += len(await with_timeout(raw.reader.read(10_000)))
        await asyncio.sleep(0.02)
    assert taken < 2 * MIB
    information = await node.information(name)
    assert information["state"] == "open"
    await with_timeout(raw.reader.readexactly(3 * (10 + MIB) - taken), 20)
    assert (await raw.frame())[0] == PING
    raw.send(close_frame(1000))
    assert (await stage.backend.take("DELETE")).json["code"] == 1000


async def test_a_client_that_reads_nothing_is_timed_out_although_messages_wait_for_it(stage: Stage) -> None:
    node = await stage.node(ws_timeout=600, handshake_timeout=300)
    await node.upgraded(receive=4096)
    name = stage.backend.calls[0].client
    while (await node.rest("PUT", name, b"x" * MIB)).status == 200:
        pass
    delete = await stage.backend.take("DELETE")
    assert (delete.json["code"], delete.json["reason"]) == (1001, "timeout")


async def test_pushes_to_a_half_closed_client_are_410_and_earlier_ones_arrive(stage: Stage) -> None:
    node = await stage.node(send_buffer=8 * MIB)
    raw = await node.upgraded(receive=4096)
    name = stage.backend.calls[0].client
    body = b"x" * MIB
    for _ in range(6):
        assert (await node.rest("PUT", name, body)).status == 200
    raw.half_close()
    assert (await stage.backend.take("DELETE")).json["code"] == 1006
    # The client still reads, but pushes are refused from now on.
    assert (await node.rest("PUT", name, "late")).status == 410
    for _ in range(6):
        assert await with_timeout(raw.frame(), 20) == (TEXT, body)
    assert await raw.rest() == b""


async def test_pushes_after_a_close_notify_are_410_and_earlier_ones_arrive(stage: Stage, tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path)
    stage.tls = authority.client()
    node = await stage.node(**authority.issue(), send_buffer=8 * MIB)
    client = TlsClient(await node.raw(receive=4096, tls=False), stage.tls)
    await client.upgrade()
    name = stage.backend.calls[0].client
    for _ in range(6):
        assert (await node.rest("PUT", name, b"x" * MIB)).status == 200
    client.end_writing()
    assert (await stage.backend.take("DELETE")).json["code"] == 1006
    for _ in range(5):
        assert (await node.rest("PUT", name, "late")).status == 410
    arrived = 0
    while data := await client.read(1 << 16):
        arrived += len(data)
    assert arrived == 6 * (10 + MIB)
