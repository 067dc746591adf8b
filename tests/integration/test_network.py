"""Network failures: addresses that do not answer, names that do not resolve, names that change their address."""

import asyncio
import socket
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.backend import Backend
from tests.support.clients import RawClient, upgrade
from tests.support.frames import TEXT, frame
from tests.support.gateway_process import GatewayProcess, gateway_process
from tests.support.network_namespace import DEAD_IPV6, LINK, LINK_LOCAL, NameServer, full_backlog, namespace, resolving
from tests.support.ports import free_port
from tests.support.stage import Stage
from tests.support.waiting import wait_until

NAME = "backend.test"
DROPPING, BACKEND = "127.0.0.2", "127.0.0.9"
"""Sorted as the resolver sorts them: by their common prefix with 127.0.0.1 (RFC 6724 section 6)."""

OTHER = "127.0.0.10"

DELAY = 0.25
"""Seconds until the next address is tried (RFC 8305 section 5)."""

QUICK = 1.0
"""Seconds, clearly less than `API_TIMEOUT` in these tests, even on a busy machine."""


@pytest.fixture(autouse=True)
def network() -> Iterator[None]:
    with namespace():
        yield


def puts(*backends: Backend) -> int:
    """Return the number of PUTs of all `backends`."""
    return sum(backend.count("PUT") for backend in backends)


def received_more_than(before: int, *backends: Backend) -> bool:
    """Return whether `backends` received more PUTs than `before`."""
    return puts(*backends) > before


async def name_server(stage: Stage, **addresses: list[str]) -> NameServer:
    server = await NameServer().start()
    stage.stack.callback(server.stop)
    server.addresses = {f"{name}.test": found for name, found in addresses.items()}
    return server


async def handshake(gateway: GatewayProcess) -> tuple[RawClient, int, float]:
    """Send a handshake; return the connection, the status, and the seconds until the answer."""
    raw = await gateway.raw()
    began = time.monotonic()
    raw.send(upgrade())
    answer = await raw.answer()
    return raw, answer.status, time.monotonic() - began


@pytest.mark.parametrize("dead", [[DEAD_IPV6], [DROPPING], [DEAD_IPV6, DROPPING]], ids=str)
async def test_an_address_that_does_not_answer_delays_the_first_connection_only(
    stage: Stage, tmp_path: Path, dead: list[str]
) -> None:
    await name_server(stage, backend=[*dead, BACKEND])
    stage.backend = await Backend(BACKEND).start()
    port = stage.backend.port
    await stage.stack.enter_async_context(full_backlog(DROPPING, port))
    chosen = {"api_uri": f"{NAME}:{port}/hook", "prefix": resolving(tmp_path)}
    async with gateway_process(stage, tmp_path / "log", **chosen) as gateway:
        stage.backend.hold("POST")
        times = []
        # Each POST needs a new connection.
        for _ in range(4):
            raw = await gateway.raw()
            began = time.monotonic()
            raw.send(upgrade())
            await stage.backend.take("POST")
            times.append(time.monotonic() - began)
        stage.backend.release()
        assert DELAY <= times[0] < DELAY * len(dead) + QUICK
        # On a busy machine, one of the three may be slow for another reason.
        assert sorted(times[1:])[1] < DELAY


async def test_after_a_refused_connection_the_next_address_is_tried_at_once(stage: Stage, tmp_path: Path) -> None:
    await name_server(stage, backend=["127.0.0.2", "127.0.0.3", BACKEND])
    stage.backend = await Backend(BACKEND).start()
    chosen = {"api_uri": f"{NAME}:{stage.backend.port}/hook", "prefix": resolving(tmp_path)}
    async with gateway_process(stage, tmp_path / "log", **chosen) as gateway:
        _, status, seconds = await handshake(gateway)
        assert status == 101
        assert seconds < 2 * DELAY


async def test_the_error_names_each_address_and_its_cause(stage: Stage, tmp_path: Path) -> None:
    await name_server(stage, backend=["127.0.0.2", "10.1.0.1", DEAD_IPV6])
    port = free_port()
    chosen = {"api_uri": f"{NAME}:{port}/hook", "prefix": resolving(tmp_path), "api_timeout": 1000}
    async with gateway_process(stage, tmp_path / "log", log_level="DEBUG", **chosen) as gateway:
        _, status, _ = await handshake(gateway)
        assert status == 503
        await wait_until(lambda: "no connection within 1 s: " in gateway.program.said())
        said = gateway.program.said()
    for cause in (
        f"connection refused (127.0.0.2:{port})",
        f"network is unreachable (10.1.0.1:{port})",
        f"no answer ([{DEAD_IPV6}]:{port})",
    ):
        assert cause in said, said


async def test_the_error_names_a_name_that_does_not_resolve(stage: Stage, tmp_path: Path) -> None:
    await name_server(stage)
    chosen = {"api_uri": f"{NAME}:80/hook", "prefix": resolving(tmp_path)}
    async with gateway_process(stage, tmp_path / "log", log_level="DEBUG", **chosen) as gateway:
        _, status, seconds = await handshake(gateway)
        assert (status, seconds < QUICK) == (503, True)
        await wait_until(lambda: f"name does not resolve: {NAME}" in gateway.program.said())


async def test_a_silent_dns_server_blocks_one_thread_and_does_not_delay_a_stop(stage: Stage, tmp_path: Path) -> None:
    server = await name_server(stage)
    server.silent = True
    chosen = {"api_uri": f"{NAME}:80/hook", "api_timeout": 300, "drain_timeout": 1000}
    prefix = resolving(tmp_path, "timeout:30", "attempts:5")
    async with gateway_process(stage, tmp_path / "log", log_level="DEBUG", prefix=prefix, **chosen) as gateway:
        before = threads(gateway)
        for _ in range(3):
            results = await asyncio.gather(*(handshake(gateway) for _ in range(20)))
            assert [status for _, status, _ in results] == [503] * 20
            assert threads(gateway) == before + 1
        began = time.monotonic()
        gateway.program.terminate()
        await gateway.program.wait()
        assert time.monotonic() - began < 10
        said = gateway.program.said()
    assert f"no connection within 0.3 s: no DNS server answers for {NAME}" in said
    assert "never retrieved" not in said
    assert " ERROR " not in said


def threads(gateway: GatewayProcess) -> int:
    return len(list(Path(f"/proc/{gateway.program.pid}/task").iterdir()))


async def test_a_late_dns_answer_serves_all_waiting_clients(stage: Stage, tmp_path: Path) -> None:
    server = await name_server(stage)
    server.silent = True
    port = (await stage.backend.start()).port
    chosen = {"api_uri": f"{NAME}:{port}/hook", "prefix": resolving(tmp_path, "timeout:1")}
    async with gateway_process(stage, tmp_path / "log", **chosen) as gateway:
        waiting = [asyncio.ensure_future(handshake(gateway)) for _ in range(10)]
        await server.first_question.wait()
        server.addresses[NAME] = ["127.0.0.1"]
        server.silent = False
        assert [(await each)[1] for each in waiting] == [101] * 10
        # One lookup serves all: two questions (A and AAAA), each repeated once.
        assert server.asked <= 4


async def test_a_name_that_changes_its_address_is_followed(stage: Stage, tmp_path: Path) -> None:
    server = await name_server(stage, backend=[BACKEND])
    stage.backend = old = await Backend(BACKEND).start()
    port = old.port
    new = Backend(OTHER)
    new.port = port
    await new.start()
    stage.stack.push_async_callback(new.stop)
    chosen = {"api_uri": f"{NAME}:{port}/hook", "prefix": resolving(tmp_path), "api_connection_age": 1000}
    async with gateway_process(stage, tmp_path / "log", **chosen) as gateway:
        raw, status, _ = await handshake(gateway)
        assert status == 101
        server.addresses[NAME] = [OTHER]
        moved = time.monotonic()
        # The old connection is never idle for long, and is replaced all the same.
        while not new.count("PUT"):
            assert time.monotonic() - moved < 10
            arrived = partial(received_more_than, puts(old, new), old, new)
            raw.send(frame(TEXT, b"hello"))
            await wait_until(arrived)
        assert old.count("PUT")
        assert time.monotonic() - moved < 1 + QUICK
        # No connection to the old address is left.
        await old.wait(lambda: not old.connections)
        raw.close()
        await wait_until(lambda: new.count("DELETE"))


async def test_a_backend_at_a_link_local_address_gets_a_host_header_without_the_zone(
    stage: Stage, tmp_path: Path
) -> None:
    backend = Backend(f"{LINK_LOCAL}%{LINK}")
    stage.backend = backend
    listener = socket.socket(socket.AF_INET6)
    # Bound here, because the loop's resolver threads may have started outside the namespace.
    listener.bind((LINK_LOCAL, 0, 0, socket.if_nametoindex(LINK)))
    port = listener.getsockname()[1]
    await backend.start(listener)
    async with gateway_process(stage, tmp_path / "log", api_uri=f"[{LINK_LOCAL}%{LINK}]:{port}/hook") as gateway:
        raw, status, _ = await handshake(gateway)
        assert status == 101
        assert (await backend.take("POST")).headers["host"] == f"[{LINK_LOCAL}]:{port}"
        raw.close()
        await wait_until(lambda: backend.count("DELETE"))
