"""The memory limit of the process: when clients are throttled, and when new ones are refused."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsaas.memory.limit import (
    MAX_ALLOWANCE,
    MIN_ALLOWANCE,
    MIN_LIMIT,
    NONE,
    REFUSING,
    RELIEF_SHARE,
    SAMPLE_BYTES,
    SAMPLES_PER_TRIM,
    THROTTLING,
    MemoryLimit,
    process_limit,
)

LIMIT = 1000


class Rig:
    def __init__(self):
        self.usage = 0
        self.samples = 0
        self.trims = 0
        self.memory = MemoryLimit(LIMIT, self.sample, self.trim)

    def sample(self):
        self.samples += 1
        return self.usage

    def trim(self):
        self.trims += 1

    def check(self, usage, times=1):
        self.usage = usage
        for _ in range(times):
            self.memory.check(0.0)
        return self.memory.pressure, self.memory.allowance


@pytest.fixture
def rig():
    return Rig()


def test_within_the_limit_a_client_may_use_any_amount(rig):
    assert rig.check(LIMIT) == (NONE, math.inf)


def test_above_the_limit_the_largest_clients_are_throttled_first(rig):
    assert rig.check(LIMIT + 1) == (THROTTLING, MAX_ALLOWANCE)
    assert rig.check(LIMIT + 1) == (THROTTLING, MAX_ALLOWANCE / 2)
    assert rig.check(LIMIT + 1) == (THROTTLING, MAX_ALLOWANCE / 4)


def test_handshakes_are_refused_only_when_throttling_does_not_suffice(rig):
    halvings = int(math.log2(MAX_ALLOWANCE / MIN_ALLOWANCE))
    assert rig.check(LIMIT + 1, 1 + halvings) == (THROTTLING, MIN_ALLOWANCE)
    assert rig.check(LIMIT + 1) == (REFUSING, MIN_ALLOWANCE)
    assert rig.check(LIMIT + 1, 10) == (REFUSING, MIN_ALLOWANCE)


def test_nothing_changes_between_the_limit_and_relief(rig):
    rig.check(LIMIT + 1, 2)
    assert rig.check(LIMIT, 10) == (THROTTLING, MAX_ALLOWANCE / 2)
    assert rig.check(LIMIT * RELIEF_SHARE, 10) == (THROTTLING, MAX_ALLOWANCE / 2)


def test_with_free_memory_handshakes_are_accepted_at_once_and_the_allowance_grows_step_by_step(rig):
    rig.check(LIMIT + 1, 100)
    assert rig.check(0) == (THROTTLING, MIN_ALLOWANCE * 2)
    assert rig.check(0) == (THROTTLING, MIN_ALLOWANCE * 4)
    rig.check(0, 6)
    assert rig.memory.allowance == MAX_ALLOWANCE
    assert rig.check(0) == (NONE, math.inf)
    assert rig.check(0) == (NONE, math.inf)


def test_memory_is_sampled_again_after_sample_bytes(rig):
    rig.usage = LIMIT + 1
    rig.memory.note(SAMPLE_BYTES - 1)
    assert (rig.samples, rig.memory.pressure) == (0, NONE)
    rig.memory.note(1)
    assert (rig.samples, rig.memory.pressure) == (1, THROTTLING)
    rig.memory.note(SAMPLE_BYTES - 1)
    assert rig.samples == 1


def test_only_the_check_of_each_second_lets_the_allowance_grow(rig):
    rig.check(LIMIT + 1, 2)
    rig.usage = 0
    rig.memory.note(SAMPLE_BYTES)
    assert rig.memory.allowance == MAX_ALLOWANCE / 2


def test_freed_memory_is_returned_to_the_system_at_intervals_above_the_limit(rig):
    rig.check(0, 100)
    assert rig.trims == 0
    rig.check(LIMIT + 1, SAMPLES_PER_TRIM)
    assert rig.trims == 1
    rig.check(LIMIT, 2 * SAMPLES_PER_TRIM)
    assert rig.trims == 3


def test_each_step_is_logged_once(rig, caplog):
    caplog.set_level("INFO", "wsaas")
    rig.check(LIMIT + 1, 20)
    rig.check(0, 20)
    assert caplog.messages == [
        "memory: 0 MiB in use, MAX_MEMORY is 0 MiB: the clients that use the most are throttled",
        "memory: still over MAX_MEMORY with all clients throttled: new clients are refused",
        "memory: within MAX_MEMORY again",
    ]


@given(st.lists(st.tuples(st.sampled_from(["check", "note"]), st.integers(0, 2 * LIMIT)), max_size=60))
def test_the_allowance_is_within_its_bounds_and_agrees_with_the_pressure(steps):
    rig = Rig()
    for what, usage in steps:
        before = rig.memory.allowance
        rig.usage = usage
        if what == "check":
            rig.memory.check(0.0)
        else:
            rig.memory.note(SAMPLE_BYTES)
        pressure, allowance = rig.memory.pressure, rig.memory.allowance
        assert (pressure is NONE) == (allowance == math.inf)
        assert allowance == math.inf or MIN_ALLOWANCE <= allowance <= MAX_ALLOWANCE
        assert pressure is not REFUSING or allowance == MIN_ALLOWANCE
        assert allowance <= before or usage < LIMIT * RELIEF_SHARE
        assert allowance >= before or usage > LIMIT


def test_processes_share_half_of_the_available_memory(monkeypatch):
    monkeypatch.setattr("wsaas.memory.usage.available", lambda: 20 * MIN_LIMIT)
    assert process_limit(None).limit == 10 * MIN_LIMIT
    assert process_limit(None, 4).limit == 10 * MIN_LIMIT // 4
    assert process_limit(None, 100).limit == MIN_LIMIT
    assert process_limit(3 * MIN_LIMIT, 100).limit == 3 * MIN_LIMIT
    assert process_limit(0, 4).limit == math.inf
