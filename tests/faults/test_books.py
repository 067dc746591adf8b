"""The backend's books: one DELETE for each POST that it may have accepted, whatever dies, and whenever.

The gateway that is killed runs in a process of its own, with a journal.
"""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path

import pytest

from tests.support.backend import Call
from tests.support.clients import RawClient, upgrade
from tests.support.frames import BINARY, TEXT, close_frame, frame
from tests.support.gateway_process import GatewayProcess, gateway_process
from tests.support.ports import port_for_restarts
from tests.support.program import gateway_program
from tests.support.situations import BACKEND_WAS_ASKED, Situation, with_messages_in_the_outbox
from tests.support.stage import Stage
from tests.support.waiting import wait_until, with_timeout


def repeats_aside(calls: list[Call]) -> list[Call]:
    """Leave out what repeats the call before it; a repeat has to be the same request."""
    kept: list[Call] = []
    for call in calls:
        if kept and call.event == kept[-1].event:
            assert (call.method, call.body) == (kept[-1].method, kept[-1].body)
        else:
            kept.append(call)
    return kept


class RestartableGateway:
    """A gateway in a process of its own, with a journal."""

    def __init__(self, process: GatewayProcess) -> None:
        self._process = process
        self.program = process.program
        self._backend = process.stage.backend
        self._paths = count()

    async def raw(self) -> RawClient:
        """Open a bare connection."""
        return await self._process.raw()

    async def upgraded(self, *headers: str) -> tuple[RawClient, str]:
        """Return a client that has its 101, and its id."""
        path = f"/{next(self._paths)}"
        raw = await self._process.upgraded(path, *headers)
        posts = [call for call in self._backend.calls if call.method == "POST"]
        return raw, next(post.client for post in posts if post.json["request"]["path"] == path)

    async def pass_through(self) -> str:
        """Let a client come and go. All that was to be written to the journal or to be sent before it, is."""
        raw, name = await self.upgraded()
        raw.send(close_frame(1000))
        assert await raw.closing() == (1000, "")
        await raw.end()
        await self._backend.take("DELETE", client=name)
        return name

    async def restart(self) -> None:
        self.program.kill()
        await self.program.start()

    async def owes_nothing(self) -> None:
        """Restart it; fail if it sends anything about a client that was there before, but for the last one."""
        last = await self.pass_through()
        before = len(self._backend.calls)
        await self.restart()
        now = await self.pass_through()
        # The answer to its DELETE may not have been in the journal yet.
        calls = [call for call in self._backend.calls[before:] if call.client != last or call.event != "end"]
        assert {call.client for call in calls} == {now}, calls


StartGateway = Callable[..., Awaitable[RestartableGateway]]


@pytest.fixture
def start_gateway(stage: Stage, tmp_path: Path) -> StartGateway:
    """Start a gateway that can be killed."""

    async def start(**settings: object) -> RestartableGateway:
        chosen = {"journal": tmp_path / "journal", "drain_timeout": 5000, **settings}
        process = gateway_process(stage, tmp_path / f"log-{len(stage.backend.calls)}", **chosen)
        return RestartableGateway(await stage.stack.enter_async_context(process))

    return start


# The gateway lives.


async def test_a_backend_that_restarts_under_load(stage: Stage) -> None:
    node = await stage.node()
    chance = iter(range(10**6))

    async def now_and_then_slowly(call: Call) -> None:
        if next(chance) % 7 == 0:
            await asyncio.sleep(0.002)
        call.ok()

    stage.backend.on["PUT"] = now_and_then_slowly
    clients = [await node.admit() for _ in range(20)]
    messages = 200

    async def talk(number: int) -> None:
        client, _ = clients[number]
        for message in range(messages):
            await client.send(f"{message}")
            await asyncio.sleep(0.001)
        await client.close()

    talking = [asyncio.ensure_future(talk(number)) for number in range(20)]
    for restart in range(1, 6):
        await stage.backend.wait(lambda: stage.backend.count("PUT") > 600 * restart)  # noqa: B023
        await stage.backend.stop()
        await stage.backend.start()
    await with_timeout(asyncio.gather(*talking), 30)
    await stage.backend.wait(lambda: len({c.client for c in stage.backend.calls if c.method == "DELETE"}) == 20)
    assert await node.drain()
    for _, name in clients:
        calls = repeats_aside(stage.backend.of(name))
        assert [call.event for call in calls] == [*range(messages + 1), "end"]
        assert [call.text for call in calls[1:-1]] == [str(number) for number in range(messages)]
        assert (calls[-1].method, calls[-1].json["code"], calls[-1].json["messages_in"]) == ("DELETE", 1000, messages)


@pytest.mark.parametrize("situation", BACKEND_WAS_ASKED)
async def test_a_client_that_vanishes_gets_its_delete(stage: Stage, situation: Situation) -> None:
    # No FIN, no RST: its socket stays open, and nothing comes from it any more, not even a pong.
    node = await stage.node(ws_timeout=300, handshake_timeout=300)
    raw = await situation(stage, node)
    name = stage.backend.calls[0].client
    stage.backend.release()
    delete = await stage.backend.take("DELETE")
    calls = stage.backend.of(name)
    assert [call.event for call in calls] == [*range(len(calls) - 1), "end"], "nothing told twice, nothing left out"
    assert delete.json["messages_in"] == len(calls) - 2
    assert delete is calls[-1]
    raw.reset()
    assert await node.drain()
    assert stage.backend.count("DELETE") == 1


@pytest.mark.parametrize("end", [RawClient.reset, None])
@pytest.mark.parametrize("situation", BACKEND_WAS_ASKED)
async def test_a_stop_at_each_point(
    stage: Stage, situation: Situation, end: Callable[[RawClient], None] | None
) -> None:
    node = await stage.node(drain_timeout=1500)
    raw = await situation(stage, node)
    name = stage.backend.calls[0].client
    stop = asyncio.ensure_future(node.drain())
    await wait_until(lambda: not node.statistics.accepts_clients)
    if end is not None:
        end(raw)
    stage.backend.release()
    assert await stop
    calls = stage.backend.of(name)
    assert [call.event for call in calls] == [*range(len(calls) - 1), "end"]
    assert [call.method for call in calls].count("DELETE") == 1
    assert calls[-1].json["messages_in"] == len(calls) - 2
    if situation is with_messages_in_the_outbox:
        assert len(calls) == 12
    if end is None:
        raw.reset()


class Flaky:
    """A backend that is up and of no use, which counts how often it is asked."""

    def __init__(self, stage: Stage, refuse: Callable[[Call], None]) -> None:
        self.times: list[float] = []
        self._refuse = refuse
        self._stage = stage
        for method in ("PUT", "DELETE"):
            stage.backend.on[method] = self._ask

    def _ask(self, call: Call) -> None:
        self.times.append(asyncio.get_running_loop().time())
        self._refuse(call)


@pytest.mark.parametrize("refuse", [lambda call: call.answer(503), Call.hang_up, Call.reset])
async def test_many_that_wait_do_not_hammer_a_backend_that_is_down(
    stage: Stage, refuse: Callable[[Call], None]
) -> None:
    node = await stage.node(api_connections=32)
    clients = [await node.upgraded() for _ in range(500)]
    down = Flaky(stage, refuse)
    for client in clients:
        client.send(b"".join(frame(TEXT, b"%d" % number) for number in range(3)))
    await wait_until(lambda: node.statistics.deliveries_waiting == 500)
    first = len(down.times)
    assert first < 100, "it is found to be down by as many as there are connections"
    await asyncio.sleep(1.6)
    assert len(down.times) - first <= 6, "then one asks at a time, after pauses that double"
    stage.backend.on["PUT"] = stage.backend.on["DELETE"] = Call.ok
    names = [call.client for call in stage.backend.calls if call.method == "POST"]
    await stage.backend.wait(
        lambda: sum(call.text == "2" for call in stage.backend.calls if call.method == "PUT") == 500
    )
    for name in names:
        calls = repeats_aside(stage.backend.of(name))
        assert [call.text for call in calls[1:]] == ["0", "1", "2"]
    for client in clients:
        client.reset()
    await stage.backend.wait(lambda: stage.backend.count("DELETE") == 500)


async def test_many_that_wait_for_a_backend_that_is_not_there(stage: Stage) -> None:
    node = await stage.node()
    clients = [await node.upgraded() for _ in range(500)]
    await stage.backend.stop()
    for client in clients:
        client.send(b"".join(frame(TEXT, b"%d" % number) for number in range(3)))
    await wait_until(lambda: node.statistics.deliveries_waiting >= 499)
    await stage.backend.start()
    await stage.backend.wait(lambda: stage.backend.count("PUT") == 1500)
    for client in clients:
        client.reset()
    await stage.backend.wait(lambda: stage.backend.count("DELETE") == 500)
    assert await node.drain()
    for name in {call.client for call in stage.backend.calls}:
        calls = stage.backend.of(name)
        assert [call.method for call in calls] == ["POST", "PUT", "PUT", "PUT", "DELETE"]
        assert [call.text for call in calls[1:-1]] == ["0", "1", "2"]


# The gateway is killed.

Point = Callable[[Stage, RestartableGateway], Awaitable[RawClient]]
"""Brings a client to a point of its life; a backend that holds back its answer goes on doing so."""


async def while_its_post_is_under_way(stage: Stage, node: RestartableGateway) -> RawClient:
    stage.backend.hold("POST")
    raw = await node.raw()
    raw.send(upgrade("/", "Authorization: Basic YTpi"))
    await stage.backend.take("POST")
    return raw


async def gone_while_its_post_is_under_way(stage: Stage, node: RestartableGateway) -> RawClient:
    raw = await while_its_post_is_under_way(stage, node)
    raw.reset()
    return raw


async def while_it_is_quiet(_stage: Stage, node: RestartableGateway) -> RawClient:
    return (await node.upgraded("Authorization: Basic YTpi"))[0]


async def in_the_middle_of_a_frame(stage: Stage, node: RestartableGateway) -> RawClient:
    raw, _ = await node.upgraded("Authorization: Basic YTpi")
    raw.send(frame(TEXT, b"whole") + frame(BINARY, b"x" * 100_000)[:50_000])
    await stage.backend.take("PUT")
    return raw


async def with_a_put_under_way(stage: Stage, node: RestartableGateway) -> RawClient:
    stage.backend.hold("PUT")
    raw, _ = await node.upgraded("Authorization: Basic YTpi")
    raw.send(frame(TEXT, b"1"))
    await stage.backend.take("PUT")
    return raw


async def with_messages_that_wait(stage: Stage, node: RestartableGateway) -> RawClient:
    stage.backend.hold("PUT")
    raw, name = await node.upgraded("Authorization: Basic YTpi")
    raw.send(b"".join(frame(TEXT, b"%d" % number) for number in range(10)))
    await stage.backend.take("PUT")
    other, _ = await node.upgraded()
    other.send(frame(TEXT, b"all before this was read"))
    await stage.backend.take("PUT")
    assert len([call for call in stage.backend.of(name) if call.method == "PUT"]) == 1
    return raw


async def gone_with_a_reset_and_messages_that_wait(stage: Stage, node: RestartableGateway) -> RawClient:
    raw = await with_messages_that_wait(stage, node)
    raw.reset()
    return raw


async def closed_with_messages_that_wait(stage: Stage, node: RestartableGateway) -> RawClient:
    raw = await with_messages_that_wait(stage, node)
    raw.send(close_frame(1000))
    assert await raw.closing() == (1000, "")
    # Whatever the gateway wrote down then is in the journal before one who comes later is asked about.
    await node.upgraded()
    return raw


POINTS: list[Point] = [
    while_its_post_is_under_way,
    gone_while_its_post_is_under_way,
    while_it_is_quiet,
    in_the_middle_of_a_frame,
    with_a_put_under_way,
    with_messages_that_wait,
    gone_with_a_reset_and_messages_that_wait,
    closed_with_messages_that_wait,
]


def is_lost(delete: Call) -> bool:
    """Whether a DELETE says that its gateway was lost, as it has to."""
    told = delete.json
    if told["reason"] != "gateway lost":
        return False
    assert (delete.event, told["code"]) == ("end", 1006)
    assert told["messages_in"] is None
    assert told["messages_out"] is None
    assert told["ws_uri"] == delete.ws_uri
    assert told["duration"] >= 0
    return True


@pytest.mark.parametrize("point", POINTS)
async def test_a_kill_at_each_point(stage: Stage, start_gateway: StartGateway, point: Point) -> None:
    node = await start_gateway()
    await point(stage, node)
    owed = {call.client for call in stage.backend.calls}
    node.program.kill()
    stage.backend.hold("DELETE")
    await node.program.start()
    deletes = [await stage.backend.take("DELETE") for _ in owed]
    assert {call.client for call in deletes} == owed
    assert all(is_lost(call) for call in deletes)
    first = stage.backend.calls[0]
    delete = next(call for call in deletes if call.client == first.client)
    assert delete.headers["authorization"] == "Basic YTpi"
    assert delete.ws_uri == first.ws_uri
    # Killed again while it tells, it tells again, of the same event.
    await node.restart()
    again = [await stage.backend.take("DELETE") for _ in owed]
    assert all(is_lost(call) for call in again)
    assert {call.headers["ce-id"] for call in again} == {call.headers["ce-id"] for call in deletes}
    # What it was answered, it never tells again.
    stage.backend.release()
    await node.owes_nothing()


async def with_its_delete_under_way(stage: Stage, node: RestartableGateway) -> Call:
    stage.backend.hold("DELETE")
    raw, _ = await node.upgraded()
    raw.send(frame(TEXT, b"1") + close_frame(4001, "tired"))
    return await stage.backend.take("DELETE")


async def with_its_delete_turned_away(stage: Stage, node: RestartableGateway) -> Call:
    stage.backend.on["DELETE"] = lambda call: call.answer(503, Retry_After="60")
    raw, _ = await node.upgraded()
    raw.send(frame(TEXT, b"1") + close_frame(4001, "tired"))
    return await stage.backend.take("DELETE")


async def with_its_delete_under_way_in_a_drain(stage: Stage, node: RestartableGateway) -> Call:
    stage.backend.hold("DELETE")
    raw, _ = await node.upgraded()
    raw.send(frame(TEXT, b"1"))
    await stage.backend.take("PUT")
    node.program.terminate()
    assert (await raw.closing())[0] == 1001
    raw.send(close_frame(1001))
    return await stage.backend.take("DELETE")


@pytest.mark.parametrize("point", [with_its_delete_under_way, with_its_delete_under_way_in_a_drain])
async def test_a_delete_under_way_at_a_kill_is_repeated_as_the_same_event(
    stage: Stage, start_gateway: StartGateway, point: Callable[[Stage, RestartableGateway], Awaitable[Call]]
) -> None:
    node = await start_gateway()
    delete = await point(stage, node)
    assert (delete.event, delete.json["messages_in"]) == ("end", 1)
    stage.backend.hold("DELETE")
    for _ in range(2):
        await node.restart()
        again = await stage.backend.take("DELETE")
        assert is_lost(again)
        assert again.headers["ce-id"] == delete.headers["ce-id"]
    again.ok()
    stage.backend.on["DELETE"] = Call.ok
    await node.owes_nothing()


async def test_a_delete_that_was_rejected_is_repeated_unchanged_after_a_kill(
    stage: Stage, start_gateway: StartGateway
) -> None:
    node = await start_gateway()
    delete = await with_its_delete_turned_away(stage, node)
    # That it was turned away is in the journal before one who comes later is asked about.
    await node.upgraded()
    assert (delete.event, delete.json["messages_in"]) == ("end", 1)
    stage.backend.hold("DELETE")
    for _ in range(2):
        await node.restart()
        again = await stage.backend.take("DELETE", client=delete.client)
        assert (again.headers["ce-id"], again.body) == (delete.headers["ce-id"], delete.body)
        assert again.headers["ce-time"] == delete.headers["ce-time"]
    stage.backend.release()
    await node.owes_nothing()


async def test_a_kill_during_a_drain_with_messages_that_wait(stage: Stage, start_gateway: StartGateway) -> None:
    node = await start_gateway()
    raw = await with_messages_that_wait(stage, node)
    node.program.terminate()
    assert (await raw.closing())[0] == 1001
    raw.send(close_frame(1001))
    await raw.end()
    node.program.kill()
    stage.backend.release()
    await node.program.start()
    deletes = [await stage.backend.take("DELETE") for _ in range(2)]
    first = next(call for call in deletes if call.client == stage.backend.calls[0].client)
    assert is_lost(first), "nine messages of it were lost: its DELETE must not look as if all was well"
    await node.pass_through()
    assert len([call for call in stage.backend.of(first.client) if call.method == "DELETE"]) == 1


async def test_a_stop_without_time_for_the_deletes_leaves_them_to_the_next_start(
    stage: Stage, start_gateway: StartGateway
) -> None:
    node = await start_gateway(drain_timeout=300)
    stage.backend.hold("PUT", "DELETE")
    quiet, _ = await node.upgraded()
    busy, _ = await node.upgraded()
    busy.send(frame(TEXT, b"1") + frame(TEXT, b"2"))
    await stage.backend.take("PUT")
    node.program.terminate()
    delete = await stage.backend.take("DELETE")
    assert delete.json["code"] == 1001
    assert await node.program.wait() == 1, "messages were lost"
    stage.backend.release()
    await node.program.start()
    deletes = {call.client: call for call in [await stage.backend.take("DELETE") for _ in range(2)]}
    assert len(deletes) == 2
    again = deletes.pop(delete.client)
    assert (again.headers["ce-id"], again.body) == (delete.headers["ce-id"], delete.body)
    assert all(map(is_lost, deletes.values())), "its two messages were lost: so it has to say"
    for raw in (quiet, busy):
        raw.reset()


async def test_the_delete_after_a_kill_carries_the_context(stage: Stage, start_gateway: StartGateway) -> None:
    stage.backend.on["POST"] = lambda call: call.ok(context="room=7")
    node = await start_gateway()
    _, name = await node.upgraded("Authorization: Bearer \xfc\xff")
    await node.pass_through()
    await node.restart()
    delete = await stage.backend.take("DELETE", client=name)
    assert is_lost(delete)
    assert delete.headers["ws-context"] == "room=7"
    assert delete.headers["authorization"] == "Bearer \xfc\xff"


@pytest.mark.parametrize("status", [200, 403, 500])
async def test_no_delete_follows_a_refusal_after_a_kill(stage: Stage, start_gateway: StartGateway, status: int) -> None:
    node = await start_gateway()
    stage.backend.on["POST"] = lambda call: call.answer(status, {"code": "NO"})
    raw = await node.raw()
    raw.send(upgrade())
    assert (await raw.answer()).status in (403, 502)
    stage.backend.on["POST"] = Call.ok
    await node.owes_nothing()


async def test_a_thousand_clients_and_a_kill(stage: Stage, start_gateway: StartGateway) -> None:
    node = await start_gateway()
    loop = asyncio.get_running_loop()
    start = loop.time()
    raws = await asyncio.gather(*(node.raw() for _ in range(1000)))
    for raw in raws:
        raw.send(upgrade("/", "Authorization: Basic YTpi"))
    for raw in raws:
        assert (await raw.answer()).status == 101
    posts = {call.client for call in stage.backend.calls}
    assert len(posts) == 1000
    node.program.kill()
    for raw in raws:
        raw.close()
    await node.program.start()
    await stage.backend.wait(lambda: stage.backend.count("DELETE") >= 1000)
    last = await node.pass_through()
    deletes = [call for call in stage.backend.calls if call.method == "DELETE" and call.client != last]
    assert len(deletes) == len({call.headers["ce-id"] for call in deletes}) == 1000
    assert {call.client for call in deletes} == posts
    assert all(is_lost(call) for call in deletes)
    assert stage.backend.most_busy <= 128
    assert loop.time() - start < 10


async def test_a_thousand_deletes_are_not_sent_at_once(stage: Stage, start_gateway: StartGateway) -> None:
    node = await start_gateway()
    for _ in range(100):
        await node.upgraded()
    node.program.kill()
    stage.backend.hold("DELETE")
    await node.program.start()
    await stage.backend.wait(lambda: stage.backend.count("DELETE") == 16)
    other, _ = await node.upgraded()
    other.send(frame(TEXT, b"served beside it"))
    await stage.backend.take("PUT")
    assert stage.backend.count("DELETE") == 16
    stage.backend.release()
    await stage.backend.wait(lambda: stage.backend.count("DELETE") == 100)


async def test_kills_all_through_the_recovery(stage: Stage, start_gateway: StartGateway) -> None:
    node = await start_gateway()
    names = {(await node.upgraded())[1] for _ in range(100)}
    answered: set[str] = set()
    deletes: list[Call] = []

    async def slowly(call: Call) -> None:
        deletes.append(call)
        await asyncio.sleep(0.005)
        if not call.connection.writer.is_closing():
            answered.add(call.client)
            call.ok()

    stage.backend.on["DELETE"] = slowly
    for round_ in range(1, 5):
        node.program.kill()
        await node.program.start()
        await stage.backend.wait(lambda: len(answered) >= 18 * round_)  # noqa: B023
    await stage.backend.wait(lambda: answered == names)
    assert {call.client for call in deletes} == names
    assert len({call.headers["ce-id"] for call in deletes}) == 100
    assert all(is_lost(call) for call in deletes)
    assert len(deletes) < 100 + 5 * 16 * 2


async def test_a_backend_that_is_down_when_a_killed_gateway_starts(stage: Stage, start_gateway: StartGateway) -> None:
    node = await start_gateway()
    names = {(await node.upgraded())[1] for _ in range(50)}
    node.program.kill()
    await stage.backend.stop()
    await node.program.start()
    await wait_until(lambda: "the backend cannot be reached" in node.program.said())
    await stage.backend.start()
    await stage.backend.wait(lambda: stage.backend.count("DELETE") == 50)
    assert {call.client for call in stage.backend.calls if call.method == "DELETE"} == names
    await wait_until(lambda: "all pending DELETEs are delivered" in node.program.said())


async def test_a_second_gateway_on_the_same_journal_does_not_start(
    stage: Stage, start_gateway: StartGateway, tmp_path: Path
) -> None:
    node = await start_gateway()
    raw, name = await node.upgraded()
    second = gateway_program(
        f"{stage.backend.authority}/hook",
        port_for_restarts(),
        tmp_path / "second",
        {"journal": tmp_path / "journal"},
    )
    second.spawn()
    assert await second.wait() == 1
    assert len(second.said().splitlines()) == 1
    assert "another process uses it" in second.said()
    assert str(tmp_path / "journal") in second.said()
    # The first one does not mind.
    raw.send(frame(TEXT, b"still here"))
    assert (await stage.backend.take("PUT")).client == name
    await node.pass_through()
    assert stage.backend.count("DELETE") == 1
    await node.restart()
    assert is_lost(await stage.backend.take("DELETE", client=name))
