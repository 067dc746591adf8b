from dataclasses import asdict, replace
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.clients import upgrade
from tests.support.fakes import read_all
from tests.support.strategies import examples
from wsaas.access import COOKIE, QUERY, SUBPROTOCOL, TokenPlace
from wsaas.errors import BadRequest
from wsaas.http.request import Request, RequestParser
from wsaas.websocket import handshake
from wsaas.websocket.browser_authorization import take_token
from wsaas.websocket.handshake import Handshake

PARAMETER = TokenPlace(QUERY, "access_token")
PREFIX = TokenPlace(SUBPROTOCOL, "bearer.")
SESSION = TokenPlace(COOKIE, "session")
ALL = (PARAMETER, PREFIX, SESSION)


def read(target: str, *headers: str) -> Handshake:
    """Return a handshake as it is read from the wire."""
    (request,) = read_all(RequestParser(1000), upgrade(target, *headers))
    assert isinstance(request, Request)
    return handshake.read(request)


def taken(place: TokenPlace, target: str = "/", *headers: str) -> tuple[Handshake, Handshake]:
    """Return a handshake before and after its token is taken from `place`."""
    before = read(target, *headers)
    return before, take_token(before, [place])


@pytest.mark.parametrize(
    ("query", "token", "left"),
    [
        ("access_token=abc", b"abc", ""),
        ("access_token=abc&nick=ada", b"abc", "nick=ada"),
        ("a=%2F&&access_token=a.b-c_d~e%2Bf%2fg%3D&b=+&a", b"a.b-c_d~e+f/g=", "a=%2F&&b=+&a"),
        ("access%5Ftoken=abc", b"abc", ""),
        ("access_token=a=b?c", b"a=b?c", ""),
        ("access_token=a%zz", b"a%zz", ""),
        ("access_token=&access_token=abc&access_token", b"abc", ""),
        ("access_token=%22%0%41", b'"%0A', ""),
    ],
)
def test_a_parameter_of_the_query_is_decoded_and_taken_out(query, token, left):
    before, after = taken(PARAMETER, f"/a?{query}")
    assert after == replace(before, query=left, authorization=b"Bearer " + token)


@pytest.mark.parametrize(
    ("value", "left"),
    [
        ("session=abc", None),
        ("session=abc; a=b", "a=b"),
        ('a="x y";session = abc ;;b;  c=d=e', 'a="x y";;b;  c=d=e'),
        ("session=; a; session=abc", "a"),
        ("Session=x; session=abc; xsession=y", "Session=x; xsession=y"),
    ],
)
def test_a_cookie_is_taken_out_verbatim(value, left):
    before, after = taken(SESSION, "/?session=q", f"Cookie: {value}")
    headers = {name: value for name, value in before.headers.items() if name != "cookie"}
    assert {name: value for name, value in after.headers.items() if name != "cookie"} == headers
    assert after.headers.get("cookie") == left
    assert (after.authorization, after.query) == (b"Bearer abc", "session=q")
    assert before.headers["cookie"] == value


@pytest.mark.parametrize("token", ["abc", "s%3Aa.b", '"a=b"', "a:b|c/d+"])
def test_a_cookie_is_not_decoded(token):
    assert taken(SESSION, "/", f"Cookie: session={token}")[1].authorization == b"Bearer " + token.encode()


def test_cookies_in_several_headers_are_one_list():
    _, after = taken(SESSION, "/", "Cookie: a=b", "Cookie: session=abc", "Cookie: c=d")
    assert (after.authorization, after.headers["cookie"]) == (b"Bearer abc", "a=b; c=d")


@pytest.mark.parametrize(
    ("offered", "left"),
    [
        (["chat", "bearer.a.b"], ["chat"]),
        (["bearer.a.b", "chat", "v2"], ["chat", "v2"]),
        (["bearer.a.b"], []),
        (["bearer.", "bearer.a.b", "Bearer.x"], ["bearer.", "Bearer.x"]),
    ],
)
def test_a_subprotocol_with_the_prefix_is_taken_out(offered, left):
    before, after = taken(PREFIX, "/", f"Sec-WebSocket-Protocol: {' , '.join(offered)}")
    assert (after.authorization, after.subprotocols) == (b"Bearer a.b", left)
    assert after.headers.get("sec-websocket-protocol") == (", ".join(left) or None)
    assert before.subprotocols == offered


@pytest.mark.parametrize("place", ALL)
@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("/", []),
        ("/?", ["Cookie: a=b"]),
        (
            "/access_token=a?access_token=&access_token",
            ["Cookie: session; session= ", "Sec-WebSocket-Protocol: bearer."],
        ),
        ("/?Access_token=a;access_token=b", ["Cookie: x=session=a", "Sec-WebSocket-Protocol: xbearer.a, Bearer.a"]),
    ],
)
def test_without_a_token_nothing_changes(place, target, headers):
    before, after = taken(place, target, *headers)
    assert after is before


@pytest.mark.parametrize("authorization", ["Basic abc", ""])
def test_with_an_authorization_header_nothing_changes(authorization):
    before = read(
        "/?access_token=a",
        f"Authorization: {authorization}",
        "Cookie: session=b",
        "Sec-WebSocket-Protocol: bearer.c, bearer.d",
    )
    assert take_token(before, ALL) is before
    assert before.authorization == authorization.encode()


@pytest.mark.parametrize(("places", "token"), [(ALL, b"a"), ((SESSION, PARAMETER), b"c"), ((PREFIX, SESSION), b"b")])
def test_the_first_place_with_a_token_counts_and_no_other_place_keeps_one(places, token):
    before = read("/?access_token=a", "Cookie: session=c; session=d", "Sec-WebSocket-Protocol: bearer.b, chat")
    if places[0] is SESSION:
        before.headers["cookie"] = "session=c"
    after = take_token(before, places)
    assert after.authorization == b"Bearer " + token
    assert ("access_token" in after.query) == (PARAMETER not in places)
    assert ("cookie" in after.headers) == (SESSION not in places)
    assert after.subprotocols == (["chat"] if PREFIX in places else ["bearer.b", "chat"])


def test_an_empty_place_leaves_it_to_the_next():
    after = take_token(read("/?access_token=&a", "Cookie: session=c"), ALL)
    assert (after.authorization, after.query) == (b"Bearer c", "a")


@pytest.mark.parametrize(
    ("place", "target", "header"),
    [
        (PARAMETER, "/?access_token=s3cr&access_token=s3cr", "A: b"),
        (PARAMETER, "/?access_token=s3cr&access%5ftoken=b", "A: b"),
        (SESSION, "/", "Cookie: session=s3cr; session=b"),
        (PREFIX, "/", "Sec-WebSocket-Protocol: bearer.s3cr, bearer.b"),
    ],
)
def test_more_than_one_token_is_refused(place, target, header):
    with pytest.raises(BadRequest, match="There is more than one token") as refused:
        taken(place, target, header)
    assert place.name in refused.value.message
    assert "s3cr" not in refused.value.message


@pytest.mark.parametrize(
    ("place", "target", "header"),
    [
        *(
            (PARAMETER, f"/?access_token=s3cr{end}", "A: b")
            for end in ("+", "%20x", "%0D%0AX:%20y", "%00", "%C3%A9", "%ff")
        ),
        (PARAMETER, "/?access_token=%0a", "A: b"),
        (SESSION, "/", "Cookie: session=s3cr x"),
        (SESSION, "/", "Cookie: session=s3cr\tx"),
        (SESSION, "/", "Cookie: session=s3cré"),
    ],
)
def test_a_token_that_is_not_visible_ascii_is_refused(place, target, header):
    with pytest.raises(BadRequest, match="may only have visible ASCII characters") as refused:
        taken(place, target, header)
    assert refused.value.status == 400
    assert ("%2B" in refused.value.message) == (place is PARAMETER)
    assert "s3cr" not in refused.value.message


NAMES = st.sampled_from(["a", "access_token", "access%5ftoken", "session", "bearer.", "x", ""])
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters='&;,"#'), max_size=8)
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=5)
SECRETS = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20).map("s3cr{}".format)
IN_A_SUBPROTOCOL = st.text("abcXYZ019-._~", max_size=20).map("s3cr{}".format)


def joined(fields: list[tuple[str, str]], separator: str, own: str, at: int) -> str:
    """Return a list of fields, and `own` at one place in it."""
    texts = [f"{name}={value}" for name, value in fields]
    texts.insert(at % (len(texts) + 1), own)
    return separator.join(texts)


@examples(500)
@given(FIELDS, FIELDS, st.permutations(ALL), st.lists(st.booleans(), min_size=3, max_size=3), st.data())
def test_a_token_is_nowhere_but_in_authorization(parameters, cookies, places, present, data):
    token = data.draw(IN_A_SUBPROTOCOL)
    at = data.draw(st.integers(0, 5))
    parameter, subprotocol, cookie = present
    query = joined(parameters, "&", f"access_token={token}" if parameter else "q", at)
    headers = ["Cookie: " + joined(cookies, "; ", f"session={token}" if cookie else "q", at)]
    if subprotocol:
        headers.append(f"Sec-WebSocket-Protocol: chat, bearer.{token}")
    before = read(f"/?{query}", *headers)
    copy = asdict(before)
    try:
        after = take_token(before, places)
    except BadRequest:
        return
    finally:
        assert asdict(before) == copy, "what was read stays as it is"
    if after is before:
        assert not any(present)
        return
    assert after.authorization is not None
    assert after.authorization.startswith(b"Bearer ")
    assert "s3cr" not in repr({**asdict(after), "authorization": None})
    assert (after.key, after.path) == (before.key, before.path)
    assert [each for each in after.query.split("&") if each] == [
        each for each in query.split("&") if each and not each.startswith(("access_token", "access%5ftoken"))
    ]


@examples(300)
@given(FIELDS, SECRETS)
def test_an_encoded_token_arrives_as_it_was(fields, token):
    others = [(name, value) for name, value in fields if not name.startswith("access")]
    query = joined(others, "&", f"access_token={quote(token, safe='')}", len(token))
    after = take_token(read(f"/?{query}"), ALL)
    assert after.authorization == b"Bearer " + token.encode()
    assert after.query == "&".join(f"{name}={value}" for name, value in others)


@examples(300)
@given(st.binary(max_size=30))
def test_whatever_a_query_is_it_cannot_end_the_header(data):
    before = read("/?access_token=" + "".join(f"%{byte:02x}" for byte in data))
    try:
        after = take_token(before, ALL)
    except BadRequest:
        return
    value = (after.authorization or b"Bearer x").removeprefix(b"Bearer ")
    assert value.isascii()
    assert value.decode().isprintable()
    assert b" " not in value
