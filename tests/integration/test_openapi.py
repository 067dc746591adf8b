"""The OpenAPI document describes what a gateway sends to its backend, and what it answers."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import websockets

from tests.support.backend import Call
from tests.support.journal import write_journal
from tests.support.openapi import NotDescribed, ValidationError, check_webhook
from tests.support.stage import Stage
from tests.support.waiting import with_timeout
from wsaas.delivery.journal import Entry

SECRETS = "whsec_" + "A" * 32 + ",whsec_" + "B" * 32
LOST = "L" * 30

Recorded = tuple[str, dict[str, str], bytes]


def is_described(method: str, headers: dict[str, str], body: bytes) -> bool:
    try:
        check_webhook(method, headers, body)
    except (NotDescribed, ValidationError, UnicodeDecodeError):
        return False
    return True


def answer_message(call: Call) -> None:
    """Do what the message says."""
    actions = {
        b"context": {"Ws_Context": "cart=8"},
        b"no context": {"Ws_Context": ""},
        b"join": {"Ws_Join": "b, c", "Ws_Leave": "a"},
        b"close": {"Ws_Close": "4000 bye"},
    }
    call.answer(200, **actions.get(call.body, {}))


async def record(stage: Stage, path: Path) -> list[Recorded]:
    """Return the requests that a gateway with a journal sends about clients of many kinds."""
    write_journal(path, Entry(LOST, f"old/{LOST}", b"Bearer x", "cart=7", 1_700_000_000.0))
    stage.backend.on["PUT"] = answer_message
    node = await stage.node(compression="on", api_secret=SECRETS, subprotocols="v2", journal=path)
    await stage.backend.take("DELETE", client=LOST)
    headers = {"Authorization": "Bearer cl1ent", "X-Name": "Grüße", "Cookie": "a=b"}
    stage.backend.on["POST"] = lambda call: call.ok(context="user 7", groups=["a"], subprotocol="v1")
    client, name = await node.admit(
        "/rooms/a%20b?nick=ada", additional_headers=headers, subprotocols=["v1", "v2"], compression="deflate"
    )
    for message in ("hello", "Grüße", "", "x" * 100_000, b"\xff\x00", b"", "context", "a", "no context", "b", "join"):
        await client.send(message)
        assert (await stage.backend.take("PUT")).client == name
    await client.close(4001, "gone fishing ✓")
    stage.backend.on["POST"] = Call.ok
    plain, _ = await node.admit(compression=None)
    await plain.send("close")
    with pytest.raises(websockets.ConnectionClosed):
        await with_timeout(plain.recv())
    cut, _ = await node.admit()
    cut.transport.abort()
    silent = await node.upgraded()
    silent.send(b"\x88\x80\x00\x00\x00\x00")
    stage.backend.on["POST"] = lambda call: call.answer(200, {"code": "NO"})
    with pytest.raises(websockets.InvalidStatus):
        await node.connect()
    await stage.backend.wait(lambda: stage.backend.count("DELETE") == 5)
    return [(call.method, call.headers, call.body) for call in stage.backend.calls]


def damaged_headers(headers: dict[str, str]) -> Iterator[dict[str, str]]:
    """Yield `headers` with one missing, changed or added."""
    optional = {"authorization", "ws-context", "webhook-id", "webhook-timestamp", "webhook-signature"}
    for name in headers.keys() - optional:
        yield {each: value for each, value in headers.items() if each != name}
    for name in headers.keys() - {"authorization", "host", "ce-source"}:
        yield {**headers, name: f" {headers[name]}\x7f"}
    yield {**headers, "x-other": "1"}
    for other in ("message", "connect", "disconnect", ""):
        if headers["ce-type"] != f"wsaas.{other}":
            yield {**headers, "ce-type": f"wsaas.{other}"}


def damaged_values(value: Any) -> Iterator[Any]:
    """Yield a JSON value with something missing, of another type, or added, at each place within it."""
    yield [value]
    if isinstance(value, str):
        yield 1
    elif isinstance(value, int):
        yield str(value)
        yield -1
        yield value + 0.5
    elif isinstance(value, list):
        yield [*value, 1]
        yield dict.fromkeys(map(str, value))
    elif isinstance(value, dict):
        # The headers of a handshake may have any names, in lower case.
        is_open = "host" in value
        yield {**value, "Other": "1"}
        for key, each in value.items():
            if not is_open:
                yield {name: copy.copy(other) for name, other in value.items() if name != key}
            for changed in damaged_values(each):
                yield {**value, key: changed}


async def test_the_requests_to_the_backend_are_described(stage: Stage, tmp_path: Path) -> None:
    recorded = await record(stage, tmp_path / "journal")
    assert [method for method, *_ in recorded].count("POST") == 5
    for each in recorded:
        check_webhook(*each)
    bodies = [json.loads(body) for method, _, body in recorded if method == "DELETE"]
    assert {(body["code"], body["reason"]) for body in bodies} == {
        (1006, "gateway lost"),
        (4001, "gone fishing ✓"),
        (4000, "bye"),
        (1006, ""),
        (1005, ""),
    }
    contexts = {headers.get("ws-context") for _, headers, _ in recorded}
    assert contexts == {None, "cart=7", "user 7", "cart=8"}
    types = {headers["content-type"] for _, headers, _ in recorded}
    assert len(types) == 3


async def test_no_damaged_request_is_described(stage: Stage, tmp_path: Path) -> None:
    for method, headers, body in await record(stage, tmp_path / "journal"):
        for damaged in damaged_headers(headers):
            assert not is_described(method, damaged, body), (method, damaged)
        if headers["content-type"] == "application/json":
            for changed in damaged_values(json.loads(body)):
                assert not is_described(method, headers, json.dumps(changed).encode()), (method, changed)
        elif headers["content-type"].startswith("text/"):
            assert not is_described(method, headers, body + b"\xff")


async def test_the_document_is_served(stage: Stage) -> None:
    node = await stage.node()
    answer = await node.rest("GET", "/openapi.json")
    assert answer.json["servers"] == [{"url": f"http://127.0.0.1:{node.port}", "description": "WS_HOSTNAME"}]
    raw = await node.raw()
    for _ in range(2):
        # An answer without a body ends where its head ends: the connection is kept.
        raw.send(
            f"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: {answer.headers['Etag']}\r\n\r\n".encode()
        )
        assert (await raw.answer(head=True)).status == 304
