"""The configurations in `deploy` for proxies between a gateway and its backend, run by the real proxies."""

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
import websockets
from websockets.exceptions import InvalidStatus

from tests.support.back import Servers, behind, two_servers
from tests.support.backend import Backend, Call
from tests.support.deployed_proxy import BACKS, DeployedProxy, back, skip_without_proxy
from tests.support.front import Repeated
from tests.support.ports import free_port
from tests.support.stage import Stage
from tests.support.waiting import wait_until, with_timeout

CLIENTS = 6
BAD_GATEWAY = 502
LONGEST = 1_500_000
"""About as long as an event of AWS with a message of 1 MiB."""


@pytest.fixture(autouse=True)
def _needs_the_proxy(request: pytest.FixtureRequest) -> None:
    skip_without_proxy(request.node.callspec.params["file"])


NAME_REQUESTS = {
    "proxy_set_header Host $http_host;": "proxy_set_header Host $http_host; proxy_set_header X-Request $request_id;",
    "default_backend backends": "http-request set-header X-Request %[uuid()]\n    default_backend backends",
    "lb_policy least_conn": "lb_policy least_conn\n\theader_up X-Request {http.request.uuid}",
}
"""Let a proxy add a name to each request that it receives."""


@pytest.mark.parametrize("file", BACKS)
def test_the_proxy_finds_no_fault_in_the_configuration(tmp_path: Path, file: str) -> None:
    assert back(file, tmp_path, ["127.0.0.1:9", "127.0.0.1:10"]).faults() == ""


Disturbance = Callable[[Servers, DeployedProxy, Callable[[], Awaitable[None]]], Awaitable[None]]


async def replace_both_servers(
    servers: Servers, _proxy: DeployedProxy, progress: Callable[[], Awaitable[None]]
) -> None:
    for number in range(2):
        await servers.stop(number)
        await progress()
        before = servers.served[number]
        await servers.start(number)
        await progress()
        await wait_until(partial(is_used, servers, number, before), "requests to the new server")


def is_used(servers: Servers, number: int, before: int) -> bool:
    return servers.served[number] > before


async def reload_the_proxy(_servers: Servers, proxy: DeployedProxy, progress: Callable[[], Awaitable[None]]) -> None:
    for _ in range(2):
        await proxy.reload()
        await progress()


@pytest.mark.parametrize("disturb", [replace_both_servers, reload_the_proxy])
@pytest.mark.parametrize("file", BACKS)
async def test_no_message_is_lost_doubled_or_out_of_order(
    stage: Stage, tmp_path: Path, file: str, disturb: Disturbance
) -> None:
    async with two_servers() as servers, behind(stage, tmp_path, file, servers.authorities) as (node, proxy):
        clients = [await node.connect() for _ in range(CLIENTS)]
        talking = [Repeated(talk(client)) for client in clients]

        async def come_and_go(_number: int) -> None:
            try:
                client = await node.connect()
            except InvalidStatus as refused:
                # A server may close a new connection when it stops. Its POST may have arrived, so nobody repeats it.
                if refused.response.status_code != BAD_GATEWAY:
                    raise
            else:
                await client.close()

        arriving = Repeated(come_and_go)

        async def progress() -> None:
            for each in (*talking, arriving):
                await each.progress(5)

        await progress()
        assert all(servers.served)
        await disturb(servers, proxy, progress)
        await arriving.stop()
        sent = [await each.stop() for each in talking]
        assert sorted(map(len, servers.messages.values())) == sorted(sent)
        for messages in servers.messages.values():
            assert messages == [str(number) for number in range(len(messages))]


def talk(client: websockets.ClientConnection) -> Callable[[int], Awaitable[None]]:
    """Return a step that sends a number and waits for it to come back."""

    async def step(number: int) -> None:
        await client.send(str(number))
        assert await client.recv() == str(number)

    return step


async def started(stage: Stage) -> Backend:
    """Start a backend for requests that are not compared with the OpenAPI document, as proxies add headers."""
    backend = await Backend().start()
    stage.stack.push_async_callback(backend.stop)
    return backend


@pytest.mark.parametrize("file", BACKS)
async def test_a_server_that_is_away_refuses_no_client(stage: Stage, tmp_path: Path, file: str) -> None:
    backend = await started(stage)
    async with behind(stage, tmp_path, file, [f"127.0.0.1:{free_port()}", backend.authority]) as (node, _):
        for _ in range(5):
            await node.connect()
        assert backend.count("POST") == 5


@pytest.mark.parametrize("file", BACKS)
async def test_only_the_gateway_repeats_a_message_that_may_have_arrived(
    stage: Stage, tmp_path: Path, file: str
) -> None:
    backends = [await started(stage) for _ in range(2)]
    calls: list[Call] = []

    def lose_the_first(call: Call) -> None:
        calls.append(call)
        if len(calls) == 1:
            # Without any answer.
            call.hang_up()
        else:
            call.ok()

    for backend in backends:
        backend.on["PUT"] = lose_the_first
    places = [each.authority for each in backends]
    async with behind(stage, tmp_path, file, places, changes=NAME_REQUESTS) as (node, _):
        client = await node.connect()
        await client.send("hello")
        await client.send("again")
        await wait_until(lambda: len(calls) == 3, "the messages", lambda: calls)
        assert [call.text for call in calls] == ["hello", "hello", "again"]
        assert calls[0].headers["ce-id"] == calls[1].headers["ce-id"]
        # The proxy got them as two requests.
        assert calls[0].headers["x-request"] != calls[1].headers["x-request"]


@pytest.mark.parametrize("file", BACKS)
async def test_a_proxy_does_not_repeat_a_connect_that_may_have_arrived(stage: Stage, tmp_path: Path, file: str) -> None:
    backends = [await started(stage) for _ in range(2)]
    places = [each.authority for each in backends]
    async with behind(stage, tmp_path, file, places, changes=NAME_REQUESTS) as (node, _):
        await node.connect()
        posts: list[Call] = []

        def hang_up(call: Call) -> None:
            posts.append(call)
            call.hang_up()

        for backend in backends:
            backend.on["POST"] = hang_up
        with pytest.raises(InvalidStatus) as refused:
            await node.connect()
        assert refused.value.response.status_code == BAD_GATEWAY
        await wait_until(lambda: any(each.count("DELETE") for each in backends), "the DELETE")
        # HAProxy closes a connection that was used before, without any answer. The gateway then sends it again.
        assert len(posts) == (2 if file.startswith("haproxy") else 1)
        assert len({call.headers["ce-id"] for call in posts}) == 1
        assert len({call.headers["x-request"] for call in posts}) == len(posts)


@pytest.mark.parametrize("file", BACKS)
async def test_long_messages_replies_tokens_and_contexts_pass(stage: Stage, tmp_path: Path, file: str) -> None:
    backend = await started(stage)
    context = "c" * 4096
    groups = ", ".join(f"{number:03}" + "g" * 120 for number in range(60))
    backend.on["POST"] = lambda call: call.ok(context=context)
    backend.on["PUT"] = lambda call: call.answer(200, call.body, Ws_Reply="text", Ws_Context=context, Ws_Join=groups)
    async with behind(stage, tmp_path, file, [backend.authority] * 2, max_message_size=LONGEST) as (node, _):
        token = "Bearer " + "t" * 20_000
        client = await node.connect(additional_headers={"Authorization": token}, max_size=LONGEST)
        for message in ("x" * LONGEST, ""):
            await client.send(message)
            assert await with_timeout(client.recv()) == message
        call = await backend.take("PUT")
        assert (call.headers["authorization"], call.headers["ws-context"]) == (token, context)
