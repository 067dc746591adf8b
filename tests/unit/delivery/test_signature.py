import time
from base64 import b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from tests.support.strategies import examples
from wsaas.delivery.signature import Signer

OLD, NEW = bytes(range(24)), bytes(range(64))


def headers(lines: bytes) -> dict[str, str]:
    assert lines.endswith(b"\r\n")
    return dict(line.split(": ") for line in lines.decode().splitlines())


def test_a_signature_is_these_bytes():
    # The example in the specification.
    secret = b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    lines = Signer([secret]).lines(b"msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330.9, b'{"test": 2432232314}')
    assert headers(lines) == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@examples(100)
@given(st.binary(min_size=24, max_size=64), st.text(max_size=200), st.integers(0, 2**53))
def test_the_standard_webhooks_library_verifies_the_signature(secret, body, number):
    lines = Signer([secret]).lines(b"c0ffee.%d" % number, time.time(), body.encode())
    assert Webhook(secret).verify(body.encode(), headers(lines), json_parse=False) is None


@pytest.mark.parametrize("secret", [OLD, NEW])
def test_with_two_secrets_either_verifies_the_signature(secret):
    lines = Signer([NEW, OLD]).lines(b"c0ffee.1", time.time(), b"hi")
    assert len(headers(lines)["webhook-signature"].split(" ")) == 2
    Webhook(secret).verify(b"hi", headers(lines), json_parse=False)


@pytest.mark.parametrize("spoilt", ["webhook-id", "webhook-timestamp", "body", "secret"])
def test_any_change_invalidates_the_signature(spoilt):
    now = time.time()
    signed = headers(Signer([NEW]).lines(b"c0ffee.1", now, b"hi"))
    if spoilt in signed:
        signed[spoilt] = {"webhook-id": "c0ffee.2", "webhook-timestamp": str(int(now) - 1)}[spoilt]
    with pytest.raises(WebhookVerificationError, match="No matching signature"):
        Webhook(OLD if spoilt == "secret" else NEW).verify(b"ho" if spoilt == "body" else b"hi", signed)
