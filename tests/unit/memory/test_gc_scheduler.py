import gc
import sys
import time

import pytest

from wsaas.memory.gc_scheduler import (
    FEW_CLIENTS,
    GC_INTERVAL_S,
    GC_SHARE,
    GROWTH_BLOCKS,
    GcScheduler,
    stop_full_collections,
)


@pytest.fixture
def restored_collector():
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


@pytest.mark.usefixtures("restored_collector")
def test_python_collects_young_objects_only():
    stop_full_collections()
    assert gc.get_freeze_count() > 0
    young, middle, old = gc.get_threshold()
    assert young * middle < 100_000
    assert old >= 1_000_000


class Rig:
    """A scheduler whose number of clients, memory blocks and collections are set by the test."""

    def __init__(self, monkeypatch, clients, blocks=1_000_000):
        self.clients = clients
        self.blocks = blocks
        self.freed = 0
        self.lasts = 0.0
        self.collections = 0
        self.time = 0.0
        monkeypatch.setattr(gc, "collect", self.collect)
        monkeypatch.setattr(time, "perf_counter", lambda: self.time)
        self.scheduler = GcScheduler(lambda: self.clients, lambda: self.blocks)

    def collect(self):
        self.collections += 1
        self.blocks -= self.freed
        self.time += self.lasts

    def collections_at(self, *times):
        """Return the number of collections at `times`."""
        before = self.collections
        for now in times:
            self.scheduler.collect_if_due(now)
        return self.collections - before


@pytest.fixture
def few(monkeypatch):
    return Rig(monkeypatch, FEW_CLIENTS)


@pytest.fixture
def many(monkeypatch):
    rig = Rig(monkeypatch, FEW_CLIENTS + 1)
    assert rig.collections_at(1000.0) == 0
    return rig


def test_with_few_clients_there_is_a_full_collection_every_minute(few):
    start = 1000.0
    assert few.collections_at(start, start + 1.0, start + GC_INTERVAL_S - 1.0) == 1
    assert few.collections_at(start + GC_INTERVAL_S, start + GC_INTERVAL_S + 1.0) == 1


def test_with_many_clients_and_steady_memory_there_is_no_full_collection(many):
    assert many.collections_at(*(1000.0 + second for second in range(1000))) == 0
    many.clients = FEW_CLIENTS
    assert many.collections_at(2000.0) == 1


def test_with_many_clients_memory_that_grew_by_a_quarter_is_searched_for_garbage(many):
    many.blocks = 1_249_999
    assert many.collections_at(1001.0) == 0
    many.blocks = 1_250_000
    assert many.collections_at(1002.0) == 1


def test_small_memory_has_to_grow_by_more_than_a_quarter(monkeypatch):
    rig = Rig(monkeypatch, FEW_CLIENTS + 1, blocks=100_000)
    rig.blocks += GROWTH_BLOCKS - 1
    assert rig.collections_at(1000.0) == 0
    rig.blocks += 1
    assert rig.collections_at(1001.0) == 1


def test_growth_counts_from_the_minimum_since_the_last_collection(many):
    # Half of the clients leave, and garbage takes the place of their objects.
    many.blocks = 500_000
    assert many.collections_at(1001.0) == 0
    many.blocks = 700_000
    assert many.collections_at(1002.0) == 1


def test_growth_without_garbage_counts_once(many):
    many.blocks = 1_250_000
    assert many.collections_at(1001.0) == 1
    assert many.collections_at(*(1001.0 + second for second in range(1000))) == 0
    many.blocks = 1_562_500
    assert many.collections_at(3000.0) == 1


def test_collected_garbage_does_not_count_as_growth(many):
    many.blocks, many.freed = 1_250_000, 250_000
    assert many.collections_at(1001.0) == 1
    many.blocks = 1_200_000
    assert many.collections_at(2000.0) == 0


def test_collections_take_at_most_a_thousandth_of_the_time(few):
    few.lasts = 0.5
    assert few.collections_at(1000.0, 1000.0 + 499.0) == 1
    assert few.collections_at(1500.0) == 1
    assert GC_SHARE == 0.001


def test_blocks_in_use_are_sampled_once_a_second(many):
    many.blocks = 1_250_000
    assert many.collections_at(1000.5, 1000.9) == 0
    assert many.collections_at(1001.0) == 1


def test_real_garbage_of_many_clients_is_collected():
    scheduler = GcScheduler(lambda: FEW_CLIENTS + 1)
    gc.collect()
    scheduler.collect_if_due(1000.0)
    before = sys.getallocatedblocks()
    gc.disable()
    try:
        # Growth counts from the minimum, and may have to exceed a quarter of it.
        for _ in range(max(GROWTH_BLOCKS, before)):
            cycle: list[object] = []
            cycle.append(cycle)
        del cycle
        assert sys.getallocatedblocks() >= before + GROWTH_BLOCKS
        scheduler.collect_if_due(1001.0)
    finally:
        gc.enable()
    assert sys.getallocatedblocks() < before + GROWTH_BLOCKS / 10
