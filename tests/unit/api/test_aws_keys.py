"""Which signatures are accepted: by a known key, for this service, now, and for exactly this request."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.aws import KEY, SECRET, sign
from tests.support.fakes import read_all
from tests.support.strategies import examples
from wsaas.api.aws_keys import MAX_SKEW_S, AwsKeys
from wsaas.api.sigv4 import DATE_HEADER, read_time
from wsaas.errors import Forbidden
from wsaas.http.request import RequestParser

TARGET = "/prod/@connections/" + "a" * 30
BODY = b"hello"
OTHER_KEY = "other:secret/with:+="


def parse(headers, *, method="POST", target=TARGET, body=BODY, host="localhost"):
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    (request,) = read_all(RequestParser(1000), "\r\n".join([*lines, "", ""]).encode() + body)
    return request


def signed(**options):
    """Return a signed request, and keys that accept it at the time of its signature."""
    request = parse(sign("POST", TARGET, BODY, **options))
    at = read_time(request.headers[DATE_HEADER])
    assert at is not None
    return request, at


def keys_at(at, *keys):
    return AwsKeys([key.encode() for key in keys or (KEY, OTHER_KEY)], lambda: at)


def judgement(judge, request):
    """Return why `judge` refuses `request`, None if it does not."""
    try:
        judge(request)
    except Forbidden as refused:
        return refused.message
    return None


def refusal(keys, request):
    """Return why `request` is refused, and whether by its head."""
    by_head, complete = judgement(keys.check, request), judgement(keys.verify, request)
    assert complete
    assert by_head in (None, complete)
    return complete, by_head is not None


@pytest.mark.parametrize("key", [KEY, OTHER_KEY])
@pytest.mark.parametrize("token", [None, "FwoGZXIvYXdzE+/="])
def test_a_signature_by_one_of_the_keys_is_accepted_in_any_region(key, token):
    request, at = signed(key=key, token=token)
    keys = keys_at(at)
    keys.check(request)
    keys.verify(request)
    assert len(keys) == 2


def test_keys_that_are_replaced_are_not_accepted():
    request, at = signed()
    keys = keys_at(at, OTHER_KEY)
    assert "not in CONTROL_AWS_KEYS" in refusal(keys, request)[0]
    keys.replace([KEY.encode()])
    keys.verify(request)
    keys.replace([OTHER_KEY.encode()])
    assert "not in CONTROL_AWS_KEYS" in refusal(keys, request)[0]


def test_a_signature_by_another_secret_is_refused_once_the_body_is_there():
    request, at = signed()
    why, by_head = refusal(keys_at(at, f"{KEY}x"), request)
    assert "does not match" in why
    assert not by_head


@pytest.mark.parametrize("skew", [-MAX_SKEW_S, MAX_SKEW_S])
def test_clocks_may_differ_by_five_minutes(skew):
    request, at = signed()
    keys_at(at + skew).verify(request)
    beyond = skew * 1.01
    side = "before" if skew > 0 else "after"
    assert f"its time is 303 s {side} that of this gateway" in refusal(keys_at(at + beyond), request)[0]


def test_a_signature_for_another_service_is_refused_by_the_head():
    request, at = signed(service="lambda")
    assert refusal(keys_at(at), request) == ("The signature is not for the service execute-api.", True)


CHANGED_HEADS = [
    ("X-Amz-Date", None, "X-Amz-Date is missing"),
    ("X-Amz-Date", "20010101T000000", "X-Amz-Date is missing or malformed"),
    ("X-Amz-Date", "20010101T000000Z", "its day is not that of the signature"),
    ("Authorization", "AWS4-HMAC-SHA256 nonsense", "not a well-formed"),
]


@pytest.mark.parametrize(("name", "value", "why"), CHANGED_HEADS)
def test_a_head_that_cannot_be_right_is_refused_before_the_body(name, value, why):
    headers = sign("POST", TARGET, BODY)
    at = read_time(headers["X-Amz-Date"].encode())
    headers.pop(name)
    if value is not None:
        headers[name] = value
    said, by_head = refusal(keys_at(at), parse(headers))
    assert by_head
    assert why in said


@pytest.mark.parametrize("names", ["x-amz-date", "host;x-amz-date;x-missing"])
def test_the_host_and_all_named_headers_have_to_be_there_and_signed(names):
    headers = sign("POST", TARGET, BODY)
    at = read_time(headers["X-Amz-Date"].encode())
    right = headers["Authorization"]
    headers["Authorization"] = right.replace("SignedHeaders=host;x-amz-date", f"SignedHeaders={names}")
    assert "does not cover the Host" in refusal(keys_at(at), parse(headers))[0]


CHANGES = [
    {"method": "DELETE"},
    {"target": TARGET + "?a=b"},
    {"target": TARGET.replace("prod", "Prod")},
    {"target": TARGET[:-1] + "b"},
    {"body": b"hellO"},
    {"body": b""},
    {"host": "localhost:80"},
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_signature_is_for_one_request_only(change):
    headers = sign("POST", TARGET, BODY)
    at = read_time(headers["X-Amz-Date"].encode())
    keys_at(at).verify(parse(headers))
    why, by_head = refusal(keys_at(at), parse(headers, **change))
    assert "does not match" in why
    assert not by_head


def test_a_signed_header_cannot_be_changed_and_any_other_can():
    headers = sign("POST", TARGET, BODY, headers={"Content-Type": "text/plain"})
    at = read_time(headers["X-Amz-Date"].encode())
    keys_at(at).verify(parse({**headers, "X-Forwarded-For": "192.0.2.7"}))
    assert "does not match" in refusal(keys_at(at), parse({**headers, "Content-Type": "text/html"}))[0]


def test_a_hash_of_the_body_that_is_not_its_own_is_refused():
    headers = sign("POST", TARGET, BODY, headers={"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"})
    at = read_time(headers["X-Amz-Date"].encode())
    assert "does not match" in refusal(keys_at(at), parse(headers))[0]


@given(st.data())
@examples(100)
def test_no_other_signature_is_accepted(data):
    headers = sign("POST", TARGET, BODY)
    at = read_time(headers["X-Amz-Date"].encode())
    before, _, value = headers["Authorization"].rpartition("Signature=")
    place = data.draw(st.integers(0, len(value) - 1))
    digit = data.draw(st.sampled_from(sorted(set("0123456789abcdef") - {value[place]})))
    headers["Authorization"] = f"{before}Signature={value[:place]}{digit}{value[place + 1 :]}"
    assert not refusal(keys_at(at), parse(headers))[1]


@given(
    st.dictionaries(
        st.sampled_from([b"x-amz-date", b"authorization"]), st.text(st.characters(codec="latin-1")).map(str.encode)
    )
)
@examples(200)
def test_whatever_is_sent_is_accepted_or_forbidden(changes):
    headers = sign("POST", TARGET, BODY)
    at = read_time(headers["X-Amz-Date"].encode())
    request = parse(headers)
    request.headers = {**request.headers, **changes}
    keys = keys_at(at)
    for judge in (keys.check, keys.verify):
        why = judgement(judge, request)
        assert bool(why) == bool(changes)
        assert SECRET not in (why or "")
