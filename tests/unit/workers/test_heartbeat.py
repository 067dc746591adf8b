import asyncio
from typing import Any, cast

import pytest

from wsaas.workers import heartbeat as module
from wsaas.workers.channel import Channel
from wsaas.workers.heartbeat import MAX_UNANSWERED, Heartbeat
from wsaas.workers.worker_process import WorkerProcess
from wsaas.workers.worker_state import LISTENING, REACHABLE, STARTING


class ChannelDouble:
    """Counts pings, and signals when there are enough."""

    def __init__(self, enough: int) -> None:
        self.are_enough = asyncio.Event()
        self.enough = enough
        self.pings = 0

    def send(self, message: dict[str, Any]) -> None:
        assert message == {"ping": True}
        self.pings += 1
        if self.pings == self.enough:
            self.are_enough.set()


def test_only_workers_that_others_can_reach_are_pinged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PING_INTERVAL_S", 0.001)

    async def beat() -> None:
        waiting, starting, reachable = workers = [WorkerProcess(index) for index in range(3)]
        channel = ChannelDouble(3)
        for worker in (starting, reachable):
            worker.channel = cast(Channel, channel)
            worker.set_state(STARTING)
        reachable.set_state(REACHABLE)
        heartbeat = Heartbeat(workers, start_limit=1.0)
        heartbeat.start()
        await asyncio.wait_for(channel.are_enough.wait(), 10.0)
        heartbeat.stop()
        assert channel.pings == 3
        assert [worker.unanswered for worker in (waiting, starting, reachable)] == [0, 3, 3]

    asyncio.run(beat())


def test_workers_answer_unless_all_of_them_are_over_their_limits() -> None:
    hanging, other = workers = [WorkerProcess(index) for index in range(2)]
    heartbeat = Heartbeat(workers, start_limit=100 * module.PING_INTERVAL_S)
    for state in (STARTING, REACHABLE, LISTENING):
        hanging.set_state(state)
    hanging.unanswered = MAX_UNANSWERED + 1
    assert heartbeat.is_answered(), "the other one waits to be started"
    other.set_state(STARTING)
    other.unanswered = 100
    assert heartbeat.is_answered(), "the other one may still be starting"
    other.unanswered = 101
    assert not heartbeat.is_answered()
    hanging.unanswered = MAX_UNANSWERED
    assert heartbeat.is_answered()
