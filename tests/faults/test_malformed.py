"""Malformed HTTP and WebSocket frames: an error or a close, never a hang or a traceback, and other clients go on."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.clients import upgrade
from tests.support.frames import BINARY, CLOSE, PING, TEXT, close_frame, frame
from tests.support.stage import Node, Stage
from tests.support.waiting import wait_until, wait_until_stable, with_timeout

NOBODY = b"A" * 30


@asynccontextmanager
async def bystander(stage: Stage, node: Node) -> AsyncIterator[str]:
    """Connect a client, yield its id, and check at the end that it works."""
    client, name = await node.admit()
    yield name
    await client.send("still here")
    assert (await stage.backend.take("PUT", client=name)).text == "still here"
    assert (await node.rest("PUT", name, "push")).status == 200
    assert await with_timeout(client.recv()) == "push"
    await client.close()
    assert (await stage.backend.take("DELETE", client=name)).json["code"] == 1000


def get(*lines: bytes) -> bytes:
    return b"\r\n".join([b"GET /healthz HTTP/1.1", b"Host: a", *lines, b"", b""])


def put(*lines: bytes) -> bytes:
    return b"\r\n".join([b"PUT /" + NOBODY + b" HTTP/1.1", b"Host: a", *lines, b"", b""])


MALFORMED = {
    "noise": b"\x80\x81\x82 what is this\r\n\r\n",
    "zeros": b"\0" * 1000,
    "TLS": bytes.fromhex("16030100a5010000a10303") + b"\x55" * 100,
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/9.9": b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
    "HTTP/1": b"GET / HTTP/1\r\nHost: a\r\n\r\n",
    "no version": b"GET / \r\nHost: a\r\n\r\n",
    "an unknown method": b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a small method": b"get / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a space in the target": b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    "a control character in the target": b"GET /a\x01b HTTP/1.1\r\nHost: a\r\n\r\n",
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "two Hosts": get(b"Host: b"),
    "a folded header": get(b"X: a", b" b"),
    "a space before the colon": get(b"X : a"),
    "no colon": get(b"nonsense"),
    "an empty name": get(b": a"),
    "a NUL in a value": get(b"X: a\0b"),
    "a bare CR in a value": get(b"X: a\rY: b"),
    "both lengths": put(b"Content-Length: 3", b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "two lengths": put(b"Content-Length: 3", b"Content-Length: 4") + b"abcd",
    "a negative length": put(b"Content-Length: -1"),
    "a length in letters": put(b"Content-Length: three") + b"abc",
    "a length with a plus": put(b"Content-Length: +3") + b"abc",
    "a length beyond numbers": put(b"Content-Length: " + b"9" * 40),
    "an unknown coding": put(b"Transfer-Encoding: gzip") + b"abc",
    "chunked, but not last": put(b"Transfer-Encoding: chunked, gzip") + b"0\r\n\r\n",
    "a chunk of no size": put(b"Transfer-Encoding: chunked") + b"\r\nabc\r\n0\r\n\r\n",
    "a chunk size in letters": put(b"Transfer-Encoding: chunked") + b"xyz\r\nabc\r\n0\r\n\r\n",
    "a chunk size beyond numbers": put(b"Transfer-Encoding: chunked") + b"f" * 20 + b"\r\nabc",
    "a chunk without its end": put(b"Transfer-Encoding: chunked") + b"3\r\nabcdef\r\n0\r\n\r\n",
    "too many headers": get(*[b"X-%d: y" % number for number in range(101)]),
    "a header too long": get(b"X: " + b"y" * 40_000),
    "headers too long together": get(*[b"X-%d: %s" % (number, b"y" * 1000) for number in range(40)]),
    "a target too long": b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "an endless target": b"GET /" + b"a" * 200_000,
    "an endless name": get()[:-2] + b"a" * 200_000,
    "an endless method": b"A" * 200_000,
    "CONNECT": b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
    "CONNECT with a body": b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nContent-Length: 3\r\n\r\nabc",
    "h2c and a broken body": put(b"Connection: Upgrade", b"Upgrade: h2c", b"Transfer-Encoding: chunked") + b"zzz\r\n",
    "a handshake in two versions": upgrade("/", "Sec-WebSocket-Version: 8"),
    "a handshake behind nonsense": b"nonsense\r\n\r\n" + upgrade(),
}


@pytest.mark.parametrize("what", MALFORMED)
async def test_malformed_http_is_a_4xx_and_a_close(stage: Stage, what: str) -> None:
    node = await stage.node()
    async with bystander(stage, node):
        raw = await node.raw()
        raw.send(MALFORMED[what])
        answer = await raw.answer()
        assert 400 <= answer.status < 500 or answer.status in {501, 505}
        assert answer.headers["Connection"] == "close"
        assert answer.json["message"]
        await raw.end()
    assert not stage.messages()


@pytest.mark.parametrize("what", MALFORMED)
async def test_good_requests_before_a_malformed_one_are_answered(stage: Stage, what: str) -> None:
    node = await stage.node()
    raw = await node.raw()
    raw.send(get() * 3 + MALFORMED[what])
    assert [(await raw.answer()).status for _ in range(3)] == [200] * 3
    assert (await raw.answer()).status >= 400
    await raw.end()


@pytest.mark.parametrize(
    "endless",
    [
        b"\r\n" * 100_000,
        put(b"Transfer-Encoding: chunked") + b"1;" + b"x" * 300_000,
        put(b"Transfer-Encoding: chunked") + b"0\r\n" + b"T: x\r\n" * 50_000,
        put(b"Content-Length: 1000000") + b"x" * 500_000,
        get()[:-2] + b"X: ",
        b"G",
        b"",
    ],
)
async def test_unfinished_requests_are_timed_out(stage: Stage, endless: bytes) -> None:
    node = await stage.node(handshake_timeout=300, keep_alive_timeout=300)
    async with bystander(stage, node) as name:
        raw = await node.raw()
        raw.send(endless.replace(NOBODY, name.encode()))
        answer = await raw.rest()
        assert answer == b"" or answer.startswith((b"HTTP/1.1 40", b"HTTP/1.1 43"))
    assert not stage.messages()


async def test_a_slow_request_has_only_handshake_timeout(stage: Stage) -> None:
    node = await stage.node(handshake_timeout=500)
    async with bystander(stage, node):
        lorises = [await node.raw() for _ in range(20)]
        head = upgrade("/", "X-Padding: " + "x" * 20_000)

        answers = asyncio.gather(*(loris.rest() for loris in lorises))
        for at in range(len(head)):
            if answers.done():
                break
            for loris in lorises:
                loris.send(head[at : at + 1])
            await asyncio.sleep(0.002)
        for answer in await with_timeout(answers):
            assert answer.startswith(b"HTTP/1.1 408 ")
    assert stage.backend.count("POST") == 1


async def test_mutated_requests_do_not_affect_other_clients(stage: Stage) -> None:
    chance = random.Random(20)
    node = await stage.node()
    seeds = [upgrade(), get(), put(b"Content-Length: 5") + b"hello", put(b"Transfer-Encoding: chunked") + b"0\r\n\r\n"]
    async with bystander(stage, node):
        for _ in range(400):
            data = mutated(chance, b"".join(chance.choices(seeds, k=chance.randint(1, 3))))
            raw = await node.raw()
            raw.send(data)
            raw.half_close()
            await raw.rest()
    # Some look like handshakes whose Upgrade a proxy removed.
    assert all("handshake from 127.0.0.1 arrived without its Upgrade" in text for text in stage.messages())


async def test_mutated_frames_do_not_affect_other_clients(stage: Stage) -> None:
    chance = random.Random(21)
    node = await stage.node(max_message_size=5000)
    seeds = [
        frame(TEXT, b"hello"),
        frame(BINARY, bytes(range(200))),
        frame(TEXT, "Grüße".encode(), fin=False) + frame(PING, b"x") + frame(0, b"!"),
        frame(BINARY, b"x" * 4000),
        close_frame(1000, "bye"),
    ]
    async with bystander(stage, node):
        for _ in range(400):
            raw = await node.upgraded()
            raw.send(mutated(chance, b"".join(chance.choices(seeds, k=chance.randint(1, 4)))))
            raw.half_close()
            await raw.rest()
        await stage.backend.wait(lambda: stage.backend.count("DELETE") == 400)
    assert not stage.messages()
    codes = {call.json["code"] for call in stage.backend.calls if call.method == "DELETE"}
    assert codes > {1000, 1002, 1006, 1007}


def mutated(chance: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(changed) or 1)
        match chance.randrange(4):
            case 0:
                changed[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del changed[at : at + chance.randint(1, 8)]
            case 2:
                changed[at:at] = chance.randbytes(chance.randint(1, 8))
            case _:
                changed[at:] = changed[at : at + chance.randint(1, 40)]
    return bytes(changed)


async def test_a_client_that_stays_after_a_violation_is_dropped(stage: Stage) -> None:
    node = await stage.node(handshake_timeout=300)
    async with bystander(stage, node):
        raw = await node.upgraded()
        raw.send(frame(3))
        assert (await raw.closing())[0] == 1002
        await raw.end()
        # It keeps sending and does not close.
        for _ in range(100):
            raw.send(frame(TEXT, b"hello" * 1000))
        await wait_until(lambda: node.statistics.clients == 1)
        await wait_until(lambda: node.statistics.accepted_connections == 1)


async def test_a_refused_client_that_stays_is_dropped(stage: Stage) -> None:
    node = await stage.node(handshake_timeout=300)
    stage.backend.on["POST"] = lambda call: call.answer(403)
    raw = await node.raw()
    raw.send(upgrade())
    assert (await raw.answer()).status == 403
    raw.send(b"x" * 100_000)
    await wait_until(lambda: node.statistics.accepted_connections == 0)


async def test_a_flood_before_the_101_is_not_buffered(stage: Stage) -> None:
    node = await stage.node()
    stage.backend.hold("POST")
    raw = await node.raw()
    raw.send(upgrade() + frame(BINARY, b"x" * 900_000) * 30)
    post = await stage.backend.take("POST")
    await node.rest("GET", "/healthz")
    # The kernel buffers several megabytes, the gateway hardly any.
    await wait_until_stable(raw.unsent)
    assert raw.unsent() > 10_000_000
    post.ok()
    assert (await raw.answer()).status == 101
    await stage.backend.wait(lambda: stage.backend.count("PUT") == 30)


async def test_a_close_frame_of_any_kind_ends_the_client(stage: Stage) -> None:
    node = await stage.node()
    for payload in (b"", b"\x03\xe8", b"\x03\xe8" + b"x" * 123, b"\x0f\xa0", b"\x13\x87"):
        raw = await node.upgraded()
        raw.send(frame(CLOSE, payload))
        assert (await raw.frame())[0] == CLOSE
        await raw.end()
    await stage.backend.wait(lambda: stage.backend.count("DELETE") == 5)
