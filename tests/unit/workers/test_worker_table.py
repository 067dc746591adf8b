import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsaas.workers.worker_table import WorkerTable


@pytest.fixture
def table():
    """A table of two workers that know each other and listen."""
    table = WorkerTable()
    for index, prefix in enumerate(("aaaaaaaa", "bbbbbbbb")):
        table.add(index, prefix)
    for index in (0, 1):
        table.acknowledge(index, table.version)
    assert table.take_ready() == [0, 1]
    return table


def test_an_empty_table_has_no_worker_that_may_listen():
    assert WorkerTable().take_ready() == []


def test_the_table_names_the_workers_by_the_prefix_of_their_ids(table):
    assert table.peers == {"aaaaaaaa": 0, "bbbbbbbb": 1}
    assert list(table) == [0, 1]


def test_a_new_worker_may_listen_when_all_workers_know_it(table):
    table.add(2, "cccccccc")
    for index in (0, 2):
        table.acknowledge(index, table.version)
        assert table.take_ready() == []
    table.acknowledge(1, table.version)
    assert table.take_ready() == [2]
    assert table.take_ready() == []


def test_an_older_table_does_not_count(table):
    before = table.version
    table.add(2, "cccccccc")
    for index in (0, 1, 2):
        table.acknowledge(index, before)
    assert table.take_ready() == []


def test_a_worker_that_ended_holds_up_no_other(table):
    table.add(2, "cccccccc")
    for index in (0, 2):
        table.acknowledge(index, table.version)
    assert table.remove(1)
    assert not table.remove(1)
    assert table.take_ready() == [2]
    assert table.peers == {"aaaaaaaa": 0, "cccccccc": 2}


def test_a_successor_has_to_become_known_again(table):
    table.remove(1)
    table.add(1, "cccccccc")
    table.acknowledge(0, table.version)
    assert table.take_ready() == []
    table.acknowledge(1, table.version)
    assert table.take_ready() == [1]


def test_a_worker_can_be_admitted_without_the_others(table):
    table.add(2, "cccccccc")
    assert table.admit(2)
    assert not table.admit(2)
    assert not table.admit(3)
    for index in (0, 1, 2):
        table.acknowledge(index, table.version)
    assert table.take_ready() == []


EVENTS = st.lists(st.tuples(st.sampled_from(["start", "end", "learn"]), st.integers(0, 3)), max_size=60)


@given(EVENTS)
def test_the_workers_that_listen_know_each_other(events):
    table = WorkerTable()
    number = 0
    known: dict[int, set[str]] = {}
    listening: set[str] = set()
    for event, index in events:
        if event == "start" and index not in known:
            number += 1
            known[index] = set()
            table.add(index, str(number))
        elif event == "end" and index in known:
            del known[index]
            assert table.remove(index)
        elif event == "learn" and index in known:
            known[index] = set(table.peers)
            table.acknowledge(index, table.version)
        prefixes = {value: key for key, value in table.peers.items()}
        listening |= {prefixes[each] for each in table.take_ready()}
        listening &= set(table.peers)
        assert all(listening <= known[index] for prefix, index in table.peers.items() if prefix in listening)
