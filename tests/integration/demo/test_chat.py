"""The chat, through real HTTP in both directions."""

import http.server
import json
import runpy
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from http.server import ThreadingHTTPServer

import pytest

from tests.support.demo import DemoBackend, FakeGateway, serving
from tests.support.waiting import TIMEOUT_S
from wsaas.demo import chat
from wsaas.demo.chat import Answer, Chat, Member, Webhook


@pytest.fixture
def backend(gateway: FakeGateway) -> Iterator[DemoBackend]:
    """The tutorial's backend without the page and its traffic."""

    class FreshWebhook(Webhook):
        chat = Chat()

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    server = Server(("127.0.0.1", 0), FreshWebhook)
    with serving(server):
        yield DemoBackend(server.server_port, gateway)


def enter(backend: DemoBackend, client: str, room: str = "lobby") -> str:
    """Connect a client to a room under its own name; return its context."""
    answer = backend.connect(client, f"/rooms/{room}", f"nick={client}")
    assert answer["code"] == "OK"
    context: str = answer["context"]
    return context


def test_a_new_member_is_greeted_before_the_connect_is_answered(backend: DemoBackend, gateway: FakeGateway) -> None:
    answer = backend.connect("1", "/rooms/lobby", "nick=ada")
    assert answer == {"code": "OK", "context": "room=lobby&nick=ada"}
    push = gateway.pushed.get_nowait()
    assert (push.client, push.content_type) == ("1", "application/json")
    assert push.message() == {
        "type": "joined",
        "nick": "ada",
        "room": "lobby",
        "members": ["ada"],
        "rooms": {"lobby": 1},
    }


def test_all_members_of_a_room_learn_who_joined(backend: DemoBackend, gateway: FakeGateway) -> None:
    enter(backend, "ada")
    gateway.next()
    enter(backend, "bob")
    for client in ("ada", "bob"):
        message = gateway.next_message(client)
        assert (message["type"], message["nick"], message["members"]) == ("joined", "bob", ["ada", "bob"])


def test_members_of_other_rooms_only_learn_the_counts(backend: DemoBackend, gateway: FakeGateway) -> None:
    enter(backend, "ada", "lobby")
    gateway.next()
    enter(backend, "bob", "garden")
    assert gateway.next_message("bob")["members"] == ["bob"]
    assert gateway.next_message("ada") == {"type": "rooms", "rooms": {"lobby": 1, "garden": 1}}


@pytest.mark.parametrize(
    ("query", "nick"),
    [
        ("", "guest"),
        ("nick=", "guest"),
        ("nick=Gr%C3%A4fin%20Ada&nick=other", "Gräfin Ada"),
        ("nick=" + "x" * 100, "x" * 32),
    ],
)
def test_a_nick_comes_from_the_query(backend: DemoBackend, gateway: FakeGateway, query: str, nick: str) -> None:
    backend.connect("1", "/rooms/lobby", query)
    assert gateway.next_message("1")["nick"] == nick


def test_a_context_is_visible_ascii_and_decodes_to_any_name() -> None:
    member = Member("Grüner Saal", 'a & b = "c"\n')
    context = member.context()
    assert context.isascii()
    assert all(character.isprintable() and character != " " for character in context)
    assert Member.from_context(context) == member


@pytest.mark.parametrize("path", ["/", "/nowhere", "/rooms/", "/rooms/a/b", "/echo/", "/rooms/" + "x" * 33])
def test_an_unknown_path_is_refused_with_another_code(backend: DemoBackend, gateway: FakeGateway, path: str) -> None:
    assert backend.connect("1", path) == {"code": "NO_SUCH_ROOM"}
    assert gateway.pushed.empty()


def test_a_room_name_may_be_percent_encoded(backend: DemoBackend, gateway: FakeGateway) -> None:
    backend.connect("1", "/rooms/gr%C3%BCn")
    assert gateway.next_message("1")["rooms"] == {"grün": 1}


def test_a_message_reaches_all_members_of_the_room_and_no_others(backend: DemoBackend, gateway: FakeGateway) -> None:
    context = enter(backend, "ada")
    enter(backend, "bob")
    enter(backend, "eve", "garden")
    gateway.pushed.queue.clear()
    answer = backend.message("ada", context, "Grüße".encode())
    assert (answer.status, answer.json()) == (200, {"code": "OK"})
    for client in ("ada", "bob"):
        assert gateway.next_message(client) == {"type": "message", "from": "ada", "text": "Grüße"}
    assert gateway.pushed.empty()


def test_a_repeated_message_is_sent_once(backend: DemoBackend, gateway: FakeGateway) -> None:
    context = enter(backend, "ada")
    gateway.next()
    assert backend.message("ada", context, b"hi", ce_id="ada.1").json() == {"code": "OK"}
    assert gateway.next_message("ada")["text"] == "hi"
    repeat = backend.message("ada", context, b"hi", ce_id="ada.1")
    assert (repeat.status, repeat.json()) == (200, {"code": "REPEAT"})
    assert backend.message("ada", context, b"ho", ce_id="ada.2").json() == {"code": "OK"}
    assert gateway.next_message("ada")["text"] == "ho"


def test_a_repeat_waits_for_the_first_request_and_is_not_sent_again() -> None:
    pushing, go_on = threading.Event(), threading.Event()
    said: list[str] = []

    def slow_push(_: str, text: bytes) -> Answer:
        message = json.loads(text)
        if message["type"] == "message":
            said.append(message["text"])
            pushing.set()
            assert go_on.wait(TIMEOUT_S)
        return Answer(200, b"")

    room = Chat(slow_push)
    headers = {"ws-uri": "gateway/1", "ws-context": Member("lobby", "ada").context(), "ce-id": "1.1"}
    with ThreadPoolExecutor() as pool:
        first = pool.submit(room.handle, "PUT", headers, b"hi")
        assert pushing.wait(TIMEOUT_S)
        second = pool.submit(room.handle, "PUT", headers, b"hi")
        go_on.set()
        codes = [json.loads(done.result(TIMEOUT_S).body)["code"] for done in (first, second)]
    assert codes == ["OK", "REPEAT"]
    assert said == ["hi"]


def test_a_repeated_connect_is_accepted_again_but_announced_once(backend: DemoBackend, gateway: FakeGateway) -> None:
    assert enter(backend, "ada") == enter(backend, "ada")
    assert gateway.next_message("ada")["members"] == ["ada"]
    assert gateway.pushed.empty()


def test_the_room_learns_who_left(backend: DemoBackend, gateway: FakeGateway) -> None:
    enter(backend, "ada")
    enter(backend, "bob")
    gateway.pushed.queue.clear()
    assert backend.disconnect("bob").json() == {"code": "OK"}
    message = gateway.next_message("ada")
    assert (message["type"], message["nick"], message["members"]) == ("left", "bob", ["ada"])


def test_an_unknown_or_repeated_disconnect_is_answered_200(backend: DemoBackend, gateway: FakeGateway) -> None:
    enter(backend, "ada")
    gateway.next()
    for client in ("stranger", "ada", "ada"):
        assert backend.disconnect(client).json() == {"code": "OK"}
    assert gateway.pushed.empty()


def test_a_member_whose_push_is_answered_410_is_dropped(backend: DemoBackend, gateway: FakeGateway) -> None:
    context = enter(backend, "ada")
    for client in ("bob", "eve"):
        enter(backend, client)
    gateway.statuses.update(bob=410, eve=410)
    gateway.pushed.queue.clear()
    backend.message("ada", context, b"hi")
    assert [gateway.next().client for _ in range(3)] == ["ada", "bob", "eve"]
    for nick in ("bob", "eve"):
        message = gateway.next_message("ada")
        assert (message["type"], message["nick"], message["members"]) == ("left", nick, ["ada"])
    backend.message("ada", context, b"still here?")
    assert gateway.next_message("ada")["text"] == "still here?"
    assert gateway.pushed.empty()


def test_a_thousand_dead_members_are_dropped_at_once() -> None:
    room = Chat(lambda ws_uri, text: Answer(410, b""))  # noqa: ARG005 - all members are dead
    room.members = {f"gateway/{number}": Member("lobby", str(number)) for number in range(1000)}
    headers = {"ws-uri": "gateway/1", "ws-context": Member("lobby", "1").context()}
    assert json.loads(room.handle("PUT", headers, b"hi").body) == {"code": "OK"}
    assert room.members == {}


def test_a_slow_member_misses_a_message_but_stays(backend: DemoBackend, gateway: FakeGateway) -> None:
    context = enter(backend, "ada")
    gateway.statuses["ada"] = 429
    backend.message("ada", context, b"lost")
    gateway.statuses["ada"] = 200
    gateway.pushed.queue.clear()
    backend.message("ada", context, b"seen")
    assert gateway.next_message("ada")["text"] == "seen"


def test_members_stay_while_the_gateway_cannot_be_reached() -> None:
    def push(*_: object) -> Answer:
        raise ConnectionRefusedError

    room = Chat(push)
    event = {"ws_uri": "gateway/1", "request": {"path": "/rooms/lobby", "query": "nick=ada"}}
    assert json.loads(room.handle("POST", {}, json.dumps(event).encode()).body)["code"] == "OK"
    assert room.members == {"gateway/1": Member("lobby", "ada")}


@pytest.mark.parametrize("ws_uri", ["localhost:port/1", "localhost:1/é", "http://[/1"])
def test_an_invented_address_is_not_kept(ws_uri: str) -> None:
    room = Chat()
    event = {"ws_uri": ws_uri, "request": {"path": "/rooms/lobby", "query": "nick=ada"}}
    assert room.handle("POST", {}, json.dumps(event).encode()).status == 200
    assert room.members == {}


def test_a_member_forgotten_by_a_restart_is_added_again_by_its_message(
    backend: DemoBackend, gateway: FakeGateway
) -> None:
    backend.message("ada", Member("lobby", "ada").context(), b"hi")
    assert gateway.next_message("ada")["type"] == "joined"
    assert gateway.next_message("ada") == {"type": "message", "from": "ada", "text": "hi"}


@pytest.mark.parametrize(
    ("content_type", "reply"),
    [("text/plain; charset=utf-8", "text"), ("application/octet-stream", "binary")],
)
def test_an_echo_is_a_reply_in_the_answer(
    backend: DemoBackend, gateway: FakeGateway, content_type: str, reply: str
) -> None:
    context = backend.connect("1", "/echo")["context"]
    for _ in range(2):  # a repeat is echoed too: the gateway never got the first answer
        answer = backend.message("1", context, b"hi", Content_Type=content_type, ce_id="1.1")
        assert (answer.status, answer.headers["Ws-Reply"], answer.body) == (200, reply, b"hi")
    assert gateway.pushed.empty()


@pytest.mark.parametrize(
    ("method", "headers", "body"),
    [
        ("POST", {}, b"not JSON"),
        ("POST", {}, b"[]"),
        ("POST", {}, b'{"ws_uri": "x"}'),
        ("POST", {}, b'{"request": {"path": "/rooms/lobby", "query": ""}}'),
        ("PUT", {}, b"hi"),
        ("PUT", {"Ws-Uri": "x", "Ws-Context": "nonsense"}, b"hi"),
        ("PUT", {"Ws-Uri": "x", "Ws-Context": "room=lobby&nick=ada"}, b"\xff"),
        ("DELETE", {}, b""),
    ],
)
def test_a_request_without_its_headers_is_400(
    backend: DemoBackend, method: str, headers: dict[str, str], body: bytes
) -> None:
    answer = backend.request(method, "/websocket", body, headers)
    assert (answer.status, answer.json()) == (400, {"code": "BAD_REQUEST"})


def test_many_clients_at_once_receive_messages_in_the_same_order(backend: DemoBackend, gateway: FakeGateway) -> None:
    clients = [f"c{number}" for number in range(6)]
    with ThreadPoolExecutor(len(clients)) as pool:
        contexts = list(pool.map(lambda client: enter(backend, client), clients))
        gateway.pushed.queue.clear()
        speak = [pool.submit(backend.message, clients[i], contexts[i], str(i).encode()) for i in range(6)]
        assert all(done.result(TIMEOUT_S).status == 200 for done in speak)
    heard: dict[str, list[str]] = {client: [] for client in clients}
    for _ in range(36):
        push = gateway.next()
        heard[push.client].append(push.message()["text"])
    assert all(sorted(texts) == list("012345") for texts in heard.values())
    assert len({tuple(texts) for texts in heard.values()}) == 1


def test_a_ws_uri_with_a_scheme_and_a_prefix_is_pushed_to_as_it_is(gateway: FakeGateway) -> None:
    assert chat.push(f"http://127.0.0.1:{gateway.server_port}/prefix/1", b"{}").status == 200
    assert gateway.next().client == "prefix/1"


def test_a_ws_uri_with_https_is_pushed_to_over_tls(gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    reached: list[str] = []

    class PlainConnection(HTTPConnection):
        def __init__(self, host: str, timeout: float) -> None:
            reached.append(host)
            super().__init__(host, timeout=timeout)

    monkeypatch.setattr(chat, "HTTPSConnection", PlainConnection)
    chat.push(f"https://127.0.0.1:{gateway.server_port}/1", b"{}")
    assert reached == [f"127.0.0.1:{gateway.server_port}"]


def test_the_tutorial_runs_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[tuple[str, int]] = []

    class FakeServer:
        def __init__(self, address: tuple[str, int], handler: type) -> None:
            assert handler.__name__ == "Webhook"
            self.address = address

        def serve_forever(self) -> None:
            served.append(self.address)

    monkeypatch.setattr(http.server, "ThreadingHTTPServer", FakeServer)
    assert chat.__file__
    runpy.run_path(chat.__file__, run_name="__main__")
    assert served == [("127.0.0.1", 8000)]
