"""The REST API: every documented response, as common HTTP clients receive it."""

import asyncio
import gzip
import http.client
import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.support.frames import BINARY, TEXT
from tests.support.stage import Node, Stage
from tests.support.waiting import with_timeout

NOBODY = "A" * 30


@pytest.mark.parametrize(
    ("content_type", "opcode"),
    [
        ("text/plain", TEXT),
        ("text/html; charset=utf-8", TEXT),
        ("TEXT/CSV", TEXT),
        ("application/json", TEXT),
        ("application/json; charset=utf-8", TEXT),
        ("application/problem+json", TEXT),
        (None, TEXT),
        ("application/octet-stream", BINARY),
        ("application/x-www-form-urlencoded", TEXT),
        ('text/plain; charset="us-ascii"', TEXT),
        ("text/plain; charset=iso-8859-15", TEXT),
        ("image/png", BINARY),
        ("application/jsonx", BINARY),
    ],
)
async def test_the_content_type_selects_text_or_binary(stage: Stage, content_type: str | None, opcode: int) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    name = (await stage.backend.take("POST")).client
    headers = {"Content-Type": content_type} if content_type else {}
    answer = await node.rest("PUT", name, "hello", headers=headers)
    assert (answer.status, answer.json) == (200, {"code": "OK"})
    assert answer.headers["Content-Type"] == "application/json"
    assert await raw.frame() == (opcode, b"hello")


async def test_text_of_another_charset_reaches_the_client_in_utf8(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    name = (await stage.backend.take("POST")).client
    for charset in ("windows-1252", "Shift_JIS", "UTF-16", "utf-16be"):
        text = "¢" if charset == "windows-1252" else "例え"
        answer = await node.rest("PUT", name, text.encode(charset), Content_Type=f"text/plain; charset={charset}")
        assert answer.status == 200
        assert await raw.frame() == (TEXT, text.encode())
    answer = await node.rest("PUT", name, b"x", Content_Type="text/plain; charset=utf-7")
    assert (answer.status, answer.code) == (415, "UNSUPPORTED_MEDIA_TYPE")


async def test_a_put_without_a_body_is_an_empty_text(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    name = (await stage.backend.take("POST")).client
    assert (await node.rest("PUT", name)).status == 200
    assert await raw.frame() == (TEXT, b"")


async def test_text_that_is_not_utf_8_is_bad_text(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    name = (await stage.backend.take("POST")).client
    answer = await node.rest("PUT", name, b"\xff\xfe", Content_Type="text/plain")
    assert (answer.status, answer.code) == (400, "BAD_TEXT")
    assert answer.json["message"]
    assert (await node.rest("PUT", name, b"\xff\xfe", Content_Type="application/octet-stream")).status == 200
    assert await raw.frame() == (BINARY, b"\xff\xfe")


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_a_body_with_a_content_coding_is_refused_and_the_connection_kept(stage: Stage, method: str) -> None:
    node = await stage.node()
    socket = await node.upgraded()
    name = (await stage.backend.take("POST")).client
    body = gzip.compress(b"hello")
    head = (
        f"{method} /{name} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\nContent-Encoding: gzip\r\n\r\n"
    )
    for cut in (0, 5, len(body)):
        raw = await node.raw()
        raw.send(head.encode() + body[:cut])
        answer = await raw.answer()
        assert (answer.status, answer.code) == (415, "UNSUPPORTED_MEDIA_TYPE")
        assert answer.headers["Accept-Encoding"] == "identity"
        raw.send(body[cut:] + b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await raw.answer()).status == 200
    assert (await node.rest("PUT", name, "plain", Content_Encoding="identity")).status == 200
    assert await socket.frame() == (TEXT, b"plain")


async def test_a_body_over_the_limit_is_too_large(stage: Stage) -> None:
    node = await stage.node(max_message_size=1000)
    raw = await node.upgraded()
    name = (await stage.backend.take("POST")).client
    assert (await node.rest("PUT", name, "x" * 1000)).status == 200
    answer = await node.rest("PUT", name, "x" * 1001)
    assert (answer.status, answer.code) == (413, "TOO_LARGE")
    # A declared length is refused before the body, a chunked body once it exceeds the limit.
    declared = await node.raw()
    declared.send(b"PUT /%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n" % name.encode())
    assert (await declared.answer()).status == 413
    await declared.end()
    chunked = await node.raw()
    chunked.send(b"PUT /%s HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" % name.encode())
    chunked.send((b"200\r\n" + b"x" * 512 + b"\r\n") * 2)
    assert (await chunked.answer()).status == 413
    await chunked.end()
    assert await raw.frame() == (TEXT, b"x" * 1000)
    assert (await node.information(name))["messages_out"] == 1


@pytest.mark.parametrize("method", ["PUT", "DELETE", "GET"])
async def test_an_unknown_id_is_410(stage: Stage, method: str) -> None:
    node = await stage.node()
    answer = await node.rest(method, NOBODY, b"")
    assert (answer.status, answer.code) == (410, "GONE")
    assert answer.json["message"]


@pytest.mark.parametrize(
    "path", ["/", "/hello", "/A", "/" + "A" * 29, "/" + "A" * 31, "/" + "A" * 29 + "!", "/a/" + NOBODY, "/favicon.ico"]
)
async def test_any_other_unknown_path_is_404(stage: Stage, path: str) -> None:
    node = await stage.node()
    for method in ("GET", "PUT", "DELETE", "POST"):
        answer = await node.rest(method, path)
        assert (answer.status, answer.code) == (404, "NOT_FOUND")


@pytest.mark.parametrize("method", ["POST", "PATCH", "OPTIONS"])
async def test_a_wrong_method_is_405_with_allow(stage: Stage, method: str) -> None:
    node = await stage.node()
    _, name = await node.admit()
    answer = await node.rest(method, name)
    assert (answer.status, answer.code) == (405, "METHOD_NOT_ALLOWED")
    assert {part.strip() for part in answer.headers["Allow"].split(",")} == {"PUT", "DELETE", "GET", "HEAD"}
    answer = await node.rest(method, "/healthz")
    assert answer.status == 405
    assert "GET" in answer.headers["Allow"]


async def test_head_answers_as_get_without_a_body(stage: Stage) -> None:
    node = await stage.node()
    _, name = await node.admit()
    raw = await node.raw()
    raw.send(b"HEAD /%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % name.encode())
    assert (await raw.answer(head=True)).status == 200
    raw.send(b"HEAD /%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % NOBODY.encode())
    assert (await raw.answer(head=True)).status == 410
    raw.send(b"HEAD /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert (await raw.answer(head=True)).status == 200
    await raw.end()


@pytest.mark.parametrize(
    "body",
    [
        "nonsense",
        "[]",
        '"x"',
        "null",
        '{"code": 999}',
        '{"code": 1001}',
        '{"code": 1005}',
        '{"code": 2999}',
        '{"code": 5000}',
        '{"code": "1000"}',
        '{"code": 1000.5}',
        '{"code": true}',
        '{"code": null}',
        '{"reason": 1}',
        '{"reason": "' + "x" * 124 + '"}',
        '{"reason": "' + "ü" * 62 + '"}',
        "\xff",
    ],
)
async def test_a_delete_with_an_invalid_code_or_reason_is_400(stage: Stage, body: str) -> None:
    node = await stage.node()
    client, name = await node.admit()
    answer = await node.rest("DELETE", name, body)
    assert answer.status == 400
    assert answer.code.startswith("BAD_")
    assert answer.json["message"]
    assert (await node.rest("PUT", name, "still here")).status == 200
    assert await with_timeout(client.recv()) == "still here"


async def test_health_and_readiness(stage: Stage) -> None:
    node = await stage.node()
    for path in ("/healthz", "/readyz", "/healthz?probe=1"):
        answer = await node.rest("GET", path)
        assert (answer.status, answer.json) == (200, {"code": "OK"})


async def test_the_control_token(stage: Stage) -> None:
    node = await stage.node(control_token="s3cret")
    client, name = await node.admit()
    good = {"Authorization": "Bearer s3cret"}
    for method, path in (("PUT", name), ("DELETE", name), ("GET", name), ("GET", NOBODY), ("GET", "/x")):
        for wrong in ({}, {"Authorization": "Bearer"}, {"Authorization": "Bearer s3cre"}, {"Authorization": "s3cret"}):
            answer = await node.rest(method, path, b"", headers=wrong)
            assert (answer.status, answer.code) == (401, "UNAUTHORIZED")
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert (await node.rest("PUT", name, "hello", headers=good)).status == 200
    assert await with_timeout(client.recv()) == "hello"
    assert (await node.rest("GET", NOBODY, headers=good)).status == 410
    assert (await node.rest("GET", "/x", headers=good)).status == 404
    for path in ("/healthz", "/readyz"):
        assert (await node.rest("GET", path)).status == 200
    assert (await node.rest("DELETE", name, headers=good)).status == 200


def push_with_urllib(node: Node, name: str) -> int:
    request = urllib.request.Request(
        f"http://127.0.0.1:{node.port}/{name}",
        data=b"from urllib",
        method="PUT",
        headers={"Content-Type": "text/plain"},
    )
    with urllib.request.urlopen(request, timeout=5) as response:  # noqa: S310
        return int(response.status)


async def test_urllib(stage: Stage) -> None:
    node = await stage.node()
    client, name = await node.admit()
    assert await asyncio.to_thread(push_with_urllib, node, name) == 200
    assert await with_timeout(client.recv()) == "from urllib"
    with pytest.raises(urllib.error.HTTPError) as caught:
        await asyncio.to_thread(push_with_urllib, node, NOBODY)
    with caught.value as error:
        assert error.code == 410
        assert json.loads(error.read())["code"] == "GONE"


def talk_with_http_client(node: Node, name: str) -> list[Any]:
    link = http.client.HTTPConnection("127.0.0.1", node.port, timeout=5)
    seen: list[Any] = []
    for method, body in (("PUT", b"one"), ("PUT", iter([b"tw", b"o"])), ("HEAD", None), ("GET", None), ("PATCH", None)):
        link.request(method, f"/{name}", body=body, encode_chunked=not isinstance(body, bytes | None))
        response = link.getresponse()
        seen.append((response.status, len(response.read()) > 0, link.sock.getsockname()[1]))
    link.close()
    return seen


async def test_http_client_on_one_connection(stage: Stage) -> None:
    node = await stage.node()
    client, name = await node.admit()
    seen = await asyncio.to_thread(talk_with_http_client, node, name)
    assert [each[:2] for each in seen] == [(200, True), (200, True), (200, False), (200, True), (405, True)]
    assert len({port for _, _, port in seen}) == 1
    assert [await with_timeout(client.recv()) for _ in range(2)] == ["one", "two"]
