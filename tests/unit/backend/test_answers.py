import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.strategies import examples
from wsaas.backend import answers
from wsaas.backend.answers import Answer, InvalidAnswer, accept, bad_request, ok, reject, retry_later
from wsaas.delivery import message_answer
from wsaas.delivery.connect_answer import judge_opened
from wsaas.delivery.message_answer import read_actions
from wsaas.delivery.verdicts import Accepted, Actions, Rejected
from wsaas.errors import RefusedWithClose
from wsaas.events import Message
from wsaas.grammar import MAX_GROUP_NAME, is_group_name
from wsaas.http.response import Response, ResponseParser
from wsaas.websocket.frames import MAX_REASON, Close


def response(answer: Answer) -> Response:
    """Return what the gateway reads when a framework sends `answer`."""
    headers = {**answer.headers, "Content-Length": str(len(answer.body))}
    lines = [f"HTTP/1.1 {answer.status} Whatever", *(f"{name}: {value}" for name, value in headers.items())]
    found = ResponseParser(1 << 20).feed("\r\n".join([*lines, "", ""]).encode("latin-1") + answer.body)
    assert found is not None
    return found


def actions(*reply, **options):
    """Return what the gateway does for an answer to a message."""
    return read_actions(response(ok(*reply, **options)))


def test_a_client_is_accepted_with_all_that_the_contract_allows():
    assert judge_opened(response(accept())) == Accepted(None, None)
    answer = accept(subprotocol="v1", context="user 7", groups=["lobby", "b"])
    assert judge_opened(response(answer)) == Accepted("v1", "user 7", ("lobby", "b"))


def test_a_client_is_refused_with_403_by_default():
    for answer in (reject(), reject("NO_SUCH_ROOM")):
        verdict = judge_opened(response(answer))
        assert isinstance(verdict, Rejected)
        assert (verdict.error.status, verdict.disconnect_owed) == (403, False)


@pytest.mark.parametrize("status", [401, 403, 404, 429, 503])
def test_a_client_can_be_refused_with_a_status_and_its_headers(status):
    headers = [("WWW-Authenticate", "Bearer"), ("Retry-After", "7")]
    verdict = judge_opened(response(reject("NO", status=status, headers=headers)))
    assert isinstance(verdict, Rejected)
    assert (verdict.error.status, verdict.disconnect_owed) == (status, False)
    assert sorted(verdict.error.headers) == sorted([("Www-Authenticate", "Bearer"), ("Retry-After", "7")])


@pytest.mark.parametrize("code", ["OK", ""])
def test_a_refusal_cannot_accept_by_mistake(code):
    with pytest.raises(InvalidAnswer, match='expected anything but "OK"'):
        reject(code)


@pytest.mark.parametrize(
    ("close", "read"), [(4401, (4401, "")), ((3000, "x" * 123), (3000, "x" * 123)), ((4999, "é"), (4999, "é"))]
)
def test_a_client_can_be_refused_with_a_close(close, read):
    verdict = judge_opened(response(reject("EXPIRED", close=close)))
    assert isinstance(verdict, Rejected)
    assert isinstance(verdict.error, RefusedWithClose)
    assert (verdict.error.close_code, verdict.error.close_reason) == read
    assert (verdict.error.status, verdict.disconnect_owed, verdict.unusable) == (403, False, "")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"close": 1000}, "the close code is 1000: expected 3000 to 4999"),
        ({"close": (5000, "")}, "the close code is 5000"),
        ({"close": (4000, "é" * 62)}, "the reason has 124 bytes"),
        ({"close": 4000, "status": 401}, "the status is 401: expected 200"),
    ],
)
def test_a_close_that_the_gateway_would_not_send_refuses_no_client(options, said):
    with pytest.raises(InvalidAnswer, match=said):
        reject(**options)


def test_a_status_that_the_gateway_would_not_pass_on_is_refused():
    with pytest.raises(InvalidAnswer, match="the status is 400: expected one of 200, 401, 403, 404, 429, 503"):
        reject("NO", status=400)


@pytest.mark.parametrize(
    ("name", "value"),
    [("Retry-After", "1\r\nSet-Cookie: x"), ("Retry-After", "\x00"), ("A\r\nB", "1"), ("", "1"), ("A", "\u0100")],
)
def test_a_header_of_a_refusal_cannot_be_more_than_a_header(name, value):
    with pytest.raises(InvalidAnswer, match="expected a name, and Latin-1 in one line"):
        reject("NO", status=401, headers=[(name, value)])


def test_a_request_that_cannot_be_read_is_no_message_and_no_client():
    answer = bad_request("ce-id is missing")
    assert (answer.status, json.loads(answer.body)) == (400, {"code": "BAD_REQUEST", "message": "ce-id is missing"})
    verdict = judge_opened(response(answer))
    assert isinstance(verdict, Rejected)
    assert verdict.error.status == 502


@pytest.mark.parametrize("subprotocol", ["", "a b", "a,b", "é"])
def test_a_subprotocol_is_a_token(subprotocol):
    with pytest.raises(InvalidAnswer, match="expected one that the client offers"):
        accept(subprotocol=subprotocol)


def test_a_message_is_acknowledged_and_nothing_else_by_default():
    assert ok() == Answer(b'{"code": "OK"}', 200, {"Content-Type": "application/json"})
    assert actions() == Actions()


def test_a_message_can_be_answered_with_everything_at_once():
    found = actions("Grüße", join=["a", "b"], leave=["c"], context="user 8", close=(4000, "tschüß"))
    expected = Message(True, "Grüße".encode())
    assert found == Actions(("a", "b"), ("c",), expected, "user 8", Close(4000, "tschüß"))


def test_a_reply_is_text_or_binary():
    assert actions(b"\xff").reply == Message(False, b"\xff")
    assert actions("").reply == Message(True, b"")
    assert actions(b"").reply == Message(False, b"")


def test_a_binary_reply_may_be_in_any_buffer():
    for reply in (bytearray(b"\xff"), memoryview(b"\xff")):
        assert actions(reply).reply == Message(False, b"\xff")
        assert isinstance(ok(reply).body, bytes)


@pytest.mark.parametrize("reply", [3, {"a": 1}, ["a"], object()])
def test_anything_else_is_no_reply(reply):
    with pytest.raises(TypeError, match=r"the message is of type \w+: expected str or bytes"):
        ok(reply)


def test_an_empty_context_removes_it():
    assert actions(context="").context == ""


def test_a_close_needs_no_reason():
    assert actions(close=1000).close == Close(1000, "")
    assert ok(close=4000).headers["Ws-Close"] == "4000"


@pytest.mark.parametrize("code", [0, 999, 1001, 1006, 2999, 5000])
def test_a_close_code_is_one_that_an_application_may_send(code):
    with pytest.raises(InvalidAnswer, match=f"the close code is {code}: expected 1000, or 3000 to 4999"):
        ok(close=code)


@pytest.mark.parametrize("reason", ["a\r\nSet-Cookie: x", "\x00", " a", "a ", "a\x7f"])
def test_a_reason_in_a_header_cannot_be_more_than_a_reason(reason):
    with pytest.raises(InvalidAnswer, match="a header has no control characters"):
        ok(close=(4000, reason))


def test_a_reason_is_as_long_as_a_close_frame_allows():
    assert actions(close=(4000, "é" * 61)).close == Close(4000, "é" * 61)
    with pytest.raises(InvalidAnswer, match="the reason has 124 bytes in UTF-8: expected at most 123"):
        ok(close=(4000, "é" * 62))


def test_text_that_cannot_be_encoded_is_refused():
    with pytest.raises(InvalidAnswer, match="cannot be encoded in UTF-8: surrogates not allowed at 1"):
        ok("a\ud800")


@pytest.mark.parametrize("context", ["é", "a\nb", " a", "a ", "x" * 4097])
def test_a_context_is_printable_ascii(context):
    for answer in (lambda: accept(context=context), lambda: ok(context=context)):
        with pytest.raises(InvalidAnswer, match="expected at most 4096 printable ASCII characters"):
            answer()


@pytest.mark.parametrize("name", ["", "a b", "a,b", "a/b", "é", "x" * 129])
def test_a_group_has_a_valid_name(name):
    for answer in (lambda: accept(groups=[name]), lambda: ok(join=[name]), lambda: ok(leave=["a", name])):
        with pytest.raises(InvalidAnswer, match="expected 1 to 128 characters"):
            answer()


def test_groups_are_a_list_and_not_the_characters_of_a_name():
    with pytest.raises(InvalidAnswer, match="the groups are the string 'lobby': expected a list of names"):
        accept(groups="lobby")


def test_an_event_can_be_asked_for_again():
    assert retry_later(5).status == 503
    assert retry_later(5).headers["Retry-After"] == "5"


@pytest.mark.parametrize("seconds", [-1, 1.5, "x\r\n", "1", None])
def test_a_delay_is_a_whole_number_of_seconds(seconds):
    with pytest.raises(InvalidAnswer, match="expected a whole number that is not negative"):
        retry_later(seconds)


def test_the_limits_are_those_of_the_gateway():
    assert answers.MAX_CONTEXT == message_answer.MAX_CONTEXT
    assert answers.MAX_REASON == MAX_REASON
    assert answers.MAX_GROUP_NAME == MAX_GROUP_NAME


def is_valid(check, value):
    try:
        check(value)
    except InvalidAnswer:
        return False
    return True


visible = st.text(st.characters(min_codepoint=0, max_codepoint=255), max_size=12)
group_names = st.text(st.sampled_from("aZ09._~:@!-"), min_size=1, max_size=4)


@examples(500)
@given(st.one_of(visible, st.integers(4090, 4100).map("x".__mul__)))
def test_the_gateway_agrees_on_every_context(context):
    assert is_valid(answers.check_context, context) == message_answer.valid_context(context)


@examples(500)
@given(st.one_of(visible, group_names, st.integers(120, 130).map("x".__mul__)))
def test_the_gateway_agrees_on_every_name_of_a_group(name):
    assert is_valid(answers.check_group, name) == is_group_name(name)


@examples(500)
@given(
    st.one_of(st.none(), st.binary(max_size=20), st.text(st.characters(codec="utf-8"), max_size=20)),
    st.lists(group_names, max_size=3),
    st.lists(group_names, max_size=3),
    st.one_of(st.none(), visible),
    st.one_of(st.none(), st.tuples(st.integers(990, 5010), st.text(st.characters(codec="utf-8"), max_size=50))),
)
def test_the_gateway_does_what_an_answer_asks_for_or_it_is_refused_before(reply, join, leave, context, close):
    try:
        answer = ok(reply, join=join, leave=leave, context=context, close=close)
    except InvalidAnswer:
        return
    expected = (
        None if reply is None else Message(isinstance(reply, str), reply.encode() if isinstance(reply, str) else reply)
    )
    assert read_actions(response(answer)) == Actions(
        tuple(join), tuple(leave), expected, context, None if close is None else Close(*close)
    )
