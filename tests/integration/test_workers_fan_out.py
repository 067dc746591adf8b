"""Requests about many clients that are spread over several workers: any worker answers for all of them."""

import asyncio
import json
from typing import Any

import pytest

from tests.support.clients import RawClient
from tests.support.stage import Node, Stage, received_close
from tests.support.waiting import with_timeout

NDJSON = "application/x-ndjson"


async def join(worker: Node, *names: str, group: str = "lobby") -> None:
    for name in names:
        assert (await worker.rest("PUT", f"/groups/{group}/connections/{name}")).status == 200


async def publish(worker: Node, body: str, target: str = "/groups/lobby") -> Any:
    answer = await worker.rest("PUT", target, body)
    assert answer.status == 200, answer
    return answer.json


async def listed(worker: Node, target: str, **query: str) -> tuple[list[str], list[Any]]:
    """Return the ids on all pages of a list, and the pages."""
    ids: list[str] = []
    pages = []
    while True:
        text = "&".join(f"{name}={value}" for name, value in query.items())
        answer = await worker.rest("GET", f"{target}?{text}")
        assert answer.status == 200, answer
        pages.append(answer.json)
        ids += [each["id"] for each in answer.json["connections"]]
        if answer.json["next"] is None:
            return ids, pages
        query["after"] = answer.json["next"]


async def test_a_publish_by_any_worker_reaches_all_members_and_counts_them(stage: Stage) -> None:
    workers = await stage.workers(3)
    clients = [await worker.admit() for worker in workers for _ in range(2)]
    outsider, _ = await workers[1].admit()
    for number, (_, name) in enumerate(clients):
        await join(workers[number % 3], name)
    for number, worker in enumerate(workers):
        expected = {"code": "OK", "sent": 6, "slow": [], "slow_count": 0, "missing": []}
        assert await publish(worker, f"by {number}") == expected
        for client, _ in clients:
            assert await with_timeout(client.recv()) == f"by {number}"
    assert (await publish(workers[0], "all", "/connections"))["sent"] == 7
    assert await with_timeout(outsider.recv()) == "all"


async def test_a_request_with_the_prefix_of_ws_hostname_is_passed_on_to_all_workers(stage: Stage) -> None:
    here, there = await stage.workers(2, ws_hostname="gateway.example/ws")
    clients = [await worker.admit() for worker in (here, there)]
    host = {"Host": "gateway.example"}
    for _, name in clients:
        assert (await here.rest("PUT", f"/ws/groups/lobby/connections/{name}", headers=host)).status == 200
        assert (await here.rest("PUT", f"/ws/{name}", "one", headers=host)).status == 200
    assert (await here.rest("PUT", "/ws/groups/lobby", "many", headers=host)).json["sent"] == 2
    send = json.dumps({"to": [name for _, name in clients], "text": "both"})
    assert (await here.rest("POST", "/ws/send", send, headers=host)).json["sent"] == 2
    assert (await here.rest("GET", "/ws/connections", headers=host)).json["total"] == 2
    for client, _ in clients:
        assert [await with_timeout(client.recv()) for _ in range(3)] == ["one", "many", "both"]


async def test_excluded_clients_get_nothing_wherever_they_are(stage: Stage) -> None:
    here, there = await stage.workers(2)
    clients = [await worker.admit() for worker in (here, here, there, there)]
    names = [name for _, name in clients]
    await join(here, *names)
    assert (await publish(here, "some", f"/groups/lobby?except={names[0]},{names[2]}"))["sent"] == 2
    assert (await publish(there, "all"))["sent"] == 4
    received = [await with_timeout(client.recv()) for client, _ in clients]
    assert received == ["all", "some", "all", "some"]


async def test_a_group_ends_for_a_client_that_left_by_another_worker(stage: Stage) -> None:
    here, there = await stage.workers(2)
    _, name = await there.admit()
    await join(here, name)
    assert (await here.information(name))["groups"] == ["lobby"]
    assert (await here.rest("DELETE", f"/groups/lobby/connections/{name}")).status == 200
    assert (await publish(here, "nobody"))["sent"] == 0


async def test_slow_members_of_all_workers_are_named(stage: Stage) -> None:
    here, there = await stage.workers(2, send_buffer=100_000)
    slow = []
    for worker in (here, there):
        raw = await worker.upgraded(receive=4096)
        name = (await stage.backend.take("POST")).client
        slow.append((raw, name))
        await join(worker, name)
    while (answer := await publish(here, "x" * 90_000))["slow_count"] < 2:
        assert answer["sent"] + answer["slow_count"] == 2
    assert sorted(answer["slow"]) == sorted(name for _, name in slow)
    assert (await publish(there, "x" * 90_000, "/groups/lobby?slow=close"))["slow_count"] == 2
    for raw, _ in slow:
        raw.reset()
        assert (await stage.backend.take("DELETE")).json["code"] == 1013


async def test_closing_a_group_closes_the_members_at_all_workers(stage: Stage) -> None:
    workers = await stage.workers(3)
    clients = [await worker.admit() for worker in workers]
    await join(workers[0], *(name for _, name in clients))
    answer = await workers[1].rest("DELETE", "/groups/lobby", json.dumps({"code": 4000, "reason": "over"}))
    assert answer.json == {"code": "OK", "closed": 3, "missing": []}
    for client, _ in clients:
        assert await received_close(client) == (4000, "over")
        await stage.backend.take("DELETE")


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [("PUT", "/groups/a?slow=no", "x"), ("PUT", "/groups/a%20b", "x"), ("DELETE", "/groups/a", "x")],
)
async def test_an_error_is_found_before_anything_is_forwarded(
    stage: Stage, method: str, target: str, body: str
) -> None:
    here, there = await stage.workers(2)
    assert (await here.rest(method, target, body)).status == 400
    assert there.statistics.accepted_connections == 0


async def test_a_batch_is_split_and_each_client_gets_its_messages_in_order(stage: Stage) -> None:
    workers = await stage.workers(3)
    clients = [await worker.admit() for worker in workers for _ in range(2)]
    names = [name for _, name in clients]
    lines: list[dict[str, Any]] = [{"to": names, "text": f"{number}: ä\n"} for number in range(20)]
    lines.append({"to": [f"localhost:1/{name}" for name in names], "base64": "/w=="})
    gone = ["a" * 30, workers[2].prefix + "a" * 22]
    lines.append({"to": gone, "text": "nobody"})
    body = "\n".join(json.dumps(line) for line in lines)
    answer = await workers[0].rest("POST", "/send", body, Content_Type=NDJSON)
    assert answer.json == {
        "code": "OK",
        "sent": 21 * 6,
        "gone": gone,
        "gone_count": 2,
        "slow": [],
        "slow_count": 0,
        "unreached": [],
        "unreached_count": 0,
    }
    for client, _ in clients:
        assert [await with_timeout(client.recv()) for _ in range(20)] == [f"{number}: ä\n" for number in range(20)]
        assert await with_timeout(client.recv()) == b"\xff"


async def test_a_batch_with_an_error_sends_nothing_anywhere(stage: Stage) -> None:
    here, there = await stage.workers(2)
    (own, own_name), (other, other_name) = await here.admit(), await there.admit()
    body = json.dumps({"to": [own_name, other_name], "text": "first"}) + "\n{}"
    assert (await here.rest("POST", "/send", body, Content_Type=NDJSON)).status == 400
    body = json.dumps({"to": [own_name, other_name], "text": "second"})
    assert (await here.rest("POST", "/send", body)).json["sent"] == 2
    assert [await with_timeout(client.recv()) for client in (own, other)] == ["second", "second"]


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
async def test_the_list_of_connections_goes_through_all_workers(stage: Stage, limit: int) -> None:
    workers = await stage.workers(3)
    names = [(await worker.admit())[1] for worker in workers[:2] for _ in range(3)]
    for worker in workers:
        ids, pages = await listed(worker, "/connections", limit=str(limit))
        assert sorted(ids) == sorted(names)
        assert {page["total"] for page in pages} == {6}
        assert len({page["started_at"] for page in pages}) == 1
        for own in workers[:2]:
            # The connections of each worker are together, the oldest first.
            expected = [name for name in names if name.startswith(own.prefix)]
            start = ids.index(expected[0])
            assert ids[start : start + 3] == expected


async def test_a_long_page_of_two_workers_keeps_its_place_among_pipelined_requests(stage: Stage) -> None:
    here, there = await stage.workers(2)
    clients = [await worker.upgraded() for worker in (here, there) for _ in range(130)]
    names = [call.client for call in stage.backend.calls]
    # A caller that goes away is not in the way of the next ones.
    gone = await here.raw()
    gone.send(b"GET /connections?limit=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    gone.reset()
    page = (await here.rest("GET", "/connections?limit=1000")).json
    assert (sorted(each["id"] for each in page["connections"]), page["next"]) == (sorted(names), None)
    raw = await here.raw()
    targets = [f"/{names[0]}", "/connections?limit=1000", f"/{names[1]}", "/connections?limit=250", f"/{names[-1]}"]
    raw.send("".join(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n" for target in targets).encode())
    answers = [(await raw.answer()).json for _ in targets]
    assert [each["id"] for each in answers[::2]] == [names[0], names[1], names[-1]]
    ids = [[each["id"] for each in answer["connections"]] for answer in answers[1::2]]
    assert ids == [[each["id"] for each in page["connections"]], ids[0][:250]]
    for client in clients:
        client.reset()


async def test_pages_may_be_asked_of_changing_workers(stage: Stage) -> None:
    workers = await stage.workers(3)
    names = [(await worker.admit())[1] for worker in workers for _ in range(4)]
    ids: list[str] = []
    after = ""
    for number in range(100):
        page = (await workers[number % 3].rest("GET", f"/connections?limit=3{after}")).json
        ids += [each["id"] for each in page["connections"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert sorted(ids) == sorted(names)


async def test_the_members_of_a_group_are_listed_from_all_workers(stage: Stage) -> None:
    workers = await stage.workers(3)
    names = [(await worker.admit())[1] for worker in workers for _ in range(3)]
    await join(workers[0], *names[:8])
    for worker in workers:
        ids, pages = await listed(worker, "/groups/lobby", limit="2")
        assert sorted(ids) == sorted(names[:8])
        assert {page["count"] for page in pages} == {8}


async def test_ended_connections_of_all_workers_are_listed(stage: Stage) -> None:
    workers = await stage.workers(2, api_retry=60_000)
    clients = [await worker.admit() for worker in workers]
    stage.backend.hold("DELETE")
    for client, _ in clients:
        await client.close()
    for _ in clients:
        await stage.backend.take("DELETE")
    ids, pages = await listed(workers[0], "/connections", state="ending")
    assert sorted(ids) == sorted(name for _, name in clients)
    assert {page["total"] for page in pages} == {2}
    stage.backend.release()


async def test_a_publish_that_was_answered_comes_before_the_next_one_whoever_takes_them(stage: Stage) -> None:
    workers = await stage.workers(3)
    clients = [await worker.admit() for worker in workers]
    await join(workers[0], *(name for _, name in clients))
    callers: list[RawClient] = [await worker.raw() for worker in workers]
    for number in range(60):
        body = b"%d" % number
        head = b"PUT /groups/lobby HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
        callers[number % 3].send(head + body)
        assert (await callers[number % 3].answer()).json["sent"] == 3
    for client, _ in clients:
        assert [int(await with_timeout(client.recv())) for _ in range(60)] == list(range(60))


async def test_a_join_that_was_answered_counts_for_a_publish_by_any_worker(stage: Stage) -> None:
    workers = await stage.workers(3)

    async def check(number: int) -> None:
        group = f"group{number}"
        await join(workers[(number + 1) % 3], names[number], group=group)
        assert (await publish(workers[(number + 2) % 3], "hello", f"/groups/{group}"))["sent"] == 1

    names = [(await workers[number % 3].admit())[1] for number in range(9)]
    await asyncio.gather(*(check(number) for number in range(9)))
