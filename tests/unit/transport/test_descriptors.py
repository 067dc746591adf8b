import resource

import pytest

from wsaas.transport.descriptors import (
    CONTROL_RESERVE,
    SPARE_DESCRIPTORS,
    DescriptorBudget,
    divide_descriptors,
    hard_limit,
    raise_limit,
    warn_of_few,
)


def test_clients_get_all_but_a_fixed_number_of_many_descriptors(caplog):
    budget = divide_descriptors(20_000, 128)
    assert budget == DescriptorBudget(20_000 - 128 - 64 - 64, 128, CONTROL_RESERVE, SPARE_DESCRIPTORS)
    warn_of_few(budget)
    assert not caplog.records


@pytest.mark.parametrize("descriptors", [64, 150, 256, 1000, 5000])
@pytest.mark.parametrize("backend", [1, 128, 100_000])
def test_clients_get_at_least_half_of_few_descriptors(descriptors, backend):
    budget = divide_descriptors(descriptors, backend)
    assert budget.clients + budget.backend + budget.control + budget.spare == descriptors
    assert budget.clients >= descriptors // 2
    assert 1 <= budget.backend <= max(1, min(backend, descriptors // 4))
    assert budget.control >= descriptors // 8 or budget.control == CONTROL_RESERVE


def test_few_descriptors_cause_a_warning(caplog):
    warn_of_few(divide_descriptors(150, 128))
    assert [record.getMessage() for record in caplog.records] == [
        "the limit of open files (150) allows only 77 clients, and 37 connections to the backend: raise it"
    ]


@pytest.mark.parametrize(("hard", "counts_as"), [(1234, 1234), (resource.RLIM_INFINITY, 1 << 20)])
def test_the_soft_limit_of_open_files_is_raised_to_the_hard_one(monkeypatch, hard, counts_as):
    limits = [(100, hard)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, limit: limits.append(limit))
    assert hard_limit() == counts_as
    raise_limit()
    assert limits[-1] == (hard, hard)
