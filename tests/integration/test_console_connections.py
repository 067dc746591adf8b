"""The console lists connections, and does what a `ws_uri` does."""

from tests.support.console import ask
from tests.support.stage import Stage, received_close
from tests.support.waiting import with_timeout


async def test_connections_are_found_by_what_is_known_of_them(stage: Stage) -> None:
    node = await stage.node()
    names = [(await node.admit(path))[1] for path in ("/Chat/a", "/chat/b", "/game")]
    assert (await node.rest("PUT", f"/groups/Lobby/connections/{names[2]}")).status == 200

    async def find(**query: str) -> list[str]:
        found = await ask(node, "connections", **query)
        assert found["matched"] == len(found["connections"])
        assert found["next"] is None
        assert found["missing"] == []
        return [each["id"] for each in found["connections"]]

    # What has connected last comes first.
    assert await find() == names[::-1]
    assert await find(search="chat") == names[1::-1]
    assert await find(search="CHAT", field="path") == names[1::-1]
    assert await find(search="chat", field="context") == []
    assert await find(search="lob") == await find(search="lob", field="group") == [names[2]]
    assert await find(search="127.0.", field="address") == names[::-1]
    assert await find(search=names[0][10:].lower(), field="id") == [names[0]]
    assert await find(sort="id") == sorted(names)
    assert len(await find(sort="waiting")) == 3


async def test_pages_follow_each_other(stage: Stage) -> None:
    node = await stage.node()
    names = [(await node.admit())[1] for _ in range(5)]
    for sort, expected in (("connected", names[::-1]), ("id", sorted(names))):
        found: list[str] = []
        after = ""
        for size in (2, 2, 1):
            page = await ask(node, "connections", sort=sort, limit="2", after=after)
            assert (len(page["connections"]), page["matched"]) == (size, 5)
            found += [each["id"] for each in page["connections"]]
            after = page["next"]
        assert found == expected
        assert after is None
    page = await ask(node, "connections", sort="waiting", limit="2")
    assert (len(page["connections"]), page["next"]) == (2, None)
    first = await ask(node, "connections", sort="id", limit="2")
    assert (await node.rest("GET", f"/console/api/connections?sort=connected&after={first['next']}")).status == 400


async def test_what_waits_most_comes_first(stage: Stage) -> None:
    stage.backend.hold("PUT")
    node = await stage.node()
    names = []
    for count in (1, 3, 2):
        client, name = await node.admit()
        for _ in range(count):
            await client.send("hello")
        await stage.backend.take("PUT")
        names.append(name)
        while node.session(name).outbox.level < (count - 1) * 512:
            await node.rest("GET", "/healthz")
    found = await ask(node, "connections", sort="waiting")
    assert [each["id"] for each in found["connections"]] == [names[1], names[2], names[0]]
    assert found["connections"][0]["inbox_bytes"] > found["connections"][1]["inbox_bytes"]
    stage.backend.release()


async def test_one_connection_is_described_and_used_as_by_its_ws_uri(stage: Stage) -> None:
    stage.backend.hold("DELETE")
    node = await stage.node()
    client, name = await node.admit("/chat?a=b")
    found = await ask(node, f"connections/{name}")
    assert (found["state"], found["path"], found["query"], found["worker"]) == ("OPEN", "/chat", "a=b", None)
    assert found["ws_uri"].endswith(name)
    path = f"/console/api/connections/{name}"
    assert (await node.rest("PUT", path, "hello", Content_Type="text/plain")).status == 200
    assert await with_timeout(client.recv()) == "hello"
    assert (await node.rest("DELETE", path, '{"code": 4000, "reason": "bye"}')).status == 200
    assert await received_close(client) == (4000, "bye")
    call = await stage.backend.take("DELETE")
    # It can still be looked at.
    assert (await ask(node, f"connections/{name}"))["state"] == "CLOSED"
    assert (await node.rest("PUT", path, "hello")).status == 410
    call.ok()
