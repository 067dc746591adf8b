import pytest

from wsaas.http.deferred import CANCELLED, PENDING, RESOLVED, DeferredResponse
from wsaas.http.serialize import OK, OutgoingResponse

LATE = OutgoingResponse(504)


class Rig:
    def __init__(self):
        self.cancelled = 0
        self.responses = []
        self.deferred = DeferredResponse(10.0, self.cancel)

    def cancel(self):
        self.cancelled += 1

    def wait(self):
        self.deferred.on_response(self.responses.append)
        return self.deferred


@pytest.fixture
def rig():
    return Rig()


def test_a_deferred_response_waits_until_its_deadline(rig):
    assert (rig.deferred.state, rig.deferred.deadline) == (PENDING, 10.0)


def test_a_response_is_passed_to_the_callback(rig):
    deferred = rig.wait()
    deferred.resolve(OK)
    assert (deferred.state, rig.responses, rig.cancelled) == (RESOLVED, [OK], 0)


def test_the_producer_is_notified_of_a_cancellation(rig):
    deferred = rig.wait()
    deferred.cancel()
    assert (deferred.state, rig.responses, rig.cancelled) == (CANCELLED, [], 1)


def test_a_response_after_the_cancellation_is_dropped(rig):
    deferred = rig.wait()
    deferred.cancel()
    deferred.resolve(OK)
    assert (deferred.state, rig.responses) == (CANCELLED, [])


def test_giving_up_passes_another_response_to_the_callback(rig):
    deferred = rig.wait()
    deferred.give_up(LATE)
    deferred.resolve(OK)
    assert (deferred.state, rig.responses, rig.cancelled) == (CANCELLED, [LATE], 1)


@pytest.mark.parametrize("then", [DeferredResponse.cancel, lambda deferred: deferred.resolve(OK)])
def test_a_response_is_resolved_at_most_once(rig, then):
    deferred = rig.wait()
    deferred.resolve(OK)
    with pytest.raises(AssertionError, match="resolved"):
        then(deferred)
    assert rig.responses == [OK]


def test_a_response_is_not_resolved_before_a_callback_is_set(rig):
    with pytest.raises(AssertionError, match="200"):
        rig.deferred.resolve(OK)
