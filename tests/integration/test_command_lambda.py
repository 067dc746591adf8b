"""The command `wsaas lambda`: a gateway and a Lambda function of a user, which start and end together."""

import json
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.support.command import RunningCommand, running_command
from tests.support.ports import free_port
from tests.support.waiting import TIMEOUT_S
from wsaas.cli import function
from wsaas.cli.main import main
from wsaas.log import output
from wsaas.settings import load

pytestmark = pytest.mark.usefixtures("_restored_process")

APP = """
import json
import logging
import os

logger = logging.getLogger()
logger.setLevel(logging.INFO)


def handler(event, context):
    request = event["requestContext"]
    logger.info("%s of %s", request["routeKey"], request["connectionId"])
    if request["routeKey"] == "$connect":
        if (event.get("queryStringParameters") or {}).get("token") != "t0ken":
            return {"statusCode": 401}
        answer = {"statusCode": 200}
        if "Sec-WebSocket-Protocol" in event["headers"]:
            answer["headers"] = {"Sec-WebSocket-Protocol": event["headers"]["Sec-WebSocket-Protocol"].split(", ")[0]}
        return answer
    if request["routeKey"] == "$disconnect":
        return {"statusCode": 200}
    if request["routeKey"] == "fail":
        raise ValueError("boom")
    if request["routeKey"] == "environment":
        found = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        return {"statusCode": 200, "body": json.dumps({**found, "left": context.get_remaining_time_in_millis()})}
    return {"statusCode": 200, "body": event["body"], "isBase64Encoded": event["isBase64Encoded"]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a function."""
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


@contextmanager
def running_lambda(folder: Path, *flags: str) -> Iterator[tuple[RunningCommand, int]]:
    """Run the function; yield the command and the port of its gateway."""
    port = free_port()
    variables = {"WS_HOSTNAME": f"localhost:{port}", "PORT": str(free_port()), "HOME": str(folder)}
    with running_command("lambda", "app.handler", *flags, folder=folder, **variables) as running:
        assert running.read_until("boto3") == f"  boto3    http://localhost:{port}/local\n"
        running.read_until("Ctrl-C ends both.")
        yield running, port


def client(port: int, query: str = "token=t0ken", **options: Any) -> ClientConnection:
    connected: ClientConnection = connect(f"ws://localhost:{port}/?{query}", open_timeout=TIMEOUT_S, **options)
    return connected


def test_a_function_runs_behind_a_gateway(folder: Path) -> None:
    with running_lambda(folder, "--aws-route-responses", "on") as (running, port):
        with client(port, subprotocols=["v1", "v2"]) as first:
            assert first.subprotocol == "v1"
            assert running.read_until("$connect of ").startswith("handler | [INFO] $connect of ")
            for sent in ("hello", b"\xff\0", '{"action":"echo","data":"é"}'):
                first.send(sent)
                assert first.recv(TIMEOUT_S) == sent
            first.send('{"action":"fail"}')
            assert json.loads(first.recv(TIMEOUT_S))["message"] == "Internal server error"
            running.read_until("handler | [ERROR] ValueError: boom")
            assert "Traceback" in running.read_until("handler | ")
            first.send('{"action":"environment"}')
            found = json.loads(first.recv(TIMEOUT_S))
            assert 0 < found.pop("left") <= 9500
            assert found == {
                "AWS_ACCESS_KEY_ID": "local",
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI": f"http://localhost:{port}/local",
                "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
                "AWS_LAMBDA_FUNCTION_NAME": "app",
                "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
                "AWS_REGION": "us-east-1",
                "AWS_SECRET_ACCESS_KEY": "local",
            }
        running.read_until("$disconnect of ")
        with pytest.raises(InvalidStatus) as refused:
            client(port, "")
        assert refused.value.response.status_code == 401
        with client(port):
            os.killpg(running.process.pid, signal.SIGINT)
            # The gateway stops first: the function learns of the end of each connection.
            running.read_until("$disconnect of ")
        assert running.finish()[0] == 0


def test_the_example_of_the_docs_sends_what_a_client_says_to_all_others(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "aws.md").read_text()
    (source,) = [
        each for each in re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE) if "handler" in each
    ]
    (tmp_path / "app.py").write_text(source)
    with running_lambda(tmp_path) as (running, port), client(port) as one:
        with client(port) as other, client(port) as third:
            one.send(json.dumps({"action": "say", "text": "grüße"}))
            assert other.recv(TIMEOUT_S) == third.recv(TIMEOUT_S) == "grüße"
            running.process.send_signal(signal.SIGINT)
        assert running.finish()[0] == 0


def test_a_function_that_does_not_exist_is_one_line_and_status_2(folder: Path) -> None:
    variables = {"PORT": str(free_port()), "WS_HOSTNAME": f"localhost:{free_port()}"}
    for name, said in (
        ("missing.handler", f"there is no module 'missing' in {folder}"),
        ("app.missing", "there is no function 'missing' in the module 'app'"),
    ):
        with running_command("lambda", name, folder=folder, **variables) as running:
            status, out = running.finish()
        assert (status, out) == (2, f"handler | {said}\nhandler | ended with exit status 2\n")


def test_another_format_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lambda", "app.handler", "--event-format", "native"], {}) == 2
    assert capsys.readouterr().err == (
        "wsaas: wsaas lambda sends the events of AWS: it cannot be used with another EVENT_FORMAT\n"
    )
    assert main(["lambda", "app.handler", "--workers", "2"], {}) == 2
    assert "wsaas lambda runs one process" in capsys.readouterr().err


def test_a_backend_in_this_format_cannot_be_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "localhost:1", "--event-format", "aws"], {}) == 2
    assert capsys.readouterr().err == (
        "wsaas: EVENT_FORMAT='aws': wsaas check sends requests in the native format only\n"
    )


def test_the_function_ends_with_the_gateway(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    (folder / "stop.py").write_text(
        "import os, signal\n\ndef handler(event, context):\n    pass\n\nos.kill(os.getppid(), signal.SIGINT)\n"
    )
    monkeypatch.chdir(folder)
    variables = {"WS_HOSTNAME": f"127.0.0.1:{free_port()}", "PORT": str(free_port()), **os.environ}
    assert main(["lambda", "stop.handler", "--event-format", "AWS"], variables) == 0
    output.close()
    assert "ended with exit status" not in capfd.readouterr().out


# The variables of the function.

HOME = "/nowhere"
FILES = {"AWS_SHARED_CREDENTIALS_FILE": f"{HOME}/credentials", "AWS_CONFIG_FILE": f"{HOME}/config"}
CHOSEN = load({"api_uri": "localhost:9001/x", "ws_hostname": "localhost:8081/prod"}, {})
ALWAYS = {
    "AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI": "http://localhost:8081/prod",
    "WSAAS_LAMBDA_HOST": "localhost",
    "WSAAS_LAMBDA_TIMEOUT_S": "10.0",
}
KEYS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
REGION = {"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, KEYS | REGION),
        ({"AWS_ACCESS_KEY_ID": "own"}, REGION),
        ({"AWS_PROFILE": "own"}, REGION),
        ({"AWS_REGION": "eu-west-1"}, KEYS | {"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-1"}),
        ({"AWS_DEFAULT_REGION": "eu-west-1"}, KEYS | {"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-1"}),
        ({"AWS_CONFIG_FILE": __file__}, {}),
        ({"AWS_SHARED_CREDENTIALS_FILE": __file__}, {}),
    ],
)
def test_sdks_get_what_the_user_has_not_set(environment: dict[str, str], expected: dict[str, str]) -> None:
    assert function.variables(CHOSEN, FILES | environment) == ALWAYS | expected


def test_the_greeting_has_the_endpoint_for_boto3() -> None:
    assert function.rows(CHOSEN) == [("boto3", "http://localhost:8081/prod")]


@pytest.mark.parametrize("environment", [{}, {"AWS_CONFIG_FILE": __file__}])
def test_the_function_signs_with_the_first_key_that_the_gateway_accepts(environment: dict[str, str]) -> None:
    chosen = load({"api_uri": "localhost:9001/x", "control_aws_keys": "first:s3cret,second:0ther"}, {})
    found = function.variables(chosen, FILES | environment)
    assert (found["AWS_ACCESS_KEY_ID"], found["AWS_SECRET_ACCESS_KEY"]) == ("first", "s3cret")
    assert "AWS_ACCESS_KEY_ID" not in function.variables(chosen, FILES | environment | {"AWS_ACCESS_KEY_ID": "own"})


@pytest.mark.parametrize("uri", ["unix:/run/app.sock:/", "https://localhost:8443/"])
def test_a_function_is_served_neither_at_a_unix_socket_nor_with_tls(
    capsys: pytest.CaptureFixture[str], uri: str
) -> None:
    assert main(["lambda", "app.handler", "--api-uri", uri], {}) == 2
    assert capsys.readouterr().err == (
        f"wsaas: wsaas lambda needs a port without TLS: it cannot be used with API_URI={uri}\n"
    )
