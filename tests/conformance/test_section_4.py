"""Section 4: the server's part of the opening handshake (with section 11.3 on its header fields)."""

import hashlib
import re
from base64 import b64encode

import pytest

from tests.conformance.requirements import covers
from tests.support.backend import Call
from tests.support.clients import ACCEPT, KEY, Answer, upgrade
from tests.support.frames import TEXT, frame
from tests.support.ports import free_port
from tests.support.stage import Stage

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
BEHIND = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


def without(line: str) -> bytes:
    """Return a handshake without a header line."""
    return instead_of(line)


def instead_of(line: str, *others: str) -> bytes:
    """Return a handshake with `others` instead of a header line."""
    old = f"{line}\r\n".encode()
    assert old in upgrade()
    return upgrade().replace(old, "".join(f"{other}\r\n" for other in others).encode("latin-1"))


def targeted(target: str) -> bytes:
    return upgrade().replace(b"GET / ", f"GET {target} ".encode("latin-1"))


async def refusal(stage: Stage, request: bytes, **chosen: object) -> Answer:
    """Return the HTTP error of a handshake, which has to be the last response and to reach no backend."""
    node = await stage.node(**chosen)
    raw = await node.raw()
    raw.send(request + BEHIND + frame(TEXT, b"hello"))
    answer = await raw.answer()
    assert 400 <= answer.status <= 599
    assert answer.headers["Connection"] == "close"
    await raw.end()
    assert not stage.backend.calls
    return answer


async def acceptance(stage: Stage, request: bytes, **chosen: object) -> Answer:
    """Return the 101 of a handshake, after which the connection has to work."""
    node = await stage.node(**chosen)
    raw = await node.raw()
    raw.send(request)
    answer = await raw.answer()
    assert answer.status == 101
    raw.send(frame(TEXT, b"hello"))
    assert (await stage.backend.take("PUT")).text == "hello"
    return answer


# Reading the client's handshake


@covers("4.2.1-1", "4.2.1-2")
@pytest.mark.parametrize(
    "start", ["POST / HTTP/1.1", "HEAD / HTTP/1.1", "PUT / HTTP/1.1", "GET / HTTP/1.0", "get / HTTP/1.1", "GET /"]
)
async def test_a_handshake_other_than_a_get_of_http_1_1_is_refused(stage: Stage, start: str) -> None:
    node = await stage.node()
    raw = await node.raw()
    raw.send(upgrade().replace(b"GET / HTTP/1.1", start.encode()) + BEHIND)
    answer = await raw.answer(head=start.startswith("HEAD"))
    assert answer.status == (501 if start.startswith("get") else 400)
    assert not stage.backend.calls


@covers("4.2.1-3")
@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/", "/", ""),
        ("/chat", "/chat", ""),
        ("/chat?room=1&x=/?", "/chat", "room=1&x=/?"),
        ("/a%20b%23c", "/a%20b%23c", ""),
        ("//chat", "//chat", ""),
        ("/?", "/", ""),
        ("http://gateway/chat?room=1", "/chat", "room=1"),
        ("HTTPS://gateway:8080/chat", "/chat", ""),
        ("http://gateway", "/", ""),
        ("http://gateway?room=1", "/", "room=1"),
    ],
)
async def test_a_target_is_a_path_or_an_http_uri_with_a_path(stage: Stage, target: str, path: str, query: str) -> None:
    await acceptance(stage, targeted(target))
    asked = (await stage.backend.take("POST")).json["request"]
    assert (asked["path"], asked["query"]) == (path, query)


@covers("4.2.1-1", "4.2.1-3")
@pytest.mark.parametrize(
    "target",
    ["/chat#room", "/chat?a#b", "#", "*", "chat", "", "ws://gateway/chat", "ftp://gateway/chat", "http://gateway/#a"],
)
async def test_any_other_target_is_refused(stage: Stage, target: str) -> None:
    assert (await refusal(stage, targeted(target))).status == 400


@covers("4.2.1-1", "4.2.1-4")
@pytest.mark.parametrize("hosts", [(), ("Host: localhost", "Host: localhost"), ("Host: a", "Host: b")])
async def test_a_handshake_without_a_host_or_with_two_is_refused(stage: Stage, hosts: tuple[str, ...]) -> None:
    assert (await refusal(stage, instead_of("Host: localhost", *hosts))).status == 400


@covers("4.2.1-5")
@pytest.mark.parametrize("value", ["websocket", "WebSocket", "WEBSOCKET", "h2c, websocket", "websocket,h2c"])
async def test_upgrade_names_websocket_in_any_case(stage: Stage, value: str) -> None:
    await acceptance(stage, instead_of("Upgrade: websocket", f"Upgrade: {value}"))


@covers("4.2.1-5")
async def test_upgrade_may_be_split_over_several_lines(stage: Stage) -> None:
    await acceptance(stage, instead_of("Upgrade: websocket", "Upgrade: h2c", "upgrade: websocket"))


@covers("4.2.1-1", "4.2.1-5")
@pytest.mark.parametrize("lines", [(), ("Upgrade: h2c",), ("Upgrade: websocket2",), ("Upgrade: web socket",)])
async def test_a_request_without_upgrade_websocket_is_not_a_handshake(stage: Stage, lines: tuple[str, ...]) -> None:
    node = await stage.node()
    raw = await node.raw()
    raw.send(instead_of("Upgrade: websocket", *lines))
    answer = await raw.answer()
    assert answer.status == 426, "it has all other headers of a handshake"
    assert answer.headers["Upgrade"] == "websocket"
    assert not stage.backend.calls


@covers("4.2.1-6")
@pytest.mark.parametrize("value", ["Upgrade", "upgrade", "UPGRADE", "keep-alive, Upgrade", "Upgrade,keep-alive"])
async def test_connection_lists_upgrade_in_any_case(stage: Stage, value: str) -> None:
    await acceptance(stage, instead_of("Connection: Upgrade", f"Connection: {value}"))


@covers("4.2.1-6")
async def test_connection_may_be_split_over_several_lines(stage: Stage) -> None:
    await acceptance(stage, instead_of("Connection: Upgrade", "Connection: keep-alive", "Connection: upgrade"))


@covers("4.2.1-1", "4.2.1-6")
@pytest.mark.parametrize(
    "lines", [(), ("Connection: keep-alive",), ("Connection: Upgraded",), ("Connection:",), ("Connection: x-upgrade",)]
)
async def test_a_handshake_whose_connection_does_not_list_upgrade_is_refused(
    stage: Stage, lines: tuple[str, ...]
) -> None:
    assert (await refusal(stage, instead_of("Connection: Upgrade", *lines))).status == 426


@covers("4.2.1-1", "4.2.1-7")
@pytest.mark.parametrize(
    "key",
    [
        "",
        "x",
        b64encode(bytes(15)).decode(),
        b64encode(bytes(17)).decode(),
        b64encode(bytes(24)).decode(),
        KEY[:-1],
        KEY[:-2],
        f"{KEY}=",
        KEY.replace("Z", "-"),
        KEY.replace("Z", " "),
        KEY.replace("Q==", "R=="),
        f"{KEY}, {KEY}",
        f'"{KEY}"',
        "é" * 24,
    ],
)
async def test_a_key_that_is_not_16_bytes_in_base64_is_refused(stage: Stage, key: str) -> None:
    assert (await refusal(stage, instead_of(f"Sec-WebSocket-Key: {KEY}", f"Sec-WebSocket-Key: {key}"))).status == 400


@covers("4.2.1-1", "4.2.1-7", "11.3.1-1")
@pytest.mark.parametrize("keys", [(), (KEY, KEY), (KEY, b64encode(bytes(16)).decode())])
async def test_a_handshake_with_two_keys_is_refused(stage: Stage, keys: tuple[str, ...]) -> None:
    lines = [f"Sec-WebSocket-Key: {key}" for key in keys]
    assert (await refusal(stage, instead_of(f"Sec-WebSocket-Key: {KEY}", *lines))).status == 400


@covers("4.2.1-1", "4.2.1-10")
@pytest.mark.parametrize(
    "offer", ["", ";", "permessage-deflate;", "permessage-deflate; =1", "a b", 'a; b="c d"', 'a; b="c', "a/b", "a;b=é"]
)
async def test_a_malformed_offer_of_extensions_is_refused(stage: Stage, offer: str) -> None:
    assert (await refusal(stage, upgrade("/", f"Sec-WebSocket-Extensions: {offer}"))).status == 400


@covers("4.2.2-6", "4.2.1-10", "11.3.2-1")
@pytest.mark.parametrize(
    "lines",
    [
        (),
        ("Sec-WebSocket-Extensions: x-unknown",),
        ("Sec-WebSocket-Extensions: foo", 'Sec-WebSocket-Extensions: bar; baz="2"; qux, ,'),
    ],
)
async def test_only_known_extensions_that_were_offered_are_answered(stage: Stage, lines: tuple[str, ...]) -> None:
    answer = await acceptance(stage, upgrade("/", *lines))
    assert "sec-websocket-extensions" not in [name.lower() for name in answer.headers]


@covers("4.2.1-1", "4.2.1-8")
async def test_a_handshake_without_a_version_is_refused(stage: Stage) -> None:
    assert (await refusal(stage, without("Sec-WebSocket-Version: 13"))).status == 400


@covers("4.2.2-2", "4.4-1", "4.2.1-8")
@pytest.mark.parametrize(
    "version", ["0", "7", "8", "12", "14", "25", "255", "256", "013", "13.0", "13, 8", "+13", "0x0d", "", "x"]
)
async def test_another_version_is_answered_with_the_supported_one(stage: Stage, version: str) -> None:
    answer = await refusal(stage, upgrade(version=version))
    assert answer.status == 426
    assert answer.headers["Sec-WebSocket-Version"] == "13"


@covers("4.2.1-8", "11.3.5-1")
@pytest.mark.parametrize("second", ["13", "8"])
async def test_two_versions_are_refused(stage: Stage, second: str) -> None:
    assert (await refusal(stage, upgrade("/", f"Sec-WebSocket-Version: {second}"))).status == 426


@covers("4.2.1-9", "11.3.4-1")
@pytest.mark.parametrize(
    "lines",
    [
        ("Sec-WebSocket-Protocol: chat, superchat",),
        ("Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Protocol: superchat"),
        ("sec-websocket-protocol:chat ,\tsuperchat ",),
        ("Sec-WebSocket-Protocol: ,chat,, superchat,",),
    ],
)
async def test_subprotocols_are_a_list_in_order_of_preference(stage: Stage, lines: tuple[str, ...]) -> None:
    answer = await acceptance(stage, upgrade("/", *lines), subprotocols="superchat")
    assert answer.headers["Sec-WebSocket-Protocol"] == "superchat"
    assert (await stage.backend.take("POST")).json["request"]["subprotocols"] == ["chat", "superchat"]


@covers("4.2.1-1", "4.2.1-9")
@pytest.mark.parametrize(
    "lines",
    [
        ("",),
        (",",),
        ("a b",),
        ("a;b",),
        ('"a"',),
        ("a/b",),
        ("a\x7f",),
        ("é",),
        ("a, a",),
        ("a", "a"),
        ("a", ", b, a"),
    ],
)
async def test_subprotocols_other_than_a_list_of_distinct_tokens_are_refused(
    stage: Stage, lines: tuple[str, ...]
) -> None:
    assert (await refusal(stage, upgrade("/", *[f"Sec-WebSocket-Protocol: {line}" for line in lines]))).status == 400


@covers("4.2.1-1")
async def test_headers_may_come_in_any_order_and_unknown_ones_are_ignored(stage: Stage) -> None:
    start, *lines = upgrade("/", "X-Unknown: \xe9", "Sec-WebSocket-Unknown: 1", "Origin: null").split(b"\r\n")[:-2]
    shouted = [line.partition(b":")[0].upper() + b":" + line.partition(b":")[2] for line in reversed(lines)]
    await acceptance(stage, b"\r\n".join([start, *shouted, b"", b""]))


# Sending the server's handshake


@covers("4.2.2-1")
@pytest.mark.parametrize(
    "lines",
    [
        ("Origin: https://evil.example",),
        ("Origin: null",),
        ("Origin: https://good.example.evil.example",),
        ("Origin: http://good.example",),
    ],
)
async def test_an_origin_that_may_not_connect_gets_403(stage: Stage, lines: tuple[str, ...]) -> None:
    assert (await refusal(stage, upgrade("/", *lines), allowed_origins="https://good.example")).status == 403


@covers("4.2.2-1", "4.2.1-1")
async def test_a_handshake_with_two_origins_is_refused(stage: Stage) -> None:
    both = upgrade("/", "Origin: https://good.example", "Origin: https://evil.example")
    assert (await refusal(stage, both, allowed_origins="https://good.example")).status == 400


@covers("4.2.2-1")
@pytest.mark.parametrize("lines", [("Origin: HTTPS://good.EXAMPLE",), ()])
async def test_an_allowed_origin_may_connect_and_so_may_a_client_without_one(
    stage: Stage, lines: tuple[str, ...]
) -> None:
    await acceptance(stage, upgrade("/", *lines), allowed_origins="https://good.example")


@covers("4.2.2-3")
async def test_a_service_unknown_to_the_backend_is_404(stage: Stage) -> None:
    stage.backend.on["POST"] = lambda call: call.answer(404)
    node = await stage.node()
    raw = await node.raw()
    raw.send(upgrade("/nobody/here"))
    assert (await raw.answer()).status == 404
    await raw.end()


@covers("4.2.2-3")
async def test_a_listener_without_websockets_answers_404(stage: Stage) -> None:
    control = free_port()
    node = await stage.node(control_listen=f"127.0.0.1:{control}")
    raw = await node.raw(control)
    raw.send(upgrade())
    assert (await raw.answer()).status == 404
    await raw.end()
    assert not stage.backend.calls


@covers("4.2.2-4", "11.3.4-1")
async def test_the_answer_has_the_subprotocol_of_the_backend_once(stage: Stage) -> None:
    stage.backend.on["POST"] = lambda call: call.ok(subprotocol="b")
    node = await stage.node(subprotocols="a, c")
    raw = await node.raw()
    raw.send(upgrade("/", "Sec-WebSocket-Protocol: a", "Sec-WebSocket-Protocol: b"))
    head = await raw.reader.readuntil(b"\r\n\r\n")
    assert re.findall(rb"(?i)sec-websocket-protocol:.*", head) == [b"Sec-WebSocket-Protocol: b\r"]


@covers("4.2.2-4", "4.2.2-5")
@pytest.mark.parametrize("named", ["c", "A", "", "a, b", "a\r\nX: y"])
async def test_the_answer_never_has_a_subprotocol_that_was_not_offered(stage: Stage, named: str) -> None:
    stage.backend.on["POST"] = lambda call: call.ok(subprotocol=named)
    node = await stage.node()
    raw = await node.raw()
    raw.send(upgrade("/", "Sec-WebSocket-Protocol: a, b"))
    assert (await raw.answer()).status == 502
    await raw.end()


@covers("4.2.2-5")
@pytest.mark.parametrize("lines", [(), ("Sec-WebSocket-Protocol: c, A",)])
async def test_without_an_agreed_subprotocol_the_answer_has_none(stage: Stage, lines: tuple[str, ...]) -> None:
    answer = await acceptance(stage, upgrade("/", *lines), subprotocols="a, b")
    assert "sec-websocket-protocol" not in [name.lower() for name in answer.headers]


@covers("4.2.2-7", "4.2.2-8", "4.2.2-9", "4.2.2-10", "11.3.3-1")
async def test_the_answer_is_a_101_with_each_required_header_once(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.raw()
    raw.send(upgrade())
    assert await raw.reader.readuntil(b"\r\n\r\n") == (
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + ACCEPT.encode() + b"\r\n"
        b"\r\n"
    )


@covers("4.2.2-10")
@pytest.mark.parametrize("nonce", [bytes(16), bytes(range(16)), b"\xff" * 16, b"\xfb\xef\xbe" * 5 + b"\x10"])
async def test_the_accept_header_is_computed_from_the_literal_key(stage: Stage, nonce: bytes) -> None:
    key = b64encode(nonce).decode()
    answer = await acceptance(stage, upgrade(key=key))
    expected = b64encode(hashlib.sha1(f"{key}{GUID}".encode(), usedforsecurity=False).digest()).decode()
    assert answer.headers["Sec-WebSocket-Accept"] == expected


@covers("4.2.2-7")
async def test_no_101_is_sent_before_the_client_is_accepted(stage: Stage) -> None:
    stage.backend.on["POST"] = lambda call: call.answer(200, {"code": "NO"})
    node = await stage.node()
    raw = await node.raw()
    raw.send(upgrade())
    assert (await raw.answer()).status == 403
    await raw.end()


@covers("4.2.2-7")
async def test_the_connection_is_open_as_soon_as_it_has_its_101(stage: Stage) -> None:
    node = await stage.node()

    async def greet(call: Call) -> None:
        assert (await node.rest("PUT", call.client, "welcome")).status == 200
        call.ok()

    stage.backend.on["POST"] = greet
    raw = await node.upgraded()
    assert await raw.frame() == (TEXT, b"welcome")
