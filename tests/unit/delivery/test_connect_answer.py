"""The backend's answer to a POST that refuses a client with a Close. Other answers are in the integration tests."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.strategies import examples
from wsaas.delivery.connect_answer import judge_opened
from wsaas.delivery.verdicts import Rejected
from wsaas.errors import RefusedWithClose
from wsaas.http.response import ResponseParser


def judge(body):
    content = orjson.dumps(body)
    found = ResponseParser(1 << 20).feed(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content))
    assert found is not None
    verdict = judge_opened(found)
    assert isinstance(verdict, Rejected)
    return verdict


@pytest.mark.parametrize(
    ("close", "read"),
    [
        ({"code": 4401, "reason": "token expired"}, (4401, "token expired")),
        ({"code": 3000}, (3000, "")),
        ({"code": 4999, "reason": None, "more": 1}, (4999, "")),
        ({"code": 4000, "reason": "x" * 123}, (4000, "x" * 123)),
        ({"code": 4000, "reason": "é" * 61}, (4000, "é" * 61)),
    ],
)
def test_a_refusal_may_have_a_close(close, read):
    error = judge({"code": "NO", "close": close, "subprotocol": "chat"}).error
    assert isinstance(error, RefusedWithClose)
    assert (error.close_code, error.close_reason, error.subprotocol) == (*read, "chat")
    assert (error.status, error.answer) == (403, f"the close {read[0]}")


@pytest.mark.parametrize(
    "close",
    [
        4401,
        "4401",
        [],
        {},
        True,
        {"code": True},
        {"code": "4401"},
        {"code": 4401.0},
        {"code": 2999},
        {"code": 5000},
        {"code": 1000},
        {"code": 4401, "reason": 7},
        {"code": 4401, "reason": "x" * 124},
        {"code": 4401, "reason": "é" * 62},
    ],
)
def test_an_unusable_close_is_502_and_says_what_is_expected(close):
    verdict = judge({"code": "NO", "close": close})
    assert (verdict.error.status, verdict.error.answer, verdict.disconnect_owed) == (502, "502", False)
    assert verdict.unusable == (
        'a close that is not such as {"code": 4401, "reason": "token expired"}: a code from 3000 to 4999, and a reason '
        "of at most 123 bytes of UTF-8"
    )


def test_an_unusable_subprotocol_of_a_refusal_with_a_close_is_502():
    verdict = judge({"code": "NO", "close": {"code": 4401}, "subprotocol": 7})
    assert (verdict.error.status, verdict.disconnect_owed) == (502, False)
    assert verdict.unusable == "a subprotocol that is not a string"


def test_a_close_that_is_null_is_none():
    assert judge({"code": "NO", "close": None, "subprotocol": 7}).error.answer == "403"


@pytest.mark.hypothesis
@given(
    close=st.one_of(
        st.integers(2900, 5100),
        st.dictionaries(
            st.sampled_from(["code", "reason", "x"]), st.one_of(st.integers(2990, 5010), st.text(), st.none())
        ),
    )
)
@examples(300)
def test_any_close_is_sent_as_it_is_or_refused(close):
    error = judge({"code": "NO", "close": close}).error
    if isinstance(error, RefusedWithClose):
        assert close["code"] == error.close_code in range(3000, 5000)
        assert (close.get("reason") or "") == error.close_reason
        assert len(error.close_reason.encode()) <= 123
    else:
        assert error.status == 502
