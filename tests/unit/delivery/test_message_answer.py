"""Tests of what the backend asks for in its answer to a message."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.strategies import examples
from wsaas.delivery.message_answer import MAX_CONTEXT, InvalidAnswer, read_actions
from wsaas.delivery.verdicts import Actions
from wsaas.events import Message
from wsaas.grammar import GROUP_NAME_FORM, is_group_name
from wsaas.http.headers import ACTION_HEADERS
from wsaas.http.response import Response
from wsaas.websocket.frames import MAX_REASON, Close


def answer(body=b"", **headers):
    response = Response(200, {name.replace("_", "-").encode(): value for name, value in headers.items()})
    response.body = body
    return response


def refusal(**headers):
    """Return the complaint about an answer."""
    with pytest.raises(InvalidAnswer) as refused:
        read_actions(answer(b"x", **headers))
    return str(refused.value)


def test_an_answer_may_ask_for_everything_at_once():
    response = answer(
        b"hi", ws_join=b"a, b", ws_leave=b"c", ws_reply=b"text", ws_context=b"user 7", ws_close=b"4000 good bye"
    )
    expected = Actions(("a", "b"), ("c",), Message(True, b"hi"), "user 7", Close(4000, "good bye"))
    assert read_actions(response) == expected


def test_an_answer_without_these_headers_asks_for_nothing():
    assert read_actions(answer(content_type=b"text/plain")) == Actions()


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (b"", ()),
        (b"lobby", ("lobby",)),
        (b"a,b", ("a", "b")),
        (b" a ,\tb\t, ", ("a", "b")),
        (b", ,a,,", ("a",)),
        (b"a, a", ("a", "a")),
        (b"user:7@x!, room-1_2.~", ("user:7@x!", "room-1_2.~")),
        (b"x" * 128, ("x" * 128,)),
    ],
)
def test_groups_are_listed_with_commas(value, names):
    assert read_actions(answer(ws_join=value)).join == names
    assert read_actions(answer(ws_leave=value)).leave == names


@pytest.mark.parametrize("name", [b"a b", b"a/b", b"\xe9", b"a;b", b'"a"', b"x" * 129, b"*"])
def test_other_names_are_no_groups(name):
    shown = name[:40].decode("latin-1")
    assert refusal(ws_join=b"a, " + name) == (f"the backend's Ws-Join names {shown!r}, but a name is {GROUP_NAME_FORM}")
    assert refusal(ws_leave=name).startswith("the backend's Ws-Leave names")


@pytest.mark.parametrize("context", [b"x", b"user 7", b"~", b"x" * MAX_CONTEXT, b""])
def test_a_context_is_printable_ascii(context):
    assert read_actions(answer(ws_context=context)).context == context.decode()


@pytest.mark.parametrize("context", [b"x" * (MAX_CONTEXT + 1), b"\xe9", b"a\tb", b"\x7f", b" a"])
def test_other_contexts_are_refused(context):
    assert refusal(ws_context=context) == "the backend's Ws-Context is not at most 4096 printable ASCII characters"


@pytest.mark.parametrize(
    ("value", "close"),
    [
        (b"1000", Close(1000, "")),
        (b"3000", Close(3000, "")),
        (b"4999", Close(4999, "")),
        (b"4000 bye", Close(4000, "bye")),
        (b"4000   bye  now", Close(4000, "bye  now")),
        ("4000 grüße".encode(), Close(4000, "grüße")),
        (b"4000 " + b"x" * MAX_REASON, Close(4000, "x" * MAX_REASON)),
    ],
)
def test_a_close_has_a_code_and_perhaps_a_reason(value, close):
    assert read_actions(answer(ws_close=value)).close == close


@pytest.mark.parametrize(
    "value", [b"", b"999", b"1001", b"1005", b"1006", b"2999", b"5000", b"40000", b"4000bye", b"bye", b"4000, 4001"]
)
def test_another_code_is_not_sent(value):
    shown = repr(value.decode())
    assert refusal(ws_close=value) == (
        f"the backend's Ws-Close is {shown}, not a code (1000 or 3000 to 4999) and a reason"
    )


@pytest.mark.parametrize("reason", [b"x" * (MAX_REASON + 1), b"\xff", "€".encode() * 42])
def test_a_reason_that_does_not_fit_in_a_close_is_refused(reason):
    assert refusal(ws_close=b"4000 " + reason) == (
        "the backend's Ws-Close has a reason that is not UTF-8 of at most 123 bytes"
    )


HEADERS = st.dictionaries(
    st.sampled_from([*sorted(ACTION_HEADERS), b"content-encoding"]),
    st.binary(max_size=20)
    | st.sampled_from([b"text", b"binary", b"a, b", b"4000 bye", b"1000", b"ctx", b"gzip", b"identity", b""]),
)


@examples(500)
@given(headers=HEADERS, body=st.binary(max_size=10), is_too_large=st.booleans())
def test_any_answer_is_understood_or_refused(headers, body, is_too_large):
    response = Response(200, headers)
    response.body = body
    response.is_too_large = is_too_large
    try:
        actions = read_actions(response)
    except InvalidAnswer as error:
        complaint = str(error)
    else:
        complaint = ""
    if complaint:
        assert complaint.startswith("the backend's ")
        return
    assert all(map(is_group_name, actions.join + actions.leave))
    assert (actions.reply is None) is (b"ws-reply" not in headers)
    assert (actions.context is None) is (b"ws-context" not in headers)
    assert (actions.close is None) is (b"ws-close" not in headers)
    assert actions.reply is None or not actions.reply.text or actions.reply.data.decode() is not None
    assert actions.close is None or len(actions.close.reason.encode()) <= MAX_REASON
