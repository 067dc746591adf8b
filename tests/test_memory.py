import ctypes
import gc
import subprocess
import sys

import pytest

from wsaas import memory
from wsaas.memory import FEW, KEPT, MAPPED, QUIET, Collector


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
from wsaas import memory

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


@pytest.fixture
def collections(monkeypatch):
    seen = []
    monkeypatch.setattr(gc, "collect", lambda: seen.append("all"))
    return seen


def test_all_garbage_is_collected_now_and_then(collections):
    collector = Collector(lambda: FEW)
    for now in (1000.0, 1001.0, 1000.0 + QUIET - 0.1, 1000.0 + QUIET, 1001.0 + QUIET):
        collector.sweep(now)
    assert len(collections) == 2


def test_while_there_are_many_clients_nothing_is_collected_until_they_are_few(collections):
    number = FEW + 1
    collector = Collector(lambda: number)
    for now in range(1000, 2000):
        collector.sweep(float(now))
    assert collections == []
    number = FEW
    collector.sweep(2000.0)
    assert len(collections) == 1
