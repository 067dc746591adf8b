import time
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.strategies import examples
from wsaas.clock import Clock, rfc3339


class Loop:
    def time(self):
        return 12.5

    def call_later(self, delay, callback, *args):
        return (delay, callback, args)


def test_a_clock_returns_the_time_of_its_loop():
    loop = Loop()
    clock = Clock(loop)
    assert clock.now() == 12.5
    timer: object = clock.call_later(3, print, "a", "b")
    assert timer == (3, print, ("a", "b"))


def test_wall_returns_the_time_of_day():
    clock = Clock(Loop())
    before = time.time()
    assert before <= clock.wall() <= time.time()


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (0.5, "1970-01-01T00:00:00.500Z"),
        (1769860800.123, "2026-01-31T12:00:00.123Z"),
        (1769860800.0625, "2026-01-31T12:00:00.062Z"),
        (1769860801, "2026-01-31T12:00:01.000Z"),
        (951782400, "2000-02-29T00:00:00.000Z"),
        (253402300799.875, "9999-12-31T23:59:59.875Z"),
    ],
)
def test_a_time_is_written_in_utc_with_milliseconds(at, text):
    assert rfc3339(at) == text
    assert rfc3339(at) == text


def test_another_second_is_formatted_anew():
    assert [rfc3339(at) for at in (10, 10.25, 11, 10)] == [
        "1970-01-01T00:00:10.000Z",
        "1970-01-01T00:00:10.250Z",
        "1970-01-01T00:00:11.000Z",
        "1970-01-01T00:00:10.000Z",
    ]


@examples(200)
@given(st.floats(0, 253402300799))
def test_a_formatted_time_is_exact_to_the_millisecond(at):
    text = rfc3339(at)
    assert len(text) == len("1970-01-01T00:00:00.000Z")
    read = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
    behind = at - (read - datetime(1970, 1, 1, tzinfo=timezone.utc)) / timedelta(seconds=1)
    assert -0.0001 < behind < 0.0011
