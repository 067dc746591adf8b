"""The REST API of Azure Web PubSub, in one process and with fake peers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.api_rig import Rig
from tests.support.azure_tokens import KEY, OTHER_KEY, client_token, make_token, request_token
from tests.support.fakes import FakePendingClient, start_session
from tests.support.peers import REMOTE, FakeProcess, FakeRouter, PeerDouble
from tests.support.strategies import examples
from wsaas.api.api import Api
from wsaas.api.azure_target import Target
from wsaas.delivery.verdicts import Accepted
from wsaas.errors import Gone, HTTPError, Unknown
from wsaas.http.serialize import OutgoingResponse, error_response
from wsaas.hubs import client_group, hub_group, user_group

GONE = "a" * 30
ROOT = "/api/hubs/chat"


class AzureRig(Rig):
    """An API with two clients of the hub `chat`, ann and bob, and one of another hub."""

    def __init__(self, **values):
        super().__init__(event_format="azure", enters=False, **values)
        self.accept("chat", None)
        self.ann = self.enter("chat", "ann")
        self.ann_connection = self.pending_client.connection
        self.bob = self.enter("chat", "bob")
        self.bob_connection = self.pending_client.connection
        self.enter("other", None)
        self.other_connection = self.pending_client.connection

    def enter(self, hub, user):
        self.pending_client = FakePendingClient()
        session = start_session(self.registry, self.pending_client)
        self.accept(hub, user)
        return session

    def accept(self, hub, user):
        groups = [hub_group(hub), user_group(hub, user) if user else None]
        self.webhook.calls.pop()[1](Accepted(None, None, tuple(filter(None, groups))))

    def post(self, path, body=b"", content_type="text/plain", host="localhost"):
        return self.ask("POST", ROOT + path, f"Content-Type: {content_type}", body=body, host=host)

    def written(self):
        """Return what ann, bob and the client of the other hub were sent since the last call."""
        found = []
        for connection in (self.ann_connection, self.bob_connection, self.other_connection):
            found.append(b"".join(connection.written))
            connection.written.clear()
        return found

    def groups(self, session):
        return self.registry.groups.names(session.id)


def test_a_message_goes_to_all_clients_of_the_hub():
    rig = AzureRig()
    answer = rig.post("/:send?api-version=1", b"hello")
    assert (answer.status, answer.json) == (202, {"code": "OK", "sent": 3, "slow": [], "slow_count": 0, "missing": []})
    assert rig.written() == [b"\x81\x05hello", b"\x81\x05hello", b""]


def test_hubs_are_not_told_apart_by_case():
    rig = AzureRig()
    assert rig.ask("POST", "/api/hubs/CHAT/:send", body=b"hello").json["sent"] == 3


def test_clients_may_be_excluded():
    rig = AzureRig()
    path = f"/:send?excluded={rig.ann.id}&api-version=1&excluded={rig.session.id}"
    assert rig.post(path, b"\0", "application/octet-stream").json["sent"] == 1
    assert rig.written() == [b"", b"\x82\x01\0", b""]


def test_json_is_text():
    rig = AzureRig()
    rig.post("/users/ann/:send", b'{"a":1}', "application/json")
    assert rig.written() == [b'\x81\x07{"a":1}', b"", b""]


def test_a_group_belongs_to_its_hub():
    rig = AzureRig()
    path = f"/groups/room%201/connections/{rig.ann.id}"
    assert rig.ask("PUT", ROOT + path).status == 200
    assert rig.post("/groups/room%201/:send", b"hello").json["sent"] == 1
    assert rig.ask("POST", "/api/hubs/other/groups/room%201/:send", body=b"hello").json["sent"] == 0
    assert rig.ask("HEAD", ROOT + "/groups/room%201").status == 200
    assert rig.ask("HEAD", "/api/hubs/other/groups/room%201").status == 404
    assert rig.ask("DELETE", ROOT + path).status == 204
    assert rig.ask("HEAD", ROOT + "/groups/room%201").status == 404


def test_names_may_have_any_characters():
    rig = AzureRig()
    assert rig.ask("PUT", f"{ROOT}/groups/a%2Fb%25/connections/{rig.ann.id}").status == 200
    assert client_group("chat", "a/b%") in rig.groups(rig.ann)
    assert rig.ask("HEAD", ROOT + "/groups/:send").status == 404


def test_the_name_of_a_user_may_have_several_lines():
    rig = AzureRig()
    rig.enter("chat", "a\nb")
    assert rig.post("/users/a%0Ab/:send", b"hello").json["sent"] == 1


def test_a_connection_gets_a_message():
    rig = AzureRig()
    answer = rig.post(f"/connections/{rig.ann.id}/:send", b"hello")
    assert (answer.status, answer.json) == (202, {"code": "OK", "sent": 1})
    assert rig.written() == [b"\x81\x05hello", b"", b""]


def test_a_client_that_is_not_accepted_yet_gets_its_messages_later():
    rig = AzureRig(azure_hub="Chat")
    session = rig.admit(enters=False)
    assert rig.post(f"/connections/{session.id}/:send", b"hello").json["sent"] == 1
    assert rig.ask("HEAD", f"{ROOT}/connections/{session.id}").status == 404
    assert rig.ask("PUT", f"{ROOT}/groups/a/connections/{session.id}").status == 200
    assert rig.ask("DELETE", f"{ROOT}/connections/{session.id}").status == 204
    assert rig.pending_client.refused is not None


def test_a_client_that_is_not_accepted_yet_is_in_no_other_hub():
    rig = AzureRig(azure_hub="chat")
    session = rig.admit(enters=False)
    session.info.path = "/client/hubs/other"
    assert rig.post(f"/connections/{session.id}/:send", b"hello").json["sent"] == 0
    assert rig.ask("PUT", f"{ROOT}/groups/a/connections/{session.id}").said == (404, "NOT_FOUND")
    assert rig.ask("DELETE", f"{ROOT}/connections/{session.id}").status == 204
    assert rig.pending_client.refused is None
    other = f"/api/hubs/other/connections/{session.id}"
    assert rig.ask("POST", f"{other}/:send", body=b"hello").json["sent"] == 1
    assert rig.ask("DELETE", other).status == 204
    assert rig.pending_client.refused is not None


@pytest.mark.parametrize("hub", ["chat", "other"])
def test_what_is_not_in_the_hub_does_not_exist(hub):
    rig = AzureRig()
    connection_id = GONE if hub == "chat" else rig.ann.id
    path = f"/api/hubs/{hub}/connections/{connection_id}"
    assert rig.ask("POST", f"{path}/:send", body=b"x").json == {"code": "OK", "sent": 0}
    assert rig.ask("HEAD", path).status == 404
    assert rig.ask("DELETE", path).status == 204
    assert rig.ask("PUT", f"/api/hubs/{hub}/groups/a/connections/{connection_id}").said == (404, "NOT_FOUND")
    assert rig.ask("DELETE", f"/api/hubs/{hub}/groups/a/connections/{connection_id}").status == 204
    assert rig.ask("DELETE", f"{path}/groups").status == 204
    assert rig.written() == [b"", b"", b""]


def test_a_connection_is_closed_with_a_reason():
    rig = AzureRig()
    path = f"{ROOT}/connections/{rig.ann.id}"
    assert rig.ask("HEAD", path).status == 200
    assert rig.ask("DELETE", path + "?reason=bye%21").status == 204
    assert rig.written() == [b"\x88\x06\x03\xe8bye!", b"", b""]
    assert rig.ask("HEAD", path).status == 404
    assert rig.ask("DELETE", path).status == 204
    assert rig.post(f"/connections/{rig.ann.id}/:send", b"x").json == {"code": "OK", "sent": 0}
    assert rig.ask("PUT", f"{ROOT}/groups/a/connections/{rig.ann.id}").status == 404


def test_many_connections_are_closed():
    rig = AzureRig()
    assert rig.post("/users/ann/:closeConnections?reason=a").status == 204
    assert rig.written() == [b"\x88\x03\x03\xe8a", b"", b""]
    assert rig.post("/groups/none/:closeConnections").status == 204
    assert rig.post(f"/:closeConnections?excluded={rig.session.id}").status == 204
    assert rig.written() == [b"", b"\x88\x02\x03\xe8", b""]


def test_a_user_is_all_connections_with_this_id():
    rig = AzureRig()
    second = rig.enter("chat", "ann")
    rig.enter("other", "ann")
    assert rig.post("/users/ann/:send", b"hello").json["sent"] == 2
    assert rig.ask("HEAD", ROOT + "/users/ann").status == 200
    assert rig.ask("HEAD", ROOT + "/users/eve").status == 404
    assert rig.ask("PUT", ROOT + "/users/ann/groups/a").status == 200
    assert rig.ask("PUT", ROOT + "/users/ann/groups/b").status == 200
    group = client_group("chat", "b")
    assert group in rig.groups(rig.ann)
    assert rig.ask("DELETE", ROOT + "/users/ann/groups/a").status == 204
    assert client_group("chat", "a") not in rig.groups(rig.ann) + rig.groups(second)
    assert group in rig.groups(second)
    assert rig.ask("DELETE", ROOT + "/users/ann/groups").status == 204
    assert rig.groups(second) == [hub_group("chat"), user_group("chat", "ann")]


def test_a_user_without_connections_cannot_join():
    assert AzureRig().ask("PUT", ROOT + "/users/eve/groups/a").said == (404, "NOT_FOUND")


def test_a_connection_leaves_all_groups_of_the_application():
    rig = AzureRig()
    for name in ("a", "b"):
        rig.ask("PUT", f"{ROOT}/groups/{name}/connections/{rig.ann.id}")
    assert rig.ask("DELETE", f"{ROOT}/connections/{rig.ann.id}/groups").status == 204
    assert rig.groups(rig.ann) == [hub_group("chat"), user_group("chat", "ann")]


def test_nobody_is_in_more_groups_than_the_limit():
    rig = AzureRig(max_groups="2")
    refused = (409, "TOO_MANY_GROUPS")
    assert rig.ask("PUT", f"{ROOT}/groups/a/connections/{rig.ann.id}").said == refused
    assert rig.ask("PUT", ROOT + "/users/ann/groups/a").said == refused


@pytest.mark.parametrize("path", ["/users/ann/groups/a", "/users/ann/groups"])
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_much_work_is_done_in_slices(method, path):
    if (method, path) == ("PUT", "/users/ann/groups"):
        return
    rig = AzureRig()
    others = [rig.enter("chat", "ann") for _ in range(5)]
    for each in others:
        rig.registry.groups.join(each, "chat:group:a")
    rig.serve_per_slice(2)
    _, answers = rig.defer(method, ROOT + path)
    assert not answers
    rig.clock.advance(1.0)
    assert [answer.status for answer in answers] == [200 if method == "PUT" else 204]
    assert (client_group("chat", "a") in rig.groups(others[-1])) is (method == "PUT")


def test_another_process_gets_a_summary():
    rig = AzureRig()
    assert rig.ask("GET", ROOT + "/users/ann?ws-summary=1").json["members"] == 1
    answer = rig.post("/:send?ws-summary=1", b"x")
    assert (answer.status, answer.json["sent"]) == (200, 3)


@pytest.mark.parametrize(
    ("method", "path", "said"),
    [
        ("POST", "/api/hubs/a-b/:send", (404, "NOT_FOUND")),
        ("POST", "/api/hubs/chat", (404, "NOT_FOUND")),
        ("POST", "/api/hubs/chat/", (404, "NOT_FOUND")),
        ("GET", "/api/hubs/chat/groups", (404, "NOT_FOUND")),
        ("GET", "/api/hubs/chat/groups/a/b", (404, "NOT_FOUND")),
        ("GET", "/api/hubs/chat/:send", (405, "METHOD_NOT_ALLOWED")),
        ("DELETE", "/api/hubs/chat/groups/a", (405, "METHOD_NOT_ALLOWED")),
        ("GET", "/api/hubs/chat/groups/", (400, "BAD_REQUEST")),
        ("GET", "/api/hubs/chat/groups/%FF", (400, "BAD_REQUEST")),
        ("GET", f"/api/hubs/chat/users/{'a' * 128}", (400, "BAD_REQUEST")),
        ("POST", "/api/hubs/chat/:send?filter=userId%20eq%20null", (400, "BAD_REQUEST")),
        ("POST", f"/api/hubs/chat/:closeConnections?reason={'a' * 124}", (400, "BAD_REQUEST")),
        ("POST", "/api/hubs/chat/:generateToken", (501, "NOT_IMPLEMENTED")),
        ("PUT", f"/api/hubs/chat/permissions/sendToGroup/connections/{GONE}", (501, "NOT_IMPLEMENTED")),
    ],
)
def test_other_requests_are_refused(method, path, said):
    assert AzureRig().ask(method, path).said == said


def test_the_methods_of_a_path_are_listed():
    assert AzureRig().ask("POST", ROOT + "/connections/x").headers["Allow"] == "GET, HEAD, DELETE"


def test_text_has_to_be_utf_8():
    assert AzureRig().post("/:send", b"\xff").said == (400, "BAD_TEXT")


def test_a_slow_client_is_named():
    rig = AzureRig(send_buffer="10")
    rig.ann_connection.backlog = 11
    assert rig.post("/:send", b"hello").json["slow"] == [rig.ann.id]
    assert rig.post(f"/connections/{rig.ann.id}/:send", b"hello").said == (429, "SLOW_CLIENT")


def test_as_much_work_as_there_may_be_is_refused():
    rig = AzureRig(max_publishes="1")
    rig.crowd(20)
    rig.serve_per_slice(1)
    rig.defer("POST", ROOT + "/:send", body=b"x")
    assert rig.ask("POST", ROOT + "/:send", body=b"x").said == (429, "TOO_MANY_REQUESTS")
    for method, path in (("POST", "/:closeConnections"), ("GET", "/users/ann"), ("PUT", "/users/ann/groups/a")):
        assert rig.ask(method, ROOT + path).said == (429, "TOO_MANY_REQUESTS")


@pytest.mark.parametrize(
    ("path", "limit"),
    [("/:send", 1_048_576), (f"/connections/{GONE}/:send", 1_048_576), ("/:closeConnections", 0)],
)
def test_only_messages_need_a_body(path, limit):
    rig = AzureRig()
    assert rig.api.body_limit(rig.request("POST", ROOT + path)) == limit


def test_without_the_setting_there_is_no_such_path():
    assert Rig().ask("POST", ROOT + "/:send").said == (404, "NOT_FOUND")


def status_of(path: bytes) -> int:
    try:
        Target(b"/api/hubs/" + path)
    except HTTPError as error:
        return error.status
    return 200


@given(st.binary(max_size=60))
@examples(300)
def test_any_path_is_read_or_refused(path):
    assert status_of(b"chat/" + path) in {200, 400}
    assert status_of(path) in {200, 400, 404}


# Peers.


class PeerRouter(FakeRouter):
    """Finds `REMOTE` at a peer, and has others."""

    def __init__(self, registry, peer, processes):
        super().__init__(registry, processes)
        self.find_peer = peer.find_peer  # type: ignore[method-assign]  # the double has the same method


class PeerRig(AzureRig):
    """An API with a peer that holds `REMOTE`, and one that is asked about many clients."""

    def __init__(self):
        super().__init__()
        self.peer, self.process = PeerDouble(self.clock.now), FakeProcess("worker 2")
        router = PeerRouter(self.registry, self.peer, {"p" * 8: self.process})
        self.api = Api(self.registry.services.settings, self.registry, self.fan_out, router)

    def ask_peer(self, method, path, response):
        """Make a request that the peer answers with `response`; return what is forwarded, and the answer."""
        _, answers = self.defer(method, ROOT + path)
        (request,) = self.peer.requests
        self.peer.answer(response)
        return request, answers[0]

    def ask_all(self, method, path, **summary):
        """Make a request that the other process answers with a summary; return what is forwarded, and the answer."""
        _, answers = self.defer(method, ROOT + path)
        ((request, _),) = self.process.requests
        self.process.answer(code="OK", missing=[], **summary)
        return request, answers[0]


@pytest.mark.parametrize(
    ("method", "path", "status", "gone"),
    [
        ("POST", f"/connections/{REMOTE}/:send", 202, 202),
        ("GET", f"/connections/{REMOTE}", 200, 404),
        ("DELETE", f"/connections/{REMOTE}", 204, 204),
        ("DELETE", f"/connections/{REMOTE}/groups", 204, 204),
        ("PUT", f"/groups/a/connections/{REMOTE}", 200, 404),
        ("DELETE", f"/groups/a/connections/{REMOTE}", 204, 204),
    ],
)
def test_a_request_for_a_connection_of_a_peer_is_forwarded_as_it_is(method, path, status, gone):
    rig = PeerRig()
    request, answer = rig.ask_peer(method, path, OutgoingResponse(status))
    assert (request.method.decode(), request.target.decode()) == (method, ROOT + path)
    assert answer.status == status
    _, answer = rig.ask_peer(method, path, error_response(Gone("It has ended.")))
    assert answer.status == gone
    _, answer = rig.ask_peer(method, path, error_response(Unknown("Nobody knows.")))
    assert answer.said == (504, "UNKNOWN")


def test_what_peers_did_is_added_up():
    rig = PeerRig()
    request, answer = rig.ask_all("POST", "/:send?excluded=x", sent=10, slow=[], slow_count=0)
    assert request.startswith(b"POST /api/hubs/chat/:send?excluded=x&ws-summary=1 HTTP/1.1\r\n")
    assert (answer.status, answer.json["sent"]) == (202, 13)


def test_what_exists_at_a_peer_exists():
    rig = PeerRig()
    request, answer = rig.ask_all("GET", "/users/eve", members=1)
    assert request.startswith(b"GET /api/hubs/chat/users/eve?ws-summary=1 HTTP/1.1\r\n")
    assert answer.status == 200
    assert rig.ask_all("GET", "/users/eve", members=0)[1].status == 404
    assert rig.ask_all("PUT", "/users/eve/groups/a", members=1, full=1)[1].said == (409, "TOO_MANY_GROUPS")


def test_it_is_not_known_what_exists_at_a_peer_that_does_not_answer():
    rig = PeerRig()
    rig.process.is_full = True
    answer = rig.ask("GET", ROOT + "/users/eve")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert rig.ask("GET", ROOT + "/users/ann").status == 200


def test_an_answer_that_comes_too_late_is_an_error():
    rig = PeerRig()
    deferred, answers = rig.defer("POST", ROOT + "/:send")
    deferred.give_up(error_response(Unknown("It took too long.")))
    assert answers[0].said == (504, "UNKNOWN")


# Access.


def authorized(rig, token, path="/:send"):
    return rig.ask("POST", ROOT + path, f"Authorization: Bearer {token}", body=b"x", host="example.com").status


def test_a_token_for_the_path_opens_it():
    rig = AzureRig(control_azure_keys=KEY)
    assert authorized(rig, request_token(f"{ROOT}/:send")) == 202
    assert authorized(rig, request_token(f"{ROOT}/:send?api-version=1"), "/:send?api-version=1") == 202
    assert authorized(rig, request_token("/api/hubs/chat/%3Asend")) == 202


@pytest.mark.parametrize(
    ("token", "why"),
    [
        ("abc", "A token that is signed with one of CONTROL_AZURE_KEYS is required."),
        (make_token({}, OTHER_KEY), "A token that is signed with one of CONTROL_AZURE_KEYS is required."),
        (request_token(f"{ROOT}/:send", exp=1), "The token has expired, or is not valid yet."),
        (request_token(f"{ROOT}/groups/a/:send"), "The token is for another path."),
        (make_token({}), "The token is for another path."),
        (make_token({"aud": "http://[/"}), "The token is for another path."),
        (client_token(), "The token is for another path."),
        (make_token({"aud": f"x{ROOT}/:send"}), "The token is for another path."),
        (request_token("/api/hubs%2Fchat/:send"), "The token is for another path."),
        (request_token("/api/hubs/chat%2F:send"), "The token is for another path."),
    ],
)
def test_other_tokens_open_nothing(token, why):
    rig = AzureRig(control_azure_keys=KEY)
    answer = rig.ask("POST", ROOT + "/:send", f"Authorization: Bearer {token}", body=b"x")
    assert (answer.status, answer.json["message"]) == (401, why)
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert rig.ask("POST", ROOT + "/:send", body=b"x").status == 401


def test_a_proxy_may_have_stripped_the_prefix():
    rig = AzureRig(control_azure_keys=KEY, ws_hostname="example.com/gateway")
    assert authorized(rig, request_token(f"/gateway{ROOT}/:send")) == 202
    token = request_token(f"{ROOT}/:send")
    assert authorized(rig, token) == 202
    assert authorized(rig, request_token(f"/gateway2{ROOT}/:send")) == 401
    assert rig.ask("POST", f"/gateway{ROOT}/:send", f"Authorization: Bearer {token}", body=b"x").status == 202


def test_a_token_for_a_name_with_a_slash_is_not_one_for_a_longer_path():
    rig = AzureRig(control_azure_keys=KEY)
    shorter, longer = "/groups/a%2Fconnections/:send", "/groups/a/connections/:send"
    assert authorized(rig, request_token(ROOT + shorter), shorter) == 202
    assert authorized(rig, request_token(ROOT + longer), shorter) == 401


def test_the_token_of_the_rest_api_opens_it_too():
    rig = AzureRig(control_azure_keys=KEY, control_token="s3cret")
    assert authorized(rig, "s3cret") == 202


def test_access_keys_open_nothing_else():
    rig = AzureRig(control_azure_keys=KEY)
    token = request_token(f"/{rig.ann.id}")
    assert rig.ask("PUT", f"/{rig.ann.id}", f"Authorization: Bearer {token}", body=b"x").said == (401, "UNAUTHORIZED")
    assert rig.ask("GET", "/connections").said == (401, "UNAUTHORIZED")


def test_without_keys_other_pages_and_hosts_are_refused():
    rig = AzureRig()
    assert rig.post("/:send", b"x", host="example.com").said == (403, "FORBIDDEN")
    assert rig.ask("POST", ROOT + "/:send", "Origin: https://example.com", body=b"x").said == (403, "FORBIDDEN")


def test_replaced_keys_count_at_once():
    rig = AzureRig(control_azure_keys=KEY)
    assert rig.webhook.access_keys is not None
    rig.webhook.access_keys.replace([OTHER_KEY.encode()])
    assert authorized(rig, request_token(f"{ROOT}/:send")) == 401
