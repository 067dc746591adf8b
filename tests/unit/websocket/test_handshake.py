import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fakes import make_handshake, read_all
from tests.support.strategies import examples
from wsaas.access import Origins
from wsaas.errors import BadRequest, Forbidden, HTTPError, UpgradeRequired
from wsaas.http.request import Request, RequestParser
from wsaas.http.trace_context import TraceContext
from wsaas.websocket import handshake
from wsaas.websocket.deflate import Agreement

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = {
    b"Host": b"x",
    b"Connection": b"Upgrade",
    b"Upgrade": b"websocket",
    b"Sec-WebSocket-Version": b"13",
    b"Sec-WebSocket-Key": KEY,
}


def request(*more: tuple[bytes, bytes], start: bytes = b"GET /chat?a=b?c HTTP/1.1", **changed: bytes | None) -> Request:
    """Return a handshake with some headers `changed` (None takes one out), and `more` behind them."""
    headers = UPGRADE | {name.replace("_", "-").encode(): value for name, value in changed.items()}
    lines = [name + b": " + value for name, value in [*headers.items(), *more] if value is not None]
    (item,) = read_all(RequestParser(1000), b"\r\n".join([start, *lines, b"", b""]))
    assert isinstance(item, Request)
    return item


def test_a_handshake_is_read():
    shaken = handshake.read(request((b"Authorization", b"Basic \xe9"), (b"Origin", b"https://example.com")))
    assert shaken.key == KEY
    assert (shaken.path, shaken.query) == ("/chat", "a=b?c")
    assert shaken.subprotocols == []
    assert shaken.authorization == b"Basic \xe9"
    assert shaken.headers["authorization"] == "Basic é"
    assert shaken.headers["sec-websocket-key"] == KEY.decode()
    assert list(shaken.headers)[:2] == ["host", "connection"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("naïve €".encode(), "naïve €"),
        (b"na\xefve", "naïve"),
        (b"\xc3\xa9", "é"),
        (b"\xe2\x82", "â\x82"),
        (b"\xc0\xaf", "À¯"),
        (b"\xed\xa0\x80", "í\xa0\x80"),
        (b"\x80", "\x80"),
    ],
)
def test_a_header_is_utf8_or_else_latin_1_each_by_itself(value, text):
    shaken = handshake.read(request((b"X-Name", value), (b"X-Other", b"\xfc"), (b"X-Third", "ü".encode())))
    assert shaken.headers["x-name"] == text
    assert (shaken.headers["x-other"], shaken.headers["x-third"]) == ("ü", "ü")
    assert handshake.read(request((b"X-Name", value))).headers["x-name"] == text


def test_authorization_is_unchanged():
    for value in (b"Basic \xe9", "Basic é".encode()):
        shaken = handshake.read(request((b"Authorization", value)))
        assert shaken.authorization == value
        assert shaken.headers["authorization"] == "Basic é"


def test_a_handshake_may_have_no_query_and_no_authorization():
    shaken = handshake.read(request(start=b"GET / HTTP/1.1"))
    assert (shaken.path, shaken.query, shaken.authorization) == ("/", "", None)


@pytest.mark.parametrize("upgrade", [b"websocket", b"WebSocket", b"h2c, WEBSOCKET", b"websocket,"])
def test_a_request_that_names_websocket_is_a_handshake(upgrade):
    asked = request(Upgrade=upgrade)
    assert handshake.is_handshake(asked)
    assert handshake.read(asked).key == KEY


@pytest.mark.parametrize("upgrade", [b"websockets", b"h2c", b"websocket/13", None])
def test_a_request_that_does_not_name_websocket_is_no_handshake(upgrade):
    assert not handshake.is_handshake(request(Upgrade=upgrade))


@pytest.mark.parametrize("start", [b"POST / HTTP/1.1", b"PUT / HTTP/1.1", b"GET / HTTP/1.0"])
def test_a_handshake_is_a_get_of_http_1_1(start):
    with pytest.raises(BadRequest, match="GET"):
        handshake.read(request(start=start))


@pytest.mark.parametrize("connection", [None, b"keep-alive"])
def test_a_handshake_needs_connection_upgrade(connection):
    asked = request(Connection=connection, Sec_WebSocket_Key=None, Sec_WebSocket_Version=None)
    assert handshake.is_handshake(asked)
    assert not handshake.lost_upgrade(asked)
    with pytest.raises(BadRequest, match="Connection"):
        handshake.read(asked)


LOST = [
    {"Upgrade": None},
    {"Connection": None},
    {"Connection": b"keep-alive"},
    {"Upgrade": None, "Connection": b"close", "start": b"GET / HTTP/1.0"},
    {"Upgrade": None, "Connection": None, "Sec_WebSocket_Key": None},
    {"Upgrade": None, "Connection": None, "Sec_WebSocket_Version": None},
]


@pytest.mark.parametrize("changed", LOST)
def test_a_handshake_without_its_upgrade_went_through_a_proxy_that_dropped_it(changed):
    asked = request(**changed)
    assert handshake.lost_upgrade(asked)
    fault = handshake.upgrade_lost()
    assert (fault.status, fault.code) == (426, "UPGRADE_REQUIRED")
    assert fault.headers == (("Sec-WebSocket-Version", "13"), ("Upgrade", "websocket"), ("Connection", "Upgrade"))
    for what in (
        "proxy in front dropped the Upgrade",
        "proxy_http_version 1.1",
        "$http_upgrade",
        'Connection "upgrade"',
    ):
        assert what in fault.message


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"start": b"POST / HTTP/1.1", "Upgrade": None},
        {"Upgrade": None, "Sec_WebSocket_Key": None, "Sec_WebSocket_Version": None},
        {"start": b"GET / HTTP/1.0"},
    ],
)
def test_any_other_request_lost_no_upgrade(changed):
    assert not handshake.lost_upgrade(request(**changed))


@pytest.mark.parametrize("connection", [None, b"keep-alive"])
def test_a_handshake_whose_connection_lost_its_upgrade_is_426(connection):
    with pytest.raises(UpgradeRequired, match="proxy in front dropped"):
        handshake.read(request(Connection=connection))


def test_an_upgrade_by_http_1_0_names_the_proxy_too():
    with pytest.raises(BadRequest, match=r"GET of HTTP/1\.1.*proxy_http_version 1\.1"):
        handshake.read(request(start=b"GET / HTTP/1.0"))


@pytest.mark.parametrize("connection", [b"upgrade", b"keep-alive, Upgrade", b"UPGRADE"])
def test_connection_may_list_more_than_upgrade(connection):
    assert handshake.read(request(Connection=connection)).key == KEY


def test_a_handshake_names_a_version():
    with pytest.raises(BadRequest):
        handshake.read(request(Sec_WebSocket_Version=None))


@pytest.mark.parametrize("version", [b"", b"8", b"12", b"14", b"13, 8", b"013", b"x"])
def test_only_version_13_is_supported(version):
    with pytest.raises(UpgradeRequired) as raised:
        handshake.read(request(Sec_WebSocket_Version=version))
    assert raised.value.status == 426
    assert dict(raised.value.headers) == {
        "Sec-WebSocket-Version": "13",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
    }


def test_a_version_is_named_once():
    with pytest.raises(UpgradeRequired):
        handshake.read(request((b"Sec-WebSocket-Version", b"13")))


@pytest.mark.parametrize(
    "key",
    [
        None,
        b"",
        b"x",
        KEY[:-1],
        KEY[:-2],
        KEY + b"=",
        KEY[:-4],
        b"A" * 24,
        b"A" * 23 + b"=",
        b"A" * 21 + b"B==",
        b"-" * 22 + b"==",
        b"\xe9" * 22 + b"==",
        b" " * 5 + b"A" * 17 + b"==",
    ],
)
def test_a_key_is_sixteen_bytes_in_base64(key):
    with pytest.raises(BadRequest, match="Key"):
        handshake.read(request(Sec_WebSocket_Key=key))


def test_a_key_is_named_once():
    with pytest.raises(BadRequest, match="Key"):
        handshake.read(request((b"Sec-WebSocket-Key", KEY)))


@pytest.mark.parametrize("end", [b"A", b"Q", b"g", b"w"])
def test_a_key_may_end_in_any_four_characters(end):
    key = b"+/09azAZ" * 2 + b"abcde" + end + b"=="
    assert handshake.read(request(Sec_WebSocket_Key=key)).key == key


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([b"chat"], ["chat"]),
        ([b"chat, superchat"], ["chat", "superchat"]),
        ([b"a,b", b"v1.c+json"], ["a", "b", "v1.c+json"]),
        ([b", a ,,"], ["a"]),
        ([b"", b"a"], ["a"]),
    ],
)
def test_subprotocols_keep_their_order(values, expected):
    more = [(b"Sec-WebSocket-Protocol", value) for value in values]
    assert handshake.read(request(*more)).subprotocols == expected


@pytest.mark.parametrize(
    "values", [[b"a, a"], [b"a", b"b, a"], [b"a b"], [b"a/b"], [b"\xe9"], [b'"a"'], [b""], [b","], [b" , ", b""]]
)
def test_subprotocols_are_distinct_names(values):
    more = [(b"Sec-WebSocket-Protocol", value) for value in values]
    with pytest.raises(BadRequest, match="Protocol"):
        handshake.read(request(*more))


@pytest.mark.parametrize(
    ("origin", "allowed", "passes"),
    [
        (None, {"https://a.com"}, True),
        (b"https://a.com", {"https://a.com", "https://b.com"}, True),
        (b"https://A.com", {"https://a.com"}, True),
        (b"https://c.com", {"https://a.com", "https://b.com"}, False),
        (b"http://a.com", {"https://a.com"}, False),
        (b"https://a.com:8443", {"https://a.com"}, False),
        (b"https://a.com.evil.com", {"https://a.com"}, False),
        (b"null", {"https://a.com"}, False),
        (b"null", {"null"}, True),
        (b"", {"https://a.com"}, False),
        (b"\xff", {"https://a.com"}, False),
    ],
)
def test_only_allowed_origins_connect(origin, allowed, passes):
    asked = request(Origin=origin)
    if passes:
        assert handshake.read(asked, Origins(frozenset(allowed))).key == KEY
    else:
        with pytest.raises(Forbidden, match="origin"):
            handshake.read(asked, Origins(frozenset(allowed)))


def test_any_origin_may_connect_by_default():
    assert handshake.read(request(Origin=b"https://anyone.example")).key == KEY


def test_the_trace_of_a_handshake_is_read():
    traceparent = f"00-{'a' * 32}-{'b' * 16}-01"
    shaken = handshake.read(
        request((b"Traceparent", traceparent.encode()), (b"Tracestate", b"a=1"), (b"tracestate", b"b=2"))
    )
    assert shaken.trace == TraceContext(traceparent, "a=1, b=2")
    assert handshake.read(request()).trace is None
    twice = [(b"traceparent", traceparent.encode())] * 2
    assert handshake.read(request(*twice, (b"tracestate", b"a=1"))).trace is None


def test_repeated_headers_are_joined():
    shaken = handshake.read(
        request((b"X-A", b"1"), (b"Cookie", b"a=1"), (b"x-a", b"2"), (b"COOKIE", b"b=2"), (b"X-A", b"\xe9"))
    )
    assert shaken.headers["x-a"] == "1, 2, é"
    assert shaken.headers["cookie"] == "a=1; b=2"


@examples(200)
@given(
    st.dictionaries(
        st.sampled_from([b"Connection", b"Upgrade", b"Sec-WebSocket-Version", b"Sec-WebSocket-Key", b"Origin"]),
        st.binary(max_size=30).map(lambda value: bytes(byte for byte in value if byte > 0x20 and byte != 0x7F)),
        max_size=3,
    )
)
def test_any_header_values_are_an_error_or_a_handshake(changed):
    asked = request(**{name.decode(): value for name, value in changed.items()})
    try:
        shaken = handshake.read(asked)
    except HTTPError as fault:
        refused = fault.status
    else:
        refused = 0
        assert shaken.key == asked.header(b"sec-websocket-key")
        assert asked.header(b"sec-websocket-version") == b"13"
        assert b"websocket" in (asked.header(b"upgrade") or b"").lower()
        assert b"upgrade" in (asked.header(b"connection") or b"").lower()
    assert refused in {0, 400, 426}


@pytest.mark.parametrize(
    ("named", "offered", "preferred", "selected"),
    [
        (None, [], [], None),
        (None, ["a", "b"], [], None),
        (None, [], ["a"], None),
        (None, ["a", "b"], ["b", "a"], "b"),
        (None, ["a"], ["c", "b"], None),
        ("a", ["a", "b"], ["b"], "a"),
        ("b", ["a", "b"], [], "b"),
    ],
)
def test_the_backend_chooses_the_subprotocol_before_the_setting_does(named, offered, preferred, selected):
    assert handshake.select_subprotocol(named, offered, preferred) == selected


@pytest.mark.parametrize("named", ["c", "A", ""])
def test_the_backend_may_only_name_a_subprotocol_on_offer(named):
    with pytest.raises(ValueError, match=f"^{named}$"):
        handshake.select_subprotocol(named, ["a", "b"], ["c"])


def test_the_101_for_the_key_of_the_rfc_is_that_of_the_rfc():
    assert handshake.accept(make_handshake(), None) == (
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
        b"\r\n"
    )


def test_the_101_names_the_subprotocol():
    lines = handshake.accept(make_handshake(), "chat").split(b"\r\n")
    assert lines[4:] == [b"Sec-WebSocket-Protocol: chat", b"", b""]


# Extensions (the offers are read in test_deflate.py)


def test_compression_is_negotiated_if_it_is_enabled():
    offer = (b"Sec-WebSocket-Extensions", b"x-other, permessage-deflate; client_max_window_bits")
    assert handshake.read(request(offer)).agreement is None
    shaken = handshake.read(request(offer), compression=True)
    assert shaken.agreement == Agreement()
    lines = handshake.accept(shaken, None).split(b"\r\n")
    assert lines[4:] == [b"Sec-WebSocket-Extensions: " + Agreement().response.encode(), b"", b""]


def test_offers_in_several_headers_are_one_list():
    offers = [
        (b"Sec-WebSocket-Extensions", b"permessage-deflate; x"),
        (b"Sec-WebSocket-Extensions", b"permessage-deflate"),
    ]
    assert handshake.read(request(*offers), compression=True).agreement == Agreement()


@pytest.mark.parametrize("compression", [True, False])
@pytest.mark.parametrize(
    "value", [b"a b", b"a;", b"a; b=", b'a; b="', b'a; b="c d"', b"a/b", b"=", b"\xe9", b"", b" , "]
)
def test_extensions_that_cannot_be_read_are_refused(value, compression):
    # RFC 6455 section 9.1
    with pytest.raises(BadRequest, match="Extensions"):
        handshake.read(request((b"Sec-WebSocket-Extensions", value)), compression=compression)


def test_only_short_offers_are_kept_for_other_clients():
    handshake.common_extensions.cache_clear()
    for value in (b"x-short", b"x-long, " + b"a," * handshake.COMMON_EXTENSIONS_SIZE + b"permessage-deflate"):
        read = handshake.read(request((b"Sec-WebSocket-Extensions", value)), compression=True)
        assert (read.agreement is not None) is value.endswith(b"deflate")
    assert handshake.common_extensions.cache_info().currsize == 1


@pytest.mark.parametrize("values", [[], [b"x-other"], [b"", b", x-other"]])
def test_without_an_offer_there_is_no_agreement(values):
    offers = [(b"Sec-WebSocket-Extensions", value) for value in values]
    assert handshake.read(request(*offers), compression=True).agreement is None
