"""Tests of the table of sessions."""

import tracemalloc
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from wsaas.sessions import session_table
from wsaas.sessions.ordered_table import CHUNK
from wsaas.sessions.session_table import ID_ALPHABET, SessionTable


def make_session(number) -> Any:
    """Return what a table needs of a session. The last characters of ids take turns."""
    return SimpleNamespace(info=SimpleNamespace(id=f"id-{number}-{ID_ALPHABET[number % 64]}", order=number))


def fill(table, numbers):
    sessions = {number: make_session(number) for number in numbers}
    for session in sessions.values():
        table.add(session)
    return sessions


def numbers_of(sessions):
    return [each.info.order for each in sessions]


def test_a_session_is_found_by_its_id_until_it_is_removed():
    table = SessionTable()
    sessions = fill(table, range(1, 1000))
    assert all(table.find(each.info.id) is each for each in sessions.values())
    table.remove(sessions[500])
    assert table.find(sessions[500].info.id) is None
    assert len(table) == 998
    with pytest.raises(KeyError):
        table.remove(sessions[500])


@pytest.mark.parametrize("text", ["", "é", "id-1-\n", "id-1-C"])
def test_nothing_is_found_by_any_other_text(text):
    table = SessionTable()
    fill(table, [1])
    assert table.find(text) is None


def test_an_empty_table_has_no_session():
    table = SessionTable()
    assert (len(table), list(table), list(table.after(7))) == (0, [], [])


@pytest.mark.parametrize("after", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 999, 1000, 10**20])
def test_an_iteration_begins_behind_any_number(after):
    table = SessionTable()
    fill(table, range(1, 1001))
    assert numbers_of(table.after(after)) == list(range(after + 1, 1001))


def test_sessions_may_come_and_go_during_an_iteration():
    table = SessionTable()
    sessions = fill(table, range(1, 4 * CHUNK))
    found = iter(table)
    assert next(found) is sessions[1]
    for number in (2, CHUNK + 7, *range(2 * CHUNK, 3 * CHUNK)):
        table.remove(sessions[number])
    fill(table, range(4 * CHUNK, 5 * CHUNK))
    left = numbers_of(found)
    # Of each dict, what is there when its turn comes. The dict of the first was copied already.
    assert left == [
        *range(2, CHUNK),
        *(each for each in range(CHUNK, 2 * CHUNK) if each != CHUNK + 7),
        *range(3 * CHUNK, 4 * CHUNK),
    ]


def test_a_session_that_comes_during_an_iteration_is_left_out_although_it_shares_a_dict_with_the_last():
    table = SessionTable()
    fill(table, [1, 2])
    found = iter(table)
    fill(table, [3])
    assert numbers_of(found) == [1, 2]
    assert numbers_of(table) == [1, 2, 3]


def test_a_few_sessions_that_are_left_of_many_do_not_keep_the_memory_of_all():
    table = SessionTable()
    tracemalloc.start()
    try:
        sessions = fill(table, range(1, 20 * CHUNK))
        full, _ = tracemalloc.get_traced_memory()
        for number, session in sessions.items():
            if number % 170:
                table.remove(session)
        sessions = {number: each for number, each in sessions.items() if not number % 170}
        left, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert numbers_of(table) == [*sessions]
    # What is left most is the first set of dicts: CPython makes it smaller when sessions come again.
    assert left < full / 5


class TableMachine(RuleBasedStateMachine):
    """Compares a table with one dict of all sessions."""

    CHUNK = 8

    def __init__(self):
        super().__init__()
        self.chunk = patch.object(session_table, "CHUNK", self.CHUNK)
        self.chunk.start()
        self.table = SessionTable()
        self.model: dict[str, Any] = {}
        self.newest = 0

    def teardown(self):
        self.chunk.stop()

    @rule(count=st.integers(1, 3 * CHUNK))
    def add(self, count):
        for number in range(self.newest + 1, self.newest + count + 1):
            session = make_session(number)
            self.table.add(session)
            self.model[session.info.id] = session
        self.newest += count

    @rule(step=st.integers(1, 10), rest=st.integers(0, 9))
    def remove(self, step, rest):
        for session in [each for each in self.model.values() if each.info.order % step == rest % step]:
            self.table.remove(session)
            del self.model[session.info.id]

    @rule(share=st.floats(0, 1))
    def continue_behind(self, share):
        after = int(self.newest * share)
        assert numbers_of(self.table.after(after)) == [each for each in numbers_of(self.model.values()) if each > after]

    @invariant()
    def agrees(self):
        assert len(self.table) == len(self.model)
        assert list(self.table) == list(self.model.values())
        assert all(self.table.find(key) is session for key, session in self.model.items())


TestTableMachine = TableMachine.TestCase
