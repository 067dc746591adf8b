import time
from base64 import b64decode, b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from tests.support.backend_requests import SECRET, sent_request
from tests.support.strategies import examples
from wsaas.backend.signature import WebhookVerificationError, sign, verify
from wsaas.delivery.signature import Signer
from wsaas.events import Message

OTHER = "whsec_" + b64encode(bytes(range(32))).decode()
KEY = b64decode(SECRET.removeprefix("whsec_"))
NOW = 1_614_265_330.0
SIGNED = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
"""The example in the specification."""
BODY = b'{"test": 2432232314}'


def complaint(headers=SIGNED, body=BODY, secret=SECRET, **options):
    """Return why a request is refused."""
    with pytest.raises(WebhookVerificationError) as refused:
        verify(headers, body, secret, **{"now": NOW, **options})
    return str(refused.value)


def test_the_example_of_the_specification_is_verified():
    verify(SIGNED, BODY, SECRET, now=NOW)


def test_a_request_of_the_gateway_is_verified_over_its_raw_bytes():
    request = sent_request(Message(False, b"\xff\x00"), secret=f"{OTHER},{SECRET}")
    for secret in (SECRET, OTHER):
        verify(request.headers, request.body, secret, now=0)


@pytest.mark.parametrize(
    "secret",
    [SECRET, KEY, f"{OTHER},{SECRET}", f"{OTHER}, {SECRET}\n", [OTHER, SECRET], (KEY, OTHER), [f"{OTHER}\n{SECRET}"]],
    ids=["text", "bytes", "commas", "spaces", "list", "mixed", "lines"],
)
def test_each_of_several_secrets_is_tried(secret):
    verify(SIGNED, BODY, secret, now=NOW)


@pytest.mark.parametrize(
    "secret", ["", b"", [], "  ", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_", "whsec_!", [SECRET, ""][1:]]
)
def test_a_secret_that_is_none_is_an_error_of_the_program_and_not_of_the_request(secret):
    with pytest.raises(ValueError, match="secret"):
        verify(SIGNED, BODY, secret, now=NOW)


def test_an_error_about_a_secret_does_not_show_it():
    with pytest.raises(ValueError, match="must be whsec_") as refused:
        verify(SIGNED, BODY, "hunter2", now=NOW)
    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_only_one_of_several_signatures_has_to_match():
    others = f"v1a,AAAA v1,{'A' * 43}= v1,!!! v2 {SIGNED['webhook-signature']}"
    verify({**SIGNED, "webhook-signature": others}, BODY, SECRET, now=NOW)


@pytest.mark.parametrize("name", SIGNED)
def test_a_missing_header_is_named(name):
    headers = {key: value for key, value in SIGNED.items() if key != name}
    assert complaint(headers) == f"{name} is missing: the gateway signs requests only with API_SECRET"
    assert complaint({**headers, name: ""}).startswith(f"{name} is missing")


@pytest.mark.parametrize(
    ("changed", "value"), [("webhook-id", "msg_other"), ("webhook-timestamp", "1614265331"), ("webhook-id", "\ud800")]
)
def test_a_changed_header_does_not_match(changed, value):
    assert complaint({**SIGNED, changed: value}).startswith("webhook-signature does not match")


def test_a_changed_body_and_another_secret_do_not_match():
    assert complaint(body=BODY + b" ").startswith("webhook-signature does not match")
    assert complaint(secret=OTHER).startswith("webhook-signature does not match")


@pytest.mark.parametrize("signatures", ["v2,AAAA", "v1", "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", "v1,\xe9"])
def test_a_header_without_a_known_signature_is_refused(signatures):
    complained = complaint({**SIGNED, "webhook-signature": signatures})
    assert complained == "webhook-signature has no signature of the form v1,<base64>"


def test_a_repeated_header_is_refused():
    assert complaint([*SIGNED.items(), *SIGNED.items()])


@pytest.mark.parametrize("age", [-300.0, -299.9, 0.0, 299.9, 300.0])
def test_a_signature_of_the_last_five_minutes_is_accepted(age):
    verify(SIGNED, BODY, SECRET, now=NOW + age)


@pytest.mark.parametrize(
    ("age", "said"), [(300.5, "300 s ago: expected at most 300 s"), (-301.0, "301 s ahead: expected at most 300 s")]
)
def test_an_older_signature_may_be_a_replay(age, said):
    assert f"webhook-timestamp is {said}" in complaint(now=NOW + age)


def test_the_tolerance_can_be_chosen():
    verify(SIGNED, BODY, SECRET, now=NOW + 900, tolerance=900)
    assert complaint(now=NOW + 2, tolerance=1)


@pytest.mark.parametrize("timestamp", ["now", "1614265330.0", "-1", "1_614_265_330", "1614265330 ", "٣", "9" * 16])
def test_a_timestamp_is_a_number_of_seconds(timestamp):
    headers = {**SIGNED, "webhook-timestamp": timestamp}
    assert complaint(headers) == "webhook-timestamp is not a number of seconds since 1970"


def test_a_body_that_was_decoded_is_an_error_of_the_program():
    with pytest.raises(TypeError, match="raw bytes of the request, not str"):
        verify(SIGNED, BODY.decode(), SECRET, now=NOW)  # type: ignore[arg-type]  # this is the mistake


def test_a_test_of_a_backend_can_sign_as_the_gateway_does():
    signed = sign("c0ffee:1", b"\xff", f"{SECRET},{OTHER}", now=1.9)
    lines = Signer([KEY, bytes(range(32))]).lines(b"c0ffee:1", 1.9, b"\xff")
    assert "".join(f"{name}: {value}\r\n" for name, value in signed.items()).encode() == lines
    now = sign("c0ffee:1", b"\xff", SECRET)
    verify(now, b"\xff", SECRET)
    assert abs(int(now["webhook-timestamp"]) - time.time()) < 5


words = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8)
other_signatures = st.tuples(st.sampled_from(["v1", "v2", "v1a"]), st.binary(max_size=40)).map(
    lambda drawn: f"{drawn[0]},{b64encode(drawn[1]).decode()}"
)


@st.composite
def signed_requests(draw):
    """Draw headers, a body and a secret, by which they are signed or not, in time or not."""
    keys = draw(st.lists(st.binary(min_size=24, max_size=64), min_size=2, max_size=2, unique=True))
    body = draw(st.text(max_size=50))
    age = draw(st.sampled_from([0, 0, 0, 290, -290, 310, -310]))
    by = draw(st.sampled_from([keys[0], keys[0], keys[1]]))
    event_id = draw(words)
    headers = sign(event_id, body.encode(), by, now=time.time() - age)
    others = draw(st.lists(other_signatures, max_size=3))
    headers["webhook-signature"] = " ".join(draw(st.permutations([headers["webhook-signature"], *others])))
    spoilt = draw(st.sampled_from([*[None] * 4, *headers]))
    if spoilt is not None:
        value = draw(st.sampled_from(["", "0", "x", "v1,AAAA", *[str(int(time.time()) + more) for more in (0, 5)]]))
        headers[spoilt] = value
    cased = {draw(st.sampled_from([str.lower, str.title, str.upper]))(name): headers[name] for name in headers}
    return cased, body, keys[0]


def is_verified(function, *arguments, **options):
    try:
        function(*arguments, **options)
    except Exception:  # noqa: BLE001 - the library raises nearly anything
        return False
    return True


@examples(500)
@given(signed_requests())
def test_the_standard_webhooks_library_agrees_on_every_request(request_):
    headers, body, key = request_
    expected = is_verified(Webhook(key).verify, body, headers, json_parse=False)
    for secret in (key, "whsec_" + b64encode(key).decode()):
        assert is_verified(verify, headers, body.encode(), secret) == expected


@examples(200)
@given(st.binary(min_size=24, max_size=64), st.binary(max_size=200), st.integers(0, 2**40), words)
def test_whatever_the_gateway_signs_is_verified(key, body, at, event_id):
    lines = Signer([key]).lines(event_id.encode(), at, body).decode()
    headers = dict(line.split(": ") for line in lines.splitlines())
    verify(headers, body, key, now=at)
    with pytest.raises(WebhookVerificationError):
        verify(headers, body + b".", key, now=at)
