import ctypes
import subprocess
import sys

import pytest

from wsaas.memory import heap
from wsaas.memory.heap import MMAP_THRESHOLD_BYTES, TRIM_THRESHOLD_BYTES, keep_freed_memory


class Library:
    """A C library whose `mallopt` returns `answer`. `options`: what was set."""

    def __init__(self, answer=1):
        self.options = {}
        self.answer = answer

    def mallopt(self, option, value):
        self.options[option] = value
        return self.answer


@pytest.fixture
def unset_environment(monkeypatch):
    for name in heap._SET_BY_USER:
        monkeypatch.delenv(name, raising=False)


def load(monkeypatch, library):
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: library)


@pytest.mark.usefixtures("unset_environment")
def test_glibc_is_configured_to_keep_freed_memory(monkeypatch):
    library = Library()
    load(monkeypatch, library)
    assert keep_freed_memory()
    assert library.options == {-1: TRIM_THRESHOLD_BYTES, -3: MMAP_THRESHOLD_BYTES}


@pytest.mark.usefixtures("unset_environment")
def test_a_c_library_may_reject_the_settings(monkeypatch):
    load(monkeypatch, Library(answer=0))
    assert not keep_freed_memory()


@pytest.mark.usefixtures("unset_environment")
def test_another_c_library_is_not_configured(monkeypatch):
    load(monkeypatch, object())
    assert not keep_freed_memory()


@pytest.mark.parametrize("name", heap._SET_BY_USER)
def test_environment_variables_take_precedence(monkeypatch, name):
    library = Library()
    load(monkeypatch, library)
    monkeypatch.setenv(name, "1")
    assert not keep_freed_memory()
    assert library.options == {}


FAULTS = """
import resource
from wsaas.memory.heap import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        held = [bytes(1 << 20) for _ in range(4)]
        held.clear()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

plain = faults()
if keep_freed_memory():
    faults()
    print(faults() / plain)
else:
    print(0)
"""


@pytest.mark.usefixtures("unset_environment")
def test_the_memory_of_large_messages_is_not_mapped_again_for_each():
    shown = subprocess.run([sys.executable, "-c", FAULTS], check=True, capture_output=True, text=True)
    assert float(shown.stdout) < 0.1
