"""The example of a Lambda function, run by `wsaas lambda`: the same as the other examples, as far as AWS has it."""

import re
import time
from collections.abc import Iterator

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.examples import FUNCTION, RunningExample, running_example
from tests.support.restartable import wait_until
from tests.support.waiting import TIMEOUT_S

ADA, BEN = "Bearer ada-token", "Bearer ben-token"


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningExample]:
    """The function and a gateway, without a token: boto3 signs its requests instead."""
    with running_example(FUNCTION, tmp_path_factory.mktemp("example"), API_SECRET="", CONTROL_TOKEN="") as running:
        yield running


def test_a_client_without_a_valid_token_is_refused(example: RunningExample) -> None:
    for authorization in (None, "Bearer of nobody"):
        with pytest.raises(InvalidStatus) as refused:
            example.connect(authorization)
        assert refused.value.response.status_code == 401


def test_a_client_gets_its_messages_back_as_text_or_binary(example: RunningExample) -> None:
    with example.connect(ADA) as ada:
        for message in ("hello", "Grüße", b"\xff\x00\r\n"):
            ada.send(message)
            assert ada.recv(TIMEOUT_S) == message


def test_a_publish_reaches_all(example: RunningExample) -> None:
    with example.connect(ADA) as ada, example.connect(BEN) as ben:
        ada.send('{"action": "notify", "text": "hello, all"}')
        assert [ada.recv(TIMEOUT_S), ben.recv(TIMEOUT_S)] == ["hello, all", "hello, all"]


def test_a_push_of_another_program_reaches_one_client(example: RunningExample) -> None:
    import boto3  # noqa: PLC0415 - only some environments have it

    with example.connect(ADA) as ada:
        (client,) = example.connections("/connections")
        pushing = boto3.client(
            "apigatewaymanagementapi",
            endpoint_url=f"http://{example.hostname}/local",
            region_name="us-east-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",
        )
        pushing.post_to_connection(ConnectionId=client["id"], Data=b"hello, you")
        assert ada.recv(TIMEOUT_S) == "hello, you"
        pushing.close()


def test_a_client_that_says_bye_is_closed(example: RunningExample) -> None:
    with example.connect(ADA) as ada:
        ada.send("bye")
        with pytest.raises(ConnectionClosed):
            ada.recv(TIMEOUT_S)


def test_the_end_of_a_client_is_noted(example: RunningExample) -> None:
    with example.connect(BEN) as ben:
        ben.close(4321)
    wait_until(lambda: re.search(r"ben left: 4321", example.said()), "the event", example.said)


def test_the_function_ends_on_sigterm(example: RunningExample) -> None:
    begin = time.monotonic()
    assert example.stop() == 0
    assert time.monotonic() - begin < TIMEOUT_S
    assert "Traceback" not in example.said()
