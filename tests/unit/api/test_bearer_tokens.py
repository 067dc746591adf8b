import pytest

from wsaas.api.bearer_tokens import BearerTokens


@pytest.mark.parametrize(
    ("header", "good"),
    [
        (b"Bearer one", True),
        (b"bearer two", True),
        (b"BEARER   two  ", True),
        (b"Bearer three", False),
        (b"Bearer", False),
        (b"Bearer ", False),
        (b"Basic one", False),
        (b"one", False),
        (b"Bearer one,two", False),
        (b"", False),
        (None, False),
    ],
)
def test_a_header_carries_one_of_the_tokens_or_none(header, good):
    assert BearerTokens([b"one", b"two"]).accept(header) is good


def test_tokens_that_are_replaced_are_not_accepted():
    tokens = BearerTokens([b"one", b"two"])
    tokens.replace([b"two", b"three"])
    assert [tokens.accept(b"Bearer " + each) for each in (b"one", b"two", b"three")] == [False, True, True]
