"""Nothing that the console shows has a credential in it."""

import orjson
import pytest

from tests.support.fakes import FakeBreaker, FakePool, make_opened, make_settings
from wsaas.delivery.webhook import Subject, Webhook
from wsaas.watching.events import ConnectBody, HeaderPairs, Query, RequestHead, Target, shown
from wsaas.watching.masking import mask_header, mask_query, mask_subprotocol, show_body


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("Authorization", "Bearer s3cret", "•••"),
        ("proxy-authorization", "Basic s3cret", "•••"),
        ("Cookie", "a=s3cret", "•••"),
        ("set-cookie", "a=s3cret", "•••"),
        ("webhook-signature", "v1,s3cret", "•••"),
        ("x-api-key", "s3cret", "(hidden)"),
        ("apikey", "s3cret", "(hidden)"),
        ("X-Client-Secret", "s3cret", "(hidden)"),
        ("x-session-id", "s3cret", "(hidden)"),
        ("x-auth-key", "s3cret", "(hidden)"),
        ("X-Hub-Signature-256", "s3cret", "(hidden)"),
        ("Cf-Access-Jwt-Assertion", "s3cret", "(hidden)"),
        ("WWW-Authenticate", "Basic", "Basic"),
        ("access-control-allow-credentials", "true", "true"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Referer", "https://a.example/b?c=s3cret", "https://a.example/b?(hidden)"),
        ("sec-websocket-protocol", "chat, bearer.s3cret, " + "s" * 41, "chat, •••, •••"),
        ("ws-uri", "localhost:8080/abc", "localhost:8080/abc"),
    ],
)
def test_a_header_is_masked(name, value, expected):
    assert mask_header(name, value) == expected


@pytest.mark.parametrize(
    ("name", "is_shown"),
    [
        ("graphql-transport-ws", True),
        ("ocpp2.0.1", True),
        ("v12.stomp", True),
        ("base64url.bearer.authorization.k8s.io.s3", False),
        ("d41d8cd98f00b204e9800998ecf8427e", False),
        ("2e4bd3a1-71c9-4d7b-9b5c-0c2f8f2b6f11", False),
    ],
)
def test_the_name_of_a_subprotocol_is_shown_unless_it_looks_like_a_token(name, is_shown):
    assert mask_subprotocol(name) == (name if is_shown else "•••")


def test_parameters_with_short_names_are_masked():
    assert mask_query("a=b&auth=s3cret;KEY=s3cret&monkey=c&sig=s3cret") == (
        "a=b&auth=(hidden);KEY=(hidden)&monkey=c&sig=(hidden)"
    )


def test_all_kinds_of_fields_are_masked():
    fields = {
        "headers": HeaderPairs([("Cookie", "s3cret")]),
        "more": RequestHead(b"PUT /a HTTP/1.1\r\nAuthorization: s3cret\r\nce-id: 7"),
        "query": Query("token=s3cret&a=b"),
        "target": Target("/hook?password=s3cret&a=b"),
        "body": ConnectBody(
            make_opened(
                headers={"cookie": "s3cret", "host": "h"}, query="jwt=s3cret", subprotocols=["chat", "token.s3cret"]
            ),
            Subject("id", "node", b"Bearer s3cret"),
            Webhook(make_settings(), FakePool(), FakeBreaker(), lambda: 0.0),
        ),
        "plain": 1,
    }
    found = shown(fields)
    assert b"s3cret" not in orjson.dumps(found)
    assert found["headers"] == [("Cookie", "•••")]
    assert found["more"] == [("Authorization", "•••"), ("ce-id", "7")]
    assert found["query"] == "token=(hidden)&a=b"
    assert found["target"] == "/hook?password=(hidden)&a=b"
    request = orjson.loads(found["body"]["text"])["request"]
    assert request["headers"] == {"cookie": "•••", "host": "h"}
    assert request["subprotocols"] == ["chat", "•••"]
    assert all(fields[name].cost > 0 for name in fields if name != "plain")  # type: ignore[attr-defined]  # all but that one are lazy


@pytest.mark.parametrize(
    ("data", "size", "is_text", "expected"),
    [
        (b"abc", 3, True, {"text": "abc", "size": 3, "truncated": False}),
        (b"abc", 3, False, {"base64": "YWJj", "size": 3, "truncated": False}),
        (b"\xff", 1, True, {"base64": "/w==", "size": 1, "truncated": False}),
        ("aä".encode()[:2], 3, True, {"text": "a", "size": 3, "truncated": True}),
        (b"a\xffb", 9, True, {"base64": "Yf9i", "size": 9, "truncated": True}),
    ],
)
def test_a_body_is_shown_as_text_if_it_is_text(data, size, is_text, expected):
    assert show_body(data, size, is_text=is_text) == expected
