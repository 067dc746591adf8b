"""What frameworks and their servers do by default, as docs/backend.md says: each is started and tried."""

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from tests.support.documentation import section
from tests.support.examples import ROOT, Example, RunningExample, environment, running_example
from tests.support.ports import free_port
from tests.support.restartable import wait_until
from tests.support.waiting import TIMEOUT_S

HERE = Path(__file__).parent / "defaults"
DEFAULTS = {
    "django": Example(HERE / "django", "app.py", modules=("django", "rest_framework")),
    "express": Example(HERE / "express", "app.js", programs=("node", "npm")),
    "fastapi": Example(HERE / "fastapi", "app.py", modules=("fastapi", "uvicorn")),
    "fastify": Example(HERE / "fastify", "app.js", programs=("node", "npm")),
    "flask": Example(HERE / "flask", "app.py", modules=("flask",)),
    "go": Example(HERE / "go", "main.go", programs=("go",)),
    "php": Example(HERE / "php", "app.php", programs=("php",)),
}
PAGE = (ROOT / "docs" / "backend.md").read_text()
JSON = {"Content-Type": "application/json"}
PLAIN = {"Content-Type": "text/plain; charset=utf-8"}
BINARY = {"Content-Type": "application/octet-stream"}
OBSERVED_S = 8.0
"""How long an idle connection is observed."""

Start = Callable[[str], RunningExample]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts one of them with a gateway, unless it runs already."""
    started: dict[str, RunningExample] = {}
    with ExitStack() as stack:

        def start(name: str, **settings: str) -> RunningExample:
            if name not in started:
                folder = tmp_path_factory.mktemp("defaults")
                settings = {"TEXT_CONTENT_TYPE": "application/json", **settings}
                started[name] = stack.enter_context(running_example(DEFAULTS[name], folder, **settings))
            return started[name]

        yield start


def rows(heading: str) -> dict[str, list[str]]:
    """Return the rows of the table whose first cell is `heading`: the other cells by the first one."""
    table = PAGE.split(f"| {heading} |", 1)[1].split("\n\n", 1)[0]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()[2:]]
    return {first.strip(): rest for first, *rest in cells}


PARSERS = {
    "Flask": ("flask", 415, 400),
    "FastAPI": ("fastapi", 422, 422),
    "Django REST framework": ("django", 415, 400),
}
"""Which of the backends, and the statuses for text that is labelled as such and for JSON that is none."""


@pytest.mark.parametrize("folder", ["flask", "fastapi", "django", "express", "fastify"])
def test_a_text_message_labelled_as_json_reaches_the_parser_of_the_framework(start: Start, folder: str) -> None:
    with start(folder).connect() as client:
        client.send('{"n": 1}')
        assert client.recv(TIMEOUT_S) == "2"
        client.send("no JSON")
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(TIMEOUT_S)
    assert closed.value.rcvd
    assert closed.value.rcvd.code == 1011


def test_the_table_of_parsers_has_those_that_are_tried() -> None:
    assert rows("framework that parses").keys() == {*PARSERS, "Express", "Fastify"}


@pytest.mark.parametrize("framework", PARSERS)
def test_a_parser_for_json_refuses_other_types_and_what_is_no_json(start: Start, framework: str) -> None:
    folder, other_type, no_json = PARSERS[framework]
    running = start(folder)
    message = b'{"n": 1}'
    assert running.request("PUT", "/websocket", message, JSON).text == "2"
    for headers in (PLAIN, BINARY):
        assert running.request("PUT", "/websocket", message, headers).status_code == other_type
    assert running.request("PUT", "/websocket", b"no JSON", JSON).status_code == no_json
    assert f"{other_type}" in " ".join(rows("framework that parses")[framework])


def test_express_and_fastify_do_not_parse_other_types(start: Start) -> None:
    express, fastify = start("express"), start("fastify")
    message = b'{"n": 1}'
    for running in (express, fastify):
        assert running.request("PUT", "/body", message, JSON).json() == {"body": {"n": 1}}
        assert running.request("PUT", "/body", b"no JSON", JSON).status_code == 400
    assert express.request("PUT", "/body", message, PLAIN).json() == {"body": None}
    assert express.request("PUT", "/body", message, BINARY).json() == {"body": None}
    assert fastify.request("PUT", "/body", message, PLAIN).json() == {"body": message.decode()}
    assert fastify.request("PUT", "/body", message, BINARY).status_code == 415


LIMITS = {
    "Express": ("express", 100 * 1024, 413, "100 KiB"),
    "Fastify": ("fastify", 1 << 20, 413, "1 MiB"),
    "Django": ("django", 2_621_440, 400, "2.5 MiB"),
}


@pytest.mark.parametrize("framework", LIMITS)
def test_bodies_are_limited_as_said(start: Start, framework: str) -> None:
    folder, limit, status, said = LIMITS[framework]
    running = start(folder)
    assert running.request("PUT", "/raw", b"x" * limit, BINARY).text == str(limit)
    assert running.request("PUT", "/raw", b"x" * (limit + 1), BINARY).status_code == status
    assert rows("body limit of")[framework][:2] == [said, str(status)]


@pytest.mark.parametrize("folder", ["flask", "fastapi", "php", "go"])
def test_bodies_of_messages_have_no_limit_elsewhere(start: Start, folder: str) -> None:
    size = 10 << 20
    assert start(folder).request("PUT", "/raw", b"x" * size, BINARY).text == str(size)


SLASHES = {
    "Flask": ("flask", {308}),
    "FastAPI": ("fastapi", {307}),
    "Django": ("django", {301}),
    "Go": ("go", {301, 307}),
    "Fastify": ("fastify", {404}),
}


@pytest.mark.parametrize("framework", SLASHES)
def test_a_path_without_its_last_slash_is_not_the_path_of_the_route(start: Start, framework: str) -> None:
    folder, statuses = SLASHES[framework]
    assert start(folder).request("POST", "/slash").status_code in statuses


def test_a_path_without_its_last_slash_is_an_error_in_django_with_debug(tmp_path: Path) -> None:
    with running_example(DEFAULTS["django"], tmp_path, DEBUG="1") as running:
        assert running.request("POST", "/slash").status_code == 500


def test_a_path_without_its_last_slash_is_served_by_express(start: Start) -> None:
    assert start("express").request("POST", "/slash").status_code == 200


@pytest.mark.parametrize(("folder", "status"), [("flask", 405), ("fastapi", 405), ("express", 404), ("fastify", 404)])
def test_a_route_serves_only_the_methods_that_it_names(start: Start, folder: str, status: int) -> None:
    running = start(folder)
    assert running.request("GET", "/without-methods").status_code == 200
    for method in ("POST", "PUT", "DELETE"):
        assert running.request(method, "/without-methods").status_code == status


def test_django_refuses_requests_without_a_csrf_token(start: Start) -> None:
    for method in ("POST", "PUT", "DELETE"):
        assert start("django").request(method, "/with-csrf").status_code == 403


@pytest.mark.parametrize("folder", ["django", "fastapi"])
def test_the_host_of_a_request_has_to_be_among_those_that_are_allowed(start: Start, folder: str) -> None:
    running = start(folder)
    assert running.request("PUT", "/raw", b"x", BINARY).status_code == 200
    assert running.request("PUT", "/raw", b"x", {**BINARY, "Host": "gateway.internal"}).status_code == 400


@pytest.mark.parametrize("folder", ["django", "fastapi"])
def test_an_answer_is_compressed_only_for_those_who_ask_for_it(start: Start, folder: str) -> None:
    running = start(folder)
    asked = running.request("GET", "/long", headers={"Accept-Encoding": "gzip"})
    assert asked.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in running.request("GET", "/long", headers={"Accept-Encoding": "identity"}).headers


@pytest.mark.parametrize(
    ("folder", "path"), [("flask", "/parsed-first"), ("fastapi", "/parsed-first"), ("express", "/kept")]
)
def test_the_raw_body_can_be_had_after_it_was_parsed(start: Start, folder: str, path: str) -> None:
    body = b'{ "n" : 1 }'
    answer = start(folder).request("PUT", path, body, JSON)
    assert (answer.status_code, answer.content) == (200, body)


def test_the_raw_body_is_lost_in_flask_after_the_stream_was_read(start: Start) -> None:
    assert start("flask").request("PUT", "/stream-first", b"{}", JSON).content == b""


def test_the_raw_body_is_lost_in_express_after_it_was_parsed(start: Start) -> None:
    assert start("express").request("PUT", "/parsed-first", b"{}", JSON).json() is False


@pytest.mark.parametrize("path", ["/raw-first", "/parsed-first"])
def test_the_raw_body_can_be_had_in_django_rest_framework(start: Start, path: str) -> None:
    body = b'{ "n" : 1 }'
    assert start("django").request("PUT", path, body, JSON).content == body


@contextmanager
def gunicorn(*flags: str) -> Iterator[int]:
    """Run Flask's defaults in gunicorn; yield its port."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--bind", f"localhost:{port}", *flags, "app:app"]
    with subprocess.Popen(command, cwd=HERE / "flask", env=environment(), stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: is_open(port), "gunicorn")
            yield port
        finally:
            process.terminate()
            process.wait(TIMEOUT_S)


def is_open(port: int) -> bool:
    try:
        socket.create_connection(("localhost", port), TIMEOUT_S).close()
    except OSError:
        return False
    return True


def seconds_until_closed(port: int) -> float | None:
    """Return after which time a server closes an idle connection, None if it does not while it is observed."""
    with socket.create_connection(("localhost", port), OBSERVED_S) as connection:
        connection.sendall(b"PUT /raw HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx")
        begin = time.monotonic()
        try:
            while connection.recv(1 << 16):
                begin = time.monotonic()
        except TimeoutError:
            return None
        return time.monotonic() - begin


def test_idle_connections_are_closed_as_said(start: Start) -> None:
    table = rows("idle connections of")
    said = {name: re.match(r"at once|\d+(?= s)|never", cells[0]) for name, cells in table.items()}
    folders = {
        "`uvicorn`": "fastapi",
        "Node's `http`, Express": "express",
        "Fastify": "fastify",
        "`flask run`": "flask",
        "`runserver` of Django": "django",
        "`php -S`": "php",
        "Go": "go",
    }
    with ExitStack() as stack:
        ports = {name: start(each).port for name, each in folders.items() if not DEFAULTS[each].missing()}
        ports["`gunicorn`, workers of the kind `sync`"] = stack.enter_context(gunicorn())
        flags = ("--worker-class", "gthread", "--threads", "4")
        ports["`gunicorn`, workers of the kind `gthread`"] = stack.enter_context(gunicorn(*flags))
        assert ports.keys() <= said.keys()
        with ThreadPoolExecutor(len(ports)) as pool:
            found = dict(zip(ports, pool.map(seconds_until_closed, ports.values()), strict=True))
    assert {name: seconds for name, seconds in found.items() if not is_as_said(said[name], seconds)} == {}


def is_as_said(said: "re.Match[str] | None", seconds: float | None) -> bool:
    """Return whether a connection was closed when it should be. Servers look for idle connections now and then."""
    assert said
    limit = 0.0 if said[0] == "at once" else float("inf") if said[0] == "never" else float(said[0])
    if seconds is None:
        return limit > OBSERVED_S
    return limit - 0.5 <= seconds <= limit + 2


def test_fastify_keeps_idle_connections_for_as_long_as_said(start: Start) -> None:
    assert json.loads(start("fastify").request("GET", "/keep-alive").text) == 72_000
    assert rows("idle connections of")["Fastify"][0].startswith("72 s")


def test_each_framework_that_is_tried_is_in_the_section() -> None:
    text = section("What frameworks do by default", PAGE)
    for name in ("Flask", "FastAPI", "Django", "Express", "Fastify", "PHP", "Go"):
        assert name in text
