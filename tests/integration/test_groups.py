"""Groups, publishes and `POST /send`, with real clients."""

import json
from base64 import b64encode
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
import websockets

from tests.support.backend import Call
from tests.support.clients import RawClient
from tests.support.frames import TEXT
from tests.support.stage import Node, Stage, received_close
from tests.support.tools import needs_curl, run_tool
from tests.support.waiting import wait_until, with_timeout

NOBODY = "A" * 30


def request(method: str, path: str, body: bytes = b"") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def admit_members(stage: Stage, node: Node, count: int) -> list[tuple[websockets.ClientConnection, str]]:
    """Connect clients that the backend puts into the group `lobby`."""
    stage.backend.on["POST"] = lambda call: call.ok(groups=["lobby"])
    return [await node.admit() for _ in range(count)]


async def raw_members(stage: Stage, node: Node, count: int) -> list[RawClient]:
    stage.backend.on["POST"] = lambda call: call.ok(groups=["lobby"])
    return [await node.upgraded() for _ in range(count)]


async def publish(node: Node, body: bytes | str, path: str = "/groups/lobby", kind: str = "text/plain") -> Any:
    answer = await node.rest("PUT", path, body, Content_Type=kind)
    assert answer.status == 200, answer
    return answer.json


# Membership.


async def test_the_answer_to_a_post_puts_the_client_into_groups(stage: Stage) -> None:
    node = await stage.node()
    stage.backend.on["POST"] = lambda call: call.ok(groups=["lobby", "user:7"])
    client, name = await node.admit()
    assert (await node.information(name))["groups"] == ["lobby", "user:7"]
    assert (await publish(node, "hello"))["sent"] == 1
    assert await with_timeout(client.recv()) == "hello"


async def test_groups_that_cannot_be_joined_refuse_the_client(stage: Stage) -> None:
    node = await stage.node(max_groups=2)
    stage.backend.on["POST"] = lambda call: call.ok(groups=["a", "b", "c"])
    with pytest.raises(websockets.InvalidStatus) as refused:
        await node.connect()
    assert refused.value.response.status_code == 502
    # The backend believes that the client is connected.
    assert (await stage.backend.take("DELETE")).json["code"] == 1006
    assert (await node.rest("GET", "/groups/a")).json["count"] == 0


async def test_a_client_joins_and_leaves_by_the_answers_to_its_messages(stage: Stage) -> None:
    def follow(call: Call) -> None:
        verb, name = call.text.split()
        call.answer(200, **{"Ws-Join" if verb == "join" else "Ws-Leave": name})

    node = await stage.node()
    stage.backend.on["PUT"] = follow
    client, name = await node.admit()
    await client.send("join a,b")
    await client.send("join c")
    await client.send("leave b")
    await stage.backend.wait(lambda: stage.backend.count("PUT") == 3)
    session = node.session(name)
    await wait_until(lambda: session.outbox.level == 0)
    assert (await node.information(name))["groups"] == ["a", "c"]
    assert [(await publish(node, each, f"/groups/{each}"))["sent"] for each in "abc"] == [1, 0, 1]
    assert [await with_timeout(client.recv()) for _ in range(2)] == ["a", "c"]


async def test_a_client_joins_and_leaves_by_rest(stage: Stage) -> None:
    node = await stage.node()
    client, name = await node.admit()
    path = f"/groups/lobby/connections/{name}"
    assert (await node.rest("PUT", path)).json == {"code": "OK"}
    members = (await node.rest("GET", "/groups/lobby")).json
    assert (members["count"], [each["id"] for each in members["connections"]]) == (1, [name])
    assert (await publish(node, "in"))["sent"] == 1
    assert (await node.rest("DELETE", path)).json == {"code": "OK"}
    assert (await publish(node, "out"))["sent"] == 0
    assert (await node.rest("PUT", name, "push")).status == 200
    assert [await with_timeout(client.recv()) for _ in range(2)] == ["in", "push"]


async def test_a_client_that_disconnects_leaves_its_groups(stage: Stage) -> None:
    node = await stage.node()
    (client, name), _ = await admit_members(stage, node, 2)
    await client.close()
    await stage.backend.take("DELETE", client=name)
    assert (await node.rest("GET", "/groups/lobby")).json["count"] == 1
    answer = await node.rest("PUT", f"/groups/lobby/connections/{name}")
    assert (answer.status, answer.code) == (410, "GONE")
    assert (await publish(node, "hello"))["sent"] == 1


async def test_a_join_beyond_max_groups_closes_the_client(stage: Stage) -> None:
    node = await stage.node(max_groups=2)
    stage.backend.on["PUT"] = lambda call: call.answer(200, Ws_Join="a, b, c")
    client, name = await node.admit()
    await client.send("hello")
    assert await received_close(client) == (1011, "message not delivered")
    assert (await stage.backend.take("DELETE", client=name)).json["undelivered"] == 1
    assert [message for message in stage.messages() if "MAX_GROUPS" in message]


# Publishing.


async def test_text_and_binary_reach_all_members_with_and_without_compression(stage: Stage) -> None:
    node = await stage.node(compression="on")
    members = await admit_members(stage, node, 2)
    plain = [await node.admit(compression=None) for _ in range(2)]
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        socket = await stack.enter_async_context(http.ws_connect(f"http://127.0.0.1:{node.port}/", compress=15))
        text, data = "lorem ipsum " * 1000, b"\0\xff" * 5000
        assert (await publish(node, text))["sent"] == 5
        assert (await publish(node, data, kind="application/octet-stream"))["sent"] == 5
        for client, _ in members + plain:
            assert [await with_timeout(client.recv()) for _ in range(2)] == [text, data]
        assert [(await with_timeout(socket.receive())).data for _ in range(2)] == [text, data]


async def test_members_can_be_excepted(stage: Stage) -> None:
    node = await stage.node()
    members = await admit_members(stage, node, 3)
    (first, first_id), (second, _), (_, third_id) = members
    assert (await publish(node, "some", f"/groups/lobby?except={first_id},{third_id}"))["sent"] == 1
    assert (await publish(node, "all"))["sent"] == 3
    assert [await with_timeout(second.recv()) for _ in range(2)] == ["some", "all"]
    assert await with_timeout(first.recv()) == "all"


async def test_a_publish_to_all_reaches_members_and_others(stage: Stage) -> None:
    node = await stage.node()
    (member, _), *_ = await admit_members(stage, node, 1)
    stage.backend.on["POST"] = Call.ok
    other, _ = await node.admit()
    assert (await publish(node, "to all", "/connections"))["sent"] == 2
    for client in (member, other):
        assert await with_timeout(client.recv()) == "to all"


async def test_publishes_on_two_connections_have_one_order_at_all_members(stage: Stage) -> None:
    node = await stage.node()
    members = await raw_members(stage, node, 60)
    publishers = [await node.raw() for _ in range(2)]
    count = 50
    for number in range(count):
        for index, publisher in enumerate(publishers):
            publisher.send(request("PUT", "/groups/lobby", b"%d-%03d" % (index, number)))
    for publisher in publishers:
        for _ in range(count):
            answer = await publisher.answer()
            assert (answer.status, answer.json["sent"]) == (200, 60)
    orders = set()
    for member in members:
        received = [await member.frame() for _ in range(2 * count)]
        assert {opcode for opcode, _ in received} == {TEXT}
        orders.add(tuple(payload for _, payload in received))
    (order,) = orders
    for publisher_number in (b"0", b"1"):
        of_one = [payload for payload in order if payload.startswith(publisher_number)]
        assert of_one == [b"%b-%03d" % (publisher_number, number) for number in range(count)]


async def test_a_push_behind_a_publish_on_one_connection_arrives_behind_it(stage: Stage) -> None:
    node = await stage.node()
    members = await raw_members(stage, node, 100)
    last = (await node.rest("GET", "/groups/lobby")).json["connections"][-1]["id"]
    publisher = await node.raw()
    for number in range(20):
        publisher.send(request("PUT", "/groups/lobby", b"publish %d" % number))
        publisher.send(request("PUT", f"/{last}", b"push %d" % number))
    for _ in range(40):
        assert (await publisher.answer()).status == 200
    for number in range(20):
        assert await members[-1].frame() == (TEXT, b"publish %d" % number)
        assert await members[-1].frame() == (TEXT, b"push %d" % number)


async def test_a_publisher_that_does_not_wait_loses_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each member takes a slice of its own, so every answer is deferred.
    monkeypatch.setattr("wsaas.sessions.fan_out.FAN_OUT_SLICE_S", 0.0)
    node = await stage.node()
    members = await raw_members(stage, node, 10)
    publisher = await node.raw()
    bodies = [b"%d " % number + b"x" * 10_000 for number in range(100)]
    for body in bodies:
        publisher.send(request("PUT", "/groups/lobby", body))
    for body in bodies:
        answer = await publisher.answer()
        assert (answer.status, answer.json["sent"]) == (200, 10)
        for member in members:
            assert await member.frame() == (TEXT, body)


async def test_members_are_closed_with_the_code_of_the_request(stage: Stage) -> None:
    node = await stage.node()
    members = await admit_members(stage, node, 3)
    answer = await node.rest("DELETE", "/groups/lobby", json.dumps({"code": 4001, "reason": "room closed"}))
    assert answer.json == {"code": "OK", "closed": 3, "missing": []}
    for client, name in members:
        assert await received_close(client) == (4001, "room closed")
        delete = await stage.backend.take("DELETE", client=name)
        assert (delete.json["code"], delete.json["reason"]) == (4001, "room closed")
    assert (await node.rest("GET", "/groups/lobby")).json["count"] == 0


async def test_a_slow_member_is_skipped_and_named_or_closed(stage: Stage) -> None:
    node = await stage.node(send_buffer=10_000)
    (quick, _), *_ = await admit_members(stage, node, 1)
    slow = await node.upgraded(receive=4096)
    name = (await stage.backend.take("POST")).client
    session = node.session(name)
    while session.buffered < 10_000:
        assert (await node.rest("PUT", name, b"x" * 100_000)).status == 200
    sent = session.info.messages_out
    assert await publish(node, "1") == {"code": "OK", "sent": 1, "slow": [name], "slow_count": 1, "missing": []}
    assert await publish(node, "2", "/groups/lobby?slow=close") == {
        "code": "OK",
        "sent": 1,
        "slow": [name],
        "slow_count": 1,
        "missing": [],
    }
    assert [await with_timeout(quick.recv()) for _ in range(2)] == ["1", "2"]
    for _ in range(sent):
        assert (await slow.frame())[1] == b"x" * 100_000
    assert await slow.closing() == (1013, "slow client")
    delete = await stage.backend.take("DELETE", client=name)
    assert (delete.json["code"], delete.json["reason"]) == (1013, "slow client")


# Many clients in one request.


async def test_one_request_sends_to_several_clients_and_names_those_that_got_nothing(stage: Stage) -> None:
    node = await stage.node(send_buffer=10_000)
    (first, first_id), (second, second_id) = [await node.admit() for _ in range(2)]
    await node.upgraded(receive=4096)
    slow_id = (await stage.backend.take("POST")).client
    while node.session(slow_id).buffered < 10_000:
        assert (await node.rest("PUT", slow_id, b"x" * 100_000)).status == 200
    gone_uri = f"127.0.0.1:{node.port}/{NOBODY}"
    messages: list[dict[str, Any]] = [
        {"to": [first_id, second_id, slow_id, gone_uri], "text": "to all"},
        {"to": [first_id], "base64": b64encode(b"\0\xff").decode()},
        {"to": [f"127.0.0.1:{node.port}/{second_id}"], "text": "last"},
    ]
    body = "\n".join(json.dumps(message) for message in messages)
    answer = await node.rest("POST", "/send", body, Content_Type="application/x-ndjson")
    assert answer.json == {
        "code": "OK",
        "sent": 4,
        "gone": [gone_uri],
        "gone_count": 1,
        "slow": [slow_id],
        "slow_count": 1,
        "unreached": [],
        "unreached_count": 0,
    }
    assert [await with_timeout(first.recv()) for _ in range(2)] == ["to all", b"\0\xff"]
    assert [await with_timeout(second.recv()) for _ in range(2)] == ["to all", "last"]


async def test_a_large_batch_keeps_the_order_of_its_lines(stage: Stage) -> None:
    node = await stage.node(send_buffer=10_000_000, max_batch_size=4_000_000)
    clients = [await node.upgraded() for _ in range(2)]
    ids = [(await stage.backend.take("POST")).client for _ in clients]
    count = 3000
    lines = [json.dumps({"to": ids, "text": f"{number:0500}"}) for number in range(count)]
    body = "\n".join(lines)
    assert len(body) > 1_048_576
    sender = await node.raw()
    lines = [
        "POST /send HTTP/1.1",
        "Host: localhost",
        f"Content-Length: {len(body)}",
        "Content-Type: application/jsonl",
    ]
    sender.send("\r\n".join([*lines, "", body]).encode())
    answer = await sender.answer()
    assert (answer.status, answer.json["sent"]) == (200, 2 * count)
    for client in clients:
        for number in range(count):
            assert await client.frame() == (TEXT, b"%0500d" % number)


@needs_curl
async def test_curl_joins_publishes_lists_sends_and_closes(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    name = (await stage.backend.take("POST")).client
    root = f"127.0.0.1:{node.port}"
    done = await run_tool("curl", "-sS", "-X", "PUT", f"{root}/groups/lobby/connections/{name}")
    assert json.loads(done.stdout) == {"code": "OK"}
    done = await run_tool("curl", "-sS", "-X", "PUT", f"{root}/groups/lobby?slow=close", "-d", "grüße")
    assert json.loads(done.stdout)["sent"] == 1
    assert await raw.frame() == (TEXT, "grüße".encode())
    done = await run_tool("curl", "-sS", f"{root}/groups/lobby")
    assert [each["id"] for each in json.loads(done.stdout)["connections"]] == [name]
    done = await run_tool("curl", "-sS", f"{root}/send", "--json", json.dumps({"to": [name], "text": "sent"}))
    assert json.loads(done.stdout)["sent"] == 1
    assert await raw.frame() == (TEXT, b"sent")
    done = await run_tool("curl", "-sS", "-X", "DELETE", f"{root}/groups/lobby", "-d", '{"code": 4000}')
    assert json.loads(done.stdout)["closed"] == 1
    assert await raw.closing() == (4000, "")


# The other actions of an answer to a message.


async def test_the_backend_closes_a_client_by_its_answer(stage: Stage) -> None:
    node = await stage.node()
    stage.backend.on["PUT"] = lambda call: call.answer(
        200, "last words", Ws_Reply="text", Ws_Close="4001 token expired"
    )
    client, name = await node.admit()
    await client.send("hello")
    assert await with_timeout(client.recv()) == "last words"
    assert await received_close(client) == (4001, "token expired")
    delete = await stage.backend.take("DELETE", client=name)
    assert (delete.json["code"], delete.json["reason"]) == (4001, "token expired")


async def test_the_backend_replaces_and_removes_the_context_by_its_answer(stage: Stage) -> None:
    node = await stage.node()
    stage.backend.on["POST"] = lambda call: call.ok(context="page 1")
    stage.backend.on["PUT"] = lambda call: call.answer(200, Ws_Context=call.text)
    client, name = await node.admit()
    for text in ("page 2", "page 3", ""):
        await client.send(text)
    await stage.backend.wait(lambda: stage.backend.count("PUT") == 3)
    await client.close()
    delete = await stage.backend.take("DELETE")
    contexts = [call.headers.get("ws-context") for call in stage.backend.of(name)]
    assert contexts == [None, "page 1", "page 2", "page 3", None]
    assert delete.client == name


@pytest.mark.parametrize(
    ("name", "value"), [("Ws-Join", "a b"), ("Ws-Leave", "a/b"), ("Ws-Context", "a\tb"), ("Ws-Close", "1001")]
)
async def test_an_answer_that_asks_for_something_invalid_closes_the_client(stage: Stage, name: str, value: str) -> None:
    node = await stage.node()
    stage.backend.on["PUT"] = lambda call: call.answer(200, **{name: value})
    client, _ = await node.admit()
    await client.send("hello")
    assert await received_close(client) == (1011, "message not delivered")
    await stage.backend.take("DELETE")
    assert any(f"the backend's {name}" in message for message in stage.messages())
