"""What an operator reads: the log of a bad first hour and of a good night, held against the pages of the docs.

`python -m pytest tests/adversity/test_log.py -s` prints both logs.
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

import websockets

from tests.support.backend import Call
from tests.support.clients import upgrade
from tests.support.gateway_process import GatewayProcess, gateway_process
from tests.support.stage import Stage
from tests.support.waiting import with_timeout

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
ATTEMPTS = 20
"""Clients that try to come in at each of them: what repeats must not be logged each time."""


def lines(log: str) -> list[tuple[float, str]]:
    """Return when each line was logged, in seconds, and what it says."""
    found = []
    for line in log.splitlines():
        at, _, text = line.partition(" ")
        found.append((datetime.fromisoformat(at.replace("Z", "+00:00")).timestamp(), text))
    return found


def plain(text: str) -> str:
    """Return a line without what is different each time: ports, ids, and how often or how long something happened."""
    text = re.sub(r"(?<=[0-9\]]:)[0-9]{4,5}\b", "PORT", text)
    text = re.sub(r"PORT/[\w-]{22,30}(?![\w-])", "PORT/ID", text)
    text = re.sub(r" \(\d+ more in \d+ s\)", "", text)
    text = re.sub(r"after [\d.]+ s; deliveries still waiting: \d+", "after N s; deliveries still waiting: N", text)
    text = re.sub(r", \d+ times?\b", ", N times", text)
    return re.sub(r"wsaas \d[\w.]*", "wsaas VERSION", text)


def documented(title: str) -> list[str]:
    """Return the lines of the log that the page shows under a title."""
    _, _, rest = PAGE.read_text().partition(f"\n## {title}\n")
    return [text for _, text in lines(rest.split("```")[1].partition("\n")[2])]


def check(log: str, title: str) -> None:
    print(f"\n{title}\n{log}")
    said, shown = {plain(text) for _, text in lines(log)}, {plain(text) for text in documented(title)}
    assert said == shown
    assert f"({ATTEMPTS - 1} more in " in log
    times = defaultdict(list)
    # What is left to be counted at a stop is logged at once.
    for at, text in lines(log[: log.index(" INFO stopping within ")].rpartition("\n")[0]):
        times[plain(text)].append(at)
    for text, each in times.items():
        assert all(later - earlier > 0.9 for earlier, later in pairwise(each)), text


async def told(gateway: GatewayProcess, text: str) -> None:
    """Wait until the log says `text`."""

    deadline = asyncio.get_running_loop().time() + 20
    while text not in gateway.program.said():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.01)


async def knock(gateway: GatewayProcess) -> int:
    """Ask to come in; return the status of the answer."""
    return (await gateway.ask(upgrade("/chat?room=1"))).status


async def test_the_log_of_a_bad_first_hour(stage: Stage, tmp_path: Path) -> None:
    backend = stage.backend
    async with gateway_process(stage, tmp_path / "log", API_TIMEOUT=300, API_RETRY=1000, DRAIN_TIMEOUT=2000) as gateway:
        for _, answer in WRONG:
            backend.on["POST"] = answer
            statuses = {await with_timeout(knock(gateway), 20) for _ in range(ATTEMPTS)}
            assert len(statuses) == 1
            assert statuses <= {403, 404, 502, 504}
        await told(gateway, f"API_URI has to name https://example.com/hook directly ({ATTEMPTS - 1} more in")
        backend.on["POST"] = Call.ok
        await messages_that_are_refused(gateway)
        # It goes down, and comes back.
        async with websockets.connect(f"ws://127.0.0.1:{gateway.port}/") as client:
            await backend.stop()
            await client.send("is there anybody?")
            await told(gateway, "circuit breaker open")
            await backend.start()
            await told(gateway, "circuit breaker closed")
        await gateway.stop()
    check(gateway.program.said(), "A bad first hour")


async def messages_that_are_refused(gateway: GatewayProcess) -> None:
    """Let messages meet a handler that raises, one that is not there, and one that replies in a wrong way."""
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
    async with gateway_process(stage, tmp_path / "log", API_URI="backend.invalid:8000/hook") as gateway:
        statuses = [await with_timeout(knock(gateway), 20) for _ in range(ATTEMPTS)]
        assert set(statuses) == {503}
        await gateway.stop()
    check(gateway.program.said(), "A name that does not resolve")


async def test_the_log_of_a_good_night(stage: Stage, tmp_path: Path) -> None:
    backend = stage.backend
    async with gateway_process(stage, tmp_path / "log", JOURNAL=tmp_path / "journal") as gateway:
        async with websockets.connect(f"ws://127.0.0.1:{gateway.port}/") as client:
            for _ in range(100):
                await client.send("hello")
            backend.on["POST"] = lambda call: call.answer(401)
            for _ in range(ATTEMPTS):
                assert await knock(gateway) == 401
            await told(gateway, "more in")
            # The backend is restarted.
            await backend.stop()
            await client.send("while it restarts")
            await told(gateway, "circuit breaker open")
            await backend.start()
            await told(gateway, "circuit breaker closed")
        await backend.wait(lambda: backend.count("DELETE") == 1)
        os.kill(gateway.program.pid, signal.SIGHUP)
        await told(gateway, "SIGHUP")
        await gateway.stop()
    check(gateway.program.said(), "A good night")
