"""What the gateway of a test tells: a busy node, a long list, and a chat in which things go wrong."""

import itertools
import math
import random
import time
from collections.abc import Iterable

from tests.support.fake_console import Event, FakeConsole, binary_body, connection, text_body

BUCKETS = (0.5, 1, 2, 5, 10, 25, 50, 100, 250, 1000, None)
LATENCIES = ((1, 40), (2, 380), (5, 460), (10, 80), (25, 24), (50, 10), (100, 6))
"""Bound of a bucket, and how many of 1000 requests are below it and above the one before."""

WAITING = {"inbox_bytes": 48_128, "paused": True, "path": "/rooms/kitchen"}
CHAT = f"Nd3aT0pR{'kQ7_xL2mV9cRw4tYb8ZsEa':22}"


def tick(console: FakeConsole, number: int) -> None:
    """Let two seconds pass on a busy node."""
    rng = random.Random(number)
    node, n = console.node, console.node["numbers"]
    node["now"] = node.get("now", time.time()) + 2
    wave = math.sin(number / 9)
    n["clients"] = 11_240 + number * 14 + round(260 * wave)
    messages = round(2 * (1650 + 420 * wave + rng.uniform(-140, 140)))
    n["messages_in"] += messages
    n["messages_out"] += round(messages * 2.7 + rng.uniform(-300, 300))
    n["bytes_in"] += messages * 140
    n["bytes_out"] += messages * 460
    n["loop_lag_ms"] = round(0.4 + 0.25 * rng.random() + (3.1 if number % 23 == 7 else 0), 2)
    n["connects"] += 30
    n["backend_connections_busy"] = 9 + number % 5
    slow = 1 + max(0.0, wave)
    counts = dict.fromkeys(BUCKETS, 0)
    for bound, share in LATENCIES:
        counts[next(each for each in BUCKETS if each is None or each >= bound * slow)] += round(messages * share / 1000)
    totals = itertools.accumulate(counts[each] for each in BUCKETS)
    before = [total for _, total in node["backend_ms"]["buckets"]]
    before += [before[-1]] * (len(BUCKETS) - len(before))
    added = zip(BUCKETS, before, totals, strict=True)
    node["backend_ms"]["buckets"] = [[bound, old + new] for bound, old, new in added]


def busy(console: FakeConsole) -> None:
    """Make the node of `console` one with history, and with two problems."""
    console.node["backend"]["url"] = "http://chat.internal:8000/websocket"
    console.node["cluster"] = {"nodes": 3, "in_contact": True, "unreplicated": 0}
    console.node["workers"] = 4
    console.node["numbers"] |= {
        "connects": 381_904, "refused": 2_117, "retries": 5_310, "undelivered": 3, "messages_in": 64_120_338,
        "messages_out": 173_480_112, "bytes_in": 8_977_000_000, "bytes_out": 79_800_000_000, "paused": 12,
        "backlog_bytes": 596_000, "backend_requests_waiting": 2, "disconnects_pending": 4,
    }  # fmt: skip
    console.node["closes"] = {
        "client closed": 298_411, "network error": 51_240, "timeout": 17_902, "backend closed": 9_310,
        "message refused": 48, "message too large": 7, "going away": 0,
    }  # fmt: skip
    console.node["problems"] = [
        {
            "severity": "error",
            "text": "3 messages were given up in the last minute.",
            "advice": "The backend answered 500 for longer than API_RETRY. Their clients were closed with 1011.",
        },
        {
            "severity": "warning",
            "text": "12 clients are paused: the backend is slow.",
            "advice": "Their inbox is full, so no more is read from them. Sort the connections by what waits.",
        },
    ]


def crowd(console: FakeConsole, number: int) -> None:
    """Let many clients be connected."""
    console.connections = [connection(each) for each in range(number)]
    for each, waits in ((3, 61_440), (11, 48_128), (17, 2_310)):
        if each < number:
            console.connections[each] |= {"inbox_bytes": waits, "paused": waits > 40_000}


def chat(console: FakeConsole) -> str:
    """Tell the life of a client whose backend has a bad moment. Return its id."""
    known = connection(
        7, id=CHAT, path="/rooms/lobby", query="nick=ada", context="room=lobby&nick=ada", groups=["lobby"]
    )
    known |= {"groups_count": 1, "connected_at": time.time() - 754, "messages_in": 18, "messages_out": 42}
    known["ws_uri"] = f"localhost:{console.port}/{CHAT}"
    console.connections.insert(0, known)
    console.handshake(CHAT, "/rooms/lobby", "nick=ada&token=•••")
    console.response(CHAT, "0", body=text_body('{"code": "OK", "context": "room=lobby&nick=ada", "groups": ["lobby"]}'))
    console.emit(CHAT, "opened", status=101, subprotocol=None, compression=True)
    console.emit(CHAT, "state", state="OPEN", reason=None)
    joined = '{"type": "joined", "nick": "ada", "room": "lobby", "members": ["ada", "grace", "alan"]}'
    console.frame(CHAT, "out", text_body(joined), cause="publish")
    console.frame(CHAT, "in", text_body("hello, everybody"))
    console.request(CHAT, "message", "1", text_body("hello, everybody"))
    console.response(CHAT, "1")
    said = '{"type": "message", "from": "ada", "text": "hello, everybody"}'
    console.frame(CHAT, "out", text_body(said), cause="publish")
    console.frame(CHAT, "in", text_body("is anybody there?"))
    console.request(CHAT, "message", "2", text_body("is anybody there?"))
    console.response(
        CHAT, "2", status=503, body=text_body("deploying"), retry_in_ms=118.0, took_ms=2.3, result="retried"
    )
    console.request(CHAT, "message", "2", text_body("is anybody there?"), 2)
    console.response(CHAT, "2", 2, failure="could not be reached", retry_in_ms=402.0)
    console.request(CHAT, "message", "2", text_body("is anybody there?"), 3)
    console.response(CHAT, "2", 3, took_ms=3.1)
    console.emit(CHAT, "push", method="PUT", status=200, code="OK", size=4096)
    console.frame(CHAT, "out", binary_body(bytes(range(256)) * 16, 4096), cause="push")
    spread(console.rings[CHAT])
    return CHAT


def spread(events: Iterable[Event]) -> None:
    """Give events that have happened at once the times that they would have."""
    at = time.time() - 60
    for event in events:
        is_spontaneous = event["kind"] == "push" or event.get("direction") == "in"
        at += 9.17 if is_spontaneous else event.get("took_ms", 0.2) / 1000
        event["at"] = at
        at += (event.get("retry_in_ms") or 0.1) / 1000
