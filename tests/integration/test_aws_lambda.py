"""The process of a Lambda function: its HTTP server, and its start."""

import http.client
import json
import logging
import os
import runpy
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.lambda_function import PATH, ServedFunction, serving
from tests.support.ports import free_port
from tests.support.waiting import TIMEOUT_S
from wsaas.aws_lambda import __main__ as program
from wsaas.aws_lambda.function import Function
from wsaas.aws_lambda.server import InvocationServer


@pytest.fixture
def function() -> Iterator[ServedFunction]:
    with serving(lambda event: event["body"]) as function:
        yield function


def post(
    connection: http.client.HTTPConnection, event: object, **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    connection.request("POST", PATH, json.dumps(event), headers)
    response = connection.getresponse()
    return response, response.read()


def connect(function: ServedFunction) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", function.server.server_port, timeout=TIMEOUT_S)


def event_with(body: object) -> dict[str, Any]:
    return {"requestContext": {"eventType": "MESSAGE"}, "body": body}


def test_each_post_is_an_invocation_and_connections_are_kept(function: ServedFunction) -> None:
    with closing(connect(function)) as connection:
        for body in ("one", {"two": "é"}, None):
            response, data = post(connection, event_with(body))
            assert (response.status, response.getheader("Content-Type")) == (200, "application/json")
            assert response.getheader("X-Amz-Function-Error") is None
            assert json.loads(data) == body
    assert [event["body"] for event in function.events] == ["one", {"two": "é"}, None]


def test_a_function_that_fails_is_answered_with_200_and_a_header(
    function: ServedFunction, capfd: pytest.CaptureFixture[str]
) -> None:
    with closing(connect(function)) as connection:
        response, data = post(connection, {"requestContext": {"eventType": "MESSAGE"}})
        assert (response.status, response.getheader("X-Amz-Function-Error")) == (200, "Unhandled")
        assert json.loads(data)["errorType"] == "KeyError"
        assert post(connection, event_with("again"))[1] == b'"again"'
    assert "[ERROR] KeyError: 'body'" in capfd.readouterr().err


def test_no_web_page_can_invoke_the_function(function: ServedFunction) -> None:
    with closing(connect(function)) as connection:
        assert post(connection, event_with("x"), Origin="https://example.com")[0].status == 403
    assert function.events == []


def test_other_requests_are_refused(function: ServedFunction) -> None:
    with closing(connect(function)) as connection:
        connection.request("GET", PATH)
        assert connection.getresponse().status == 501
    with socket.create_connection(("127.0.0.1", function.server.server_port), TIMEOUT_S) as raw:
        raw.sendall(b"POST / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert raw.recv(4096).startswith(b"HTTP/1.1 411 ")
        assert raw.recv(4096) == b""


def test_a_caller_that_goes_away_is_no_error(function: ServedFunction, capfd: pytest.CaptureFixture[str]) -> None:
    handle_failure_of(lambda: socket.create_connection(("127.0.0.1", free_port())), function.server)
    assert capfd.readouterr().err == ""
    handle_failure_of(lambda: int("x"), function.server)
    assert "ValueError: invalid literal for int()" in capfd.readouterr().err


def handle_failure_of(call: Callable[[], object], server: InvocationServer) -> None:
    """Let `server` handle an exception of one of its connections."""
    try:
        call()
    except (OSError, ValueError):
        server.handle_error(None, ("127.0.0.1", 1))


def test_it_listens_on_ipv6_too() -> None:
    with InvocationServer("::1", 0, Function("a.b", lambda *_: None, 1.0)) as server:
        assert server.address_family == socket.AF_INET6


@pytest.fixture
def _own_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the program changes for good is restored."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(os, "environ", {**os.environ, "PORT": "0"})
    monkeypatch.setenv("WSAAS_LAMBDA_HOST", "127.0.0.1")
    monkeypatch.setenv("WSAAS_LAMBDA_TIMEOUT_S", "10.0")
    monkeypatch.delenv("AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI", raising=False)
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    yield
    sys.modules.pop("lambda_app", None)


@pytest.mark.usefixtures("_own_process")
def test_the_program_serves_the_function_that_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("lambda_app.py").write_text("def handler(event, context):\n    return context.function_name\n")
    answers: list[bytes] = []
    monkeypatch.setattr(
        InvocationServer, "serve_forever", lambda server: answers.append(server.function.invoke(b"{}").body)
    )
    assert program.main("lambda_app.handler") == 0
    assert answers == [b'"lambda_app"']
    assert os.environ["AWS_LAMBDA_FUNCTION_NAME"] == "lambda_app"


@pytest.mark.usefixtures("_own_process")
def test_a_function_that_does_not_exist_is_status_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["", "lambda_missing.handler"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(program.__file__, run_name="__main__")
    assert caught.value.code == 2
    assert capsys.readouterr().err == f"there is no module 'lambda_missing' in {Path.cwd()}\n"
