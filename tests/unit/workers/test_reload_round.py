"""A reload of all workers, and when it is over."""

from wsaas.workers.reload_round import ReloadRound


def test_a_reload_is_over_when_each_worker_has_answered_or_ended():
    results: list[bool] = []
    reloading = ReloadRound(1, [0, 1, 2], results.append)
    reloading.begin()
    reloading.answered(1, ok=True)
    reloading.answered(1, ok=True)
    reloading.answered(2, ok=True)
    assert results == []
    reloading.answered(0, ok=True)
    # It may end later, too.
    reloading.answered(0, ok=False)
    assert results == [True]


def test_a_reload_is_incomplete_if_a_worker_could_not_use_a_file():
    results: list[bool] = []
    reloading = ReloadRound(1, [0, 1], results.append)
    reloading.answered(0, ok=False)
    reloading.answered(1, ok=True)
    assert results == [False]


def test_a_reload_without_workers_is_over_at_once():
    results: list[bool] = []
    ReloadRound(1, [], results.append).begin()
    assert results == [True]
