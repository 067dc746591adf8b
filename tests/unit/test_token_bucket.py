from hypothesis import given
from hypothesis import strategies as st

from tests.support.strategies import examples
from wsaas.token_bucket import UNLIMITED, TokenBucket


def test_a_bucket_allows_a_burst_of_one_second_and_then_its_rate():
    bucket = TokenBucket(4, 10.0)
    assert [bucket.take(10.0) for _ in range(4)] == [0, 0, 0, 0.25]
    assert bucket.take(10.25) == 0.25
    assert bucket.take(10.75) == 0
    assert bucket.take(10.75) == 0.25


def test_a_bucket_has_at_most_one_second_of_tokens():
    bucket = TokenBucket(2, 0.0)
    assert [bucket.take(1000.0) for _ in range(3)] == [0, 0.5, 1.0]


@examples(200)
@given(st.integers(1, 50), st.lists(st.floats(0, 3), min_size=1, max_size=100))
def test_waiting_as_long_as_take_returns_keeps_to_the_rate(rate, pauses):
    bucket, now, done = TokenBucket(rate, 0.0), 0.0, []
    for pause in pauses:
        now += pause
        done.append(now)
        now += bucket.take(now)
    for index, start in enumerate(done):
        within = [at for at in done[index:] if at < start + 1]
        assert len(within) <= 2 * rate


def test_a_rate_of_0_allows_everything_at_once():
    assert {UNLIMITED.take(0.0) for _ in range(1000)} == {0}
