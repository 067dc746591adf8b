"""Requests between the nodes of a cluster, without NATS: the test says which nodes there are."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster_view import make_member
from tests.support.stage import Node, Stage, know, meet, received_close
from tests.support.waiting import with_timeout
from wsaas.cluster import peers
from wsaas.cluster.link_policy import WORKER_POLICY
from wsaas.cluster.peers import Place

NDJSON = "application/x-ndjson"


async def test_any_node_takes_a_request_for_any_client(stage: Stage) -> None:
    a, b, c = await stage.cluster(3)
    client, name = await b.admit()
    for number, node in enumerate((a, b, c)):
        assert (await node.rest("PUT", name, f"by {number}")).status == 200
        assert await with_timeout(client.recv()) == f"by {number}"
    assert (await a.information(name))["id"] == name
    assert (await c.rest("HEAD", name)).status == 200
    assert (await a.rest("DELETE", name, json.dumps({"code": 4000, "reason": "bye"}))).status == 200
    assert await received_close(client) == (4000, "bye")
    await stage.backend.take("DELETE")
    assert (await a.rest("PUT", name, "late")).status == 410


async def test_the_path_in_ws_hostname_is_part_of_what_is_forwarded(stage: Stage) -> None:
    here, there = await stage.cluster(2, ws_hostname="https://gateway.test/ws")
    client, name = await there.admit()
    for target in (f"/ws/{name}", f"/{name}", f"/ws/{name}"):
        assert (await here.rest("PUT", target, target)).status == 200
        assert await with_timeout(client.recv()) == target


async def test_a_binary_message_and_an_error_pass_through(stage: Stage) -> None:
    here, there = await stage.cluster(2)
    client, name = await there.admit()
    assert (await here.rest("PUT", name, b"\0\xff", Content_Type="application/octet-stream")).status == 200
    assert await with_timeout(client.recv()) == b"\0\xff"
    answer = await here.rest("PUT", name, b"\xff", Content_Type="text/plain")
    assert (answer.status, answer.json["code"]) == (400, "BAD_TEXT")
    answer = await here.rest("PUT", name, b"x", Content_Encoding="gzip")
    assert (answer.status, answer.headers["Accept-Encoding"]) == (415, "identity")


async def join(node: Node, *names: str) -> None:
    for name in names:
        assert (await node.rest("PUT", f"/groups/lobby/connections/{name}")).status == 200


async def publish(node: Node, body: str, target: str = "/groups/lobby") -> Any:
    answer = await node.rest("PUT", target, body)
    assert answer.status == 200, answer
    return answer.json


async def test_a_publish_by_any_node_reaches_all_members_and_counts_them(stage: Stage) -> None:
    nodes = await stage.cluster(3)
    clients = [await node.admit() for node in nodes for _ in range(2)]
    outsider, _ = await nodes[1].admit()
    for number, (_, name) in enumerate(clients):
        await join(nodes[number % 3], name)
    for number, node in enumerate(nodes):
        expected = {"code": "OK", "sent": 6, "slow": [], "slow_count": 0, "missing": []}
        assert await publish(node, f"by {number}") == expected
        for client, _ in clients:
            assert await with_timeout(client.recv()) == f"by {number}"
    assert (await publish(nodes[0], "all", "/connections"))["sent"] == 7
    for client in (outsider, *(client for client, _ in clients)):
        assert await with_timeout(client.recv()) == "all"
    answer = await nodes[2].rest("DELETE", "/groups/lobby", json.dumps({"code": 4000, "reason": "over"}))
    assert answer.json == {"code": "OK", "closed": 6, "missing": []}
    for client, _ in clients:
        assert (await received_close(client))[0] == 4000
        await stage.backend.take("DELETE")


async def test_a_join_that_was_answered_is_in_force_for_the_next_publish_by_another_node(stage: Stage) -> None:
    a, b, c = await stage.cluster(3)
    _, name = await b.admit()
    for number in range(200):
        group = f"/groups/g{number}"
        by, then = ((a, c), (c, a), (b, a))[number % 3]
        assert (await by.rest("PUT", f"{group}/connections/{name}")).status == 200
        assert (await publish(then, "x", group))["sent"] == 1
        assert (await by.rest("DELETE", f"{group}/connections/{name}")).status == 200
        assert (await publish(then, "x", group))["sent"] == 0


async def test_the_pushes_of_one_caller_arrive_in_order_whichever_nodes_take_them(stage: Stage) -> None:
    nodes = await stage.cluster(3)
    client, name = await nodes[0].admit()
    for number in range(60):
        assert (await nodes[number % 3].rest("PUT", name, str(number))).status == 200
    assert [await with_timeout(client.recv()) for _ in range(60)] == [str(number) for number in range(60)]


async def test_messages_for_clients_of_all_nodes_are_sent_by_one_request(stage: Stage) -> None:
    nodes = await stage.cluster(3)
    clients = [await node.admit() for node in nodes]
    gone = nodes[1].prefix + "x" * 22
    nobody = "z" * 30
    lines = [
        {"to": [name for _, name in clients] + [gone], "text": "first"},
        {"to": [f"http://gateway.test/{clients[2][1]}", nobody], "text": "second"},
    ]
    body = "\n".join(json.dumps(line) for line in lines)
    answer = await nodes[0].rest("POST", "/send", body, Content_Type=NDJSON)
    assert (answer.json["code"], answer.json["sent"], answer.json["gone_count"]) == ("OK", 4, 2)
    assert sorted(answer.json["gone"]) == sorted([gone, nobody])
    for client, _ in clients:
        assert await with_timeout(client.recv()) == "first"
    assert await with_timeout(clients[2][0].recv()) == "second"


async def listed(node: Node, target: str, **query: str) -> tuple[list[str], Any]:
    """Return the ids on all pages of a list, and the last page."""
    ids: list[str] = []
    while True:
        text = "&".join(f"{name}={value}" for name, value in query.items())
        answer = await node.rest("GET", f"{target}?{text}")
        assert answer.status == 200, answer
        ids += [each["id"] for each in answer.json["connections"]]
        if answer.json["next"] is None:
            return ids, answer.json
        query["after"] = answer.json["next"]


@pytest.mark.parametrize("limit", ["1", "2", "100"])
async def test_lists_go_over_all_nodes(stage: Stage, limit: str) -> None:
    nodes = await stage.cluster(3)
    names = [(await node.admit())[1] for node in nodes for _ in range(3)]
    await join(nodes[0], *names[::2])
    for node in nodes:
        ids, page = await listed(node, "/connections", limit=limit)
        assert (sorted(ids), page["total"], page["missing"]) == (sorted(names), 9, [])
        ids, page = await listed(node, "/groups/lobby", limit=limit)
        assert (sorted(ids), page["count"]) == (sorted(names[::2]), 5)


async def test_a_request_for_one_node_goes_no_further(stage: Stage) -> None:
    here, there = await stage.cluster(2)
    _, name = await there.admit()
    _, own = await here.admit()
    await join(here, name, own)
    only = {"Ws-Node": here.view.own.node}
    assert (await here.rest("PUT", name, "x", headers=only)).status == 410
    assert (await here.rest("PUT", f"/groups/g/connections/{name}", headers=only)).status == 410
    assert (await here.rest("PUT", "/groups/lobby", "x", headers=only)).json["sent"] == 1
    answer = await here.rest("POST", "/send", json.dumps({"to": [name, own], "text": "x"}), headers=only)
    assert (answer.json["sent"], answer.json["gone"]) == (1, [name])
    assert (await here.rest("GET", "/connections", headers=only)).json["total"] == 1
    # As a loop would be: each node believes that the other one has the connection.
    know(here, {"lost____": there.view.own})
    know(there, {"lost____": here.view.own})
    answer = await here.rest("PUT", "lost____" + "x" * 22, "x")
    assert (answer.status, answer.json["code"]) == (410, "GONE")


async def test_a_request_for_another_node_is_refused(stage: Stage) -> None:
    (node,) = await stage.cluster(1)
    client, name = await node.admit()
    await join(node, name)
    for method, target in [("PUT", "x" * 30), ("PUT", "/groups/lobby"), ("GET", "/connections"), ("POST", "/send")]:
        answer = await node.rest(method, target, "x", headers={"Ws-Node": "another"})
        assert (answer.status, answer.json["code"]) == (421, "MISDIRECTED")
    # Another node has been started at the address of one that was killed.
    former = make_member("former", address=node.view.own.address)
    know(node, {"former__": former})
    answer = await node.rest("PUT", "former__" + "x" * 22, "x")
    assert (answer.status, answer.json["code"], answer.headers["Retry-After"]) == (503, "UNAVAILABLE", "1")
    (text,) = stage.messages()
    assert text.startswith(
        f"another node answers at the address of host-of-former ({former.address}): it was restarted"
    )
    found = await publish(node, "once")
    assert (found["sent"], found["missing"]) == (1, [f"host-of-former ({former.address})"])
    assert await with_timeout(client.recv()) == "once"
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(client.recv(), 0.05)


TOKEN = "a" * 32


async def test_the_token_of_the_caller_travels_along(stage: Stage) -> None:
    here, there = await stage.cluster(2, control_token=TOKEN)
    client, name = await there.admit()
    assert (await here.rest("PUT", name, "x")).status == 401
    assert (await here.rest("PUT", "z" * 30, "x")).status == 401
    allowed = {"Authorization": f"Bearer {TOKEN}"}
    assert (await here.rest("PUT", name, "x", headers=allowed)).status == 200
    assert await with_timeout(client.recv()) == "x"
    assert (await here.rest("PUT", "/connections", "y", headers=allowed)).json["sent"] == 1


async def test_a_node_that_refuses_the_token_is_heard_and_logged(stage: Stage) -> None:
    (here,) = await stage.cluster(1, "here", control_token=f"{TOKEN},{'b' * 32}")
    (there,) = await stage.cluster(1, "there", control_token=TOKEN)
    meet(here, [here, there])
    _, name = await there.admit()
    answer = await here.rest("PUT", name, "x", headers={"Authorization": f"Bearer {'b' * 32}"})
    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    (text,) = [each for each in stage.messages() if "refused" in each]
    assert text.endswith(
        "refused a request of a caller of this node: all nodes need the same CONTROL_TOKEN and CONTROL_TLS_CA"
    )
    assert (await here.rest("PUT", name, "x", headers={"Authorization": f"Bearer {TOKEN}"})).status == 200


async def test_the_replaced_token_of_a_caller_is_refused_by_the_other_node_at_once(
    stage: Stage, tmp_path: Path
) -> None:
    file = tmp_path / "tokens"
    file.write_text(TOKEN)
    here, there = await stage.cluster(2, control_token_file=file)
    client, name = await there.admit()
    raw = await here.raw()

    async def push(*tokens: str) -> list[int]:
        for token in tokens:
            raw.send(
                f"PUT /{name} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
                "Content-Type: text/plain\r\nContent-Length: 1\r\n\r\nx".encode()
            )
        return [(await raw.answer()).status for _ in tokens]

    assert await push(*[TOKEN] * 5) == [200] * 5
    file.write_text("b" * 32)
    there.gateway.reload()
    assert await push(TOKEN, TOKEN) == [401, 401]
    here.gateway.reload()
    assert await push(*["b" * 32] * 3) == [200] * 3
    for _ in range(8):
        assert await with_timeout(client.recv()) == "x"


@pytest.mark.parametrize("has_ports", [False, True])
async def test_nodes_with_several_workers_answer_for_all_of_them(stage: Stage, *, has_ports: bool) -> None:
    nodes = await stage.cluster_of_workers(2, has_ports=has_ports)
    workers = [worker for node in nodes for worker in node]
    clients = [await worker.admit() for worker in workers for _ in range(2)]
    names = [name for _, name in clients]
    for number, (client, name) in enumerate(clients):
        for worker in workers:
            assert (await worker.rest("PUT", name, str(number))).status == 200
            assert await with_timeout(client.recv()) == str(number)
    await join(workers[0], *names)
    for worker in workers:
        assert await publish(worker, "x") == {"code": "OK", "sent": 8, "slow": [], "slow_count": 0, "missing": []}
        answer = await worker.rest("POST", "/send", json.dumps({"to": names, "text": "x"}))
        assert (answer.json["code"], answer.json["sent"]) == ("OK", 8)
        for client, _ in clients:
            assert [await with_timeout(client.recv()) for _ in range(2)] == ["x", "x"]
        for limit in ("1", "100"):
            ids, page = await listed(worker, "/connections", limit=limit)
            assert (sorted(ids), page["total"], page["missing"]) == (sorted(names), 8, [])
        found = (await worker.rest("GET", "/nodes")).json["nodes"]
        assert [(each["node"], each["workers"]) for each in found] == [("node-0", 2), ("node-1", 2)]


@pytest.mark.slow
async def test_a_worker_of_another_node_that_does_not_answer_is_named_with_its_node(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "WORKER_POLICY", replace(WORKER_POLICY, timeout=0.2))
    (here, _), (there, other) = await stage.cluster_of_workers(2, has_ports=False)
    _, name = await other.admit()
    there.gateway.peers.update({})
    there.gateway.peers.update({other.prefix: Place("worker 2", "/nowhere")})
    label = f"worker 2 of {there.view.own.name} ({there.view.own.address})"
    found = await publish(here, "x", "/connections")
    assert (found["code"], found["missing"]) == ("PARTIAL", [label])
    answer = await here.rest("POST", "/send", json.dumps({"to": [name], "text": "x"}))
    assert (answer.json["code"], answer.json["unreached"]) == ("PARTIAL", [name])
    answer = await here.rest("GET", "/connections?after=" + min(here.prefix, there.prefix) + "0")
    assert label in answer.json["missing"]
