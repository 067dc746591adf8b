import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.azure_tokens import HEADER, KEY, NEVER, OTHER_KEY, encoded, make_token, sign
from tests.support.strategies import examples
from wsaas.access_keys import LEEWAY_S, AccessKeys, audiences, bearer_token, is_current

KEYS = AccessKeys([KEY.encode()])

names = st.text(st.characters(codec="utf-8"), max_size=9)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=5,
)


def token_of(header: object, claims: object) -> bytes:
    return sign(encoded(json.dumps(header).encode()) + b"." + encoded(json.dumps(claims).encode()))


def test_a_token_that_another_library_made_is_read():
    # The example of RFC 7515, appendix A.1, has a key that is no text.
    key = (
        b"\x03\x23\x35\x4b\x2b\x0f\xa5\xbc\x83\x7e\x06\x65\x77\x7b\xa6\x8f\x5a\xb3\x28\xe6\xf0\x54\xc9\x28\xa9\x0f"
        b"\x84\xb2\xd2\x50\x2e\xbf\xd3\xfb\x5a\x92\xd2\x06\x47\xef\x96\x8a\xb4\xc3\x77\x62\x3d\x22\x3d\x2e\x21\x72"
        b"\x05\x2e\x4f\x08\xc0\xcd\x9a\xf5\x67\xd0\x80\xa3"
    )
    token = (
        b"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9."
        b"eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ."
        b"dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    )
    assert AccessKeys([key]).read(token) == {"iss": "joe", "exp": 1300819380, "http://example.com/is_root": True}


def test_each_key_may_sign():
    keys = AccessKeys([b"old", KEY.encode()])
    assert keys.read(make_token({"sub": "ann"}).encode()) == {"sub": "ann", "exp": NEVER}
    keys.replace([b"new"])
    assert keys.read(make_token({"sub": "ann"}).encode()) is None


def test_no_key_accepts_nothing():
    assert AccessKeys([]).read(make_token({}).encode()) is None


@pytest.mark.parametrize(
    "token",
    [
        b"",
        b"a.b.c",
        make_token({}, OTHER_KEY).encode(),
        make_token({}).encode() + b"A",
        make_token({}).encode()[:-1] + b"!",
        b"." + make_token({}).encode(),
        token_of({"alg": "none"}, {}),
        token_of({"alg": "HS512"}, {}),
        token_of({}, {}),
        token_of([], {}),
        token_of({**HEADER, "crit": ["exp"]}, {}),
        token_of(HEADER, []),
        token_of(HEADER, "text"),
        sign(b"AAAA." + encoded(b"{}")),
        sign(encoded(json.dumps(HEADER).encode()) + b".AAAAA"),
        sign(b"A." + encoded(b"{}")),
        token_of(HEADER, {"deep": json.loads(300 * "[" + 300 * "]")}),
    ],
)
def test_other_tokens_are_refused(token):
    assert KEYS.read(token) is None


def test_an_unsigned_token_is_refused():
    head, _, _ = token_of({"alg": "none"}, {"sub": "ann"}).rpartition(b".")
    assert KEYS.read(head + b".") is None
    assert KEYS.read(head) is None


def test_a_text_is_signed_with_each_key():
    # RFC 4231, test case 2.
    signed = AccessKeys([b"Jefe", b"x"]).sign(b"what do ya want for nothing?")
    assert signed[0] == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert len(signed) == 2


@pytest.mark.parametrize(
    ("value", "token"),
    [
        (None, b""),
        (b"", b""),
        (b"Bearer a.b.c", b"a.b.c"),
        (b"bearer   a.b.c ", b"a.b.c"),
        (b"Basic a.b.c", b""),
        (b"Bearer", b""),
    ],
)
def test_the_token_of_a_header(value, token):
    assert bearer_token(value) == token


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"exp": 1000}, True),
        ({"exp": 1000 - LEEWAY_S + 1}, True),
        ({"exp": 1000 - LEEWAY_S}, False),
        ({"exp": 2000.5, "nbf": 1000 + LEEWAY_S}, True),
        ({"exp": 2000, "nbf": 1000 + LEEWAY_S + 1}, False),
        ({}, False),
        ({"exp": "2000"}, False),
        ({"exp": True}, False),
        ({"exp": 2000, "nbf": None}, False),
    ],
)
def test_a_token_has_a_time(claims, expected):
    assert is_current(claims, 1000.0) is expected


@pytest.mark.parametrize(
    ("claims", "expected"),
    [({}, []), ({"aud": "a"}, ["a"]), ({"aud": ["a", 1, "b"]}, ["a", "b"]), ({"aud": 1}, [])],
)
def test_whom_a_token_is_for(claims, expected):
    assert audiences(claims) == expected


@given(st.dictionaries(names, json_values, max_size=4))
@examples(200)
def test_claims_are_read_as_they_were_signed(claims):
    token = token_of(HEADER, claims)
    assert KEYS.read(token) == claims
    assert AccessKeys([OTHER_KEY.encode()]).read(token) is None


@given(st.integers(0, 10_000), st.integers(0, 255))
@examples(200)
def test_no_changed_token_is_accepted(at, byte):
    token = bytearray(make_token({"sub": "ann"}).encode())
    at %= len(token)
    before, token[at] = token[at], byte
    # The last character has two bits that no byte of the signature needs.
    if byte != before and at < len(token) - 1:
        assert KEYS.read(bytes(token)) is None


@given(st.binary(max_size=200) | st.text("abAB09-_.=", max_size=200).map(str.encode))
@examples(300)
def test_any_bytes_are_refused(data):
    assert KEYS.read(data) is None
