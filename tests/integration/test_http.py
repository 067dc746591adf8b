"""HTTP/1.1 requests: pipelined, chunked, kept alive or not, with `Expect` and `Upgrade`."""

import asyncio
import time
from email.utils import parsedate_to_datetime

import pytest

from tests.support.clients import RawClient, upgrade
from tests.support.frames import BINARY, TEXT, frame
from tests.support.ports import free_port
from tests.support.stage import Stage
from tests.support.waiting import with_timeout


async def test_pipelined_requests_are_answered_in_order(stage: Stage) -> None:
    node = await stage.node()
    client, name = await node.admit()
    raw = await node.raw()
    paths = ["/healthz", f"/{name}", "/nothing", "/" + "A" * 30, "/readyz"]
    raw.send(b"".join(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() for path in paths))
    answers = [await raw.answer() for _ in paths]
    assert [answer.status for answer in answers] == [200, 200, 404, 410, 200]
    assert answers[1].json["id"] == name
    raw.send(
        b"".join(
            f"PUT /{name} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(str(number))}\r\n\r\n{number}".encode()
            for number in range(300)
        )
    )
    assert {(await raw.answer()).status for _ in range(300)} == {200}
    assert [await with_timeout(client.recv()) for _ in range(300)] == [str(number) for number in range(300)]


async def test_a_request_may_arrive_byte_by_byte(stage: Stage) -> None:
    node = await stage.node()
    client, name = await node.admit()
    raw = await node.raw()
    await raw.send_slowly(b"PUT /%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello" % name.encode())
    assert (await raw.answer()).status == 200
    assert await with_timeout(client.recv()) == "hello"


async def test_chunked_bodies(stage: Stage) -> None:
    node = await stage.node()
    client, name = await node.admit()
    raw = await node.raw()
    raw.send(b"PUT /%s HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" % name.encode())
    raw.send(
        b"3;extension=1\r\nhel\r\n2\r\nlo\r\n0\r\nTrailer: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    )
    assert [(await raw.answer()).status for _ in range(2)] == [200, 200]
    assert await with_timeout(client.recv()) == "hello"


@pytest.mark.parametrize(
    ("request_", "closes"),
    [
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", True),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: Keep-Alive\r\n\r\n", False),
        (b"GET /healthz HTTP/1.0\r\n\r\n", True),
        (b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", False),
    ],
)
async def test_keep_alive_and_close(stage: Stage, request_: bytes, closes: bool) -> None:
    node = await stage.node()
    raw = await node.raw()
    raw.send(request_)
    answer = await raw.answer()
    assert answer.status == 200
    stays = "keep-alive" if b"HTTP/1.0" in request_ else None
    assert answer.headers.get("Connection") == ("close" if closes else stays)
    if closes:
        await raw.end()
    else:
        raw.send(request_)
        assert (await raw.answer()).status == 200


async def test_requests_behind_a_close_are_not_answered(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.raw()
    raw.send(
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    )
    assert (await raw.answer()).status == 200
    await raw.end()


async def test_a_client_may_close_its_half_before_the_answer(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.raw()
    raw.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    raw.half_close()
    assert (await raw.answer()).status == 200
    await raw.end()


async def test_expect_100_continue(stage: Stage) -> None:
    node = await stage.node()
    client, name = await node.admit()
    raw = await node.raw()
    head = b"PUT /%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n" % name.encode()
    raw.send(head)
    assert (await raw.answer()).status == 100
    raw.send(b"hello")
    assert (await raw.answer()).status == 200
    raw.send(head + b"again")
    assert (await raw.answer()).status == 200, "a client that does not wait gets no 100"
    assert [await with_timeout(client.recv()) for _ in range(2)] == ["hello", "again"]
    raw.send(head.replace(b": 5", b": 99999999"))
    assert (await raw.answer()).status == 413
    await raw.end()


async def test_an_unknown_expectation_is_417(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.raw()
    raw.send(b"PUT /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nExpect: miracles\r\n\r\n")
    assert (await raw.answer()).status == 417
    await raw.end()


@pytest.mark.parametrize("body", [b"", b"hello", b"x" * 100_000])
async def test_an_offer_of_http_2_is_ignored(stage: Stage, body: bytes) -> None:
    # Sent by Java's HttpClient with its first request.
    node = await stage.node()
    raw = await node.raw()
    socket = await node.upgraded()
    name = (await stage.backend.take("POST")).client
    head = (
        "PUT /{} HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nContent-Length: {}\r\nHost: localhost:1\r\n"
        "HTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAABgAGAAA\r\nUpgrade: h2c\r\n"
        "User-Agent: Java-http-client/21\r\nContent-Type: application/octet-stream\r\n\r\n"
    )
    for _ in range(2):
        raw.send(head.format(name, len(body)).encode() + body)
        assert (await raw.answer()).status == 200
        assert await socket.frame() == (BINARY, body)
    await raw.send_slowly(head.format(name, 3).encode() + b"abc")
    assert (await raw.answer()).status == 200
    assert await socket.frame() == (BINARY, b"abc")
    raw.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await raw.answer()).status == 200


async def test_a_target_in_absolute_form_and_with_escapes(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.raw()
    raw.send(b"GET http://gateway:1234/healthz?x=y HTTP/1.1\r\nHost: gateway:1234\r\n\r\n")
    assert (await raw.answer()).status == 200
    raw.send(b"GET /health%7a HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await raw.answer()).status == 200


async def test_every_response_has_a_date(stage: Stage) -> None:
    node = await stage.node()
    stage.backend.on["POST"] = lambda call: call.answer(403)
    start = int(time.time())
    for request in (
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"nonsense\r\n",
        upgrade("/", version="12"),
        upgrade(),
    ):
        raw = await node.raw()
        raw.send(request)
        date = (await raw.answer()).headers["Date"]
        assert date.endswith(" GMT")
        assert start <= parsedate_to_datetime(date).timestamp() <= time.time()


async def test_head_and_options(stage: Stage) -> None:
    control = free_port()
    node = await stage.node(control_listen=f"127.0.0.1:{control}")
    for port in (node.port, control):
        raw = await node.raw(port)
        raw.send(b"HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nOPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await raw.answer(head=True)).status == (200 if port == control else 404)
        answer = await raw.answer()
        allowed = "DELETE, GET, HEAD, OPTIONS, POST, PUT" if port == control else "GET, OPTIONS"
        assert (answer.status, answer.headers["Allow"]) == (200, allowed)


HIDDEN = b"DELETE /%s HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    ("status", "start", "body"),
    [
        (400, b"PUT /x HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked", b"0\r\n\r\n"),
        (400, b"PUT /x HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 50", b""),
        (400, b"PUT /x HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked", b"0\r\n\r\n"),
        (501, b"PUT /x HTTP/1.1\r\nTransfer-Encoding: gzip, chunked", b"0\r\n\r\n"),
        (400, b"PUT /x HTTP/1.1\r\nTransfer-Encoding: chunked", b"0\n\r\n"),
        (400, b"GET /x HTTP/1.1\r\nX: y\n", b""),
        (400, b"GET /x  HTTP/1.1", b""),
        (501, b"CONNECT a:80 HTTP/1.1", b""),
    ],
)
@pytest.mark.parametrize("separately", [False, True])
async def test_a_request_behind_an_ambiguous_one_is_ignored(
    stage: Stage, status: int, start: bytes, body: bytes, separately: bool
) -> None:
    control = free_port()
    node = await stage.node(control_listen=f"127.0.0.1:{control}")
    client = await node.upgraded()
    name = (await stage.backend.take("POST")).client
    for port in (node.port, control):
        raw = await node.raw(port)
        raw.send(start + b"\r\nHost: localhost\r\n\r\n" + body)
        if separately:
            assert (await raw.answer()).status == status
        raw.send(HIDDEN % name.encode())
        if not separately:
            assert (await raw.answer()).status == status
        await raw.end()
    assert (await node.rest("PUT", name, "still here", port=control)).status == 200
    assert await client.frame() == (TEXT, b"still here")


async def test_an_idle_connection_is_closed_after_keep_alive_timeout(stage: Stage) -> None:
    node = await stage.node(keep_alive_timeout=300)
    raw = await node.raw()
    raw.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await raw.answer()).status == 200
    start = asyncio.get_running_loop().time()
    await raw.end()
    assert asyncio.get_running_loop().time() - start >= 0.25


async def test_a_connection_that_sends_nothing_is_closed(stage: Stage) -> None:
    node = await stage.node(handshake_timeout=300)
    raw = await node.raw()
    assert await raw.rest() == b""


async def test_an_unfinished_head_is_408(stage: Stage) -> None:
    node = await stage.node(handshake_timeout=300)
    raw = await node.raw()
    raw.send(b"GET / HTTP/1.1\r\nHost:")
    assert (await raw.answer()).status == 408
    await raw.end()


async def test_the_timeout_of_the_first_head_starts_at_accept(stage: Stage) -> None:
    node = await stage.node(handshake_timeout=800)
    early = await node.raw()
    await asyncio.sleep(0.6)
    late = await node.raw()
    ended = []

    async def expire(raw: RawClient) -> None:
        raw.send(b"GET / HTTP/1.1\r\nHost:")
        assert (await raw.answer()).status == 408
        await raw.end()
        ended.append(raw)

    await asyncio.gather(expire(late), expire(early))
    assert ended == [early, late]


async def test_the_timeout_of_a_later_head_starts_at_its_first_byte(stage: Stage) -> None:
    node = await stage.node(handshake_timeout=300, keep_alive_timeout=60_000)
    raw = await node.raw()
    raw.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await raw.answer()).status == 200
    await asyncio.sleep(0.5)
    raw.send(b"G")
    assert (await raw.answer()).status == 408
    await raw.end()


async def test_an_unfinished_body_is_408(stage: Stage) -> None:
    node = await stage.node(handshake_timeout=200, keep_alive_timeout=300)
    _, name = await node.admit()
    raw = await node.raw()
    raw.send(b"PUT /%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhello" % name.encode())
    assert (await raw.answer()).status == 408
    await raw.end()


async def test_a_request_is_refused_before_its_body_and_its_connection_is_kept(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.raw()
    raw.send(b"PUT /%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 300000\r\n\r\n" % (b"A" * 30))
    answer = await raw.answer()
    assert (answer.status, answer.headers.get("Connection")) == (410, None)
    raw.send(b"x" * 300_000 + b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await raw.answer()).status == 200


async def test_a_request_that_expects_100_continue_may_be_refused_instead(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.raw()
    raw.send(b"PUT /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    answer = await raw.answer()
    assert (answer.status, answer.headers["Connection"]) == (404, "close")
    await raw.end()


async def test_a_separate_control_listener(stage: Stage) -> None:
    control = free_port()
    node = await stage.node(control_listen=f"127.0.0.1:{control}")
    raw = await node.upgraded()
    name = (await stage.backend.take("POST")).client
    assert (await node.rest("PUT", name, "hello", port=control)).status == 200
    assert await raw.frame() == (TEXT, b"hello")
    for method, path in (("PUT", name), ("GET", name), ("DELETE", name), ("GET", "/healthz"), ("GET", "/x")):
        answer = await node.rest(method, path, b"")
        assert (answer.status, answer.code) == (404, "NOT_FOUND")
    other = await node.raw(control)
    other.send(upgrade())
    assert (await other.answer()).status == 404
    await other.end()
    assert stage.backend.count("POST") == 1
    raw.send(frame(TEXT, b"through the front door"))
    assert (await stage.backend.take("PUT")).text == "through the front door"
    assert (await node.rest("GET", "/readyz", port=control)).status == 200
