import ctypes
import gc
import subprocess
import sys

import pytest

from wsaas.memory import process as memory
from wsaas.memory.process import FEW_CLIENTS, GARBAGE_BLOCKS, GC_INTERVAL_S, GC_SHARE, KEPT, MAPPED, GcScheduler


@pytest.fixture
def as_usual():
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


class Library:
    """A C library that has `mallopt`, and says `answer`."""

    def __init__(self, answer=1):
        self.told = {}
        self.answer = answer

    def mallopt(self, option, value):
        self.told[option] = value
        return self.answer


@pytest.fixture
def no_wishes(monkeypatch):
    for name in memory._SET_BY_USER:
        monkeypatch.delenv(name, raising=False)


def load(monkeypatch, library):
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: library)


@pytest.mark.usefixtures("no_wishes")
def test_glibc_is_told_what_to_keep(monkeypatch):
    library = Library()
    load(monkeypatch, library)
    assert memory.keep_freed()
    assert library.told == {-1: KEPT, -3: MAPPED}


@pytest.mark.usefixtures("no_wishes")
def test_a_c_library_that_refuses_is_left_as_it_is(monkeypatch):
    load(monkeypatch, Library(answer=0))
    assert not memory.keep_freed()


@pytest.mark.usefixtures("no_wishes")
def test_another_c_library_is_left_as_it_is(monkeypatch):
    load(monkeypatch, object())
    assert not memory.keep_freed()


@pytest.mark.parametrize("name", memory._SET_BY_USER)
def test_what_the_environment_says_of_the_heap_is_respected(monkeypatch, name):
    library = Library()
    load(monkeypatch, library)
    monkeypatch.setenv(name, "1")
    assert not memory.keep_freed()
    assert library.told == {}


FAULTS = """
import resource
from wsaas.memory import process as memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        held = [bytes(1 << 20) for _ in range(4)]
        held.clear()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

plain = faults()
if memory.keep_freed():
    faults()
    print(faults() / plain)
else:
    print(0)
"""


@pytest.mark.usefixtures("no_wishes")
def test_a_large_message_is_not_taken_from_the_kernel_again_and_again():
    shown = subprocess.run([sys.executable, "-c", FAULTS], check=True, capture_output=True, text=True)
    assert float(shown.stdout) < 0.1


@pytest.mark.usefixtures("as_usual")
def test_the_collector_looks_at_young_objects_only():
    memory.rest_collector()
    assert gc.get_freeze_count() > 0
    young, middle, old = gc.get_threshold()
    assert young * middle < 100_000
    assert old >= 1_000_000


class Rig:
    """A scheduler whose clients, memory blocks and collections are those that a test says."""

    def __init__(self, monkeypatch, clients, blocks=1_000_000):
        self.clients = clients
        self.blocks = blocks
        self.freed = 0
        self.lasts = 0.0
        self.collections = 0
        self.time = 0.0
        monkeypatch.setattr(gc, "collect", self.collect)
        monkeypatch.setattr(memory.time, "perf_counter", lambda: self.time)
        self.scheduler = GcScheduler(lambda: self.clients, lambda: self.blocks)

    def collect(self):
        self.collections += 1
        self.blocks -= self.freed
        self.time += self.lasts

    def sweep(self, *times):
        """Return how many collections there were at `times`."""
        before = self.collections
        for now in times:
            self.scheduler.sweep(now)
        return self.collections - before


@pytest.fixture
def few(monkeypatch):
    return Rig(monkeypatch, FEW_CLIENTS)


@pytest.fixture
def many(monkeypatch):
    rig = Rig(monkeypatch, FEW_CLIENTS + 1)
    assert rig.sweep(1000.0) == 0
    return rig


def test_with_few_clients_there_is_a_full_collection_every_minute(few):
    start = 1000.0
    assert few.sweep(start, start + 1.0, start + GC_INTERVAL_S - 1.0) == 1
    assert few.sweep(start + GC_INTERVAL_S, start + GC_INTERVAL_S + 1.0) == 1


def test_with_many_clients_and_steady_memory_there_is_none(many):
    assert many.sweep(*(1000.0 + second for second in range(1000))) == 0
    many.clients = FEW_CLIENTS
    assert many.sweep(2000.0) == 1


def test_with_many_clients_memory_that_grew_by_a_quarter_is_searched_for_garbage(many):
    many.blocks = 1_249_999
    assert many.sweep(1001.0) == 0
    many.blocks = 1_250_000
    assert many.sweep(1002.0) == 1


def test_a_little_memory_has_to_grow_by_more_than_a_quarter(monkeypatch):
    rig = Rig(monkeypatch, FEW_CLIENTS + 1, blocks=100_000)
    rig.blocks += GARBAGE_BLOCKS - 1
    assert rig.sweep(1000.0) == 0
    rig.blocks += 1
    assert rig.sweep(1001.0) == 1


def test_growth_counts_from_the_least_memory_since_the_last_collection(many):
    # Half of the clients leave, and garbage takes the place of what they held.
    many.blocks = 500_000
    assert many.sweep(1001.0) == 0
    many.blocks = 700_000
    assert many.sweep(1002.0) == 1


def test_growth_that_was_no_garbage_counts_once(many):
    many.blocks = 1_250_000
    assert many.sweep(1001.0) == 1
    assert many.sweep(*(1001.0 + second for second in range(1000))) == 0
    many.blocks = 1_562_500
    assert many.sweep(3000.0) == 1


def test_growth_that_was_garbage_is_gone(many):
    many.blocks, many.freed = 1_250_000, 250_000
    assert many.sweep(1001.0) == 1
    many.blocks = 1_200_000
    assert many.sweep(2000.0) == 0


def test_collections_take_at_most_a_thousandth_of_the_time(few):
    few.lasts = 0.5
    assert few.sweep(1000.0, 1000.0 + 499.0) == 1
    assert few.sweep(1500.0) == 1
    assert GC_SHARE == 0.001


def test_memory_in_use_is_looked_at_once_a_second(many):
    many.blocks = 1_250_000
    assert many.sweep(1000.5, 1000.9) == 0
    assert many.sweep(1001.0) == 1


def test_real_garbage_of_many_clients_is_collected():
    scheduler = GcScheduler(lambda: FEW_CLIENTS + 1)
    gc.collect()
    scheduler.sweep(1000.0)
    before = sys.getallocatedblocks()
    gc.disable()
    try:
        # The least memory counts, and a quarter of it may have to be exceeded.
        for _ in range(max(GARBAGE_BLOCKS, before)):
            cycle = []
            cycle.append(cycle)
        del cycle
        assert sys.getallocatedblocks() >= before + GARBAGE_BLOCKS
        scheduler.sweep(1001.0)
    finally:
        gc.enable()
    assert sys.getallocatedblocks() < before + GARBAGE_BLOCKS / 10
