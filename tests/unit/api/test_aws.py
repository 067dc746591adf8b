"""`/@connections/{id}`, as in AWS's API Gateway Management API."""

import time

import pytest

from tests.support.api_rig import Answer, Rig
from tests.support.aws import KEY, signed_lines
from tests.support.fakes import read_all
from tests.support.peers import REMOTE, PeerDouble
from wsaas.api.api import Api
from wsaas.cluster.router import LocalRouter
from wsaas.errors import Forbidden, GatewayTimeout, Gone, Misdirected, SlowClient, Unauthorized, Unknown
from wsaas.http.request import RejectedRequest, RequestParser
from wsaas.http.serialize import OK, OutgoingResponse, error_response, serialize
from wsaas.sessions.session_state import State
from wsaas.websocket import frames

UNKNOWN = "a" * 30
TOKEN = "Authorization: Bearer s3cret"


class AwsRig(Rig):
    """An API whose clock tells the real time, as signatures are of the real time."""

    def __init__(self, **values):
        super().__init__(**values)
        self.clock.stand_still(time.time() - self.clock.wall())
        self.aws_path = f"/@connections/{self.session.id}"

    def signed(self, method, path, *headers, body=b"", **options):
        return self.ask(method, path, *headers, *signed_lines(method, path, body, **options), body=body)

    def answer_to(self, request):
        response = self.api.respond(request)
        assert isinstance(response, OutgoingResponse)
        return Answer(serialize(response, 0.0, request))

    def reader(self):
        return RequestParser(1000, self.api.body_limit)


class PeerRouter(LocalRouter):
    """Finds `REMOTE` at a peer."""

    def __init__(self, registry, peer):
        super().__init__(registry)
        self.find_peer = peer.find_peer  # type: ignore[method-assign]  # the double has the same method


class PeerRig(AwsRig):
    """An API whose peer holds `REMOTE`."""

    def __init__(self, **values):
        super().__init__(**values)
        self.peer = PeerDouble(self.clock.now)
        self.api = Api(self.api_settings, self.registry, self.fan_out, PeerRouter(self.registry, self.peer))

    @property
    def api_settings(self):
        return self.registry.services.settings

    def begin(self, method, *headers, body=b"", path=f"/@connections/{REMOTE}"):
        """Make a request for `REMOTE`; return its deferred response, a list for the answer, and what is forwarded."""
        deferred, answers = self.defer(method, path, *headers, body=body)
        (request,) = self.peer.requests
        return deferred, answers, request


@pytest.fixture
def rig():
    return AwsRig()


def failure(answer):
    assert list(answer.json) == ["message"]
    assert answer.json["message"]
    return answer.status, answer.headers["x-amzn-ErrorType"]


# Paths.


@pytest.mark.parametrize(
    "path",
    [
        "/@connections/{}",
        "/prod/@connections/{}",
        "/hub/ws/@connections/{}",
        "/hub/ws/prod/@connections/{}",
        "/%40connections/{}",
        "/my%20stage/%40connections/{}?query",
    ],
)
def test_a_stage_and_the_path_of_ws_hostname_may_stand_before_the_path(path):
    rig = AwsRig(ws_hostname="node/hub/ws")
    assert rig.ask("POST", path.format(rig.session.id), body=b"hi").status == 200
    assert rig.connection.written == [frames.encode(frames.TEXT, b"hi")]


def test_an_id_may_be_percent_encoded(rig):
    encoded = "".join(f"%{ord(letter):02x}" for letter in rig.session.id)
    assert rig.ask("POST", f"/@connections/{encoded}", body=b"hi").status == 200


@pytest.mark.parametrize("path", ["/@connections", "/a/b/@connections/{}", "/@connections/{}/", "/connections/{}"])
def test_other_paths_are_not_found(rig, path):
    assert rig.ask("POST", path.format(rig.session.id), body=b"hi").said == (404, "NOT_FOUND")
    assert rig.connection.written == []


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_other_methods_are_refused(rig, method):
    answer = rig.ask(method, rig.aws_path)
    assert failure(answer) == (405, "BadRequestException")
    assert answer.headers["Allow"] == "POST, GET, DELETE, HEAD"


# POST.


@pytest.mark.parametrize("headers", [(), ("Content-Type: application/octet-stream",), ("Content-Encoding: gzip",)])
@pytest.mark.parametrize(("body", "opcode"), [("grüße".encode(), frames.TEXT), (b"\xff\x00", frames.BINARY), (b"", 1)])
def test_a_post_sends_text_if_it_is_utf8_and_binary_otherwise_whatever_its_type(rig, headers, body, opcode):
    answer = rig.ask("POST", rig.aws_path, *headers, body=body)
    assert (answer.status, answer.body) == (200, b"")
    assert "Content-Type" not in answer.headers
    assert rig.connection.written == [frames.encode(opcode, body)]


def test_a_post_to_a_slow_client_is_over_a_limit(rig):
    rig.connection.backlog = 1024 * 1024
    answer = rig.ask("POST", rig.aws_path, body=b"more")
    assert failure(answer) == (429, "LimitExceededException")
    assert answer.headers["Retry-After"] == "1"
    assert rig.registry.services.counters.refused_pushes["slow"] == 1


@pytest.mark.parametrize("chunk", [0, 1])
def test_a_body_over_the_limit_is_refused_by_the_head(chunk):
    rig = AwsRig(max_message_size="10")
    head = f"POST {rig.aws_path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 11\r\n\r\n"
    (refused,) = read_all(RequestParser(10, rig.api.body_limit), head.encode() + b"x" * chunk)
    assert isinstance(refused, RejectedRequest)
    answer = Answer(serialize(error_response(refused.error), 0.0, refused.request))
    assert failure(answer) == (413, "PayloadTooLargeException")


def test_a_long_body_is_refused_while_memory_is_short(rig):
    class Short:
        allowance = 10.0

    object.__setattr__(rig.registry.services, "memory", Short())
    head = f"POST {rig.aws_path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 11\r\n\r\n"
    (refused,) = read_all(rig.reader(), head.encode())
    assert refused.error.status == 429
    assert dict(refused.error.headers)["x-amzn-ErrorType"] == "LimitExceededException"


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_the_body_of_any_other_request_is_read_as_it_is_signed(method):
    rig = AwsRig(control_aws_keys=KEY)
    for body, status in ((b"hello", {"GET": 200, "DELETE": 204}[method]), (b"hellO", 403)):
        lines = signed_lines(method, rig.aws_path, b"hello")
        head = [f"{method} {rig.aws_path} HTTP/1.1", "Host: localhost", "Content-Length: 5", *lines, "", ""]
        (request,) = read_all(rig.reader(), "\r\n".join(head).encode(), body)
        assert rig.answer_to(request).status == status
        rig = AwsRig(control_aws_keys=KEY)
    longer = f"{method} {rig.aws_path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4097\r\n\r\n"
    (refused,) = read_all(RequestParser(10_000, AwsRig().api.body_limit), longer.encode())
    assert refused.error.status == 413


def test_a_chunked_body_is_read(rig):
    head = f"POST {rig.aws_path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    (request,) = read_all(rig.reader(), head.encode(), b"2\r\nhi\r\n0\r\n\r\n")
    assert rig.answer_to(request).status == 200
    assert rig.connection.written == [frames.encode(frames.TEXT, b"hi")]


# GET and DELETE.


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_get_describes_the_connection_with_the_names_of_aws(rig, method):
    native = rig.ask("GET", rig.path).json
    answer = rig.ask(method, rig.aws_path)
    assert answer.status == 200
    if method == "GET":
        assert answer.json == {
            "connectedAt": native["connected_at"],
            "identity": {"sourceIp": native["remote_address"], "userAgent": ""},
            "lastActiveAt": native["last_seen_at"],
        }


def test_a_delete_closes_the_connection_and_has_no_content(rig):
    answer = rig.ask("DELETE", rig.aws_path, body=b"ignored")
    assert (answer.status, answer.body) == (204, b"")
    assert rig.connection.written == [frames.encode_close(1000, "")]
    assert rig.session.state is State.CLOSING
    assert failure(rig.ask("DELETE", rig.aws_path)) == (410, "GoneException")
    assert failure(rig.ask("POST", rig.aws_path)) == (410, "GoneException")


# Ids.


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
@pytest.mark.parametrize(
    ("connection_id", "expected"),
    [
        (UNKNOWN, (410, "GoneException")),
        ("L0SM9cOFvHcCIhw=", (410, "GoneException")),
        ("L0SM9cOFvHcCIhw%3D", (410, "GoneException")),
        ("short", (400, "BadRequestException")),
        ("not%20an%20identifier", (400, "BadRequestException")),
        ("", (400, "BadRequestException")),
    ],
)
def test_an_id_of_no_connection_is_gone_and_what_is_no_id_is_a_bad_request(rig, method, connection_id, expected):
    assert failure(rig.ask(method, f"/prod/@connections/{connection_id}")) == expected


# Access.


def test_without_keys_a_signature_is_accepted_where_no_token_is_asked_for(rig):
    assert rig.signed("POST", rig.aws_path, body=b"hi", key="any:secret").status == 200
    assert rig.ask("POST", rig.aws_path, "Authorization: AWS4-HMAC-SHA256 whatever", body=b"hi").status == 200


def test_without_keys_the_rules_for_web_pages_and_hosts_are_in_force(rig):
    assert failure(rig.ask("POST", rig.aws_path, "Origin: https://evil.example")) == (403, "ForbiddenException")
    assert failure(rig.ask("POST", rig.aws_path, host="evil.example")) == (403, "ForbiddenException")
    lines = signed_lines("POST", rig.aws_path, host="evil.example")
    assert failure(rig.ask("POST", rig.aws_path, *lines, host="evil.example")) == (403, "ForbiddenException")
    assert rig.connection.written == []


def test_without_keys_a_signature_is_no_token():
    rig = AwsRig(control_token="s3cret")
    answer = rig.signed("POST", rig.aws_path)
    assert failure(answer) == (403, "ForbiddenException")
    assert "WWW-Authenticate" not in answer.headers
    assert rig.ask("POST", rig.aws_path, TOKEN).status == 200


@pytest.mark.parametrize("key", [KEY, "local:secret"])
def test_with_keys_a_signature_by_one_of_them_is_required(key):
    rig = AwsRig(control_aws_keys=f"{KEY},local:secret")
    # A signature is as good from any Host, and from a page that has the secret.
    options = {"host": "evil.example", "key": key}
    for method, status in (("POST", 200), ("GET", 200), ("DELETE", 204)):
        lines = signed_lines(method, rig.aws_path, **options)
        answer = rig.ask(method, rig.aws_path, "Origin: https://evil.example", *lines, host="evil.example")
        assert answer.status == status


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
def test_with_keys_any_other_request_is_forbidden_without_effect(method):
    rig = AwsRig(control_aws_keys=KEY)
    wrong = signed_lines(method, rig.aws_path, key=f"{KEY}x")
    other = signed_lines(method, rig.aws_path, key="other:secret")
    for headers in ([], [TOKEN], ["Authorization: Bearer"], wrong, other):
        assert failure(rig.ask(method, rig.aws_path, *headers)) == (403, "ForbiddenException")
    assert rig.connection.written == []
    assert rig.session.state is State.OPEN


def test_with_keys_and_a_token_either_is_accepted():
    rig = AwsRig(control_aws_keys=KEY, control_token="s3cret")
    assert rig.signed("POST", rig.aws_path).status == 200
    assert rig.ask("POST", rig.aws_path, TOKEN).status == 200
    assert rig.ask("PUT", rig.path, TOKEN).status == 200
    assert failure(rig.ask("POST", rig.aws_path, TOKEN + "x")) == (403, "ForbiddenException")
    assert rig.signed("PUT", rig.path).said == (401, "UNAUTHORIZED")


def test_keys_alone_open_no_other_path():
    rig = AwsRig(control_aws_keys=KEY)
    for method, path in (("PUT", rig.path), ("GET", "/connections"), ("GET", "/nothing"), ("POST", "/send")):
        for answer in (rig.ask(method, path), rig.signed(method, path), rig.ask(method, path, TOKEN)):
            assert answer.said == (401, "UNAUTHORIZED")
            assert "set CONTROL_TOKEN" in answer.json["message"]
    assert rig.ask("GET", "/healthz").status == 200
    assert rig.connection.written == []


def test_with_keys_and_client_certificates_only_requests_of_aws_need_a_signature():
    tls = {"control_tls_ca": "/ca.pem", "control_listen": "127.0.0.1:1", "tls_cert": "/cert.pem", "tls_key": "/key.pem"}
    rig = AwsRig(control_aws_keys=KEY, **tls)
    assert rig.ask("PUT", rig.path).status == 200
    assert failure(rig.ask("POST", rig.aws_path)) == (403, "ForbiddenException")
    assert rig.signed("POST", rig.aws_path).status == 200


def test_an_unknown_key_is_refused_before_the_body():
    rig = AwsRig(control_aws_keys=KEY)
    lines = signed_lines("POST", rig.aws_path, b"hello", key="other:secret")
    head = [f"POST {rig.aws_path} HTTP/1.1", "Host: localhost", "Content-Length: 5", *lines, "", ""]
    (refused,) = read_all(rig.reader(), "\r\n".join(head).encode())
    assert isinstance(refused, RejectedRequest)
    assert dict(refused.error.headers)["x-amzn-ErrorType"] == "ForbiddenException"


@pytest.mark.parametrize("connection_id", [None, UNKNOWN])
def test_whether_a_connection_exists_does_not_show_before_the_signature_is_verified(connection_id):
    rig = AwsRig(control_aws_keys=KEY)
    path = f"/@connections/{connection_id or rig.session.id}"
    lines = signed_lines("POST", path, b"hello", key=f"{KEY}x")
    head = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Length: 5", *lines, "", ""]
    (request,) = read_all(rig.reader(), "\r\n".join(head).encode(), b"hello")
    assert failure(rig.answer_to(request)) == (403, "ForbiddenException")


def test_only_a_valid_signature_shows_that_a_connection_is_the_backends():
    rig = AwsRig(control_aws_keys=KEY)
    right, wrong = (signed_lines("POST", rig.aws_path, b"hi", key=key) for key in (KEY, f"{KEY}x"))
    assert rig.api.authorizes(rig.request("POST", rig.aws_path, *right, body=b"hi"))
    assert not rig.api.authorizes(rig.request("POST", rig.aws_path, *right, body=b"ho"))
    assert not rig.api.authorizes(rig.request("POST", rig.aws_path, *wrong, body=b"hi"))
    assert not rig.api.authorizes(rig.request("POST", rig.aws_path, body=b"hi"))


def test_keys_are_replaced_for_the_next_request():
    rig = AwsRig(control_aws_keys=KEY)
    rig.api.aws_keys.replace([b"new:secret"])
    assert rig.signed("POST", rig.aws_path).status == 403
    assert rig.signed("POST", rig.aws_path, key="new:secret").status == 200


# Connections of other processes.


def test_a_post_is_forwarded_as_a_push_and_its_response_is_translated():
    rig = PeerRig(ws_hostname="node/ws")
    _, answers, request = rig.begin("POST", "Content-Type: image/png", "Ws-Node: a", "X-More: b", body=b"hi")
    assert (request.method, request.target, request.body) == (b"PUT", f"/ws/{REMOTE}".encode(), b"hi")
    assert request.headers == {b"content-type": b"application/x-www-form-urlencoded", b"ws-node": b"a"}
    rig.peer.answer(OK)
    (answer,) = answers
    assert (answer.status, answer.body) == (200, b"")


def test_a_delete_is_forwarded_without_a_body():
    rig = PeerRig()
    _, answers, request = rig.begin("DELETE")
    assert (request.method, request.target, request.body) == (b"DELETE", f"/{REMOTE}".encode(), b"")
    rig.peer.answer(OK)
    assert answers[0].status == 204


def test_a_description_by_a_peer_is_translated():
    rig = PeerRig()
    _, answers, request = rig.begin("GET")
    assert request.method == b"GET"
    native = rig.ask("GET", rig.path)
    rig.peer.answer(OutgoingResponse(200, native.body))
    assert answers[0].json == rig.ask("GET", rig.aws_path).json


FAILURES = [
    (Gone("It has ended."), (410, "GoneException")),
    (SlowClient("It is slow.", ("Retry-After", "1")), (429, "LimitExceededException")),
    (Unauthorized("No.", ("Www-Authenticate", "Bearer")), (403, "ForbiddenException")),
    (Forbidden("No."), (403, "ForbiddenException")),
    (Misdirected("Not here."), (421, "BadRequestException")),
    (Unknown("Who knows."), (504, "GatewayTimeoutException")),
]


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
@pytest.mark.parametrize(("error", "expected"), FAILURES)
def test_an_error_of_a_peer_is_translated(method, error, expected):
    rig = PeerRig()
    _, answers, _ = rig.begin(method)
    rig.peer.answer(error_response(error))
    (answer,) = answers
    assert failure(answer) == expected
    assert answer.json == {"message": error.message}
    assert ("Retry-After" in answer.headers) == isinstance(error, SlowClient)
    assert "Www-Authenticate" not in answer.headers


def test_a_response_that_is_given_up_is_translated_and_the_peers_is_dropped():
    rig = PeerRig()
    deferred, answers, request = rig.begin("POST", body=b"hi")
    assert deferred.deadline == rig.clock.now() + 10
    deferred.give_up(error_response(GatewayTimeout("Too late.")))
    assert failure(answers[0]) == (504, "GatewayTimeoutException")
    assert rig.peer.cancelled == [request]
    rig.peer.answer(OK)
    assert len(answers) == 1


@pytest.mark.parametrize(
    ("values", "headers", "forwarded"),
    [
        ({}, [], None),
        ({}, ["Authorization: Basic x"], b"Basic x"),
        ({}, None, None),
        ({"control_token": "s3cret,old"}, ["Authorization: Bearer old"], b"Bearer old"),
        ({"control_token": "s3cret,old", "control_aws_keys": KEY}, None, b"Bearer s3cret"),
        ({"control_aws_keys": KEY}, None, None),
    ],
)
def test_a_peer_gets_a_token_in_place_of_a_signature(values, headers, forwarded):
    rig = PeerRig(**values)
    path = f"/@connections/{REMOTE}"
    lines = signed_lines("POST", path, b"hi") if headers is None else headers
    _, _, request = rig.begin("POST", *lines, body=b"hi")
    assert request.headers.get(b"authorization") == forwarded


def test_a_connection_that_no_process_has_is_gone():
    assert failure(PeerRig().ask("POST", f"/@connections/{UNKNOWN}")) == (410, "GoneException")
