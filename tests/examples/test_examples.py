"""Each example is started with a gateway, used by real clients, and stopped: they all do the same."""

import re
import sys
from collections.abc import Iterator

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from tests.support.backend_requests import SECRET
from tests.support.examples import (
    BACKENDS,
    CHAT,
    COMMAND,
    EXAMPLES,
    FROM_SOCKETIO,
    FUNCTION,
    LOGINS,
    Example,
    RunningExample,
    run,
    running_example,
)
from tests.support.ports import free_port
from tests.support.restartable import wait_until
from tests.support.waiting import TIMEOUT_S
from wsaas import backend

EVERY = [*BACKENDS, FUNCTION]
README = (EXAMPLES / "README.md").read_text()
ADA, BEN = "Bearer ada-token", "Bearer ben-token"
PLAIN = {"Content-Type": "text/plain"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
"""What `curl -d` sends."""

MAX_LINES = 40
MAX_MESSAGE_SIZE = 1 << 20
CLOSES_CONNECTIONS = {"flask", "php"}
"""Those whose server closes the connection after each answer."""


@pytest.fixture(scope="module", params=BACKENDS, ids=lambda each: each.name)
def example(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningExample]:
    """Each example in turn. The last test of this module stops it."""
    with running_example(request.param, tmp_path_factory.mktemp("example")) as running:
        yield running


@pytest.fixture
def ada(example: RunningExample) -> Iterator[ClientConnection]:
    with example.connect(ADA) as client:
        yield client


@pytest.fixture
def ben(example: RunningExample) -> Iterator[ClientConnection]:
    with example.connect(BEN) as client:
        yield client


def received(client: ClientConnection) -> str | bytes:
    return client.recv(TIMEOUT_S)


def notify(example: RunningExample, text: str, authorization: str = ADA, to: str = "") -> httpx2.Response:
    """Let the example push `text` to one client, or to its group."""
    headers = {**(PLAIN if to else FORM), "Authorization": authorization}
    return example.request("POST", f"/notify?to={to}" if to else "/notify", text.encode(), headers)


def event_headers(body: bytes, secret: str = SECRET, now: float | None = None) -> dict[str, str]:
    """Return the headers of a message, as a gateway makes them."""
    name = "A" * 30
    return {
        **PLAIN,
        **backend.sign(f"{name}:1", body, secret, now=now),
        "ce-id": f"{name}:1",
        "ce-subject": name,
        "ce-time": "2026-01-31T12:00:00.000Z",
        "ce-type": "wsaas.message",
        "ws-uri": f"localhost:8080/{name}",
    }


@pytest.mark.parametrize("authorization", [None, "Bearer of nobody", "Basic YWRhOmFkYQ==", "constructor"])
def test_a_client_without_a_valid_token_is_refused(example: RunningExample, authorization: str | None) -> None:
    with pytest.raises(InvalidStatus) as refused:
        example.connect(authorization)
    assert refused.value.response.status_code == 401


def test_a_client_gets_its_messages_back_as_text_or_binary(ada: ClientConnection) -> None:
    for message in ("hello", "", "Grüße", '{"n": 1}', b"bytes", b"", b"\xff\x00\r\n", "last"):
        ada.send(message)
        assert received(ada) == message


@pytest.mark.parametrize("message", ["x" * MAX_MESSAGE_SIZE, b"\xff" * MAX_MESSAGE_SIZE], ids=["text", "binary"])
def test_a_message_may_be_as_large_as_the_gateway_allows(ada: ClientConnection, message: str | bytes) -> None:
    ada.send(message)
    assert received(ada) == message


def test_a_push_reaches_one_client_and_a_publish_all(
    example: RunningExample, ada: ClientConnection, ben: ClientConnection
) -> None:
    members = example.members()
    assert members.keys() == {"ada", "ben"}
    assert notify(example, "Grüße, Ben", to=members["ben"]).status_code == 200
    assert notify(example, "hello, all").status_code == 200
    assert [received(ben), received(ben)] == ["Grüße, Ben", "hello, all"]
    assert received(ada) == "hello, all"


def test_a_push_needs_a_token_an_address_of_the_gateway_and_a_client(
    example: RunningExample, ada: ClientConnection
) -> None:
    ws_uri = example.members()["ada"]
    assert notify(example, "no token", "Bearer of nobody").status_code == 401
    another = f"localhost:{free_port()}/{'A' * 30}"
    for to in (
        another,
        f"{ws_uri}/../groups/lobby",
        f"{example.hostname}/connections",
        f"{example.hostname}/groups/tea",
    ):
        assert notify(example, "elsewhere", to=to).status_code == 400, to
    ada.send("nothing came before")
    assert received(ada) == "nothing came before"
    ada.close()
    wait_until(lambda: "ada" not in example.members(), "the end of the client")
    assert notify(example, "too late", to=ws_uri).status_code == 410


def test_only_signed_requests_are_accepted(example: RunningExample) -> None:
    body = "Grüße".encode()
    signed = event_headers(body)
    assert example.request("PUT", "/websocket", body, signed).status_code == 200
    another = "whsec_" + "A" * 32
    now = 1_700_000_000.0
    forged = {
        "another body": (b"forged", signed),
        "no body": (b"", signed),
        "another secret": (body, event_headers(body, another)),
        "too old": (body, event_headers(body, now=now)),
        "another id": (body, {**signed, "webhook-id": "A:2"}),
        "not base64": (body, {**signed, "webhook-signature": "v1,\xff" + "=" * 40}),
        "no signature": (body, {name: value for name, value in signed.items() if not name.startswith("webhook-")}),
    }
    for method in ("POST", "PUT", "DELETE"):
        answers = {
            name: example.request(method, "/websocket", data, headers).status_code
            for name, (data, headers) in forged.items()
        }
        assert answers == dict.fromkeys(forged, 401), method


def test_one_of_several_signatures_is_enough(example: RunningExample) -> None:
    body = b"while the secret is replaced"
    headers = event_headers(body)
    other = event_headers(body, "whsec_" + "B" * 32)["webhook-signature"]
    headers["webhook-signature"] = f"{other} {headers['webhook-signature']}"
    assert example.request("PUT", "/websocket", body, headers).status_code == 200


def test_a_client_that_says_bye_is_closed(ada: ClientConnection) -> None:
    ada.send("bye")
    with pytest.raises(ConnectionClosed) as closed:
        received(ada)
    assert closed.value.rcvd
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4000, "bye")


def test_the_end_of_a_client_is_noted(example: RunningExample, ben: ClientConnection) -> None:
    ben.close(4321)
    wait_until(lambda: re.search(r"ben left: .*4321", example.said()), "the DELETE", example.said)


def test_the_check_of_backends_finds_nothing_wrong(example: RunningExample) -> None:
    flags = ["--header", f"Authorization: {ADA}", "--api-secret", SECRET, "--ws-hostname", f"localhost:{free_port()}"]
    said = run(sys.executable, "-m", "wsaas", "check", example.api_uri, *flags, cwd=example.folder)
    # Nothing is pushed during the check.
    expected = {"push", "keep-alive"} if example.example.name in CLOSES_CONNECTIONS else {"push"}
    assert set(re.findall(r"^(?:WARN|FAIL)  ([\w -]+):", said, re.MULTILINE)) == expected, said
    assert "signature: requests with a wrong, missing or old signature are refused" in said


def test_wsaas_dev_has_found_nothing_wrong_at_the_start(example: RunningExample) -> None:
    said = example.said()
    if example.example.name in CLOSES_CONNECTIONS:
        assert re.findall(r"^check +\| (\w+ +[\w-]+)", said, re.MULTILINE) == ["WARN  keep-alive"], said
    else:
        assert "OK    the backend accepts a client, its message, and its end" in said, said
    # PHP is the language whose mistakes are only in the log.
    assert not re.search(r"Traceback|PHP Warning|PHP Notice|PHP Deprecated", said), said


def test_an_example_ends_on_sigterm_after_it_has_got_what_it_is_owed(
    example: RunningExample, ada: ClientConnection
) -> None:
    before = example.said().count("ada left")
    assert example.stop() == 0
    with pytest.raises(ConnectionClosed) as closed:
        received(ada)
    assert closed.value.rcvd
    assert closed.value.rcvd.code == 1001
    said = example.said()
    assert said.count("ada left") == before + 1, said
    assert "killed" not in said
    assert not example.listens()


def code_lines(source: str) -> list[str]:
    """Return the lines of code: no comments, no imports and no blank ones."""
    source = re.sub(r'^import \(.*?^\)$|\A""".*?"""', "", source, flags=re.DOTALL | re.MULTILINE)
    left_out = r"\s*(#|//|<\?php|import |from .+ import )|\s*$"
    return [line for line in source.splitlines() if not re.match(left_out, line)]


@pytest.mark.parametrize("each", EVERY, ids=lambda each: each.name)
def test_an_example_is_short(each: Example) -> None:
    lines = code_lines(each.source)
    assert 20 <= len(lines) <= MAX_LINES
    assert max(map(len, each.source.expandtabs(4).splitlines())) <= 120
    assert f"| {len(lines)} |" in next(row for row in README.splitlines() if f"({each.name}/{each.main})" in row)


@pytest.mark.parametrize("each", EVERY, ids=lambda each: each.name)
def test_the_readme_starts_an_example_as_its_first_lines_do(each: Example) -> None:
    (row,) = (row for row in README.splitlines() if f"({each.name}/{each.main})" in row)
    (started,) = COMMAND.findall(each.source)
    assert f"`wsaas {started}`" in row


def test_all_examples_are_tested() -> None:
    assert {each.name for each in EXAMPLES.iterdir() if each.is_dir()} == {
        each.name for each in [*EVERY, CHAT, *LOGINS, FROM_SOCKETIO]
    }


@pytest.mark.parametrize("each", [each for each in BACKENDS if "node" in each.programs], ids=lambda each: each.name)
def test_the_examples_in_javascript_are_well_formed(each: Example) -> None:
    if each.missing():
        pytest.skip("Node is not installed")
    run("node", "--check", each.main, cwd=each.folder)


@pytest.mark.parametrize("each", [each for each in BACKENDS if "php" in each.programs], ids=lambda each: each.name)
def test_the_example_in_php_is_well_formed(each: Example) -> None:
    if each.missing():
        pytest.skip("PHP is not installed")
    assert "No syntax errors" in run("php", "-l", each.main, cwd=each.folder)


@pytest.mark.parametrize("each", [each for each in BACKENDS if "go" in each.programs], ids=lambda each: each.name)
def test_the_example_in_go_is_formatted_and_has_no_suspicious_construct(each: Example) -> None:
    if each.missing():
        pytest.skip("Go is not installed")
    assert run("gofmt", "-l", ".", cwd=each.folder) == ""
    run("go", "vet", "./...", cwd=each.folder)
