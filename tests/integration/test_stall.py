"""After a stall (SIGSTOP, a suspended or slow host), the gateway reads what arrived before it applies time-outs."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.support.backend import Call
from tests.support.clients import RawClient, upgrade
from tests.support.frames import CLOSE, PING, PONG, TEXT, frame
from tests.support.gateway_process import GatewayProcess, gateway_process
from tests.support.stage import Stage
from tests.support.waiting import with_timeout

pytestmark = pytest.mark.slow

TIMEOUT_S = 0.5
SETTINGS = {"api_timeout": int(TIMEOUT_S * 1000), "ws_timeout": int(TIMEOUT_S * 1000), "api_retry": 0}


class Stall:
    """Stops the process of a gateway for longer than each of its time-outs."""

    def __init__(self, gateway: GatewayProcess, timeout: float = TIMEOUT_S) -> None:
        self._pid = gateway.program.pid
        self._seconds = 2 * timeout

    async def __aenter__(self) -> None:
        os.kill(self._pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self._pid, os.WSTOPPED)  # noqa: ASYNC222 - it stops at once

    async def __aexit__(self, *_error: object) -> None:
        # All time-outs expire while the process is stopped.
        await asyncio.sleep(self._seconds)
        os.kill(self._pid, signal.SIGCONT)


async def enter(stage: Stage, gateway: GatewayProcess) -> tuple[RawClient, str]:
    """Connect a client; return it and its id."""
    raw = await gateway.raw()
    raw.send(upgrade())
    post = await stage.backend.take("POST")
    assert (await raw.answer()).status == 101
    return raw, post.client


async def close_and_take_delete(stage: Stage, raw: RawClient) -> Call:
    """Send a Close; return the DELETE."""
    raw.send(frame(CLOSE, b"\x03\xe8"))
    return await stage.backend.take("DELETE")


class Answering:
    """A client that answers pings once `may_answer` is set."""

    def __init__(self, raw: RawClient, may_answer: asyncio.Event) -> None:
        self.raw = raw
        self.pinged = asyncio.Event()
        self._may_answer = may_answer

    async def next_message(self) -> bytes:
        while True:
            opcode, payload = await self.raw.frame()
            if opcode != PING:
                assert opcode == TEXT, (opcode, payload)
                return payload
            self.pinged.set()
            await self._may_answer.wait()
            self.raw.send(frame(PONG, payload))


async def test_a_post_answered_during_a_stall_accepts_the_client(stage: Stage, tmp_path: Path) -> None:
    stage.backend.hold("POST")
    async with gateway_process(stage, tmp_path / "log", **SETTINGS) as gateway:
        raw = await gateway.raw()
        raw.send(upgrade())
        post = await stage.backend.take("POST")
        async with Stall(gateway):
            post.ok()
        assert (await raw.answer()).status == 101
        assert not stage.backend.count("DELETE")
        await close_and_take_delete(stage, raw)


async def test_a_message_answered_during_a_stall_is_not_given_up(stage: Stage, tmp_path: Path) -> None:
    async with gateway_process(stage, tmp_path / "log", **SETTINGS) as gateway:
        raw, _ = await enter(stage, gateway)
        always = asyncio.Event()
        always.set()
        stage.backend.hold("PUT")
        raw.send(frame(TEXT, b"one"))
        put = await stage.backend.take("PUT")
        async with Stall(gateway):
            put.answer(200, b"answer to one", Ws_Reply="text")
        assert await Answering(raw, always).next_message() == b"answer to one"
        delete = await close_and_take_delete(stage, raw)
        assert (delete.json["code"], delete.json["messages_in"]) == (1000, 1)


@pytest.mark.parametrize("count", [1, 120])
async def test_a_client_that_answered_its_ping_during_a_stall_is_not_timed_out(
    stage: Stage, tmp_path: Path, count: int
) -> None:
    # All clients connect within this time, and a ping is overdue after the stall.
    timeout = 1.5
    settings = {**SETTINGS, "ws_timeout": int(timeout * 1000)}
    async with gateway_process(stage, tmp_path / "log", **settings) as gateway:
        raws = await asyncio.gather(*(gateway.upgraded() for _ in range(count)))
        may_answer = asyncio.Event()
        clients = [Answering(raw, may_answer) for raw in raws]
        messages = [asyncio.ensure_future(client.next_message()) for client in clients]
        await clients[0].pinged.wait()
        if count > 1:
            # Other clients may be checked later, before or after their ping.
            await clients[count // 2].pinged.wait()
        async with Stall(gateway, timeout / 2):
            may_answer.set()
        # All clients are pinged again, and none is closed.
        for client in clients:
            client.pinged.clear()
        await with_timeout(asyncio.gather(*(client.pinged.wait() for client in clients)))
        for post in [call for call in stage.backend.calls if call.method == "POST"]:
            request = f"PUT /{post.client} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi"
            assert (await gateway.ask(request.encode())).status == 200
        assert await asyncio.gather(*messages) == [b"hi"] * count
        for client in clients:
            client.raw.send(frame(CLOSE, b"\x03\xe8"))
        await stage.backend.wait(lambda: stage.backend.count("DELETE") == count)


async def test_a_close_answered_during_a_stall_is_clean(stage: Stage, tmp_path: Path) -> None:
    async with gateway_process(stage, tmp_path / "log", handshake_timeout=500, **SETTINGS) as gateway:
        raw, name = await enter(stage, gateway)
        answer = await gateway.ask(f"DELETE /{name} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert answer.status == 200
        code, reason = await raw.closing()
        async with Stall(gateway):
            # The Close is behind more data than one read takes.
            raw.send(frame(TEXT, b"x" * 1000) * 1000 + frame(CLOSE, code.to_bytes(2, "big") + reason.encode()))
        delete = await stage.backend.take("DELETE")
        assert (delete.json["code"], delete.json["messages_in"]) == (code, 1000)


async def test_a_request_completed_during_a_stall_is_served(stage: Stage, tmp_path: Path) -> None:
    settings = {**SETTINGS, "handshake_timeout": 500, "keep_alive_timeout": 500}
    async with gateway_process(stage, tmp_path / "log", **settings) as gateway:
        raw = await gateway.raw()
        raw.send(b"GET /healthz HTTP/1.1\r\n")
        async with Stall(gateway):
            raw.send(b"Host: a\r\n\r\n")
        assert (await raw.answer()).status == 200


async def test_a_connection_to_the_backend_that_opened_during_a_stall_is_used(stage: Stage, tmp_path: Path) -> None:
    async with gateway_process(stage, tmp_path / "log", **SETTINGS) as gateway:
        clients = [await gateway.raw() for _ in range(20)]
        for raw in clients:
            raw.send(upgrade())
        # Some of the POSTs wait for connections that are being opened.
        async with Stall(gateway):
            pass
        for raw in clients:
            assert (await raw.answer()).status == 101
            raw.send(frame(CLOSE, b"\x03\xe8"))
        await stage.backend.wait(lambda: stage.backend.count("DELETE") == 20)


async def test_a_request_unanswered_after_a_stall_times_out(stage: Stage, tmp_path: Path) -> None:
    stage.backend.hold("POST")
    async with gateway_process(stage, tmp_path / "log", **SETTINGS) as gateway:
        raw = await gateway.raw()
        raw.send(upgrade())
        await stage.backend.take("POST")
        async with Stall(gateway):
            pass
        assert (await raw.answer()).status == 504
        assert (await stage.backend.take("DELETE")).json["code"] == 1006


async def test_a_delete_answered_during_a_stall_does_not_fail_a_stop(stage: Stage, tmp_path: Path) -> None:
    stage.backend.hold("DELETE")
    async with gateway_process(stage, tmp_path / "log", drain_timeout=1000) as gateway:
        raw, _ = await enter(stage, gateway)
        gateway.program.terminate()
        assert (await raw.closing())[0] == 1001
        raw.send(frame(CLOSE, b"\x03\xe9"))
        delete = await stage.backend.take("DELETE")
        async with Stall(gateway):
            delete.ok()
        assert await gateway.program.wait() == 0
