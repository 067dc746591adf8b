"""The log of a bad first hour and of a good night, compared with docs/log.md.

`python -m pytest tests/faults/test_log.py -s` prints both logs.
"""

import asyncio
import os
import re
import signal
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest
import websockets

from tests.support.backend import Call
from tests.support.clients import upgrade
from tests.support.exposition import Exposition
from tests.support.gateway_process import GatewayProcess, gateway_process
from tests.support.stage import Stage
from tests.support.waiting import with_timeout

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "log.md"

CSRF = b"""<!DOCTYPE html>
<html lang="en">
<head>
  <title>403 Forbidden</title>
  <style type="text/css">html * { padding:0; margin:0; }</style>
</head>
<body>
<div id="summary">
  <h1>Forbidden <span>(403)</span></h1>
  <p>CSRF verification failed. Request aborted.</p>
</div>
</body></html>"""

WRONG: list[tuple[str, Callable[[Call], None]]] = [
    ("redirects", lambda call: call.answer(301, Location="https://example.com/hook")),
    ("answers with a page", lambda call: call.answer(200, "<h1>It works!</h1>", Content_Type="text/html")),
    ("checks CSRF tokens", lambda call: call.answer(403, CSRF, Content_Type="text/html; charset=utf-8")),
    ("has no such path", lambda call: call.answer(404, '{"detail":"Not Found"}')),
    ("refuses JSON", lambda call: call.answer(415, "Unsupported Media Type")),
    ("raises an exception", lambda call: call.answer(500, "Internal Server Error")),
    ("spells OK its own way", lambda call: call.answer(200, {"code": "ok"})),
    ("is no HTTP server", lambda call: call.hang_up(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n")),
    ("speaks TLS", lambda call: call.hang_up(b"\x15\x03\x01\x00\x02\x02\x46")),
    ("hangs up", Call.hang_up),
    ("hangs", lambda _call: None),
    ("offers what was not asked for", lambda call: call.ok(subprotocol="graphql-ws")),
    ("refuses on purpose", lambda call: call.answer(200, {"code": "BANNED"})),
]
METRICS = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
OFF = {"ACCESS_LOG": "off"}
"""So that the page does not repeat the lines of the access log for each handshake."""

ATTEMPTS, TIMED_OUT_ATTEMPTS = 20, 4
"""Handshakes at each wrong backend: repetitions must not be logged each time. Each time-out takes 0.3 s."""


def lines(log: str) -> list[tuple[float, str]]:
    """Return the time in seconds and the text of each line."""
    found = []
    for line in log.splitlines():
        at, _, text = line.partition(" ")
        found.append((datetime.fromisoformat(at.replace("Z", "+00:00")).timestamp(), text))
    return found


def plain(text: str) -> str:
    """Return a line without its ports, ids, counts and durations, which differ from run to run."""
    text = re.sub(r"(?<=[0-9\]]:)[0-9]{4,5}\b", "PORT", text)
    text = re.sub(r"PORT/[\w-]{22,30}(?![\w-])", "PORT/ID", text)
    text = re.sub(r" \(\d+ more in \d+ s\)", "", text)
    text = re.sub(r"after [\d.]+ s; deliveries still waiting: \d+", "after N s; deliveries still waiting: N", text)
    text = re.sub(r", \d+ times?\b", ", N times", text)
    text = re.sub(r"\bid=[\w-]{30}", "id=ID", text)
    text = re.sub(r"duration_ms=\d+", "duration_ms=N", text)
    text = re.sub(r"JOURNAL=/\S+", "JOURNAL=PATH", text)
    return re.sub(r"wsaas \d[\w.]*", "wsaas VERSION", text)


def documented(title: str) -> list[str]:
    """Return the lines of the log under a title of the page."""
    _, _, rest = PAGE.read_text().partition(f"\n## {title}\n")
    return [text for _, text in lines(rest.split("```")[1].partition("\n")[2])]


def check(log: str, title: str) -> None:
    print(f"\n{title}\n{log}")
    logged, shown = {plain(text) for _, text in lines(log)}, {plain(text) for text in documented(title)}
    assert logged == shown
    assert f"({ATTEMPTS - 1} more in " in log
    times = defaultdict(list)
    # A stop logs the remaining repetitions at once.
    for at, text in lines(log[: log.index(" INFO stopping within ")].rpartition("\n")[0]):
        times[plain(text)].append(at)
    for text, each in times.items():
        assert all(later - earlier > 0.9 for earlier, later in pairwise(each)), text


async def logged_line(gateway: GatewayProcess, text: str) -> None:
    """Wait until the log contains `text`."""

    deadline = asyncio.get_running_loop().time() + 20
    while text not in gateway.program.said():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.01)


async def handshake_status(gateway: GatewayProcess) -> int:
    """Send a handshake; return the status of the answer."""
    return (await gateway.ask(upgrade("/chat?room=1"))).status


async def all_disconnects_delivered(gateway: GatewayProcess, number: int) -> None:
    """Wait for `number` DELETEs, and until the gateway has read the answers: a stop logs those it still waits for."""
    await gateway.stage.backend.wait(lambda: gateway.stage.backend.count("DELETE") == number)
    deadline = asyncio.get_running_loop().time() + 20
    while Exposition((await gateway.ask(METRICS)).body).value("disconnects_pending"):
        assert asyncio.get_running_loop().time() < deadline


async def test_the_log_of_a_bad_first_hour(stage: Stage, tmp_path: Path) -> None:
    backend = stage.backend
    settings = {**OFF, "API_TIMEOUT": 300, "API_RETRY": 1000, "DRAIN_TIMEOUT": 2000}
    async with gateway_process(stage, tmp_path / "log", **settings) as gateway:
        for what, answer in WRONG:
            backend.on["POST"] = answer
            attempts = TIMED_OUT_ATTEMPTS if what == "hangs" else ATTEMPTS
            statuses = {await with_timeout(handshake_status(gateway), 20) for _ in range(attempts)}
            assert len(statuses) == 1
            assert statuses <= {403, 404, 502, 504}
        await logged_line(gateway, f"API_URI has to name https://example.com/hook directly ({ATTEMPTS - 1} more in")
        backend.on["POST"] = Call.ok
        await send_messages_that_fail(gateway)
        # The backend stops and starts again.
        async with websockets.connect(f"ws://127.0.0.1:{gateway.port}/") as client:
            await backend.stop()
            await client.send("hello")
            await logged_line(gateway, "circuit breaker open")
            await backend.start()
            await logged_line(gateway, "circuit breaker closed")
        await gateway.stop()
    check(gateway.program.said(), "A bad first hour")


async def send_messages_that_fail(gateway: GatewayProcess) -> None:
    """Send messages to a handler that raises, to one that is missing, and to one whose reply is invalid."""
    backend = gateway.stage.backend
    for answer in (
        lambda call: call.answer(500, "KeyError: 'user'"),
        lambda call: call.answer(405, "Method Not Allowed"),
        lambda call: call.answer(200, "{}", Ws_Reply="json"),
    ):
        backend.on["PUT"] = answer
        async with websockets.connect(f"ws://127.0.0.1:{gateway.port}/") as client:
            await client.send("hello")
            await with_timeout(client.wait_closed(), 20)
            assert client.close_code == 1011
    backend.on["PUT"] = Call.ok


async def test_the_log_of_a_name_that_does_not_resolve(stage: Stage, tmp_path: Path) -> None:
    async with gateway_process(stage, tmp_path / "log", API_URI="backend.invalid:8000/hook", **OFF) as gateway:
        statuses = [await with_timeout(handshake_status(gateway), 20) for _ in range(ATTEMPTS)]
        assert set(statuses) == {503}
        await gateway.stop()
    check(gateway.program.said(), "A name that does not resolve")


async def test_the_log_of_a_good_night(stage: Stage, tmp_path: Path) -> None:
    backend = stage.backend
    async with gateway_process(stage, tmp_path / "log", JOURNAL=tmp_path / "journal", **OFF) as gateway:
        async with websockets.connect(f"ws://127.0.0.1:{gateway.port}/") as client:
            for _ in range(100):
                await client.send("hello")
            backend.on["POST"] = lambda call: call.answer(401)
            for _ in range(ATTEMPTS):
                assert await handshake_status(gateway) == 401
            await logged_line(gateway, "more in")
            # The backend is restarted.
            await backend.stop()
            await client.send("while it restarts")
            await logged_line(gateway, "circuit breaker open")
            await backend.start()
            await logged_line(gateway, "circuit breaker closed")
        await backend.wait(lambda: backend.count("DELETE") == 1)
        os.kill(gateway.program.pid, signal.SIGHUP)
        await logged_line(gateway, "SIGHUP")
        await gateway.stop()
    check(gateway.program.said(), "A good night")


async def test_the_log_of_some_connections(stage: Stage, tmp_path: Path) -> None:
    backend = stage.backend
    async with gateway_process(stage, tmp_path / "log", WS_TIMEOUT=500) as gateway:
        async with websockets.connect(f"ws://127.0.0.1:{gateway.port}/chat?room=1") as client:
            await client.send("hello")
            await backend.wait(lambda: backend.count("PUT") == 1)
        await logged_line(gateway, "client closed")
        # It does not answer the ping.
        await gateway.upgraded("/chat?room=2")
        await logged_line(gateway, "timeout")
        backend.on["POST"] = lambda call: call.answer(401)
        assert await handshake_status(gateway) == 401
        backend.hold("POST")
        raw = await gateway.raw()
        raw.send(upgrade("/chat"))
        await backend.wait(lambda: backend.count("POST") == 4)
        raw.close()
        await logged_line(gateway, "abandoned")
        backend.release()
        await all_disconnects_delivered(gateway, 3)
        await gateway.stop()
    log = gateway.program.said()
    print(f"\n{log}")
    assert [plain(text) for _, text in lines(log)] == [plain(text) for text in documented("Access log")]
