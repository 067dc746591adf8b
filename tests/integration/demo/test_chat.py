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


def forget(gateway: FakeGateway, number: int) -> None:
    """Wait for `number` publishes, which do not matter."""
    for _ in range(number):
        gateway.next()


def unreachable(_method: str, _url: str, _body: bytes) -> Answer:
    """Fail as a request to a gateway that is down does."""
    raise ConnectionRefusedError


def test_a_client_joins_the_group_of_its_room_and_is_announced_there(
    backend: DemoBackend, gateway: FakeGateway
) -> None:
    answer = backend.connect("1", "/rooms/lobby", "nick=ada")
    assert answer == {"code": "OK", "context": "room=lobby&nick=ada", "groups": ["lobby"]}
    published = gateway.next()
    assert (published.group, published.members, published.content_type) == ("lobby", ("1",), "application/json")
    assert published.message() == {"type": "joined", "nick": "ada", "room": "lobby", "members": ["ada"]}


def test_all_members_of_a_room_learn_who_joined(backend: DemoBackend, gateway: FakeGateway) -> None:
    enter(backend, "ada")
    gateway.next()
    enter(backend, "bob")
    message = gateway.next_message("ada", "bob")
    assert (message["type"], message["nick"], message["members"]) == ("joined", "bob", ["ada", "bob"])


def test_members_of_other_rooms_are_told_nothing(backend: DemoBackend, gateway: FakeGateway) -> None:
    enter(backend, "ada", "lobby")
    gateway.next()
    enter(backend, "bob", "garden")
    assert gateway.next_message("bob")["members"] == ["bob"]
    assert gateway.published.empty()


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
    member = Member("saal", 'Grüße & b = "c"\n')
    context = member.context()
    assert context.isascii()
    assert all(character.isprintable() and character != " " for character in context)
    assert Member.from_context(context) == member


@pytest.mark.parametrize(
    "path", ["/", "/nowhere", "/rooms/", "/rooms/a/b", "/echo/", "/rooms/" + "x" * 33, "/rooms/a%20b"]
)
def test_an_unknown_path_is_refused_with_another_code(backend: DemoBackend, gateway: FakeGateway, path: str) -> None:
    assert backend.connect("1", path) == {"code": "NO_SUCH_ROOM"}
    assert gateway.published.empty()


@pytest.mark.parametrize(("path", "group"), [("/rooms/a%2Db", "a-b"), ("/rooms/.~@_9", ".~@_9")])
def test_a_room_name_is_a_group_name_and_may_be_percent_encoded(
    backend: DemoBackend, gateway: FakeGateway, path: str, group: str
) -> None:
    assert backend.connect("1", path)["groups"] == [group]
    assert gateway.next().group == group


def test_a_message_is_one_publish_to_the_room(backend: DemoBackend, gateway: FakeGateway) -> None:
    context = enter(backend, "ada")
    enter(backend, "bob")
    enter(backend, "eve", "garden")
    forget(gateway, 3)
    answer = backend.message("ada", context, "Grüße".encode())
    assert (answer.status, answer.json()) == (200, {"code": "OK"})
    assert gateway.next_message("ada", "bob") == {"type": "message", "from": "ada", "text": "Grüße"}
    assert gateway.published.empty()


def test_a_repeated_message_is_sent_once(backend: DemoBackend, gateway: FakeGateway) -> None:
    context = enter(backend, "ada")
    gateway.next()
    assert backend.message("ada", context, b"hi", ce_id="ada:1").json() == {"code": "OK"}
    assert gateway.next_message("ada")["text"] == "hi"
    repeat = backend.message("ada", context, b"hi", ce_id="ada:1")
    assert (repeat.status, repeat.json()) == (200, {"code": "REPEAT"})
    assert backend.message("ada", context, b"ho", ce_id="ada:2").json() == {"code": "OK"}
    assert gateway.next_message("ada")["text"] == "ho"


def test_a_repeat_waits_for_the_first_request_and_is_not_sent_again() -> None:
    publishing, go_on = threading.Event(), threading.Event()
    said: list[str] = []

    def slow_call(_method: str, _url: str, body: bytes) -> Answer:
        said.append(json.loads(body)["text"])
        publishing.set()
        assert go_on.wait(TIMEOUT_S)
        return Answer(200, b"")

    room = Chat(slow_call)
    headers = {"ws-uri": "gateway/1", "ws-context": Member("lobby", "ada").context(), "ce-id": "1:1"}
    with ThreadPoolExecutor() as pool:
        first = pool.submit(room.handle, "PUT", headers, b"hi")
        assert publishing.wait(TIMEOUT_S)
        second = pool.submit(room.handle, "PUT", headers, b"hi")
        go_on.set()
        codes = [json.loads(done.result(TIMEOUT_S).body)["code"] for done in (first, second)]
    assert codes == ["OK", "REPEAT"]
    assert said == ["hi"]


def test_a_message_that_the_gateway_does_not_take_is_asked_for_again(
    backend: DemoBackend, gateway: FakeGateway
) -> None:
    context = enter(backend, "ada")
    gateway.next()
    gateway.status = 429
    answer = backend.message("ada", context, b"hi", ce_id="ada:1")
    assert (answer.status, answer.json()) == (503, {"code": "UNAVAILABLE"})
    gateway.status = 200
    assert backend.message("ada", context, b"hi", ce_id="ada:1").json() == {"code": "OK"}
    assert gateway.next_message("ada")["text"] == "hi"


def test_a_message_while_the_gateway_cannot_be_reached_is_asked_for_again() -> None:
    room = Chat(unreachable)
    headers = {"ws-uri": "gateway/1", "ws-context": Member("lobby", "ada").context(), "ce-id": "1:1"}
    assert room.handle("PUT", headers, b"hi").status == 503
    assert not room.seen


def test_the_room_learns_who_left(backend: DemoBackend, gateway: FakeGateway) -> None:
    enter(backend, "ada")
    context = enter(backend, "bob")
    forget(gateway, 2)
    assert backend.disconnect("bob", context).json() == {"code": "OK"}
    message = gateway.next_message("ada")
    assert (message["type"], message["nick"], message["members"]) == ("left", "bob", ["ada"])


def test_a_client_of_echo_leaves_unnoticed(backend: DemoBackend, gateway: FakeGateway) -> None:
    context = backend.connect("1", "/echo")["context"]
    assert backend.disconnect("1", context).json() == {"code": "OK"}
    assert gateway.published.empty()


def test_a_client_is_let_in_while_the_gateway_cannot_be_reached() -> None:
    room = Chat(unreachable)
    event = {"ws_uri": "gateway/1", "request": {"path": "/rooms/lobby", "query": "nick=ada"}}
    answer = room.handle("POST", {}, json.dumps(event).encode())
    assert json.loads(answer.body)["code"] == "OK"
    assert answer.then
    answer.then()


@pytest.mark.parametrize("listed", [b"", b'{"code": "UNAUTHORIZED"}', b'{"connections": [{"context": "echo"}]}'])
def test_a_list_that_cannot_be_read_announces_nothing(listed: bytes) -> None:
    published: list[str] = []

    def call(method: str, url: str, _body: bytes) -> Answer:
        if method == "PUT":
            published.append(url)
        return Answer(200, listed)

    Chat(call).announce("joined", Member("lobby", "ada"), "gateway/1")
    assert published == []


@pytest.mark.parametrize("ws_uri", ["localhost:port/1", "localhost:1/é/1", "http://[/1"])
def test_an_invented_address_is_let_in_and_called_in_vain(ws_uri: str) -> None:
    room = Chat()
    event = {"ws_uri": ws_uri, "request": {"path": "/rooms/lobby", "query": "nick=ada"}}
    answer = room.handle("POST", {}, json.dumps(event).encode())
    assert answer.status == 200
    assert answer.then
    answer.then()


def test_a_restarted_backend_still_knows_who_is_in_a_room(backend: DemoBackend, gateway: FakeGateway) -> None:
    context = enter(backend, "ada")
    gateway.next()

    class AfterRestart(Webhook):
        chat = Chat()

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    server = Server(("127.0.0.1", 0), AfterRestart)
    with serving(server):
        restarted = DemoBackend(server.server_port, gateway)
        assert restarted.message("ada", context, b"hi").json() == {"code": "OK"}
        assert gateway.next_message("ada")["text"] == "hi"
        enter(restarted, "bob")
        assert gateway.next_message("ada", "bob")["members"] == ["ada", "bob"]


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
    assert gateway.published.empty()


@pytest.mark.parametrize(
    ("method", "headers", "body"),
    [
        ("POST", {}, b"not JSON"),
        ("POST", {}, b"[]"),
        ("POST", {}, b'{"ws_uri": "x"}'),
        ("POST", {}, b'{"request": {"path": "/rooms/lobby", "query": ""}}'),
        ("PUT", {}, b"hi"),
        ("PUT", {"Ws-Uri": "x", "Ws-Context": "nonsense"}, b"hi"),
        ("PUT", {"Ws-Uri": "x", "Ws-Context": "room=lobby&nick=ada", "ce-id": "1"}, b"\xff"),
        ("PUT", {"Ws-Uri": "x", "Ws-Context": "room=lobby&nick=ada"}, b"hi"),
        ("DELETE", {"Ws-Context": "room=lobby&nick=ada"}, b""),
        ("DELETE", {"Ws-Uri": "x", "Ws-Context": "nonsense"}, b""),
    ],
)
def test_a_request_without_its_headers_is_400(
    backend: DemoBackend, method: str, headers: dict[str, str], body: bytes
) -> None:
    answer = backend.request(method, "/websocket", body, headers)
    assert (answer.status, answer.json()) == (400, {"code": "BAD_REQUEST"})


def test_a_delete_without_a_context_is_acknowledged(backend: DemoBackend, gateway: FakeGateway) -> None:
    # The gateway sends it if it got no answer to the POST.
    answer = backend.request("DELETE", "/websocket", b"{}", {"Ws-Uri": gateway.ws_uri("1")})
    assert (answer.status, answer.json()) == (200, {"code": "OK"})
    assert gateway.published.empty()


def test_a_message_that_is_too_large_with_its_sender_is_not_repeated(
    backend: DemoBackend, gateway: FakeGateway
) -> None:
    context = enter(backend, "ada")
    gateway.next()
    gateway.status = 413
    answer = backend.message("ada", context, b"x" * 1000)
    assert (answer.status, answer.json()) == (413, {"code": "TOO_LARGE"})


def test_a_client_of_a_check_gets_a_push() -> None:
    calls: list[tuple[str, str, bytes]] = []

    def call(method: str, url: str, body: bytes) -> Answer:
        calls.append((method, url, body))
        return Answer(200, b"")

    request = {"path": "/echo", "query": "", "headers": {"wsaas-check": "1"}}
    answered = Chat(call).connect({"ws_uri": "localhost:8080/1", "request": request})
    assert not calls
    assert answered.then
    answered.then()
    assert calls == [("PUT", "http://localhost:8080/1", b"hello")]


def test_the_last_of_many_announcements_at_once_is_complete(backend: DemoBackend, gateway: FakeGateway) -> None:
    clients = [f"c{number}" for number in range(6)]
    with ThreadPoolExecutor(len(clients)) as pool:
        list(pool.map(lambda client: enter(backend, client), clients))
    announced = [gateway.next().message() for _ in clients]
    assert sorted(message["nick"] for message in announced) == clients
    assert sorted(announced[-1]["members"]) == clients


@pytest.mark.parametrize(
    ("ws_uri", "url"),
    [
        ("localhost:8080/1", "http://localhost:8080/groups/lobby"),
        ("https://example.test/prefix/1", "https://example.test/prefix/groups/lobby"),
    ],
)
def test_a_group_is_reached_where_a_ws_uri_leads(ws_uri: str, url: str) -> None:
    assert chat.group_url(ws_uri, "lobby") == url


def test_a_url_with_a_prefix_and_a_query_is_requested_as_it_is(gateway: FakeGateway) -> None:
    gateway.contexts["lobby"]["1"] = "a=b"
    listed = chat.call("GET", f"http://127.0.0.1:{gateway.server_port}/prefix/groups/lobby?limit=1000")
    assert json.loads(listed.body) == {"connections": [{"context": "a=b"}]}


def test_a_url_with_https_is_requested_over_tls(gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    reached: list[str] = []

    class PlainConnection(HTTPConnection):
        def __init__(self, host: str, timeout: float) -> None:
            reached.append(host)
            super().__init__(host, timeout=timeout)

    monkeypatch.setattr(chat, "HTTPSConnection", PlainConnection)
    chat.call("PUT", f"https://127.0.0.1:{gateway.server_port}/groups/lobby", b"{}")
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
