"""One DELETE follows each POST that the backend may have accepted, although the gateway is killed.

The gateway runs in another process, with a journal.
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
from tests.support.ports import free_port
from tests.support.program import gateway_program
from tests.support.stage import Stage
from tests.support.waiting import wait_until


class RestartableGateway:
    """A gateway with a journal in another process."""

    def __init__(self, process: GatewayProcess) -> None:
        self._process = process
        self.program = process.program
        self._backend = process.stage.backend
        self._paths = count()

    async def raw(self) -> RawClient:
        """Open a bare connection."""
        return await self._process.raw()

    async def upgraded(self, *headers: str) -> tuple[RawClient, str]:
        """Open a bare connection that has its 101; return it and its id."""
        path = f"/{next(self._paths)}"
        raw = await self._process.upgraded(path, *headers)
        posts = [call for call in self._backend.calls if call.method == "POST"]
        return raw, next(post.client for post in posts if post.json["request"]["path"] == path)

    async def flush_journal(self) -> str:
        """Connect and disconnect a client; return its id. All earlier journal writes and requests are done by then."""
        raw, name = await self.upgraded()
        raw.send(close_frame(1000))
        assert await raw.closing() == (1000, "")
        await raw.end()
        await self._backend.take("DELETE", client=name)
        return name

    async def restart(self) -> None:
        self.program.kill()
        await self.program.start()

    async def check_nothing_owed(self) -> None:
        """Restart it; fail if it sends a request about a client of before the restart."""
        last = await self.flush_journal()
        before = len(self._backend.calls)
        await self.restart()
        now = await self.flush_journal()
        # The last client is an exception: the answer to its DELETE may not have been in the journal yet.
        calls = [call for call in self._backend.calls[before:] if call.client != last or call.event != "end"]
        assert {call.client for call in calls} == {now}, calls


StartGateway = Callable[..., Awaitable[RestartableGateway]]


@pytest.fixture
def start_gateway(stage: Stage, tmp_path: Path) -> StartGateway:
    """Return a function that starts a gateway that can be killed."""

    async def start(**settings: object) -> RestartableGateway:
        chosen = {"journal": tmp_path / "journal", "drain_timeout": 5000, **settings}
        process = gateway_process(stage, tmp_path / f"log-{len(stage.backend.calls)}", **chosen)
        return RestartableGateway(await stage.stack.enter_async_context(process))

    return start


Point = Callable[[Stage, RestartableGateway], Awaitable[RawClient]]
"""Brings a client to a point of its life. Held answers of the backend stay held."""


async def while_its_post_is_under_way(stage: Stage, node: RestartableGateway) -> RawClient:
    stage.backend.hold("POST")
    raw = await node.raw()
    raw.send(upgrade("/", "Authorization: Basic YTpi"))
    await stage.backend.take("POST")
    return raw


async def reset_while_its_post_is_under_way(stage: Stage, node: RestartableGateway) -> RawClient:
    raw = await while_its_post_is_under_way(stage, node)
    raw.reset()
    return raw


async def while_idle(_stage: Stage, node: RestartableGateway) -> RawClient:
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


async def with_waiting_messages(stage: Stage, node: RestartableGateway) -> RawClient:
    stage.backend.hold("PUT")
    raw, name = await node.upgraded("Authorization: Basic YTpi")
    raw.send(b"".join(frame(TEXT, b"%d" % number) for number in range(10)))
    await stage.backend.take("PUT")
    other, _ = await node.upgraded()
    other.send(frame(TEXT, b"all before this was read"))
    await stage.backend.take("PUT")
    assert len([call for call in stage.backend.of(name) if call.method == "PUT"]) == 1
    return raw


async def reset_with_waiting_messages(stage: Stage, node: RestartableGateway) -> RawClient:
    raw = await with_waiting_messages(stage, node)
    raw.reset()
    return raw


async def closed_with_waiting_messages(stage: Stage, node: RestartableGateway) -> RawClient:
    raw = await with_waiting_messages(stage, node)
    raw.send(close_frame(1000))
    assert await raw.closing() == (1000, "")
    # Earlier entries are in the journal before the POST of a later client is sent.
    await node.upgraded()
    return raw


POINTS: list[Point] = [
    while_its_post_is_under_way,
    reset_while_its_post_is_under_way,
    while_idle,
    in_the_middle_of_a_frame,
    with_a_put_under_way,
    with_waiting_messages,
    reset_with_waiting_messages,
    closed_with_waiting_messages,
]


def is_lost(delete: Call) -> bool:
    """Return whether `delete` reports a lost gateway; check its other fields if so."""
    body = delete.json
    if body["reason"] != "gateway lost":
        return False
    assert (delete.event, body["code"]) == ("end", 1006)
    assert body["messages_in"] is None
    assert body["messages_out"] is None
    assert body["ws_uri"] == delete.ws_uri
    assert body["duration"] >= 0
    return True


@pytest.mark.parametrize("point", POINTS)
async def test_a_delete_follows_a_kill_in_every_situation(
    stage: Stage, start_gateway: StartGateway, point: Point
) -> None:
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
    # After another kill, it repeats the same events.
    await node.restart()
    again = [await stage.backend.take("DELETE") for _ in owed]
    assert all(is_lost(call) for call in again)
    assert {call.headers["ce-id"] for call in again} == {call.headers["ce-id"] for call in deletes}
    # Answered DELETEs are never repeated.
    stage.backend.release()
    await node.check_nothing_owed()


async def with_its_delete_under_way(stage: Stage, node: RestartableGateway) -> Call:
    stage.backend.hold("DELETE")
    raw, _ = await node.upgraded()
    raw.send(frame(TEXT, b"1") + close_frame(4001, "tired"))
    return await stage.backend.take("DELETE")


async def with_its_delete_rejected(stage: Stage, node: RestartableGateway) -> Call:
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
    await node.check_nothing_owed()


async def test_a_delete_that_was_rejected_is_repeated_unchanged_after_a_kill(
    stage: Stage, start_gateway: StartGateway
) -> None:
    node = await start_gateway()
    delete = await with_its_delete_rejected(stage, node)
    # The rejection is in the journal before the POST of a later client is sent.
    await node.upgraded()
    assert (delete.event, delete.json["messages_in"]) == ("end", 1)
    stage.backend.hold("DELETE")
    for _ in range(2):
        await node.restart()
        again = await stage.backend.take("DELETE", client=delete.client)
        assert (again.headers["ce-id"], again.body) == (delete.headers["ce-id"], delete.body)
        assert again.headers["ce-time"] == delete.headers["ce-time"]
    stage.backend.release()
    await node.check_nothing_owed()


async def test_after_a_kill_during_a_drain_the_delete_reports_a_lost_gateway(
    stage: Stage, start_gateway: StartGateway
) -> None:
    node = await start_gateway()
    raw = await with_waiting_messages(stage, node)
    node.program.terminate()
    assert (await raw.closing())[0] == 1001
    raw.send(close_frame(1001))
    await raw.end()
    node.program.kill()
    stage.backend.release()
    await node.program.start()
    deletes = [await stage.backend.take("DELETE") for _ in range(2)]
    first = next(call for call in deletes if call.client == stage.backend.calls[0].client)
    assert is_lost(first), "nine messages were lost, so the DELETE must report it"
    await node.flush_journal()
    assert len([call for call in stage.backend.of(first.client) if call.method == "DELETE"]) == 1


async def test_deletes_that_a_stop_does_not_deliver_are_sent_at_the_next_start(
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
    assert all(map(is_lost, deletes.values())), "its two messages were lost, so the DELETE must report it"
    for raw in (quiet, busy):
        raw.reset()


async def test_the_delete_after_a_kill_carries_the_context(stage: Stage, start_gateway: StartGateway) -> None:
    stage.backend.on["POST"] = lambda call: call.ok(context="room=7")
    node = await start_gateway()
    _, name = await node.upgraded("Authorization: Bearer \xfc\xff")
    await node.flush_journal()
    await node.restart()
    delete = await stage.backend.take("DELETE", client=name)
    assert is_lost(delete)
    assert delete.headers["ws-context"] == "room=7"
    assert delete.headers["authorization"] == "Bearer \xfc\xff"


@pytest.mark.parametrize("context", ["page=2", ""])
async def test_the_delete_after_a_kill_carries_the_context_that_replaced_the_first(
    stage: Stage, start_gateway: StartGateway, context: str
) -> None:
    stage.backend.on["POST"] = lambda call: call.ok(context="page=1")
    stage.backend.on["PUT"] = lambda call: call.answer(200, Ws_Context=context)
    node = await start_gateway()
    raw, name = await node.upgraded()
    raw.send(frame(TEXT, b"next") + frame(TEXT, b"again"))
    await stage.backend.wait(lambda: len(stage.backend.of(name)) == 3)
    first, second = [call.headers.get("ws-context") for call in stage.backend.of(name)[1:]]
    assert (first, second) == ("page=1", context or None)
    await node.flush_journal()
    await node.restart()
    delete = await stage.backend.take("DELETE", client=name)
    assert is_lost(delete)
    assert delete.headers.get("ws-context") == (context or None)


@pytest.mark.parametrize("status", [200, 403, 500])
async def test_no_delete_follows_a_refusal_after_a_kill(stage: Stage, start_gateway: StartGateway, status: int) -> None:
    node = await start_gateway()
    stage.backend.on["POST"] = lambda call: call.answer(status, {"code": "NO"})
    raw = await node.raw()
    raw.send(upgrade())
    assert (await raw.answer()).status in (403, 502)
    stage.backend.on["POST"] = Call.ok
    await node.check_nothing_owed()


async def test_a_thousand_clients_get_their_deletes_after_a_kill(stage: Stage, start_gateway: StartGateway) -> None:
    node = await start_gateway()
    raws = await asyncio.gather(*(node.raw() for _ in range(1000)))
    for raw in raws:
        raw.send(upgrade("/", "Authorization: Basic YTpi"))
    for raw in raws:
        assert (await raw.answer()).status == 101
    posts = {call.client for call in stage.backend.calls}
    assert len(posts) == 1000
    loop = asyncio.get_running_loop()
    killed = loop.time()
    node.program.kill()
    for raw in raws:
        raw.close()
    await node.program.start()
    await stage.backend.wait(lambda: stage.backend.count("DELETE") >= 1000)
    took = loop.time() - killed
    last = await node.flush_journal()
    deletes = [call for call in stage.backend.calls if call.method == "DELETE" and call.client != last]
    assert len(deletes) == len({call.headers["ce-id"] for call in deletes}) == 1000
    assert {call.client for call in deletes} == posts
    assert all(is_lost(call) for call in deletes)
    assert stage.backend.most_busy <= 128
    assert took < 10


async def test_at_most_16_recovered_deletes_are_sent_at_once(stage: Stage, start_gateway: StartGateway) -> None:
    node = await start_gateway()
    for _ in range(100):
        await node.upgraded()
    node.program.kill()
    stage.backend.hold("DELETE")
    await node.program.start()
    await stage.backend.wait(lambda: stage.backend.count("DELETE") == 16)
    other, _ = await node.upgraded()
    other.send(frame(TEXT, b"during the recovery"))
    await stage.backend.take("PUT")
    assert stage.backend.count("DELETE") == 16
    stage.backend.release()
    await stage.backend.wait(lambda: stage.backend.count("DELETE") == 100)


async def test_no_delete_is_lost_by_kills_during_the_recovery(stage: Stage, start_gateway: StartGateway) -> None:
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
        await stage.backend.wait(lambda: len(answered) >= 18 * round_)  # noqa: B023 - called only in this round
    await stage.backend.wait(lambda: answered == names)
    assert {call.client for call in deletes} == names
    assert len({call.headers["ce-id"] for call in deletes}) == 100
    assert all(is_lost(call) for call in deletes)
    assert len(deletes) < 100 + 5 * 16 * 2


async def test_a_gateway_may_start_after_a_kill_while_the_backend_is_down(
    stage: Stage, start_gateway: StartGateway
) -> None:
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
        free_port(),
        tmp_path / "second",
        {"journal": tmp_path / "journal"},
    )
    second.spawn()
    assert await second.wait() == 1
    assert len(second.said().splitlines()) == 1
    assert "another process uses it" in second.said()
    assert str(tmp_path / "journal") in second.said()
    # The first gateway is not affected.
    raw.send(frame(TEXT, b"still here"))
    assert (await stage.backend.take("PUT")).client == name
    await node.flush_journal()
    assert stage.backend.count("DELETE") == 1
    await node.restart()
    assert is_lost(await stage.backend.take("DELETE", client=name))
