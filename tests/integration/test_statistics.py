"""The statistics of a gateway follow its clients and its backend."""

import asyncio
from dataclasses import replace

from tests.support.clients import upgrade
from tests.support.stage import Node, Stage
from tests.support.waiting import wait_until, with_timeout
from wsaas.statistics import Statistics

IDLE = Statistics(
    accepted_connections=0,
    clients=0,
    disconnects_owed=0,
    recovered_disconnects_owed=0,
    backend_connections_opening=0,
    backend_connections_idle=0,
    backend_connections_busy=0,
    backend_requests_waiting=0,
    deliveries_waiting=0,
    circuit_breaker_state="closed",
    accepts_clients=True,
    clients_limit=0,
    backend_connections_limit=0,
    started_at=0.0,
)


def changing(node: Node) -> Statistics:
    """Return the statistics without those that stay as they are."""
    return replace(node.statistics, clients_limit=0, backend_connections_limit=0, started_at=0.0, memory_limit=None)


async def test_the_statistics_follow_a_client_from_its_handshake_to_its_delete(stage: Stage) -> None:
    stage.backend.hold("POST", "PUT", "DELETE")
    node = await stage.node()
    assert changing(node) == IDLE
    raw = await node.raw()
    raw.send(upgrade())
    post = await stage.backend.take("POST")
    waiting = replace(IDLE, accepted_connections=1, clients=1, backend_connections_busy=1)
    assert changing(node) == waiting
    post.ok()
    assert (await raw.answer()).status == 101
    assert changing(node) == replace(waiting, backend_connections_busy=0, backend_connections_idle=1)
    raw.close()
    delete = await stage.backend.take("DELETE")
    assert changing(node) == replace(IDLE, disconnects_owed=1, backend_connections_busy=1)
    delete.ok()
    await wait_until(lambda: changing(node) == replace(IDLE, backend_connections_idle=1))


async def test_the_statistics_count_requests_that_wait_for_a_connection_to_the_backend(stage: Stage) -> None:
    stage.backend.hold("POST")
    node = await stage.node(api_connections=1)
    for _ in range(3):
        (await node.raw()).send(upgrade())
    await wait_until(lambda: node.statistics.backend_requests_waiting == 2)
    assert node.statistics.backend_connections_busy == 1
    stage.backend.release()
    for _ in range(3):
        await stage.backend.take("POST")
    await wait_until(lambda: node.statistics.backend_requests_waiting == 0)


async def test_the_statistics_show_an_open_circuit_breaker_and_its_waiting_deliveries(stage: Stage) -> None:
    node = await stage.node()
    client, _ = await node.admit()
    await stage.backend.stop()
    await client.send("hello")
    await wait_until(lambda: node.statistics.deliveries_waiting == 1)
    assert node.statistics.circuit_breaker_state == "open"
    await stage.backend.start()
    await stage.backend.take("PUT")
    await wait_until(lambda: node.statistics.deliveries_waiting == 0)
    assert node.statistics.circuit_breaker_state == "closed"


async def test_the_statistics_of_a_drained_gateway_are_zero_and_it_accepts_no_clients(stage: Stage) -> None:
    node = await stage.node()
    await node.admit()
    stage.backend.hold("DELETE")
    draining = asyncio.ensure_future(node.drain())
    delete = await stage.backend.take("DELETE")
    assert not node.statistics.accepts_clients
    delete.ok()
    assert await with_timeout(draining)
    assert changing(node) == replace(IDLE, accepts_clients=False)


async def test_statistics_do_not_change_after_they_were_read(stage: Stage) -> None:
    node = await stage.node()
    before = changing(node)
    await node.admit()
    assert before == IDLE
