"""Tests of `/groups/…` and of `PUT /connections`."""

import pytest

from tests.support.api_rig import Rig
from tests.support.fakes import FakePendingClient, read_all, start_session
from wsaas import errors
from wsaas.delivery.verdicts import Accepted
from wsaas.grammar import GROUP_NAME_FORM
from wsaas.http.request import RejectedRequest, RequestParser
from wsaas.reason import Reason
from wsaas.sessions.information import information
from wsaas.sessions.session_state import State
from wsaas.websocket import frames

HELLO = frames.encode(frames.TEXT, b"hello")
UNKNOWN = "a" * 30


class GroupRig(Rig):
    """An API with clients in the group `lobby`."""

    def __init__(self, members=1, **values):
        super().__init__(limit=2000, **values)
        self.connections = [self.connection]
        for _ in range(members - 1):
            self.admit()
            self.connections.append(self.pending_client.connection)
        for session in self.sessions:
            self.registry.groups.join(session, "lobby")

    def written(self):
        return [connection.written for connection in self.connections]

    def members(self, name="lobby"):
        return [*self.registry.groups.group(name)]

    def turn(self):
        self.clock.turn()


@pytest.fixture
def rig():
    return GroupRig(3)


# Membership.


def test_a_client_joins_and_leaves_a_group():
    rig = Rig()
    path = f"/groups/lobby/connections/{rig.session.id}"
    for _ in range(2):
        assert rig.ask("PUT", path).json == {"code": "OK"}
        assert [*rig.registry.groups.group("lobby")] == [rig.session]
    assert rig.ask("GET", rig.path).json["groups"] == ["lobby"]
    for _ in range(2):
        assert rig.ask("DELETE", path).json == {"code": "OK"}
        assert [*rig.registry.groups.group("lobby")] == []


def test_a_name_may_be_escaped():
    rig = Rig()
    assert rig.ask("PUT", f"/groups/user%3A7%40x/connections/{rig.session.id}").status == 200
    assert rig.registry.groups.names(rig.session.id) == ["user:7@x"]


def test_a_client_that_waits_for_the_backend_may_join():
    rig = Rig(enters=False)
    assert rig.ask("PUT", f"/groups/lobby/connections/{rig.session.id}").status == 200
    assert rig.ask("PUT", "/groups/lobby", body=b"hello").json["sent"] == 1
    rig.webhook.answer(Accepted(None, None))
    assert rig.pending_client.accepted == (None, HELLO)


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_an_unknown_client_neither_joins_nor_leaves(method):
    rig = Rig()
    assert rig.ask(method, f"/groups/lobby/connections/{UNKNOWN}").said == (410, "GONE")
    rig.session.lost()
    assert rig.ask(method, f"/groups/lobby/connections/{rig.session.id}").said == (410, "GONE")


def test_a_client_that_is_being_closed_may_leave_but_not_join():
    rig = GroupRig()
    rig.session.close(Reason.SHUTDOWN)
    assert rig.ask("PUT", f"/groups/other/connections/{rig.session.id}").said == (410, "GONE")
    assert rig.ask("DELETE", f"/groups/lobby/connections/{rig.session.id}").status == 200
    assert rig.members() == []


def test_a_client_joins_no_more_groups_than_max_groups():
    rig = Rig(max_groups="1")
    rig.ask("PUT", f"/groups/a/connections/{rig.session.id}")
    answer = rig.ask("PUT", f"/groups/b/connections/{rig.session.id}")
    assert answer.said == (409, "TOO_MANY_GROUPS")
    assert "MAX_GROUPS" in answer.json["message"]


def test_a_client_that_disconnects_is_no_member_any_more(rig):
    rig.sessions[1].lost()
    assert rig.members() == [rig.sessions[0], rig.sessions[2]]
    assert rig.ask("PUT", "/groups/lobby", body=b"hello").json["sent"] == 2


NAMES = ["", "a%20b", "x" * 129, "%C3%A9", "a%2Cb", "*"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", ""),
        ("GET", ""),
        ("DELETE", ""),
        ("PUT", f"/connections/{UNKNOWN}"),
        ("DELETE", f"/connections/{UNKNOWN}"),
    ],
)
def test_another_name_is_no_group(rig, method, path, name):
    answer = rig.ask(method, f"/groups/{name}{path}")
    assert answer.said == (400, "BAD_REQUEST")
    assert answer.json["message"] == f"The name of a group must be {GROUP_NAME_FORM}."


@pytest.mark.parametrize("path", ["/groups", "/groups/a/b", "/groups/a/connections", "/groups/a/connections/short"])
def test_there_are_no_other_paths(rig, path):
    assert rig.ask("PUT", path).status == 404


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/groups/lobby", "PUT, GET, DELETE, HEAD"),
        (f"/groups/lobby/connections/{UNKNOWN}", "PUT, DELETE"),
        ("/send", "POST"),
    ],
)
def test_other_methods_are_not_allowed(rig, path, allowed):
    answer = rig.ask("PATCH", path)
    assert answer.status == 405
    assert answer.headers["Allow"] == allowed


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", "/groups/lobby"), ("GET", "/groups/lobby"), ("DELETE", "/groups/lobby"), ("PUT", "/connections")],
)
def test_the_token_is_needed(method, path):
    rig = GroupRig(control_token="s3cret")
    assert rig.ask(method, path, body=b"{}").said == (401, "UNAUTHORIZED")
    assert rig.connection.written == []
    assert rig.ask(method, path, "Authorization: Bearer s3cret", body=b"{}").status == 200


# Publishing.


def test_a_publish_sends_its_body_to_each_member(rig):
    rig.admit()
    answer = rig.ask("PUT", "/groups/lobby", body=b"hello")
    assert answer.json == {"code": "OK", "sent": 3, "slow": [], "slow_count": 0, "missing": []}
    assert rig.written() == [[HELLO]] * 3
    assert rig.pending_client.connection.written == []


def test_a_publish_to_a_group_without_members_is_ok(rig):
    assert rig.ask("PUT", "/groups/empty", body=b"hello").json["sent"] == 0


@pytest.mark.parametrize("path", ["/groups/lobby", "/connections"])
def test_the_content_type_decides_as_it_does_for_a_push(rig, path):
    assert rig.ask("PUT", path, "Content-Type: image/png", body=b"hello").status == 200
    assert rig.ask("PUT", path, "Content-Type: text/plain; charset=latin1", body=b"\xe9").status == 200
    assert rig.ask("PUT", path, "Content-Type: text/plain", body=b"\xff").said == (400, "BAD_TEXT")
    assert rig.ask("PUT", path, "Content-Encoding: gzip", body=b"x").said == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert rig.connection.written == [frames.encode(frames.BINARY, b"hello"), frames.encode(frames.TEXT, "é".encode())]


@pytest.mark.parametrize("path", ["/groups/lobby", "/connections"])
def test_members_can_be_excepted(rig, path):
    ids = [session.id for session in rig.sessions]
    assert rig.ask("PUT", f"{path}?except={ids[0]},{ids[2]},,{UNKNOWN}", body=b"hello").json["sent"] == 1
    assert rig.written() == [[], [HELLO], []]
    assert rig.ask("PUT", f"{path}?except=localhost:8080/{ids[0]}", body=b"hello").json["sent"] == 2
    assert rig.ask("PUT", f"{path}?except=", body=b"hello").json["sent"] == 3


@pytest.mark.parametrize(
    ("query", "state"), [("", State.OPEN), ("?slow=skip", State.OPEN), ("?slow=close", State.CLOSED)]
)
def test_slow_members_are_skipped_or_closed(rig, query, state):
    slow = rig.sessions[1]
    connection = rig.connections[1]
    connection.backlog = 1024 * 1024
    connection.ended = slow.lost
    answer = rig.ask("PUT", f"/groups/lobby{query}", body=b"hello")
    assert answer.json == {"code": "OK", "sent": 2, "slow": [slow.id], "slow_count": 1, "missing": []}
    assert slow.state is state
    assert connection.written == ([] if state is State.OPEN else [frames.encode_close(1013, "slow client")])


@pytest.mark.parametrize("path", ["/groups/lobby", "/connections"])
@pytest.mark.parametrize("choice", ["wait", ""])
def test_slow_is_skip_or_close(rig, path, choice):
    answer = rig.ask("PUT", f"{path}?slow={choice}", body=b"hello")
    assert answer.said == (400, "BAD_REQUEST")
    assert answer.json["message"] == "slow must be skip or close."
    assert rig.written() == [[]] * 3


def test_a_publish_to_all_reaches_each_client_that_the_backend_has_accepted(rig):
    rig.admit()
    other = rig.pending_client.connection
    pending = FakePendingClient()
    waiting = start_session(rig.registry, pending)
    rig.sessions[0].close(Reason.SHUTDOWN)
    assert rig.ask("PUT", "/connections", body=b"hello").json["sent"] == 3
    assert [each.written for each in (*rig.connections[1:], other)] == [[HELLO]] * 3
    assert waiting.info.messages_out == 0


def test_the_body_of_a_publish_is_checked_by_its_head(rig):
    def read(*lines):
        reader = RequestParser(1_048_576, rig.api.body_limit)
        head = "\r\n".join([lines[0] + " HTTP/1.1", "Host: localhost", *lines[1:], "", ""])
        (item,) = read_all(reader, head.encode())
        assert isinstance(item, RejectedRequest)
        return item.error

    size = "Content-Length: 9"
    assert isinstance(read("PUT /groups/a%20b", size), errors.BadRequest)
    assert isinstance(read("PUT /groups/lobby", size, "Content-Encoding: gzip"), errors.UnsupportedMediaType)
    charset = "Content-Type: text/plain; charset=utf-7"
    assert isinstance(read("PUT /groups/lobby", size, charset), errors.UnsupportedMediaType)
    assert isinstance(read("DELETE /groups/lobby", "Content-Length: 4097"), errors.TooLarge)


def test_a_publish_is_refused_while_memory_is_short(rig):
    class Short:
        allowance = 100.0

    reader = RequestParser(1_048_576, rig.api.body_limit)
    object.__setattr__(rig.registry.services, "memory", Short())
    for path in ("/groups/lobby", "/connections"):
        head = f"PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 101\r\n\r\n"
        items = read_all(reader, head.encode())
        assert [type(item.error) for item in items] == [errors.TooManyRequests]
        reader = RequestParser(1_048_576, rig.api.body_limit)


# Large groups: the answer is deferred.


def test_a_large_publish_is_answered_when_the_last_member_is_served():
    rig = GroupRig(5)
    rig.serve_per_slice(2)
    _, answers = rig.defer("PUT", "/groups/lobby", body=b"hello")
    assert [len(written) for written in rig.written()] == [1, 1, 0, 0, 0]
    rig.turn()
    assert answers == []
    rig.turn()
    (answer,) = answers
    assert answer.json == {"code": "OK", "sent": 5, "slow": [], "slow_count": 0, "missing": []}
    assert rig.written() == [[HELLO]] * 5
    assert rig.clock.timers == []


def test_two_publishes_to_a_group_have_the_same_order_at_each_member():
    rig = GroupRig(5)
    rig.serve_per_slice(2)
    answers = [rig.defer("PUT", "/groups/lobby", body=body)[1] for body in (b"1", b"2", b"3")]
    while rig.clock.timers:
        rig.turn()
    assert all(answers)
    assert rig.written() == [[frames.encode(frames.TEXT, text) for text in (b"1", b"2", b"3")]] * 5


def test_members_are_closed_behind_the_publishes_before():
    rig = GroupRig(5)
    rig.serve_per_slice(2)
    rig.defer("PUT", "/groups/lobby", body=b"hello")
    _, answers = rig.defer("DELETE", "/groups/lobby", body=b'{"code": 4000, "reason": "bye"}')
    while rig.clock.timers:
        rig.turn()
    assert answers[0].json == {"code": "OK", "closed": 5, "missing": []}
    assert rig.written() == [[HELLO, frames.encode_close(4000, "bye")]] * 5


def test_a_publish_goes_on_when_its_caller_has_gone():
    rig = GroupRig(5)
    rig.serve_per_slice(2)
    deferred, answers = rig.defer("PUT", "/groups/lobby", body=b"hello")
    deferred.cancel()
    while rig.clock.timers:
        rig.turn()
    assert answers == []
    assert rig.written() == [[HELLO]] * 5


def test_a_caller_waits_for_keep_alive_timeout_at_most():
    rig = GroupRig(5, keep_alive_timeout="3000")
    rig.serve_per_slice(2)
    deferred, _ = rig.defer("PUT", "/groups/lobby", body=b"hello")
    assert deferred.deadline == rig.clock.now() + 3.0


def test_publishes_beyond_max_publishes_are_refused_and_send_nothing():
    rig = GroupRig(5, max_publishes="2")
    rig.serve_per_slice(2)
    rig.defer("PUT", "/groups/lobby", body=b"1")
    rig.defer("PUT", "/groups/lobby", body=b"2")
    for method, path in (("PUT", "/groups/lobby"), ("PUT", "/connections"), ("DELETE", "/groups/lobby")):
        answer = rig.ask(method, path)
        assert answer.said == (429, "TOO_MANY_REQUESTS")
        assert answer.headers["Retry-After"] == "1"
        assert "MAX_PUBLISHES" in answer.json["message"]
    while rig.clock.timers:
        rig.turn()
    assert rig.written() == [[frames.encode(frames.TEXT, text) for text in (b"1", b"2")]] * 5


# Closing.


def test_a_group_is_closed(rig):
    assert rig.ask("DELETE", "/groups/lobby").json == {"code": "OK", "closed": 3, "missing": []}
    assert rig.written() == [[frames.encode_close(1000)]] * 3
    assert rig.ask("DELETE", "/groups/lobby").json["closed"] == 0


@pytest.mark.parametrize("body", [b"nonsense", b'{"code": 999}'])
def test_a_group_is_not_closed_with_an_invalid_code(rig, body):
    assert rig.ask("DELETE", "/groups/lobby", body=body).said == (400, "BAD_CLOSE")
    assert rig.written() == [[]] * 3


def test_a_group_is_not_closed_with_a_body_that_is_too_large(rig):
    body = b'{"code": 4000}' + b" " * 4096
    assert rig.ask("DELETE", "/groups/lobby", body=body).said == (413, "TOO_LARGE")
    assert rig.ask("DELETE", "/groups/lobby", "Content-Encoding: gzip", body=b"x").status == 415
    assert rig.written() == [[]] * 3


# Listing.


def listed(rig, query="", name="lobby"):
    """Return the ids on a page, and its `next`."""
    answer = rig.ask("GET", f"/groups/{name}{query}")
    assert answer.status == 200, answer.json
    return [each["id"] for each in answer.json["connections"]], answer.json["next"]


def test_the_list_of_a_group_describes_its_members_as_a_get_does(rig):
    rig.admit()
    assert rig.ask("GET", "/groups/lobby").json == {
        "code": "OK",
        "group": "lobby",
        "count": 3,
        "connections": [information(session, rig.registry.services) for session in rig.sessions[:3]],
        "next": None,
        "missing": [],
    }
    assert rig.ask("GET", "/groups/none").json == {
        "code": "OK",
        "group": "none",
        "count": 0,
        "connections": [],
        "next": None,
        "missing": [],
    }


def test_members_are_listed_in_the_order_in_which_they_joined():
    rig = GroupRig(5)
    first = rig.sessions[0]
    rig.registry.groups.leave(first.id, "lobby")
    rig.registry.groups.join(first, "lobby")
    ids = [session.id for session in [*rig.sessions[1:], first]]
    assert listed(rig) == (ids, None)
    page, following = listed(rig, "?limit=2")
    assert page == ids[:2]
    rig.sessions[2].lost()
    rig.admit()
    rig.registry.groups.join(rig.sessions[-1], "lobby")
    page, following = listed(rig, f"?limit=2&after={following}")
    assert page == ids[2:4]
    assert listed(rig, f"?after={following}") == ([ids[4], rig.sessions[-1].id], None)


def test_members_that_connected_later_can_be_left_out():
    rig = GroupRig(2)
    before = rig.ask("GET", rig.path).json["connected_at"]
    assert listed(rig, f"?connected_before={before}") == ([], None)
    assert listed(rig, "?connected_before=2999-01-01T00:00:00Z") == ([each.id for each in rig.sessions], None)


@pytest.mark.parametrize(
    "query", ["?limit=0", "?limit=1001", "?limit=x", "?after=-1", "?connected_before=today", "?connected_before="]
)
def test_a_page_of_a_group_needs_valid_parameters(rig, query):
    assert rig.ask("GET", f"/groups/lobby{query}").said == (400, "BAD_REQUEST")
