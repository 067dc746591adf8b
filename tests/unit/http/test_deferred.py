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


def test_a_response_is_given_to_the_callback_that_waits(rig):
    deferred = rig.wait()
    deferred.resolve(OK)
    assert (deferred.state, rig.responses, rig.cancelled) == (RESOLVED, [OK], 0)


def test_the_maker_of_a_response_is_told_when_it_is_cancelled(rig):
    deferred = rig.wait()
    deferred.cancel()
    assert (deferred.state, rig.responses, rig.cancelled) == (CANCELLED, [], 1)


def test_a_response_that_crosses_the_cancellation_is_dropped(rig):
    deferred = rig.wait()
    deferred.cancel()
    deferred.resolve(OK)
    assert (deferred.state, rig.responses) == (CANCELLED, [])


def test_another_response_may_be_given_instead(rig):
    deferred = rig.wait()
    deferred.give_up(LATE)
    deferred.resolve(OK)
    assert (deferred.state, rig.responses, rig.cancelled) == (CANCELLED, [LATE], 1)


@pytest.mark.parametrize("then", [DeferredResponse.cancel, lambda deferred: deferred.resolve(OK)])
def test_a_response_comes_once(rig, then):
    deferred = rig.wait()
    deferred.resolve(OK)
    with pytest.raises(AssertionError, match="resolved"):
        then(deferred)
    assert rig.responses == [OK]


def test_a_response_is_kept_until_a_callback_waits(rig):
    with pytest.raises(AssertionError, match="200"):
        rig.deferred.resolve(OK)
