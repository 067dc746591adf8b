"""The memory that is available to this process, and the memory in use."""

import ctypes
import os

import pytest

from wsaas.memory import usage as memory_usage

MIB = 1 << 20
MACHINE = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("name", ["memory.max", "memory/memory.limit_in_bytes"])
def test_the_limit_of_the_cgroup_counts(tmp_path, name):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"{100 * MIB}\n")
    assert memory_usage.available(tmp_path) == 100 * MIB


@pytest.mark.parametrize(
    ("membership", "folder", "name"),
    [
        ("0::/system.slice/wsaas.service\n", "system.slice/wsaas.service", "memory.max"),
        ("0::/system.slice/wsaas.service\n", "system.slice", "memory.max"),
        ("2:cpu,cpuacct:/other\n4:memory:/units/one\n0::/\n", "memory/units/one", "memory.limit_in_bytes"),
    ],
)
def test_the_limit_of_a_nested_cgroup_counts(tmp_path, membership, folder, name):
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / name).write_text(f"{100 * MIB}\n")
    (tmp_path / "membership").write_text(membership)
    assert memory_usage.available(tmp_path, tmp_path / "membership") == 100 * MIB


def test_a_cgroup_path_that_is_missing_in_a_container_is_skipped(tmp_path):
    (tmp_path / "memory.max").write_text(str(100 * MIB))
    (tmp_path / "membership").write_text("0::/kubepods/pod/container\n")
    assert memory_usage.available(tmp_path, tmp_path / "membership") == 100 * MIB


def test_a_system_without_a_cgroup_path_uses_the_root_of_the_hierarchy(tmp_path):
    (tmp_path / "memory.max").write_text(str(100 * MIB))
    assert memory_usage.available(tmp_path, tmp_path / "absent") == 100 * MIB


@pytest.mark.parametrize("text", ["max\n", str(1 << 63)])
def test_without_a_limit_of_the_cgroup_the_machine_counts(tmp_path, text):
    (tmp_path / "memory.max").write_text(text)
    assert memory_usage.available(tmp_path) == MACHINE


def test_without_cgroups_the_machine_counts(tmp_path):
    assert memory_usage.available(tmp_path) == MACHINE


def test_memory_that_is_written_to_is_resident_and_allocated():
    before = memory_usage.resident(), memory_usage.allocated()
    block = bytearray(b"x" * (64 * MIB))
    after = memory_usage.resident(), memory_usage.allocated()
    del block
    assert after[0] - before[0] > 60 * MIB
    assert after[1] - before[1] > 60 * MIB
    assert memory_usage.allocated() - before[1] < 10 * MIB


def test_without_proc_nothing_is_resident(tmp_path):
    assert memory_usage.resident(tmp_path / "statm") == 0


def test_the_allocated_bytes_count_only_above_the_threshold(monkeypatch):
    monkeypatch.setattr(memory_usage, "resident", lambda: 100)
    monkeypatch.setattr(memory_usage, "allocated", lambda: 70)
    assert memory_usage.in_use(100) == 100
    assert memory_usage.in_use(99) == 70
    monkeypatch.setattr(memory_usage, "allocated", lambda: 130)
    assert memory_usage.in_use(99) == 100


class OtherLibrary:
    """A C library without glibc's own functions."""


def test_with_another_c_library_only_the_resident_bytes_count(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: OtherLibrary())
    monkeypatch.setattr(memory_usage, "resident", lambda: 100)
    assert memory_usage.allocated() == 100
    memory_usage.trim()


def test_freed_memory_can_be_returned_to_the_system():
    memory_usage.trim()
    assert memory_usage.resident() > 0
