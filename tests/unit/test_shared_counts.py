import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsaas.shared_counts import SharedCounts, create

Open = Callable[[int], SharedCounts]
IN_ANOTHER_PROCESS = """
import sys
from wsaas.shared_counts import SharedCounts
counts = SharedCounts(int(sys.argv[1]), 1, 3)
counts.set_clients(7)
counts.add("192.0.2.1", 5)
"""


@pytest.fixture
def descriptor() -> Iterator[int]:
    made = create(3)
    yield made
    os.close(made)


@pytest.fixture
def counts(descriptor: int) -> Iterator[list[SharedCounts]]:
    """The counts as each of three processes sees them."""
    made = [SharedCounts(descriptor, index, 3) for index in range(3)]
    yield made
    for each in made:
        each.close()


def test_a_process_counts_the_clients_of_the_others(counts):
    for index, clients in enumerate((1, 10, 100)):
        counts[index].set_clients(clients)
    assert [each.clients_elsewhere() for each in counts] == [110, 101, 11]
    counts[1].set_clients(9)
    assert counts[0].clients_elsewhere() == 109


def test_a_process_counts_the_connections_of_an_address_to_the_others(counts):
    for _ in range(3):
        counts[0].add("192.0.2.1", 1)
    counts[1].add("192.0.2.1", 1)
    counts[1].add("2001:db8::/64", 1)
    assert [each.connections_elsewhere("192.0.2.1") for each in counts] == [1, 3, 4]
    assert [each.connections_elsewhere("2001:db8::/64") for each in counts] == [1, 0, 1]
    counts[0].add("192.0.2.1", -1)
    assert counts[2].connections_elsewhere("192.0.2.1") == 3


def test_the_counts_of_a_process_that_ended_can_be_cleared(counts):
    for each in counts:
        each.set_clients(5)
        each.add("192.0.2.1", 2)
    counts[0].clear(1)
    assert [each.clients_elsewhere() for each in counts] == [5, 10, 5]
    assert [each.connections_elsewhere("192.0.2.1") for each in counts] == [2, 4, 2]


def test_the_counts_are_those_of_other_processes(descriptor, counts):
    command = [sys.executable, "-c", IN_ANOTHER_PROCESS, str(descriptor)]
    subprocess.run(command, pass_fds=(descriptor,), check=True)
    assert counts[0].clients_elsewhere() == 7
    assert counts[0].connections_elsewhere("192.0.2.1") == 5


@given(st.lists(st.integers(0, 30).map(lambda number: f"192.0.2.{number}"), max_size=100))
def test_the_count_of_an_address_is_never_too_low(addresses):
    descriptor = create(2)
    own, other = (SharedCounts(descriptor, index, 2) for index in range(2))
    os.close(descriptor)
    for each in addresses:
        other.add(each, 1)
    assert all(own.connections_elsewhere(each) >= addresses.count(each) for each in addresses)
    for each in addresses:
        other.add(each, -1)
    assert not any(own.connections_elsewhere(each) for each in addresses)
    own.close()
    other.close()


def test_many_addresses_hardly_disturb_the_count_of_another(counts):
    for number in range(20_000):
        counts[1].add(f"10.0.{number >> 8}.{number & 255}", 1)
    found = [counts[0].connections_elsewhere(f"192.168.{number >> 8}.{number & 255}") for number in range(1000)]
    assert sum(found) < 100
    assert max(found) <= 3
