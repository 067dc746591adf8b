"""Signatures of AWS: read, and calculated as AWS's signer and its published test suite do."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.aws import SECRET, sign
from tests.support.fakes import read_all
from tests.support.strategies import examples
from wsaas.api.sigv4 import DATE_HEADER, canonical_requests, is_signed, read_signature, read_time
from wsaas.http.request import RequestParser

SIGNATURE = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
HEADER = (
    "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
    f"SignedHeaders=host;x-amz-date, Signature={SIGNATURE}"
)


def parse(method, target, headers, body=b""):
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    (request,) = read_all(RequestParser(100_000), "\r\n".join([*lines, "", ""]).encode() + body)
    return request


def expected(request, secret=SECRET):
    """Return the signature that a request carries, and the one that it has to have."""
    signature = read_signature(request.headers)
    assert signature
    canonical, _ = canonical_requests(request, signature.names)
    return signature.value, signature.expected(secret.encode(), request.headers[DATE_HEADER], canonical)


# The cases get-vanilla, get-relative, get-slash, get-slash-dot-slash, get-vanilla-query-order-key-case, post-vanilla
# and post-x-www-form-urlencoded of AWS's test suite for Signature Version 4.
PUBLISHED = [
    ("GET", "/", "", "host;x-amz-date", SIGNATURE),
    ("GET", "/example/..", "", "host;x-amz-date", SIGNATURE),
    ("GET", "//", "", "host;x-amz-date", SIGNATURE),
    ("GET", "/./", "", "host;x-amz-date", SIGNATURE),
    (
        "GET",
        "/?Param2=value2&Param1=value1",
        "",
        "host;x-amz-date",
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ),
    ("POST", "/", "", "host;x-amz-date", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
    (
        "POST",
        "/",
        "Param1=value1",
        "content-type;host;x-amz-date",
        "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
    ),
]


@pytest.mark.parametrize(("method", "target", "body", "names", "signature"), PUBLISHED)
def test_published_signatures_are_reproduced(method, target, body, names, signature):
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Content-Length": str(len(body)),
        "Host": "example.amazonaws.com",
        "X-Amz-Date": "20150830T123600Z",
        "Authorization": HEADER.replace("host;x-amz-date", names).replace(SIGNATURE, signature),
    }
    carried, calculated = expected(parse(method, target, headers, body.encode()))
    assert carried == calculated == signature.encode()


def test_a_signature_says_what_it_is():
    signature = read_signature({b"authorization": HEADER.encode()})
    assert signature
    assert (signature.key_id, signature.day, signature.region) == (b"AKIDEXAMPLE", b"20150830", b"us-east-1")
    assert (signature.service, signature.names) == (b"service", [b"host", b"x-amz-date"])
    assert signature.value == SIGNATURE.encode()


@pytest.mark.parametrize("separator", [",", ", ", " , ", "\t,\t"])
def test_a_signature_may_have_spaces_around_its_commas(separator):
    assert read_signature({b"authorization": HEADER.replace(", ", separator).encode()}) is not None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1"),
        ("AWS4-HMAC-SHA256 ", "AWS4-HMAC-SHA256"),
        ("Credential=AKIDEXAMPLE/", "Credential=/"),
        ("20150830", "2015083"),
        ("/aws4_request", "/aws3_request"),
        ("/service", ""),
        ("us-east-1/", "us-east-1/more/"),
        ("host;x-amz-date", ""),
        ("host;x-amz-date", "host;;x-amz-date"),
        ("host;x-amz-date", "host;x amz-date"),
        (", SignedHeaders=host;x-amz-date", ""),
        (SIGNATURE, SIGNATURE[:-1]),
        (SIGNATURE, SIGNATURE + "0"),
        (SIGNATURE, SIGNATURE.upper()),
        (SIGNATURE, SIGNATURE + ", More=1"),
    ],
)
def test_a_malformed_signature_is_none(old, new):
    assert read_signature({b"authorization": HEADER.replace(old, new).encode()}) is None


def test_a_request_without_authorization_has_no_signature():
    assert read_signature({}) is None
    assert not is_signed({})
    assert not is_signed({b"authorization": b"Bearer AWS4-HMAC-SHA256"})
    assert is_signed({b"authorization": HEADER.encode()})


@pytest.mark.parametrize(
    ("text", "time"),
    [
        (b"19700101T000001Z", 1.0),
        (b"20150830T123600Z", 1440938160.0),
        (b"20150830T123600", None),
        (b"20150830T123600+", None),
        (b"20151330T123600Z", None),
        (b"20150830T126000Z", None),
        (b"00000830T126000Z", None),
        (b"2015-08-30T12:36:00Z", None),
        (b"Sun, 30 Aug 2015 12:36:00 GMT", None),
        (b"", None),
    ],
)
def test_times_are_read(text, time):
    assert read_time(text) == time


SEGMENTS = st.lists(
    st.one_of(st.sampled_from(["", ".", "..", "@connections", "~", "%2F", "a b"]), st.text(max_size=6)), max_size=5
)
PATHS = SEGMENTS.map(lambda segments: "/" + "/".join(quote(each, safe="@") for each in segments))
PARTS = st.text(max_size=5).map(lambda text: quote(text, safe=""))
QUERIES = st.lists(st.tuples(PARTS.filter(bool), PARTS), max_size=4).map(
    lambda pairs: "&".join(f"{name}={value}" for name, value in pairs)
)
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=20).filter(
    lambda text: text.strip()
)
HEADERS = st.dictionaries(st.sampled_from(["Content-Type", "X-Amz-Meta", "My-Header"]), VALUES)


TARGETS = st.tuples(PATHS, QUERIES).map(lambda parts: "?".join(filter(None, parts)))
TOKENS = st.sampled_from([None, "a/token+="])


@given(st.sampled_from(["GET", "POST", "DELETE"]), TARGETS, HEADERS, TOKENS, st.binary(max_size=50))
@examples(200)
def test_what_the_signer_of_aws_for_python_signs_is_calculated(method, target, headers, token, body):
    signed = sign(method, target, body, token=token, headers=headers)
    request = parse(method, target, {"Host": "localhost", "Content-Length": len(body), **signed}, body)
    carried, calculated = expected(request)
    assert carried == calculated


@given(st.text(st.characters(codec="latin-1", exclude_characters="\r\n")))
@examples(200)
def test_any_authorization_is_read_or_refused(text):
    for header in (text, f"AWS4-HMAC-SHA256 {text}", HEADER + text, HEADER.replace("us-east-1", text)):
        signature = read_signature({b"authorization": header.encode("latin-1")})
        assert signature is None or signature.expected(b"secret", b"", b"")
