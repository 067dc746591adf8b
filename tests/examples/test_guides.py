"""The complete programs of docs/guides, each started with a gateway and used by real clients."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.support.examples import (
    CHAT,
    FROM_SOCKETIO,
    LOGINS,
    ROOT,
    Example,
    RunningExample,
    run,
    running_example,
)
from tests.support.restartable import wait_until
from tests.support.waiting import TIMEOUT_S

ORIGIN = "https://app.example.com"


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningExample]:
    settings = {"BROWSER_AUTHORIZATION": "cookie:session", "ALLOWED_ORIGINS": ORIGIN}
    with running_example(CHAT, tmp_path_factory.mktemp("chat"), **settings) as running:
        yield running


@pytest.fixture(scope="module", params=LOGINS, ids=lambda each: each.name)
def login(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningExample]:
    settings = {
        "BROWSER_AUTHORIZATION": "cookie:session,query:ticket,subprotocol:bearer.",
        "ALLOWED_ORIGINS": ORIGIN,
        "SUBPROTOCOLS": "chat",
    }
    with running_example(request.param, tmp_path_factory.mktemp("login"), **settings) as running:
        yield running


def log_in(example: RunningExample, user: str, password: str) -> httpx2.Response:
    """Log in as the page does."""
    body = json.dumps({"user": user, "password": password}).encode()
    return example.request("POST", "/login", body, {"Content-Type": "application/json"})


def session_of(example: RunningExample, user: str, password: str) -> str:
    """Return the cookie of a user who has logged in."""
    answer = log_in(example, user, password)
    assert answer.status_code == 200
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=lax" in cookie.lower()
    return str(cookie.partition(";")[0])


def assert_needs_the_password(example: RunningExample) -> None:
    for user, password in (
        ("ada", "wrong"),
        ("ada", "Ü"),
        ("ada", ""),
        ("nobody", ""),
        ("nobody", "lovelace"),
    ):
        assert log_in(example, user, password).status_code == 401, (user, password)
    assert_reads_only_json(example)


def assert_reads_only_json(example: RunningExample) -> None:
    """Assert that no form of another site can log a browser in, and that no body is an error of the example."""
    right = b'{"user": "ada", "password": "lovelace"}'
    for given in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", None):
        answer = example.request("POST", "/login", right, {"Content-Type": given} if given else {})
        assert (answer.status_code, "set-cookie" in answer.headers) == (415, False), given
    for body in (
        b"",
        b"no JSON",
        b"[]",
        b"7",
        b"null",
        b"{}",
        rb'{"user": "ada", "password": "\ud800"}',
        b'{"user": "\xff"}',
    ):
        answer = example.request("POST", "/login", body, {"Content-Type": "application/json; charset=utf-8"})
        assert answer.status_code in {400, 401}, body


def open_page(
    example: RunningExample, path: str, cookie: str = "", origin: str = ORIGIN, **options: Any
) -> ClientConnection:
    """Connect as the page of a browser does: with its origin and the cookies of the host."""
    headers = {"Origin": origin, **({"Cookie": cookie} if cookie else {})}
    url = f"ws://{example.hostname}{path}"
    client: ClientConnection = connect(url, additional_headers=headers, open_timeout=TIMEOUT_S, **options)
    return client


def end_of(client: ClientConnection) -> tuple[int, str]:
    """Return the close code and the reason."""
    with pytest.raises(ConnectionClosed) as closed:
        client.recv(TIMEOUT_S)
    assert closed.value.rcvd
    return closed.value.rcvd.code, closed.value.rcvd.reason


def received(client: ClientConnection) -> Any:
    return json.loads(client.recv(TIMEOUT_S))


def send(client: ClientConnection, **message: object) -> None:
    client.send(json.dumps(message))


def test_users_of_the_chat_meet_in_rooms(chat: RunningExample) -> None:
    ada_cookie = session_of(chat, "ada", "lovelace")
    ben_cookie = session_of(chat, "ben", "franklin")
    with open_page(chat, "/rooms/lobby", ada_cookie) as ada:
        assert received(ada) == {"type": "room", "room": "lobby", "users": ["ada"]}
        with open_page(chat, "/rooms/lobby", ben_cookie) as ben:
            assert received(ben) == {"type": "room", "room": "lobby", "users": ["ada", "ben"]}
            assert received(ada) == {"type": "joined", "user": "ben"}
            send(ben, text="Grüße")
            assert received(ada) | {"id": ""} == {"type": "message", "user": "ben", "text": "Grüße", "id": ""}
            assert received(ben)["text"] == "Grüße"
            send(ben, room="tea")
            assert received(ada) == {"type": "left", "user": "ben"}
            assert received(ben) == {"type": "left", "user": "ben"}
            assert received(ben) == {"type": "room", "room": "tea", "users": ["ben"]}
            send(ada, text="alone")
            assert received(ada)["text"] == "alone"
            send(ada, room="tea")
            assert received(ben) == {"type": "joined", "user": "ada"}
            assert received(ada) == {"type": "left", "user": "ada"}
            assert received(ada) == {"type": "room", "room": "tea", "users": ["ada", "ben"]}
        assert received(ada) == {"type": "left", "user": "ben"}


def test_a_user_of_the_chat_leaves_with_the_last_tab(chat: RunningExample) -> None:
    ada_cookie = session_of(chat, "ada", "lovelace")
    with open_page(chat, "/rooms/tabs", session_of(chat, "ben", "franklin")) as ben:
        assert received(ben)["users"] == ["ben"]
        with open_page(chat, "/rooms/tabs", ada_cookie) as first:
            assert received(ben) == {"type": "joined", "user": "ada"}
            with open_page(chat, "/rooms/tabs", ada_cookie) as second:
                assert received(ben) == {"type": "joined", "user": "ada"}
                assert received(second)["users"] == ["ada", "ben"]
                send(second, room="tea")
                assert received(second) == {"type": "room", "room": "tea", "users": ["ada"]}
                send(second, room="tabs")
                # The first tab was there all the time, so no "left" was published.
                assert received(ben) == {"type": "joined", "user": "ada"}
                deleted = chat.said().count('"DELETE /websocket')
            wait_until(lambda: chat.said().count('"DELETE /websocket') > deleted, "the DELETE of a tab", chat.said)
            send(first, text="still here")
            assert received(ben)["text"] == "still here"
        assert received(ben) == {"type": "left", "user": "ada"}


def test_the_chat_says_why_it_refuses_or_closes_a_client(chat: RunningExample) -> None:
    assert_needs_the_password(chat)
    with open_page(chat, "/rooms/lobby", "session=guessed") as client:
        assert end_of(client) == (4401, "log in first")
    cookie = session_of(chat, "ada", "lovelace")
    with open_page(chat, "/elsewhere", cookie) as client:
        assert end_of(client) == (4404, "no such room")
    for wrong in ("no JSON", "[]", '{"room": "../x"}', '{"room": "quiet"}', b"\xff", json.dumps({"text": "x" * 4001})):
        with open_page(chat, "/rooms/quiet", cookie) as client:
            assert received(client)["users"] == ["ada"]
            client.send(wrong)
            assert end_of(client) == (4400, "expected a text of up to 4000 characters, or another room")


def test_the_chat_publishes_the_longest_text_and_closes_who_sends_a_huge_one(chat: RunningExample) -> None:
    cookie = session_of(chat, "ada", "lovelace")
    with open_page(chat, "/rooms/long", cookie) as client:
        assert received(client)["users"] == ["ada"]
        send(client, text="ü" * 4000)
        assert received(client)["text"] == "ü" * 4000
        client.send(json.dumps({"text": "x" * 1_048_000}))
        assert end_of(client) == (4400, "expected a text of up to 4000 characters, or another room")


def test_the_chat_logs_that_the_gateway_refuses_its_token(tmp_path: Path) -> None:
    folder = tmp_path / "chat"
    folder.mkdir()
    (folder / "app.py").write_text(CHAT.source.replace("-- uvicorn", "-- env CONTROL_TOKEN=wrong uvicorn"))
    chat = Example(folder, "app.py", modules=CHAT.modules)
    settings = {"BROWSER_AUTHORIZATION": "cookie:session", "ALLOWED_ORIGINS": ORIGIN}
    with running_example(chat, tmp_path / "run", **settings) as running:
        cookie = session_of(running, "ada", "lovelace")
        with pytest.raises(InvalidStatus) as refused:
            open_page(running, "/rooms/lobby", cookie)
        assert refused.value.response.status_code == 503
        wait_until(lambda: "the gateway refused a request: Unauthorized(" in running.said(), "the log", running.said)


def test_the_page_of_the_chat_is_served(chat: RunningExample) -> None:
    answer = chat.request("GET", "/")
    assert answer.headers["content-type"].startswith("text/html")
    assert "new WebSocket(" in answer.text


def test_another_site_cannot_use_the_cookie_of_a_user(chat: RunningExample) -> None:
    cookie = session_of(chat, "ada", "lovelace")
    with pytest.raises(InvalidStatus) as refused:
        open_page(chat, "/rooms/lobby", cookie, origin="https://evil.example.com")
    assert refused.value.response.status_code == 403


def ticket_of(example: RunningExample) -> str:
    """Return a ticket, as a page with a session gets it."""
    cookie = session_of(example, "ada", "lovelace")
    return str(example.request("POST", "/ticket", headers={"Cookie": cookie}).json()["ticket"])


def assert_is_ada(client: ClientConnection) -> None:
    client.send("hello")
    assert client.recv(TIMEOUT_S) == "ada: hello"


def test_a_browser_is_known_by_its_cookie(login: RunningExample) -> None:
    assert_needs_the_password(login)
    with open_page(login, "/", session_of(login, "ada", "lovelace")) as client:
        assert_is_ada(client)


def test_a_ticket_in_the_query_can_be_used_once(login: RunningExample) -> None:
    ticket = ticket_of(login)
    with open_page(login, f"/?ticket={ticket}") as client:
        assert_is_ada(client)
        (connection,) = login.connections("/connections")
        assert ticket not in json.dumps(connection)
    with open_page(login, f"/?ticket={ticket}") as client:
        assert end_of(client) == (4401, "log in first")
    assert ticket not in login.said()


def test_a_ticket_may_be_a_subprotocol_beside_the_one_that_is_chosen(login: RunningExample) -> None:
    offered: Any = ["chat", f"bearer.{ticket_of(login)}"]
    with open_page(login, "/", subprotocols=offered) as client:
        assert client.subprotocol == "chat"
        assert_is_ada(client)


def test_a_ticket_needs_a_session_and_a_client_one_of_both(login: RunningExample) -> None:
    assert login.request("POST", "/ticket", headers={"Cookie": "session=guessed"}).status_code == 401
    assert login.request("POST", "/ticket").status_code == 401
    with open_page(login, "/") as client:
        assert end_of(client) == (4401, "log in first")
    with pytest.raises(InvalidStatus) as refused:
        open_page(login, f"/?ticket={ticket_of(login)}", origin="https://evil.example.com")
    assert refused.value.response.status_code == 403


def test_events_and_acknowledgements_work_as_they_did_with_socket_io(tmp_path: Path) -> None:
    client = str(ROOT / "tests" / "examples" / "socketio_client.mjs")
    with running_example(FROM_SOCKETIO, tmp_path, BROWSER_AUTHORIZATION="query:token") as running:
        said = run("node", client, f"ws://{running.hostname}/?token=ada-token", cwd=running.folder)
        with connect(f"ws://{running.hostname}/?token=guessed") as refused:
            assert end_of(refused) == (4401, "log in first")
        for wrong in ("no JSON", "", "null", '{"name": "say"}', '{"name": "say", "values": {}}'):
            with connect(f"ws://{running.hostname}/?token=ada-token") as page:
                page.send(wrong)
                assert end_of(page) == (4400, "expected an event")
        with connect(f"ws://{running.hostname}/?token=ada-token") as page:
            page.send("ping")
            assert page.recv(TIMEOUT_S) == "pong"
    assert [json.loads(line) for line in said.splitlines()] == [
        ["said", {"user": "ada", "room": "lobby", "text": "hello"}],
        ["acknowledged", {"ok": True}],
        ["acknowledged", {"ok": True}],
        ["said", {"user": "ada", "room": "tea", "text": "Grüße"}],
        ["acknowledged", {"ok": True}],
        ["acknowledged", {"ok": True}],
        ["acknowledged", {"error": "no such room"}],
        ["acknowledged", {"error": "no such room"}],
        ["acknowledged", {"error": "no such room"}],
        ["acknowledged", {"error": "no text, or too long"}],
        ["acknowledged", {"error": "no such event"}],
        ["closed", 1005, "closed: 1005 "],
        ["emitted", "closed"],
    ]


def test_the_backend_of_the_quick_start_is_reached_by_curl(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "quickstart.md").read_text()
    (source,) = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    (command,) = re.findall(r"^wsaas dev -- .*$", page, re.MULTILINE)
    folder = tmp_path / "quickstart"
    folder.mkdir()
    (folder / "app.py").write_text(f"# {command}\n{source}")
    backend = Example(folder, "app.py", modules=("flask",))

    def push(uri: str, text: str) -> str:
        answer = json.loads(run("curl", "-sS", "-X", "PUT", "-d", text, f"http://{uri}", cwd=folder))
        return str(answer["code"])

    with running_example(backend, tmp_path / "run", API_SECRET="", CONTROL_TOKEN="") as running:
        with connect(f"ws://{running.hostname}/any/path") as client:
            client.send("hello")
            assert client.recv(TIMEOUT_S) == "hello"
            ws_uri = re.findall(rf"POST ({running.hostname}/\S+)", running.said())[-1]
            assert push(ws_uri, "hello, you") == "OK"
            assert client.recv(TIMEOUT_S) == "hello, you"
            assert push(f"{running.hostname}/connections", "hello, all") == "OK"
            assert client.recv(TIMEOUT_S) == "hello, all"
        wait_until(lambda: f"DELETE {ws_uri}" in running.said(), "the DELETE", running.said)
        assert push(ws_uri, "too late") == "GONE"
