import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.api_rig import Answer, Rig
from tests.support.fakes import (
    body_of,
    read_all,
)
from tests.support.strategies import examples
from wsaas import errors
from wsaas.clock import rfc3339
from wsaas.delivery.verdicts import DELIVERED, Accepted
from wsaas.events import Closed
from wsaas.http.request import RequestParser
from wsaas.http.serialize import serialize
from wsaas.reason import Reason
from wsaas.sessions.information import information
from wsaas.sessions.session_state import State
from wsaas.websocket import frames

UNKNOWN = "/" + "a" * 30
TOKEN = "Authorization: Bearer s3cret"


@pytest.fixture
def rig():
    return Rig()


# PUT.


def test_a_put_sends_its_body_as_one_message(rig):
    answer = rig.put(b"hello")
    assert (answer.status, answer.phrase) == (200, "OK")
    assert answer.json == {"code": "OK"}
    assert answer.headers["Content-Type"] == "application/json"
    assert rig.connection.written == [frames.encode(frames.TEXT, b"hello")]


def test_a_put_may_have_no_body(rig):
    assert rig.put(b"").status == 200
    assert rig.connection.written == [frames.encode(frames.TEXT, b"")]


def test_a_put_is_routed_by_its_path_however_that_is_escaped():
    rig = Rig(ws_hostname="node/ws")
    rig.path = "/ws/" + rig.session.id
    rig.put(b"usual")
    rig.path = "/" + rig.session.id
    rig.put(b"without the prefix, which a proxy took off")
    rig.path = f"/ws/%{ord(rig.session.id[0]):02x}{rig.session.id[1:]}?query"
    rig.put(b"odd")
    texts = [b"usual", b"without the prefix, which a proxy took off", b"odd"]
    assert rig.connection.written == [frames.encode(frames.TEXT, text) for text in texts]


@pytest.mark.parametrize("prefix", ["/xx/", "/ws", "//", "/ws/ws/", "/ws//"])
def test_a_put_to_another_path_is_404(prefix):
    rig = Rig(ws_hostname="node/ws")
    rig.path = prefix + rig.session.id
    assert rig.put(b"lost").status == 404
    assert rig.connection.written == []


def test_a_put_needs_the_token_for_any_path():
    rig = Rig(control_token="s3cret")
    for path in (rig.path, f"/%{ord(rig.session.id[0]):02x}{rig.session.id[1:]}", UNKNOWN, "/"):
        assert rig.ask("PUT", path, body=b"x").said == (401, "UNAUTHORIZED")
        assert rig.ask("PUT", path, TOKEN + "x", body=b"x").said == (401, "UNAUTHORIZED")
    assert rig.connection.written == []
    assert rig.ask("PUT", rig.path, TOKEN, body=b"x").status == 200
    assert rig.connection.written == [frames.encode(frames.TEXT, b"x")]


CONTENT_TYPES = [
    (None, True),
    ("text/plain", True),
    ("text/plain; charset=utf-8", True),
    ("TEXT/HTML", True),
    ("application/json", True),
    ("Application/JSON ; charset=utf-8", True),
    ("application/cloudevents+json", True),
    ("application/problem+json;x=y", True),
    ("application/octet-stream", False),
    ("application/jsonx", False),
    ("application/x-json-seq", False),
    ("image/png", False),
    ("textual/plain", False),
    ("image/svg; text/plain", False),
    ("", False),
]


@pytest.mark.parametrize(("content_type", "text"), CONTENT_TYPES)
def test_text_json_and_no_type_at_all_are_text_and_any_other_is_binary(rig, content_type, text):
    assert rig.put(b"{}", content_type).status == 200
    assert rig.connection.written == [frames.encode(frames.TEXT if text else frames.BINARY, b"{}")]


@pytest.mark.parametrize("content_type", [None, "application/x-www-form-urlencoded"])
def test_a_put_without_a_type_is_text_if_its_body_is_utf8_and_binary_otherwise(rig, content_type):
    assert rig.put("grüße".encode(), content_type).status == 200
    assert rig.put(b"\xff\x00", content_type).status == 200
    assert rig.connection.written == [
        frames.encode(frames.TEXT, "grüße".encode()),
        frames.encode(frames.BINARY, b"\xff\x00"),
    ]
    assert (rig.session.info.messages_out, rig.session.info.bytes_out) == (2, 9)


@pytest.mark.parametrize("content_type", ["text/plain", "application/json"])
def test_text_of_another_charset_is_sent_in_utf8(rig, content_type):
    assert rig.put(b"gr\xfc\xdfe", f"{content_type}; charset=ISO-8859-1").status == 200
    assert rig.connection.written == [frames.encode(frames.TEXT, "grüße".encode())]
    assert rig.session.info.bytes_out == 7


def test_text_that_is_invalid_in_its_charset_is_bad_text(rig):
    assert rig.put(b"\x81", 'text/plain; charset="windows-1252"').said == (400, "BAD_TEXT")
    assert rig.put(b"\xff", "text/plain; charset=us-ascii").said == (400, "BAD_TEXT")
    assert rig.connection.written == []


def test_the_size_limit_counts_text_of_another_charset_in_utf8():
    rig = Rig(max_message_size="10")
    assert rig.put(b"\xe9" * 5, "text/plain; charset=latin1").status == 200
    assert rig.put(b"\xe9" * 6, "text/plain; charset=latin1").said == (413, "TOO_LARGE")
    assert rig.connection.written == [frames.encode(frames.TEXT, "é".encode() * 5)]


@pytest.mark.parametrize("charset", ["utf-7", "idna", "unicode_escape", "x-none"])
def test_an_unknown_charset_is_refused(rig, charset):
    answer = rig.put(b"x", f"text/plain; charset={charset}")
    assert answer.said == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert charset in answer.json["message"]
    assert rig.connection.written == []
    assert rig.put(b"x", f"image/png; charset={charset}").status == 200


@pytest.mark.parametrize("coding", ["gzip", "BR", "identity, zstd"])
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_a_body_with_a_content_coding_is_refused(rig, method, coding):
    answer = rig.ask(method, rig.path, f"Content-Encoding: {coding}", body=b"\x1f\x8b")
    assert answer.said == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert answer.headers["Accept-Encoding"] == "identity"
    assert "Connection" not in answer.headers
    assert rig.session.state is State.OPEN
    assert rig.connection.written == []


@pytest.mark.parametrize("coding", ["", "identity", "Identity"])
def test_a_body_may_have_the_content_coding_identity(rig, coding):
    assert rig.ask("PUT", rig.path, f"Content-Encoding: {coding}", body=b"hi").status == 200
    assert rig.ask("GET", rig.path, "Content-Encoding: gzip").status == 200
    assert rig.ask("DELETE", rig.path, f"Content-Encoding: {coding}", body=b"{}").status == 200


@pytest.mark.parametrize("chunked", [False, True])
def test_an_unknown_charset_is_refused_before_the_body_arrives(rig, chunked):
    reader = RequestParser(1000, rig.api.body_limit)
    length = "Transfer-Encoding: chunked" if chunked else "Content-Length: 9"
    head = f"PUT {rig.path} HTTP/1.1\r\nHost: localhost\r\n{length}\r\nContent-Type: text/plain; charset=utf-7\r\n\r\n"
    (refused,) = read_all(reader, head.encode())
    assert isinstance(refused.error, errors.UnsupportedMediaType)
    assert refused.request.keep_alive


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_a_body_with_a_content_coding_is_refused_before_it_arrives(rig, method):
    reader = RequestParser(1000, rig.api.body_limit)
    head = f"{method} {rig.path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\nContent-Encoding: gzip\r\n\r\n"
    (refused,) = read_all(reader, head.encode())
    assert isinstance(refused.error, errors.UnsupportedMediaType)
    assert refused.request.keep_alive


def test_a_put_of_text_that_is_not_utf8_is_bad_text(rig):
    assert rig.put(b"\xff", "text/plain").said == (400, "BAD_TEXT")
    assert rig.connection.written == []
    assert rig.put(b"\xff", "application/octet-stream").status == 200


def test_a_put_to_a_slow_client_gets_retry_after(rig):
    rig.connection.backlog = 1024 * 1024
    answer = rig.put(b"more")
    assert answer.said == (429, "SLOW_CLIENT")
    assert answer.headers["Retry-After"] == "1"
    assert rig.connection.written == []


def test_a_put_during_the_handshake_is_kept():
    rig = Rig(enters=False)
    assert rig.put(b"hi").status == 200
    rig.webhook.answer(Accepted(None, None))
    assert rig.pending_client.accepted == (None, frames.encode(frames.TEXT, b"hi"))


# DELETE.


@pytest.mark.parametrize(
    ("body", "code", "reason"),
    [
        (b"", 1000, ""),
        (b"{}", 1000, ""),
        (b'{"code": 1000}', 1000, ""),
        (b'{"code": 3000, "reason": "bye"}', 3000, "bye"),
        (b'{"code": 4999, "reason": ""}', 4999, ""),
        (b'{"code": 4.0e3}', 4000, ""),
        (b'{"reason": "' + b"x" * 123 + b'"}', 1000, "x" * 123),
        (b'{"reason": "' + "€".encode() * 41 + b'", "more": 1}', 1000, "€" * 41),
    ],
)
def test_a_delete_closes_with_the_code_and_reason_of_its_body(rig, body, code, reason):
    assert rig.ask("DELETE", rig.path, body=body).json == {"code": "OK"}
    assert rig.connection.written == [frames.encode_close(code, reason)]
    assert rig.session.state is State.CLOSING
    assert rig.session.reason is Reason.BACKEND_CLOSED
    rig.session.lost()
    body = orjson.loads(body_of(rig.webhook.pending))
    assert (body["code"], body["reason"]) == (code, reason)


@pytest.mark.parametrize(
    "body",
    [
        b"nonsense",
        b"[]",
        b"null",
        b"4000",
        b'"bye"',
        b"\xff",
        b'{"code": 999}',
        b'{"code": 1001}',
        b'{"code": 1005}',
        b'{"code": 1006}',
        b'{"code": 2999}',
        b'{"code": 5000}',
        b'{"code": "4000"}',
        b'{"code": 4000.5}',
        b'{"code": 1e400}',
        b'{"code": 2999.0}',
        b'{"code": true}',
        b'{"code": null}',
        b'{"reason": null}',
        b'{"reason": 7}',
        b'{"reason": "' + b"x" * 124 + b'"}',
        b'{"reason": "' + "€".encode() * 42 + b'"}',
        b'{"reason": "\\ud800"}',
    ],
)
def test_a_delete_with_an_invalid_body_changes_nothing(rig, body):
    answer = rig.ask("DELETE", rig.path, body=body)
    assert answer.said == (400, "BAD_CLOSE")
    assert answer.json["message"].startswith("The ")
    assert rig.session.state is State.OPEN
    assert rig.connection.written == []


def test_the_json_of_a_delete_is_utf_8_whatever_charset_it_claims(rig):
    # RFC 8259 section 11: a charset has no effect.
    answer = rig.ask("DELETE", rig.path, "Content-Type: application/json; charset=none", body='{"reason":"é"}'.encode())
    assert answer.status == 200
    assert rig.connection.written == [frames.encode_close(1000, "é")]


def test_a_delete_during_the_handshake_refuses_the_client():
    rig = Rig(enters=False)
    assert rig.ask("DELETE", rig.path).status == 200
    assert rig.pending_client.refused is not None
    assert rig.pending_client.refused.status == 403
    rig.webhook.answer(Accepted(None, None))
    assert isinstance(rig.webhook.pending, Closed)
    assert rig.ask("GET", rig.path).status == 410


def test_a_second_delete_is_gone_and_closes_nothing(rig):
    rig.ask("DELETE", rig.path, body=b'{"code": 4000}')
    assert rig.ask("DELETE", rig.path).said == (410, "GONE")
    assert len(rig.connection.written) == 1
    assert rig.session.info.close.code == 4000


def test_a_put_to_a_client_that_is_being_closed_is_gone(rig):
    rig.ask("DELETE", rig.path)
    assert rig.put(b"late").said == (410, "GONE")


# GET and HEAD.


def test_a_get_describes_the_client(rig):
    answer = rig.ask("GET", rig.path)
    assert answer.status == 200
    assert answer.json == {"code": "OK", **information(rig.session, rig.registry.services)}
    assert answer.json["id"] == rig.session.id


def test_a_client_that_is_being_closed_is_still_found(rig):
    rig.ask("DELETE", rig.path)
    assert rig.ask("GET", rig.path).json["state"] == "closing"


@pytest.mark.parametrize(
    "path", ["client", "/healthz", "/readyz", UNKNOWN, "/nothing", "/connections", "/connections?limit=0"]
)
def test_a_head_is_answered_like_a_get_without_its_body(rig, path):
    path = rig.path if path == "client" else path
    got, head = rig.ask("GET", path), rig.ask("HEAD", path)
    assert got.body != b""
    assert head.body == b""
    assert (head.status, head.headers) == (got.status, got.headers)


# Paths.


@pytest.mark.parametrize("method", ["PUT", "DELETE", "GET", "HEAD"])
def test_an_unknown_id_is_gone(rig, method):
    answer = rig.ask(method, UNKNOWN)
    assert answer.status == 410
    assert method == "HEAD" or answer.said == (410, "GONE")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "GET"])
def test_a_client_that_left_is_gone(rig, method):
    rig.session.lost()
    rig.webhook.answer(DELIVERED)
    assert rig.ask(method, rig.path).said == (410, "GONE")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/nothing",
        "/" + "a" * 29,
        "/" + "a" * 31,
        UNKNOWN + "/",
        "/x" + UNKNOWN,
        "/" + UNKNOWN,
        "/healthz/",
        "/Healthz",
        "/%ff" + "a" * 29,
        "/groups",
        "*",
        "http://node",
        "http://node?x=" + UNKNOWN,
        "/.." + UNKNOWN,
        "/x/.." + UNKNOWN,
        "/." + UNKNOWN,
        "/%2f" + UNKNOWN[1:],
        "/%2F" + UNKNOWN[1:],
        UNKNOWN + "%2f",
        UNKNOWN + "%00",
        UNKNOWN[:-1] + "%2B",
        UNKNOWN[:-1] + "%",
        UNKNOWN[:-1] + "%6",
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST"])
def test_any_other_path_is_not_found(rig, method, path):
    if path == "*":
        method = "OPTIONS"
    assert rig.ask(method, path).said == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    "spell",
    [
        lambda path: path,
        lambda path: path + "?",
        lambda path: path + "?x=/y&z=http://h/",
        lambda path: f"http://node{path}",
        lambda path: f"https://node:8080{path}?x",
        lambda path: f"http://[::1]:8080{path}",
        lambda path: "/" + "".join(f"%{ord(character):02x}" for character in path[1:]),
        lambda path: f"http://node/%{ord(path[1]):02X}{path[2:]}",
    ],
)
def test_a_connection_is_found_however_its_target_is_written(rig, spell):
    assert rig.ask("GET", spell(rig.path)).json["id"] == rig.session.id


@pytest.mark.parametrize("hostname", ["node/ws/v1", "https://node:1/ws/v1"])
def test_the_prefix_of_ws_hostname_may_stand_before_an_id(hostname):
    rig = Rig(ws_hostname=hostname)
    assert rig.ask("GET", "/ws/v1" + rig.path).status == 200
    assert rig.ask("GET", "/ws/v1" + UNKNOWN).status == 410
    # A proxy may have taken the prefix off.
    assert rig.ask("GET", rig.path).status == 200
    assert rig.ask("GET", "/ws" + rig.path).status == 404
    assert rig.ask("GET", "/ws/v1/").status == 404
    # An encoded slash is no slash to a proxy, and so to nobody.
    for path in ("/ws/v1%2F", "/ws%2fv1/", "/%2fws/v1/"):
        assert rig.ask("GET", path + rig.path[1:]).status == 404


@pytest.mark.parametrize("prefix", ["/ws", "/ws/v1", "/a.b"])
def test_the_prefix_of_ws_hostname_may_stand_before_any_path(prefix):
    rig = Rig(ws_hostname=f"node{prefix}")
    for before in ("", prefix):
        for path in ("/connections", "/healthz", "/readyz", "/groups/lobby"):
            assert rig.ask("GET", before + path + "?x").status == 200
        assert rig.ask("PUT", f"{before}/groups/lobby/connections{rig.path}").status == 200
        assert rig.ask("GET", f"{before}/groups/lobby").json["group"] == "lobby"
        assert rig.ask("POST", f"{before}/send", body=b"{").said == (400, "BAD_REQUEST")
        assert rig.ask("GET", f"{before}/send").status == 405
    for path in (f"{prefix}{prefix}/connections", f"{prefix}x/connections", f"{prefix}//connections", prefix):
        assert rig.ask("GET", path).status == 404
    assert Rig(ws_hostname="node/axb").ask("GET", "/a.b/readyz").status == 404


def test_public_paths_with_a_prefix_need_no_token():
    rig = Rig(ws_hostname="node/ws", control_token="s3cret")
    assert [rig.ask("GET", f"/ws/{path}").status for path in ("healthz", "readyz", "connections")] == [200, 200, 401]


def test_the_prefix_is_not_part_of_the_name_of_a_group():
    rig = Rig(ws_hostname="node/groups")
    assert rig.ask("GET", "/groups/lobby").json["group"] == "lobby"
    assert rig.ask("GET", "/groups/groups/lobby").json["group"] == "lobby"


@pytest.mark.parametrize("method", ["POST", "PATCH", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("known", [True, False])
def test_other_methods_of_a_connection_are_not_allowed(rig, method, known):
    answer = rig.ask(method, rig.path if known else UNKNOWN)
    assert answer.said == (405, "METHOD_NOT_ALLOWED")
    assert answer.headers["Allow"] == "PUT, DELETE, GET, HEAD"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_supports_only_get_and_head(rig, method, path):
    answer = rig.ask(method, path)
    assert answer.said == (405, "METHOD_NOT_ALLOWED")
    assert answer.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_the_connections_support_only_get_head_and_put(rig, method):
    answer = rig.ask(method, "/connections")
    assert answer.said == (405, "METHOD_NOT_ALLOWED")
    assert answer.headers["Allow"] == "GET, PUT, HEAD"


# The list.


def listed(rig, query=""):
    """Return the clients on a page, by order, and the order in its `next`."""
    answer = rig.ask("GET", f"/connections{query}")
    assert answer.status == 200, answer.json
    orders = {each.id: each.info.order for each in rig.sessions}
    following = answer.json["next"]
    if following is not None:
        assert following.startswith(rig.registry.prefix)
        following = int(following[8:])
    return [orders[each["id"]] for each in answer.json["connections"]], following


def after(rig, order):
    """Return the `next` of a page that ends with this order."""
    return f"{rig.registry.prefix}{order}"


def test_the_list_describes_the_node_and_each_client_as_a_get_does(rig):
    rig.admit(enters=False)
    rig.clock.advance(90.0)
    answer = rig.ask("GET", "/connections")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json == {
        "code": "OK",
        "node": "localhost:8080",
        "started_at": rfc3339(rig.clock.wall() - 90.0),
        "total": 2,
        "connections": [information(session, rig.registry.services) for session in rig.sessions],
        "next": None,
        "missing": [],
    }
    for session in rig.sessions:
        shown = rig.ask("GET", f"/{session.id}").json
        assert shown.pop("code") == "OK"
        assert shown in answer.json["connections"]


def test_the_list_of_an_empty_node_is_empty(rig):
    rig.session.lost()
    answer = rig.ask("GET", "/connections")
    assert (answer.json["total"], answer.json["connections"], answer.json["next"]) == (0, [], None)


def test_connections_whose_delete_is_owed_are_listed_in_the_order_of_their_ends(rig):
    first, second, third = rig.session, rig.admit(), rig.admit()
    second.closed_by_client(4001, "bye")
    rig.clock.advance(10.0)
    first.lost()
    answer = rig.ask("GET", "/connections?state=ending")
    assert answer.json["total"] == 2
    assert [each["id"] for each in answer.json["connections"]] == [second.id, first.id]
    shown = answer.json["connections"][0]
    assert (shown["state"], shown["code"], shown["reason"], shown["undelivered"]) == ("closed", 4001, "bye", 0)
    assert shown["ended_at"] == rfc3339(rig.clock.wall() - 10.0)
    page = rig.ask("GET", "/connections?state=ending&limit=1").json
    assert [each["id"] for each in page["connections"]] == [second.id]
    page = rig.ask("GET", f"/connections?state=ending&after={page['next']}").json
    assert [each["id"] for each in page["connections"]] == [first.id]
    assert page["next"] is None
    assert [each["id"] for each in rig.ask("GET", "/connections").json["connections"]] == [third.id]


@pytest.mark.parametrize("state", ["open", "", "ENDING"])
def test_another_state_than_ending_cannot_be_listed(rig, state):
    answer = rig.ask("GET", f"/connections?state={state}")
    assert (answer.status, answer.json["code"]) == (400, "BAD_REQUEST")


def test_clients_whose_end_the_backend_does_not_know_yet_are_not_listed(rig):
    rig.session.lost()
    rig.admit()
    assert listed(rig) == ([2], None)


def test_the_list_has_pages_each_of_which_names_the_next(rig):
    rig.crowd(5)
    assert listed(rig, "?limit=2") == ([1, 2], 2)
    assert listed(rig, f"?limit=2&after={after(rig, 2)}") == ([3, 4], 4)
    assert listed(rig, f"?after={after(rig, 4)}&limit=2") == ([5], None)
    assert listed(rig, "?limit=5") == ([1, 2, 3, 4, 5], None)
    assert listed(rig, f"?after={after(rig, 5)}") == ([], None)
    assert listed(rig, f"?after={after(rig, 999_999_999_999_999)}") == ([], None)
    assert rig.ask("GET", f"/connections?limit=1&after={after(rig, 3)}").json["total"] == 5


def test_a_page_has_a_hundred_connections_by_default():
    rig = Rig(limit=200)
    rig.crowd(102)
    assert listed(rig) == (list(range(1, 101)), 100)
    assert listed(rig, f"?after={after(rig, 100)}") == ([101, 102], None)


@pytest.mark.parametrize("limit", ["", "0", "1001", "-1", "+1", "1.0", "many", "1e2", "%D9%A1", "9" * 16])
def test_an_invalid_limit_is_refused(rig, limit):
    answer = rig.ask("GET", f"/connections?limit={limit}")
    assert answer.said == (400, "BAD_REQUEST")
    assert answer.json["message"].startswith("limit must be a ")


@pytest.mark.parametrize("text", ["-1", "+1", "0x1", "last", "1", "%D9%A1", "%C2%B2", "9" * 24, "9" * 5000, "a" * 8])
def test_an_invalid_after_is_refused(rig, text):
    answer = rig.ask("GET", f"/connections?after={text}")
    assert answer.said == (400, "BAD_REQUEST")
    assert answer.json["message"] == "after must be the next of an earlier page."


def test_a_page_after_that_of_a_process_that_ended_goes_on_with_the_next_process(rig):
    before, behind = "-" * 8, "z" * 8
    assert before < rig.registry.prefix < behind
    assert listed(rig, f"?after={before}7") == ([1], None)
    assert listed(rig, f"?after={behind}0") == ([], None)


@pytest.mark.parametrize("query", ["?", "?after=", "?x=", "?x=1", "?LIMIT=0", "?limit=0&limit=3", "?;&&="])
def test_unknown_query_parameters_are_ignored(rig, query):
    assert listed(rig, query) == ([1], None)


@pytest.mark.parametrize(
    "target", ["http://node/connections", "http://other:1/connections", "https://[::1]/connections", "/%63onnections"]
)
def test_the_list_is_found_however_its_target_is_written(rig, target):
    rig.crowd(3)
    answer = rig.ask("GET", f"{target}?after={after(rig, 1)}&x=http://h/?&limit=1")
    assert answer.status == 200
    assert answer.json["next"] == after(rig, 2)


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("2023-11-14T22:30:00Z", []),
        ("2023-11-14T22:30:00.000Z", []),
        ("2023-11-14T22:30:00.001Z", [1]),
        ("2023-11-14T22:30:10Z", [1]),
        ("2023-11-14T22:30:10.500Z", [1, 2]),
        ("2023-11-14T23:30:10.500%2B01:00", [1, 2]),
        ("2023-11-14T20:30:20.001-02:00", [1, 2, 3]),
        ("2023-11-14T22:30:20.000001%2B00:00", [1, 2, 3]),
        ("9999-12-31T23:59:59.999-23:59", [1, 2, 3]),
        ("0001-01-01T00:00:00%2B23:59", []),
    ],
)
def test_the_list_may_be_limited_to_connections_before_a_time(rig, time, expected):
    start = 1_700_001_000.0
    assert rfc3339(start) == "2023-11-14T22:30:00.000Z"
    rig.crowd(3)
    for number, session in enumerate(rig.sessions):
        session.info.connected_at = start + number * 10.0
    assert listed(rig, f"?connected_before={time}") == (expected, None)
    if expected == [1, 2, 3]:
        assert listed(rig, f"?limit=2&connected_before={time}") == ([1, 2], 2)
        assert listed(rig, f"?limit=2&connected_before={time}&after={after(rig, 2)}") == ([3], None)


@pytest.mark.parametrize(
    "time",
    [
        "now",
        "1700001000",
        "2023-11-14",
        "2023-11-14T22:30:00",
        "2023-11-14T22:30:00+01:00",
        "2023-11-14T25:30:00Z",
        "2023-02-30T22:30:00Z",
        "2023-11-14T22:30:00ZZ",
        "%FF",
        "Z",
    ],
)
def test_an_invalid_time_is_refused(rig, time):
    answer = rig.ask("GET", f"/connections?connected_before={time}")
    assert answer.said == (400, "BAD_REQUEST")
    assert answer.json["message"].startswith("connected_before must be a time such as 2026-01-31T12:00:00.123Z")


@examples(200)
@given(st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#"), max_size=40))
def test_any_query_is_answered_with_a_page_or_an_error(query):
    answer = Rig().ask("GET", f"/connections?{query}")
    assert answer.said in {(200, "OK"), (400, "BAD_REQUEST")}


@examples(100)
@given(
    st.integers(0, 12),
    st.integers(1, 5),
    st.lists(st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=4), max_size=20),
)
def test_clients_that_come_and_go_between_pages_hide_no_others_and_show_none_twice(count, limit, changes):
    rig = Rig(limit=200)
    rig.crowd(max(1, count))
    stayed = {session.info.order for session in rig.sessions}
    seen, place = [], 0
    for page in range(100):
        orders, following = listed(rig, f"?limit={limit}&after={after(rig, place)}")
        assert len(orders) <= limit
        seen += orders
        if following is None:
            break
        assert following == orders[-1]
        place = following
        for comes, which in changes[page] if page < len(changes) else ():
            if comes:
                rig.admit()
            elif rig.registry.live():
                left = list(rig.registry.live())[which % len(rig.registry)]
                stayed.discard(left.info.order)
                left.lost()
    assert seen == sorted(set(seen))
    assert stayed <= set(seen)


# Health.


def test_a_node_is_healthy_and_ready(rig):
    assert rig.ask("GET", "/healthz").said == (200, "OK")
    assert rig.ask("GET", "/readyz").said == (200, "OK")


def test_a_node_that_stops_is_healthy_but_not_ready(rig):
    rig.registry.close(lambda: None, lambda: None)
    assert rig.ask("GET", "/healthz").said == (200, "OK")
    assert rig.ask("GET", "/readyz").said == (503, "UNAVAILABLE")


# The token.


@pytest.mark.parametrize(
    "header",
    [
        None,
        "Authorization: Bearer",
        "Authorization: Bearer wrong",
        "Authorization: Bearer s3cre",
        "Authorization: Bearer s3cret2",
        "Authorization: Basic s3cret",
        "Authorization: s3cret",
        "X-Authorization: Bearer s3cret",
    ],
)
@pytest.mark.parametrize("method", ["PUT", "DELETE", "GET", "POST"])
@pytest.mark.parametrize("path", ["client", UNKNOWN, "/nothing", "/connections", "/connections?limit=0"])
def test_without_the_token_every_request_is_refused(header, method, path):
    rig = Rig(control_token="s3cret")
    path = rig.path if path == "client" else path
    answer = rig.ask(method, path, *([header] if header else []))
    assert answer.said == (401, "UNAUTHORIZED")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert rig.session.state is State.OPEN
    assert rig.connection.written == []


def test_a_request_with_the_token_is_served():
    rig = Rig(control_token="s3cret")
    assert rig.ask("PUT", rig.path, TOKEN, body=b"hi").status == 200
    assert rig.ask("GET", rig.path, TOKEN).status == 200
    assert rig.ask("GET", UNKNOWN, TOKEN).status == 410
    assert rig.ask("GET", "/nothing", TOKEN).status == 404
    assert [each["id"] for each in rig.ask("GET", "/connections", TOKEN).json["connections"]] == [rig.session.id]
    assert rig.ask("DELETE", rig.path, TOKEN).status == 200


@pytest.mark.parametrize("header", ["authorization: bearer s3cret", "Authorization: BEARER  s3cret"])
def test_the_scheme_bearer_may_be_in_any_case(header):
    # RFC 9110 section 11.1
    rig = Rig(control_token="s3cret")
    assert rig.ask("GET", rig.path, header).status == 200


@pytest.mark.parametrize(("token", "status"), [("new", 200), ("old", 200), ("older", 401), ("new,old", 401)])
def test_each_of_several_tokens_is_accepted(token, status):
    rig = Rig(control_token="new,old")
    assert rig.ask("GET", rig.path, f"Authorization: Bearer {token}").status == status


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/%68ealthz"])
def test_health_needs_no_token(path):
    assert Rig(control_token="s3cret").ask("GET", path).status == 200


def test_a_token_is_ignored_where_none_is_set(rig):
    assert rig.ask("GET", rig.path, "Authorization: Bearer whatever").status == 200


# The connection.


@pytest.mark.parametrize("path", ["client", "/healthz", UNKNOWN])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_response_has_connection_close_where_the_connection_is_closed(rig, method, path):
    path = rig.path if path == "client" else path
    assert "Connection" not in rig.ask(method, path).headers
    assert rig.ask(method, path, "Connection: close").headers["Connection"] == "close"


def test_a_put_with_connection_close_is_answered_with_connection_close(rig):
    answer = rig.ask("PUT", rig.path, "Connection: close", body=b"x")
    assert answer.said == (200, "OK")
    assert answer.headers["Connection"] == "close"


# Requests without a token or certificate.


EVERYTHING = [("PUT", None), ("DELETE", None), ("GET", None), ("GET", "/connections"), ("GET", UNKNOWN), ("GET", "/x")]


@pytest.mark.parametrize(("method", "path"), EVERYTHING)
@pytest.mark.parametrize(
    ("host", "header"),
    [
        ("evil.example:8080", ()),
        ("localhost", ("Origin: http://localhost:8080",)),
        ("localhost", ("Origin: null",)),
        ("localhost", ("Sec-Fetch-Site: cross-site",)),
    ],
)
def test_a_web_page_is_refused(rig, method, path, host, header):
    # Also behind requests that are good, and of a Host that is known to be.
    assert rig.put(b"good").status == 200
    answer = rig.ask(method, path or rig.path, *header, body=b"bad", host=host)
    assert answer.said == (403, "FORBIDDEN")
    assert "CONTROL_TOKEN" in answer.json["message"]
    assert rig.connection.written == [frames.encode(frames.TEXT, b"good")]


@pytest.mark.parametrize(
    ("values", "host"),
    [
        ({}, "localhost:8080"),
        ({}, "[::1]:8080"),
        ({"ws_hostname": "https://Gateway.Example/ws", "listen": "0.0.0.0:80"}, "gateway.example:8443"),
        ({"ws_hostname": "gateway.example", "control_listen": "control.internal:81"}, "control.internal"),
        ({"ws_hostname": "gateway.example", "listen": "10.0.0.7:81"}, "10.0.0.7:81"),
        ({"listen": "unix:/run/wsaas.sock"}, "anything"),
    ],
)
def test_the_host_may_be_a_name_from_the_settings(values, host):
    rig = Rig(**values)
    for _ in range(2):
        assert rig.ask("PUT", rig.path, "Sec-Fetch-Site: none", body=b"x", host=host).status == 200
        assert rig.ask("PUT", rig.path, body=b"x", host=host).status == 200
        assert rig.ask("GET", "/connections", host=host).status == 200


def test_a_web_page_is_refused_on_a_unix_socket_too():
    rig = Rig(listen="unix:/run/wsaas.sock")
    assert rig.ask("PUT", rig.path, "Origin: http://a", body=b"x").said == (403, "FORBIDDEN")


def test_a_control_listener_does_not_accept_the_host_of_the_clients():
    rig = Rig(ws_hostname="gateway.example", listen="10.0.0.7:80", control_listen="10.0.0.8:80")
    assert rig.ask("GET", "/connections", host="10.0.0.7").status == 403


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_is_open_to_web_pages_too(rig, path):
    assert rig.ask("GET", path, "Origin: http://evil.example", host="evil.example").status == 200


def test_a_token_replaces_the_check_of_the_host():
    rig = Rig(control_token="s3cret")
    page = "Origin: http://evil.example", "Sec-Fetch-Site: cross-site"
    assert rig.ask("PUT", rig.path, TOKEN, *page, body=b"x", host="evil.example").status == 200
    assert rig.ask("PUT", rig.path, *page, body=b"x", host="localhost").said == (401, "UNAUTHORIZED")
    # Whatever was good before: no Host stands for a token.
    assert rig.ask("PUT", rig.path, body=b"x", host="evil.example").said == (401, "UNAUTHORIZED")


def test_a_client_certificate_replaces_the_check_of_the_host():
    rig = Rig(control_tls_ca="/ca.pem", control_listen="127.0.0.1:1", tls_cert="/cert.pem", tls_key="/key.pem")
    answer = rig.ask("PUT", rig.path, "Origin: http://evil.example", body=b"x", host="evil.example")
    assert answer.status == 200


def test_http_1_0_without_a_host_is_refused(rig):
    (request,) = read_all(RequestParser(0), b"GET /connections HTTP/1.0\r\n\r\n")
    assert Answer(serialize(rig.api.respond(request), 0.0, request)).said == (403, "FORBIDDEN")


def test_a_web_page_is_refused_before_its_body(rig):
    lines = [f"PUT {rig.path} HTTP/1.1", "Host: evil.example", "Content-Length: 100", "", ""]
    reader = RequestParser(1000, rig.api.body_limit)
    (refused,) = read_all(reader, "\r\n".join(lines).encode())
    assert refused.error.status == 403
