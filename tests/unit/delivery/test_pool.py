import math
import socket
import ssl
from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.fakes import CallbackExchange, FakeClock, FakeOpener, FakeTransport
from wsaas.delivery.pool import Failure, Limits, Outcome, Pool
from wsaas.http.response import Response

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
CLOSING = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Rig:
    """A pool of at most two connections. Records the outcomes of exchanges by name."""

    def __init__(self, connections=2, age=math.inf):
        self.clock = FakeClock()
        self.opener = FakeOpener()
        self.pool = Pool(self.clock, self.opener, Limits(connections, attempt=10.0, idle=60.0, body=100, age=age))
        self.outcomes = {}

    def send(self, name, wait_timeout=30.0, *, retried=True):
        outcomes = self.outcomes[name] = []
        exchange = CallbackExchange(name.encode(), outcomes.append, wait_timeout, retried=retried)
        self.pool.send(exchange)
        return exchange

    def outcome(self, name):
        """The outcome of `name`: its status or failure, None while there is none."""
        if not self.outcomes[name]:
            return None
        (outcome,) = self.outcomes[name]
        return outcome.status if isinstance(outcome, Response) else outcome

    def sweep(self, seconds):
        self.clock.advance(seconds)
        self.pool.sweep(self.clock.now())


@pytest.fixture
def rig():
    return Rig()


def served(rig, count=1):
    """Open `count` connections that each served a request; return their transports."""
    for number in range(count):
        rig.send(f"warm{number}")
    transports = [rig.opener.open() for _ in range(count)]
    for transport in transports:
        transport.protocol.data_received(OK)
        transport.take()
    return transports


def test_a_connection_that_opens_in_the_moment_of_its_time_out_counts_once(rig):
    rig.send("a")
    make, failed = rig.opener.pending[0]
    transport = rig.opener.open()
    failed(TimeoutError())
    assert repr(rig.pool) == "<Pool idle=0 busy=1 opening=0 waiting=0>"
    transport.protocol.data_received(OK)
    assert rig.outcome("a") == 200
    assert make() is transport.protocol


def test_a_connection_that_opens_after_it_was_given_up_is_closed(rig):
    rig.send("a")
    make, _ = rig.opener.pending[0]
    rig.opener.fail()
    late = FakeTransport(make())
    late.protocol.connection_made(late)
    assert late.aborted
    assert rig.outcome("a") is Failure.UNREACHABLE
    assert repr(rig.pool) == "<Pool idle=0 busy=0 opening=0 waiting=0>"


def test_an_error_completes_no_response(rig):
    rig.send("a")
    transport = rig.opener.open()
    transport.protocol.data_received(b"HTTP/1.1 200 OK\r\n\r\npay 100")
    transport.protocol.connection_lost(ConnectionResetError())
    assert rig.outcome("a") is Failure.BROKEN


def test_nothing_is_opened_before_it_is_needed(rig):
    assert rig.opener.pending == []
    assert repr(rig.pool) == "<Pool idle=0 busy=0 opening=0 waiting=0>"


def test_a_request_is_sent_as_soon_as_its_connection_is_open(rig):
    rig.send("a")
    assert repr(rig.pool) == "<Pool idle=0 busy=0 opening=1 waiting=1>"
    transport = rig.opener.open()
    assert transport.writes == [b"a"]
    assert repr(rig.pool) == "<Pool idle=0 busy=1 opening=0 waiting=0>"
    transport.protocol.data_received(OK)
    assert rig.outcome("a") == 200
    assert repr(rig.pool) == "<Pool idle=1 busy=0 opening=0 waiting=0>"


def test_a_response_in_pieces_is_reported_once_it_is_complete(rig):
    rig.send("a")
    transport = rig.opener.open()
    for byte in OK[:-1]:
        transport.protocol.data_received(bytes([byte]))
        assert rig.outcome("a") is None
    transport.protocol.data_received(OK[-1:])
    assert rig.outcome("a") == 200


def test_a_request_on_an_idle_connection_is_sent_at_once(rig):
    (transport,) = served(rig)
    rig.send("a")
    assert transport.writes == [b"a"]
    assert rig.outcome("a") is None
    assert rig.opener.pending == []


def test_the_connection_used_last_is_used_first(rig):
    first, second = served(rig, 2)
    rig.send("a")
    assert (first.take(), second.take()) == (b"", b"a")
    rig.send("b")
    assert (first.take(), second.take()) == (b"b", b"")
    first.protocol.data_received(OK)
    second.protocol.data_received(OK)
    rig.send("c")
    assert (first.take(), second.take()) == (b"", b"c")


def test_a_connection_is_opened_for_each_waiting_request_up_to_the_limit(rig):
    for name in "abc":
        rig.send(name)
    assert len(rig.opener.pending) == 2
    assert repr(rig.pool) == "<Pool idle=0 busy=0 opening=2 waiting=3>"
    rig.opener.open()
    rig.send("d")
    assert len(rig.opener.pending) == 1


def test_no_second_connection_is_opened_while_one_opens_for_the_only_request():
    rig = Rig(connections=10)
    rig.send("a")
    rig.opener.open()
    rig.send("b")
    assert len(rig.opener.pending) == 1


def test_waiting_requests_are_served_in_order():
    rig = Rig(connections=1)
    for name in "abc":
        rig.send(name)
    transport = rig.opener.open()
    for name in "abc":
        assert transport.take() == name.encode()
        transport.protocol.data_received(OK)
    assert [rig.outcome(name) for name in "abc"] == [200, 200, 200]


def test_the_outcome_is_reported_after_the_connection_is_idle_again():
    rig = Rig(connections=1)
    rig.pool.send(CallbackExchange(b"a", lambda _: rig.send("b"), 30.0))
    transport = rig.opener.open()
    transport.take()
    transport.protocol.data_received(OK)
    assert transport.writes == [b"b"]


def test_an_unneeded_connection_is_kept(rig):
    rig.send("a")
    first = rig.opener.open()
    rig.send("b")
    first.protocol.data_received(OK)
    assert first.take() == b"ab"
    second = rig.opener.open()
    assert second.writes == []
    assert repr(rig.pool) == "<Pool idle=1 busy=1 opening=0 waiting=0>"


def test_a_stale_connection_is_replaced_by_a_fresh_one_at_once(rig):
    stale, other = served(rig, 2)
    rig.send("x")
    rig.send("a")
    assert stale.writes == [b"a"]
    other.protocol.data_received(OK)
    stale.lose()
    # Not on the idle one, which may be stale as well.
    assert other.take() == b"x"
    fresh = rig.opener.open()
    assert fresh.writes == [b"a"]
    assert rig.outcome("a") is None
    fresh.protocol.data_received(OK)
    assert rig.outcome("a") == 200
    assert rig.clock.timers == []


def test_a_request_is_sent_again_only_once(rig):
    (stale,) = served(rig)
    rig.send("a")
    stale.lose()
    fresh = rig.opener.open()
    fresh.lose()
    assert rig.outcome("a") is Failure.BROKEN
    assert rig.opener.pending == []


def test_a_new_connection_that_dies_without_an_answer_is_broken_not_stale(rig):
    rig.send("a")
    rig.opener.open().lose()
    assert rig.outcome("a") is Failure.BROKEN
    assert rig.opener.pending == []


def test_a_connection_that_dies_within_an_answer_is_broken_not_stale(rig):
    (transport,) = served(rig)
    rig.send("a")
    transport.protocol.data_received(OK[:5])
    transport.lose()
    assert rig.outcome("a") is Failure.BROKEN


def test_a_connection_may_be_stale_for_its_second_request(rig):
    (transport,) = served(rig)
    rig.send("a")
    transport.protocol.data_received(OK)
    rig.send("b")
    transport.lose()
    assert rig.outcome("b") is None
    assert rig.opener.open().writes == [b"b"]


TIMEOUT_HEAD = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n"
TIMEOUTS = {
    "whole": [TIMEOUT_HEAD + b"Content-Length: 4\r\n\r\nbye\n"],
    "without a body": [TIMEOUT_HEAD + b"Content-Length: 0\r\n\r\n"],
    "up to the end": [TIMEOUT_HEAD + b"\r\n"],
    "of HTTP/1.0": [b"HTTP/1.0 408 Request Time-out\r\nContent-Type: text/html\r\n\r\n<html>"],
    "in pieces": [TIMEOUT_HEAD[:20], TIMEOUT_HEAD[20:], b"Content-Length: 4\r\n\r\nb"],
}


@pytest.mark.parametrize("pieces", TIMEOUTS.values(), ids=list(TIMEOUTS))
def test_a_408_on_a_reused_connection_is_not_the_answer_to_a_request_it_crosses(rig, pieces):
    (stale,) = served(rig)
    rig.send("a")
    for piece in pieces:
        stale.protocol.data_received(piece)
    assert stale.aborted
    fresh = rig.opener.open()
    assert fresh.take() == b"a"
    stale.lose()
    fresh.protocol.data_received(OK)
    assert rig.outcome("a") == 200


@pytest.mark.parametrize("pieces", TIMEOUTS.values(), ids=list(TIMEOUTS))
def test_a_408_on_a_fresh_connection_is_an_answer(rig, pieces):
    rig.send("a")
    transport = rig.opener.open()
    for piece in pieces:
        transport.protocol.data_received(piece)
    if rig.outcome("a") is None:
        if pieces[-1].endswith(b"\r\nb"):
            transport.protocol.data_received(b"ye\n")
        else:
            transport.lose()
    assert rig.outcome("a") == 408
    assert rig.opener.pending == []


def test_a_request_that_a_408_crossed_is_sent_again_only_once(rig):
    (stale,) = served(rig)
    rig.send("a")
    stale.protocol.data_received(TIMEOUTS["whole"][0])
    rig.opener.open().protocol.data_received(TIMEOUTS["whole"][0])
    assert rig.outcome("a") == 408
    assert rig.opener.pending == []


def test_a_408_that_keeps_the_connection_is_an_answer(rig):
    (transport,) = served(rig)
    rig.send("a")
    transport.protocol.data_received(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
    assert rig.outcome("a") == 408
    assert not transport.aborted


@pytest.mark.parametrize("data", [OK, TIMEOUTS["whole"][0], TIMEOUTS["up to the end"][0], b"bye"])
def test_bytes_on_an_idle_connection_close_it_quietly(rig, data, caplog):
    caplog.set_level("INFO", "wsaas")
    (transport,) = served(rig)
    transport.protocol.data_received(data)
    assert transport.aborted
    assert repr(rig.pool) == "<Pool idle=0 busy=0 opening=0 waiting=0>"
    assert caplog.messages == []


def test_a_connection_that_was_idle_before_its_first_request_may_be_stale(rig):
    rig.send("a")
    first = rig.opener.open()
    rig.send("b")
    first.protocol.data_received(OK)
    unused = rig.opener.open()
    rig.send("c")
    assert unused.take() == b"c"
    unused.lose()
    assert rig.outcome("c") is None
    assert rig.opener.open().take() == b"c"


def test_requests_of_stale_connections_are_sent_before_waiting_ones():
    rig = Rig(connections=1)
    (stale,) = served(rig)
    rig.send("a")
    rig.send("b")
    stale.lose()
    assert repr(rig.pool) == "<Pool idle=0 busy=0 opening=1 waiting=2>"
    fresh = rig.opener.open()
    assert fresh.take() == b"a"
    fresh.protocol.data_received(OK)
    assert fresh.take() == b"b"


def test_a_busy_connection_makes_room_for_a_fresh_one_when_it_comes_free(rig):
    stale, busy = served(rig, 2)
    rig.send("x")
    rig.send("a")
    stale.lose()
    rig.opener.fail()
    assert rig.outcome("a") is None
    assert rig.opener.pending == []
    busy.protocol.data_received(OK)
    assert rig.outcome("x") == 200
    assert busy.aborted
    assert rig.opener.open().writes == [b"a"]


def test_an_idle_connection_is_kept_while_a_fresh_one_is_opened(rig):
    stale, busy = served(rig, 2)
    rig.send("x")
    rig.send("a")
    stale.lose()
    busy.protocol.data_received(OK)
    assert not busy.aborted
    assert repr(rig.pool) == "<Pool idle=1 busy=0 opening=1 waiting=1>"


def test_a_failed_connect_fails_all_waiting_requests_when_none_is_served(rig):
    for name in "abc":
        rig.send(name)
    rig.opener.fail()
    assert [rig.outcome(name) for name in "abc"] == [Failure.UNREACHABLE] * 3
    assert repr(rig.pool) == "<Pool idle=0 busy=0 opening=1 waiting=0>"


def test_a_failed_connect_fails_no_request_while_others_are_served(rig):
    rig.send("a")
    transport = rig.opener.open()
    rig.send("b")
    rig.opener.fail()
    assert rig.outcome("b") is None
    transport.protocol.data_received(OK)
    assert transport.take() == b"ab"


def test_a_lost_connection_is_replaced_for_waiting_requests(rig):
    rig.send("a")
    transport = rig.opener.open()
    rig.send("b")
    rig.opener.fail()
    transport.lose()
    assert rig.outcome("a") is Failure.BROKEN
    assert rig.opener.open().writes == [b"b"]


def test_after_a_failed_open_the_next_request_tries_again(rig):
    rig.send("a")
    rig.opener.fail()
    rig.send("b")
    assert rig.opener.open().writes == [b"b"]


@pytest.mark.parametrize("end", ["failed", "swept", "closed"])
def test_a_request_that_may_have_been_seen_is_never_reported_as_unsent(rig, end):
    # It was written to the stale connection, so the backend may have read it.
    (stale,) = served(rig)
    rig.send("a")
    stale.lose()
    if end == "failed":
        rig.opener.fail()
    elif end == "swept":
        rig.sweep(30.0)
    else:
        rig.pool.close()
    assert rig.outcome("a") is Failure.BROKEN
    assert repr(rig.pool) == "<Pool idle=0 busy=0 opening={} waiting=0>".format(0 if end == "failed" else 1)


def test_a_request_that_is_sent_again_has_its_full_time_out(rig):
    (stale,) = served(rig)
    rig.send("a")
    stale.lose()
    rig.clock.advance(20.0)
    rig.opener.open()
    rig.sweep(9.9)
    assert rig.outcome("a") is None
    rig.sweep(0.1)
    assert rig.outcome("a") is Failure.TIMED_OUT


def test_an_overdue_answer_times_out_and_ends_its_connection(rig):
    rig.send("a")
    transport = rig.opener.open()
    rig.sweep(9.99)
    assert rig.outcome("a") is None
    rig.sweep(0.01)
    assert rig.outcome("a") is Failure.TIMED_OUT
    assert transport.aborted
    assert repr(rig.pool) == "<Pool idle=0 busy=0 opening=0 waiting=0>"
    transport.lose()
    assert rig.outcome("a") is Failure.TIMED_OUT


def test_the_time_for_an_answer_starts_with_each_request(rig):
    (transport,) = served(rig)
    rig.clock.advance(59.0)
    rig.send("a")
    rig.sweep(9.0)
    assert rig.outcome("a") is None
    assert not transport.aborted


def test_the_time_for_an_answer_starts_when_a_waiting_request_is_sent():
    rig = Rig(connections=1)
    rig.send("a")
    rig.send("b")
    transport = rig.opener.open()
    rig.clock.advance(9.0)
    transport.protocol.data_received(OK)
    rig.sweep(9.0)
    assert rig.outcome("b") is None
    rig.sweep(1.0)
    assert rig.outcome("b") is Failure.TIMED_OUT


def test_a_timed_out_connection_makes_room_for_waiting_requests():
    rig = Rig(connections=1)
    rig.send("a")
    rig.opener.open()
    rig.send("b")
    rig.sweep(10.0)
    assert rig.outcome("b") is None
    assert rig.opener.open().writes == [b"b"]


def test_a_request_that_starts_during_a_check_has_its_full_timeout():
    # Whichever the sweep comes to first: the answer to the one that times out goes to an idle, overdue connection.
    for _ in range(20):
        rig = Rig(connections=2)
        idle, busy = served(rig, 2)
        rig.clock.advance(50.0)
        rig.pool.send(CallbackExchange(b"a", lambda _, rig=rig: rig.send("b"), 30.0))
        assert busy.take() == b"a"
        rig.sweep(10.0)
        assert busy.aborted
        assert rig.outcome("b") is None
        assert idle.aborted == (idle.take() == b"")


def test_an_exchange_that_waits_longer_than_its_time_out_fails():
    rig = Rig(connections=1)
    rig.send("a")
    rig.opener.open()
    rig.send("b", wait_timeout=5.0)
    rig.send("c", wait_timeout=6.0)
    rig.sweep(4.9)
    assert rig.outcome("b") is None
    rig.sweep(0.1)
    assert rig.outcome("b") is Failure.POOL_TIMEOUT
    assert rig.outcome("c") is None
    assert rig.outcome("a") is None
    assert repr(rig.pool) == "<Pool idle=0 busy=1 opening=0 waiting=1>"


def test_a_connection_that_is_old_takes_no_further_request():
    rig = Rig(connections=1, age=100.0)
    (old,) = served(rig)
    rig.clock.advance(79.9)
    rig.send("a")
    old.protocol.data_received(OK)
    assert not old.aborted
    rig.send("b")
    rig.send("c")
    assert old.take() == b"ab"
    rig.clock.advance(10.1)
    old.protocol.data_received(OK)
    assert rig.outcome("b") == 200
    assert old.aborted
    fresh = rig.opener.open()
    assert fresh.take() == b"c"
    fresh.protocol.data_received(OK)
    assert rig.outcome("c") == 200
    assert not fresh.aborted


def test_an_idle_connection_that_is_old_is_closed_by_the_sweep():
    rig = Rig(age=50.0)
    (old,) = served(rig)
    rig.sweep(39.9)
    assert not old.aborted
    rig.sweep(5.1)
    assert old.aborted
    assert rig.opener.pending == []
    assert repr(rig.pool) == "<Pool idle=0 busy=0 opening=0 waiting=0>"


def test_a_connection_that_expires_still_waits_for_its_answer():
    rig = Rig(age=50.0)
    (old,) = served(rig)
    rig.sweep(39.0)
    rig.send("a")
    rig.sweep(9.9)
    assert not old.aborted
    old.protocol.data_received(OK)
    assert rig.outcome("a") == 200
    assert old.aborted


def test_connections_of_the_same_age_do_not_expire_at_once():
    rig = Rig(connections=200, age=50.0)
    transports = served(rig, 200)
    rig.sweep(39.9)
    left = [200]
    for _ in range(10):
        rig.sweep(0.51)
        left.append(sum(not transport.aborted for transport in transports))
    assert left[-1] == 0
    # Evenly: about 20 each time.
    assert max(before - after for before, after in pairwise(left)) < 60


def test_a_connection_that_is_idle_for_long_is_closed(rig):
    first, second = served(rig, 2)
    rig.clock.advance(30.0)
    rig.send("a")
    second.protocol.data_received(OK)
    rig.sweep(29.9)
    assert not first.aborted
    rig.sweep(0.1)
    assert first.aborted
    assert not second.aborted
    assert repr(rig.pool) == "<Pool idle=1 busy=0 opening=0 waiting=0>"


def test_an_idle_connection_that_the_backend_closes_is_forgotten(rig):
    (transport,) = served(rig)
    transport.lose()
    rig.send("a")
    assert transport.writes == []
    assert rig.opener.open().writes == [b"a"]


@pytest.mark.parametrize("data", [OK, b"nonsense", b"HTTP/1.1 100 Continue\r\n\r\n", b"H"])
def test_unsolicited_bytes_end_an_idle_connection(rig, data):
    (transport,) = served(rig)
    transport.protocol.data_received(data)
    assert transport.aborted
    assert repr(rig.pool) == "<Pool idle=0 busy=0 opening=0 waiting=0>"


def test_an_answer_that_is_not_http_is_an_invalid_response(rig):
    rig.send("a")
    transport = rig.opener.open()
    transport.protocol.data_received(b"SSH-2.0-OpenSSH\r\n")
    assert rig.outcome("a") is Failure.INVALID_RESPONSE
    assert transport.aborted


def test_an_invalid_response_on_a_reused_connection_is_not_stale(rig):
    (transport,) = served(rig)
    rig.send("a")
    transport.protocol.data_received(b"\x00")
    assert rig.outcome("a") is Failure.INVALID_RESPONSE


def test_an_answer_may_last_until_the_end_of_the_connection(rig):
    rig.send("a")
    transport = rig.opener.open()
    transport.protocol.data_received(b"HTTP/1.1 200 OK\r\n\r\n")
    transport.protocol.data_received(b"all of it")
    assert rig.outcome("a") is None
    transport.lose()
    assert rig.outcome("a") == 200
    assert rig.outcomes["a"][0].body == b"all of it"
    assert repr(rig.pool) == "<Pool idle=0 busy=0 opening=0 waiting=0>"


def test_the_end_of_the_connection_does_not_complete_an_answer_that_was_given_up(rig):
    rig.send("a")
    transport = rig.opener.open()
    transport.protocol.data_received(b"HTTP/1.1 200 OK\r\n\r\nhalf of it")
    rig.sweep(10.0)
    transport.lose()
    assert rig.outcome("a") is Failure.TIMED_OUT
    assert transport.protocol._parser._body is None


def test_a_connection_that_the_backend_will_close_is_not_reused(rig):
    rig.send("a")
    transport = rig.opener.open()
    rig.send("b")
    rig.opener.fail()
    transport.protocol.data_received(CLOSING)
    assert rig.outcome("a") == 200
    assert transport.aborted
    assert transport.take() == b"a"
    assert rig.opener.open().writes == [b"b"]


def test_a_second_answer_to_one_request_ends_the_connection(rig):
    rig.send("a")
    transport = rig.opener.open()
    transport.protocol.data_received(OK + OK)
    assert rig.outcome("a") == 200
    assert transport.aborted


def test_close_ends_every_connection_and_fails_waiting_requests():
    rig = Rig(connections=2)
    idle, busy = served(rig, 2)
    rig.send("a")
    rig.pool.close()
    assert idle.aborted
    assert busy.aborted
    assert rig.outcome("a") is Failure.TIMED_OUT
    rig.send("b")
    rig.pool.close()
    assert rig.outcome("b") is Failure.POOL_TIMEOUT
    assert repr(rig.pool) == "<Pool idle=0 busy=0 opening=1 waiting=0>"


def test_fail_waiting_fails_waiting_requests_and_not_those_under_way(rig):
    for name in "abc":
        rig.send(name)
    transport = rig.opener.open()
    rig.pool.fail_waiting()
    assert [rig.outcome(name) for name in "abc"] == [None, Failure.POOL_TIMEOUT, Failure.POOL_TIMEOUT]
    assert repr(rig.pool) == "<Pool idle=0 busy=1 opening=1 waiting=0>"
    transport.protocol.data_received(OK)
    assert rig.outcome("a") == 200
    rig.send("d")
    assert transport.take() == b"ad"


def test_fail_waiting_fails_a_request_that_was_sent_before_as_broken(rig):
    (stale,) = served(rig)
    rig.send("a")
    stale.lose()
    rig.pool.fail_waiting()
    assert rig.outcome("a") is Failure.BROKEN


def test_fail_waiting_without_waiting_requests_does_nothing(rig):
    served(rig)
    rig.pool.fail_waiting()
    assert repr(rig.pool) == "<Pool idle=1 busy=0 opening=0 waiting=0>"


def test_a_request_that_fail_waiting_failed_may_be_sent_again_at_once(rig):
    again: list[Outcome] = []
    rig.pool.send(CallbackExchange(b"a", lambda _: rig.pool.send(CallbackExchange(b"b", again.append, 30.0)), 30.0))
    rig.pool.fail_waiting()
    assert rig.opener.open().take() == b"b"
    assert again == []


def test_fail_waiting_retries_returns_only_unsent_requests_that_are_retried(rig):
    for name, retried in (("a", True), ("b", True), ("c", False), ("d", True)):
        rig.send(name, retried=retried)
    transport = rig.opener.open()
    rig.pool.fail_waiting_retries()
    assert [rig.outcome(name) for name in "abcd"] == [None, Failure.POOL_TIMEOUT, None, Failure.POOL_TIMEOUT]
    assert repr(rig.pool) == "<Pool idle=0 busy=1 opening=1 waiting=1>"
    transport.protocol.data_received(OK)
    assert transport.take() == b"ac"


def test_fail_waiting_retries_does_not_return_a_request_sent_on_a_stale_connection(rig):
    (stale,) = served(rig)
    rig.send("a", retried=True)
    stale.lose()
    rig.pool.fail_waiting_retries()
    assert rig.outcome("a") is None
    rig.opener.open().protocol.data_received(OK)
    assert rig.outcome("a") == 200


def test_a_returned_request_may_be_sent_again_at_once(rig):
    again: list[Outcome] = []
    rig.pool.send(
        CallbackExchange(b"a", lambda _: rig.pool.send(CallbackExchange(b"b", again.append, 30.0)), 30.0, retried=True)
    )
    rig.pool.fail_waiting_retries()
    assert rig.opener.open().take() == b"b"
    assert again == []


class PoolMachine(RuleBasedStateMachine):
    """Exchanges with a backend that answers, fails, hangs and cannot be reached, in any order."""

    @initialize(limit=st.integers(1, 3))
    def start(self, limit):
        self.limit = limit
        self.rig = Rig(connections=limit)
        self.opener = self.rig.opener
        self.sending = False
        self.count = 0
        self.answers = {}
        self.served = set()

    def send(self, follow_up=0):
        name = f"<{self.count}>"
        self.count += 1
        self.answers[name] = []

        def answered(outcome):
            assert not self.sending, "answered before send returned"
            self.answers[name].append(outcome)
            if follow_up:
                self.send(follow_up - 1)

        before, self.sending = self.sending, True
        self.rig.pool.send(CallbackExchange(name.encode(), answered, 30.0, retried=self.count % 3 > 0))
        self.sending = before

    def alive(self):
        return [transport for transport in self.opener.transports if not transport.closed]

    def busy(self):
        return [transport for transport in self.alive() if transport.protocol.exchange is not None]

    @rule(follow_up=st.integers(0, 2))
    def somebody_sends(self, follow_up):
        self.send(follow_up)

    @precondition(lambda self: self.opener.pending)
    @rule()
    def a_connection_opens(self):
        self.opener.open()

    @precondition(lambda self: self.opener.pending)
    @rule()
    def a_connection_cannot_be_opened(self):
        self.opener.fail()

    @precondition(lambda self: self.busy())
    @rule(data=st.data(), response=st.sampled_from([OK, OK, OK, CLOSING, OK + OK, b"garble", OK[:9]]))
    def the_backend_answers(self, data, response):
        transport = data.draw(st.sampled_from(self.busy()))
        self.served.add(transport)
        transport.protocol.data_received(response)

    @precondition(lambda self: self.alive())
    @rule(data=st.data())
    def a_connection_dies(self, data):
        data.draw(st.sampled_from(self.alive())).lose()

    @precondition(lambda self: bool(set(self.alive()) - set(self.busy())))
    @rule(data=st.data())
    def the_backend_says_what_nobody_asked_for(self, data):
        idle = [transport for transport in self.alive() if transport.protocol.exchange is None]
        transport = data.draw(st.sampled_from(idle))
        transport.protocol.data_received(OK)
        assert transport.aborted

    @rule()
    def those_that_wait_are_turned_away(self):
        self.rig.pool.fail_waiting()

    @rule()
    def those_that_are_retried_are_returned(self):
        waiting = [*self.rig.pool._waiting]
        self.rig.pool.fail_waiting_retries()
        left = set(map(id, self.rig.pool._waiting))
        assert all((id(exchange) in left) is not exchange.retried for exchange in waiting)

    @rule(seconds=st.sampled_from([1.0, 5.0, 10.0, 30.0, 60.0]))
    def time_passes(self, seconds):
        self.rig.sweep(seconds)

    @rule()
    def the_loop_reports_ended_connections(self):
        for transport in [each for each in self.opener.transports if each.aborted]:
            self.opener.transports.remove(transport)
            transport.lose()

    @invariant()
    def connections_stay_within_the_limit(self):
        assert len(self.alive()) + len(self.opener.pending) <= self.limit

    @invariant()
    def each_exchange_is_answered_at_most_once(self):
        assert all(len(outcomes) <= 1 for outcomes in self.answers.values())

    @invariant()
    def each_exchange_is_in_one_place(self):
        pool = self.rig.pool
        on_connections = [transport.protocol.exchange for transport in self.busy()]
        held = [*on_connections, *pool._waiting, *pool._fresh]
        open_ones = {name.encode() for name, outcomes in self.answers.items() if not outcomes}
        assert len(held) == len(open_ones)
        assert {exchange.request for exchange in held} == open_ones
        busy = len(on_connections)
        idle = len(self.alive()) - busy
        waiting = len(held) - busy
        assert repr(pool) == f"<Pool idle={idle} busy={busy} opening={len(self.opener.pending)} waiting={waiting}>"

    @invariant()
    def a_request_is_written_at_most_twice(self):
        written = b"".join(b"".join(transport.writes) for transport in self.opener.transports)
        assert all(written.count(name.encode()) <= 2 for name in self.answers)

    @invariant()
    def nobody_waits_while_a_connection_is_idle(self):
        if len(self.alive()) > len(self.busy()):
            assert not self.rig.pool._waiting

    def teardown(self):
        if not hasattr(self, "rig"):
            return
        while self.opener.pending or self.busy():
            if self.opener.pending:
                self.opener.open()
            for transport in self.busy():
                transport.protocol.data_received(b"garble" if transport.protocol._has_received else OK)
        assert all(len(outcomes) == 1 for outcomes in self.answers.values())
        assert repr(self.rig.pool).endswith("busy=0 opening=0 waiting=0>")


PoolMachine.TestCase.settings = settings(deadline=None, max_examples=150, stateful_step_count=40)
TestPoolMachine = PoolMachine.TestCase


# The log.


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (OSError("connection refused (127.0.0.1:8000)"), "start it, or correct API_URI"),
        (socket.gaierror("name does not resolve: backend"), "correct the host in API_URI, or its DNS entry"),
        (FileNotFoundError("no such file or directory (unix:/run/app.sock)"), "start it, or correct API_URI"),
        (
            PermissionError("permission denied (unix:/run/app.sock)"),
            (
                "the gateway needs permission to write to the Unix socket in API_URI and to enter its folders; over "
                "TCP, a firewall forbids it"
            ),
        ),
        (
            ssl.SSLCertVerificationError(1, "self-signed certificate"),
            "its certificate has to be valid for the host in API_URI, and signed by an authority in API_TLS_CA",
        ),
        (
            ssl.SSLError(1, "wrong version number"),
            "API_URI starts with https://: it has to lead to a server that speaks TLS",
        ),
    ],
)
def test_a_failed_connect_is_logged_with_its_cause(rig, caplog, error, advice):
    rig.send("a")
    _, failed = rig.opener.pending.pop()
    failed(error)
    assert caplog.messages == [f"cannot connect to the backend: {error}; {advice}"]


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"SSH-2.0-OpenSSH\r\n", "its first line is not an HTTP/1 status line, in 'SSH-2.0-OpenSSH'"),
        (
            b"\x15\x03\x01\x00\x02\x02F",
            "its first line is not an HTTP/1 status line, in '\\x15\\x03\\x01\\x00\\x02\\x02F'",
        ),
        (b"\xff" * 1000, "its first line is not an HTTP/1 status line, in '" + "\xff" * 80 + "'"),
    ],
    ids=["ssh", "tls", "long"],
)
def test_a_response_that_is_not_http_is_logged_with_its_first_bytes(rig, caplog, data, found):
    rig.send("PUT /hook?key=secret HTTP/1.1\r\n")
    rig.opener.open().protocol.data_received(data)
    assert caplog.messages == [
        (
            f"PUT /hook: the backend did not answer in valid HTTP: {found}; the request is sent again; "
            "API_URI has to lead to an HTTP server, and to start with https:// if that speaks TLS"
        )
    ]


def test_an_error_behind_the_first_line_is_not_taken_for_another_protocol(rig, caplog):
    rig.send("PUT /hook HTTP/1.1\r\n")
    protocol = rig.opener.open().protocol
    protocol.data_received(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    protocol.data_received(b"no size\r\n")
    assert caplog.messages == [
        (
            "PUT /hook: the backend did not answer in valid HTTP: a chunk does not begin with its size, "
            "in 'no size'; the request is sent again; fix the backend, or the proxy in front of it"
        )
    ]


def test_a_request_that_is_not_retried_is_not_said_to_be_sent_again(rig, caplog):
    rig.send("PUT /b HTTP/1.1\r\n", retried=False)
    rig.opener.open().protocol.connection_lost(None)
    assert caplog.messages == [
        (
            "PUT /b: the backend closed the connection without a complete answer; it is not sent again, "
            "as API_RETRY is 0; the backend's log may say why; if it speaks TLS, API_URI has to start with https://"
        )
    ]


def test_a_request_without_an_answer_is_logged_with_what_follows(rig, caplog):
    rig.send("POST /a HTTP/1.1\r\n", retried=False)
    rig.send("PUT /b HTTP/1.1\r\n")
    first, second = rig.opener.open(), rig.opener.open()
    first.protocol.connection_lost(None)
    second.protocol.connection_lost(ConnectionResetError("Connection lost"))
    rig.send("DELETE /c HTTP/1.1\r\n")
    rig.opener.open()
    rig.sweep(10.0)
    assert caplog.messages == [
        (
            "POST /a: the backend closed the connection without a complete answer; a client was refused; "
            "the backend's log may say why; if it speaks TLS, API_URI has to start with https://"
        ),
        (
            "PUT /b: the backend closed the connection without a complete answer (Connection lost); "
            "the request is sent again; the backend's log may say why"
        ),
        (
            "DELETE /c: the backend did not answer in time (10 s); the request is sent again; "
            "answer sooner, or raise API_TIMEOUT"
        ),
    ]


def test_a_request_that_found_no_connection_is_logged(rig, caplog):
    for name in ("a", "b"):
        rig.send(name, wait_timeout=30.0)
    rig.opener.open()
    rig.opener.open()
    rig.send("PUT /c HTTP/1.1\r\n", wait_timeout=5.0)
    rig.sweep(5.0)
    assert caplog.messages == [
        (
            "PUT /c: the backend had no connection free in time; the request is sent again; "
            "answer sooner, or raise API_CONNECTIONS"
        )
    ]


def test_a_stale_connection_is_not_logged(rig, caplog):
    (transport,) = served(rig)
    rig.send("a")
    transport.protocol.connection_lost(None)
    assert caplog.messages == []


def test_requests_cut_off_by_a_stop_are_not_logged_as_failures_of_the_backend(rig, caplog):
    rig.send("a")
    rig.opener.open()
    rig.pool.close()
    assert rig.outcome("a") is Failure.TIMED_OUT
    assert caplog.messages == []
