import pytest

from wsaas.workers.worker_process import WorkerProcess, end_of
from wsaas.workers.worker_state import ENDED, LISTENING


def test_a_worker_makes_only_the_transitions_of_the_table():
    worker = WorkerProcess(1)
    with pytest.raises(AssertionError, match=r"worker 2: .*WAITING to .*LISTENING"):
        worker.set_state(LISTENING)
    worker.set_state(ENDED)


def test_a_worker_without_a_process_is_not_killed():
    assert not WorkerProcess(0).kill()


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        (0, "ended with status 0"),
        (3, "ended with status 3"),
        (-9, "was killed by SIGKILL"),
        (-99, "was killed by signal 99"),
    ],
)
def test_the_end_of_a_process_is_said_in_words(code, shown):
    assert end_of(code) == shown
