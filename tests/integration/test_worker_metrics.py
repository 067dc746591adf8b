"""The metrics of a node with three workers, each in a process of its own."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.support.exposition import Exposition
from tests.support.frames import TEXT, frame
from tests.support.processes import WORKERS, WorkersNode, workers
from tests.support.stage import Stage

COUNTERS = {
    "messages_total",
    "message_bytes_total",
    "handshakes_total",
    "backend_requests_total",
    "delivery_seconds_count",
}

CONNECTIONS = 40
"""So many connections reach not only one of three workers."""


async def scrape(node: WorkersNode) -> Exposition:
    """Scrape a worker, whichever one gets the connection."""
    answer = await node.ask("GET", "/metrics")
    assert answer.status == 200
    return Exposition(answer.body)


def totals(found: Exposition) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return the values that must never fall."""
    return {key: value for key, value in found.values.items() if key[0].removeprefix("wsaas_") in COUNTERS}


@pytest.mark.slow
async def test_whichever_worker_is_scraped_it_answers_for_all(stage: Stage, tmp_path: Path) -> None:
    async with workers(stage, tmp_path / "log") as node:
        clients = await node.spread()
        for client in clients:
            client.raw.send(frame(TEXT, b"hello"))
        await node.backend.wait(lambda: node.backend.count("PUT") == len(clients))
        for _ in range(8):
            found = await scrape(node)
            assert found.labelled("workers", "state") == {"answered": WORKERS}
            assert found.value("connections", state="open") == len(clients)
            assert found.value("messages_total", direction="in") == len(clients)
        assert await node.process.stop() == 0


@pytest.mark.slow
async def test_no_total_falls_when_a_worker_is_killed_and_none_starts_at_zero_again(
    stage: Stage, tmp_path: Path
) -> None:
    async with workers(stage, tmp_path / "log") as node:
        clients = await node.spread()
        for client in clients:
            client.raw.send(frame(TEXT, b"hello"))
        await node.backend.wait(lambda: node.backend.count("PUT") == len(clients))
        before = totals(await scrape(node))
        await node.kill_worker_of(clients[0])
        found: Exposition | None = None
        while found is None or found.value("workers", state="missing"):
            found = await scrape(node)
            after = totals(found)
            assert all(after[key] >= value for key, value in before.items())
            before = after
        newcomers = await node.spread()
        for client in newcomers:
            client.raw.send(frame(TEXT, b"hello"))
        await node.backend.wait(lambda: node.backend.count("PUT") == len(clients) + len(newcomers))
        found = await scrape(node)
        assert found.value("messages_total", direction="in") == len(clients) + len(newcomers)
        assert found.value("handshakes_total", status="101") == len(clients) + len(newcomers)
        assert await node.process.stop() == 0


async def first_answer(node: WorkersNode) -> Exposition:
    """Scrape on many connections at once, of which the kernel gives some to a stopped worker; return the first answer.

    One after another they would take longer than the supervisor waits for that worker before it kills it.
    """
    raws = [await node.process.raw() for _ in range(CONNECTIONS)]
    for raw in raws:
        raw.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    scrapes = [asyncio.ensure_future(raw.answer()) for raw in raws]
    try:
        return Exposition((await next(asyncio.as_completed(scrapes))).body)
    finally:
        for each in scrapes:
            each.cancel()
        await asyncio.gather(*scrapes, return_exceptions=True)


@pytest.mark.slow
async def test_a_worker_that_hangs_is_missing_and_the_scrape_is_answered_in_time(stage: Stage, tmp_path: Path) -> None:
    async with workers(stage, tmp_path / "log") as node:
        await scrape(node)
        hanging = node.pid(1)
        os.kill(hanging, signal.SIGSTOP)
        try:
            found = await first_answer(node)
        finally:
            os.kill(hanging, signal.SIGCONT)
        assert found.labelled("workers", "state") == {"answered": WORKERS - 1, "missing": 1}
        assert await node.process.stop() == 0
