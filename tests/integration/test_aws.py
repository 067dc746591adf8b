"""`/@connections/{id}`, used by AWS's SDKs for Python and for JavaScript as they are."""

import asyncio
import base64
import hashlib
import json
import re
import shlex
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, TypeVar

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.support.aws import KEY, KEY_ID, REGION, SECRET
from tests.support.documentation import section
from tests.support.frames import BINARY, TEXT
from tests.support.javascript_client import needs_node
from tests.support.npm import npm_install
from tests.support.recording_link import RecordingLink, recording_link
from tests.support.stage import Node, Stage, received_close
from tests.support.tools import needs_curl, run_tool
from tests.support.waiting import with_timeout
from wsaas.http.request import Request

# An announcement of boto3, once Python has announced the end of a version.
pytestmark = pytest.mark.filterwarnings("ignore:Boto3 will no longer support")

T = TypeVar("T")
PAGE = (Path(__file__).parents[2] / "docs" / "aws.md").read_text()
SCRIPT = Path(__file__).parents[1] / "support" / "node" / "aws.mjs"
GONE = "a" * 30
FOREIGN = "L0SM9cOFvHcCIhw="
"""An id as API Gateway makes it."""

PLACES = ["here", "worker", "node"]
"""Where the connection is: in the process that is called, in another worker, or at another node of a cluster."""


def blocks(language: str) -> list[str]:
    """Return the code blocks of a language in the first section of the documentation."""
    return re.findall(rf"^```{language}\n(.*?)^```", section("Callbacks: @connections", PAGE), re.DOTALL | re.MULTILINE)


async def two(stage: Stage, place: str, **chosen: Any) -> tuple[Node, Node]:
    """Return the gateway that is called, and the one that the client is connected to."""
    if place == "here":
        node = await stage.node(**chosen)
        return node, node
    if place == "worker":
        here, there = await stage.workers(2, **chosen)
    else:
        here, there = await stage.cluster(2, control_token="s3cret", **chosen)
    return here, there


@contextmanager
def boto3_client(port: int, key: str = KEY, stage: str = "/prod", **config: Any) -> Iterator[Any]:
    """A client of AWS's SDK for Python, which is not asynchronous."""
    key_id, _, secret = key.partition(":")
    client = boto3.client(
        "apigatewaymanagementapi",
        endpoint_url=f"http://127.0.0.1:{port}{stage}",
        region_name=REGION,
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        config=Config(**config),
    )
    try:
        yield client
    finally:
        client.close()


@asynccontextmanager
async def recorded(stage: Stage, place: str = "here", **chosen: Any) -> AsyncIterator[tuple[RecordingLink, Node]]:
    """Return a link to the gateway that is called, and the gateway that clients connect to."""
    here, there = await two(stage, place, **{"control_aws_keys": KEY, **chosen})
    async with recording_link(here.port) as link:
        yield link, there


async def calling(link: RecordingLink, work: Callable[[Any], T], **options: Any) -> T:
    """Let `work` use a client of boto3, in a thread."""

    def call() -> T:
        with boto3_client(link.port, **options) as client:
            return work(client)

    return await asyncio.to_thread(call)


def check_signed(request: Request, *names: str) -> None:
    """Check that a request is signed for the right service, and that all these headers are."""
    scope = f"/{REGION}/execute-api/aws4_request, SignedHeaders="
    authorization = request.headers[b"authorization"].decode()
    assert authorization.startswith(f"AWS4-HMAC-SHA256 Credential={KEY_ID}/")
    assert scope in authorization
    signed = authorization.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    assert {"host", "x-amz-date", *names} <= set(signed), signed


# curl, which signs the path as it is in the request line.


@needs_curl
async def test_curl_signs_its_requests(stage: Stage) -> None:
    async with recorded(stage) as (link, there):
        client, name = await there.admit()
        _, documented = blocks("sh")
        sent = documented.replace("localhost:8080", f"127.0.0.1:{link.port}").replace("<id>", name)
        sent = sent.replace("us-east-1", REGION)
        await run_tool(*shlex.split(sent.replace("local:secret", KEY)), "--silent", "--fail")
        assert await with_timeout(client.recv()) == "hello"
        assert link.requests[-1].target == f"/prod/@connections/{name}".encode()
        check_signed(link.requests[-1])
        refused = await run_tool(*shlex.split(sent), "--silent", "--write-out", "%{http_code}")
        assert refused.stdout.endswith(b"403")


# AWS's SDK for Python.


@pytest.mark.parametrize("place", PLACES)
async def test_boto3_sends_describes_and_closes(stage: Stage, place: str) -> None:
    async with recorded(stage, place) as (link, there):
        client, name = await there.admit()

        def work(api: Any) -> tuple[Any, ...]:
            text = api.post_to_connection(ConnectionId=name, Data="Grüße")
            binary = api.post_to_connection(ConnectionId=name, Data=b"\xff\x00")
            return text, binary, api.get_connection(ConnectionId=name), api.delete_connection(ConnectionId=name)

        before = datetime.now(timezone.utc) - timedelta(seconds=10)
        text, binary, found, deleted = await calling(link, work)
        statuses = [each["ResponseMetadata"]["HTTPStatusCode"] for each in (text, binary, found, deleted)]
        assert statuses == [200, 200, 200, 204]
        assert [await with_timeout(client.recv()) for _ in range(2)] == ["Grüße", b"\xff\x00"]
        assert await received_close(client) == (1000, "")
        for time in (found["ConnectedAt"], found["LastActiveAt"]):
            assert before < time < before + timedelta(seconds=60)
        assert found["Identity"] == {"SourceIp": "127.0.0.1", "UserAgent": ""}
        path = f"/prod/@connections/{name}"
        assert link.log == [("POST", path), ("POST", path), ("GET", path), ("DELETE", path)]
        assert [each.body for each in link.requests] == ["Grüße".encode(), b"\xff\x00", b"", b""]
        for request in link.requests:
            check_signed(request)
            assert request.headers[b"user-agent"].startswith(b"Boto3/")
            assert b"x-amz-content-sha256" not in request.headers


@pytest.mark.parametrize("place", PLACES)
async def test_boto3_raises_the_exceptions_of_its_model(stage: Stage, place: str) -> None:
    chosen = {"max_message_size": 100_000, "send_buffer": 100_000}
    async with recorded(stage, place, **chosen) as (link, there):
        _, name = await there.admit()
        slow = await there.upgraded(receive=4096)
        slow_name = (await stage.backend.take("POST")).client

        def work(api: Any) -> None:
            for connection_id in (GONE, FOREIGN):
                for call in (api.get_connection, api.delete_connection):
                    with pytest.raises(api.exceptions.GoneException, match=r"connection has"):
                        call(ConnectionId=connection_id)
                with pytest.raises(api.exceptions.GoneException):
                    api.post_to_connection(ConnectionId=connection_id, Data=b"")
            with pytest.raises(api.exceptions.PayloadTooLargeException, match="at most 100000 bytes"):
                api.post_to_connection(ConnectionId=name, Data=b"x" * 100_001)
            with pytest.raises(ClientError, match="BadRequestException"):
                api.post_to_connection(ConnectionId="short", Data=b"")
            with pytest.raises(api.exceptions.LimitExceededException, match="has not read"):  # noqa: PT012 - until the socket is full
                while True:
                    api.post_to_connection(ConnectionId=slow_name, Data=b"x" * 100_000)

        await calling(link, work, retries={"total_max_attempts": 1})
        targets = [target for _, target in link.log]
        assert f"/prod/@connections/{GONE}" in targets
        assert "/prod/@connections/L0SM9cOFvHcCIhw%3D" in targets
        slow.reset()
        await stage.backend.take("DELETE")


async def test_boto3_is_forbidden_what_it_does_not_sign_with_the_right_secret(stage: Stage) -> None:
    async with recorded(stage) as (link, there):
        _, name = await there.admit()

        def work(api: Any) -> None:
            for call in (api.get_connection, api.delete_connection):
                with pytest.raises(api.exceptions.ForbiddenException, match="signature"):
                    call(ConnectionId=name)
            with pytest.raises(api.exceptions.ForbiddenException, match="signature"):
                api.post_to_connection(ConnectionId=name, Data=b"hi")

        await calling(link, work, key=f"{KEY_ID}:wrong")
        await calling(link, work, key=f"other:{SECRET}")
        assert len(link.log) == 6
        assert there.session(name).info.messages_out == 0


async def test_keys_in_a_file_are_replaced_at_a_reload(stage: Stage, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("old:secret\n")
    node = await stage.node(control_aws_keys_file=file)
    client, name = await node.admit()

    def post(api: Any) -> None:
        api.post_to_connection(ConnectionId=name, Data=b"hi")

    def refused(api: Any) -> None:
        with pytest.raises(api.exceptions.ForbiddenException):
            post(api)

    async with recording_link(node.port) as link:
        await calling(link, post, key="old:secret")
        file.write_text("new:secret\n")
        node.gateway.reload()
        await calling(link, refused, key="old:secret")
        await calling(link, post, key="new:secret")
    assert [await with_timeout(client.recv()) for _ in range(2)] == ["hi", "hi"]


async def test_without_keys_any_credentials_will_do_and_the_environment_may_name_the_endpoint(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await stage.node()
    client, name = await node.admit()
    async with recording_link(node.port) as link:
        variables, _ = blocks("sh")
        for variable, value in re.findall(r"([A-Z_]+)=(\S+)", variables):
            monkeypatch.setenv(variable, value.replace("localhost:8080", f"127.0.0.1:{link.port}"))

        def work() -> None:
            api = boto3.client("apigatewaymanagementapi")
            api.post_to_connection(ConnectionId=name, Data=b"hi")
            api.close()

        await asyncio.to_thread(work)
        assert link.log == [("POST", f"/prod/@connections/{name}")]
        assert b"Credential=local/" in link.requests[0].headers[b"authorization"]
    assert await with_timeout(client.recv()) == "hi"


async def test_the_example_for_boto3_sends_and_forgets_what_is_gone(stage: Stage) -> None:
    node = await stage.node(control_aws_keys="local:secret")
    client, name = await node.admit()
    gone: list[str] = []
    (example,) = blocks("python")

    def work() -> None:
        for connection_id in (name, GONE):
            names: dict[str, Any] = {"connection_id": connection_id, "forget": gone.append}
            exec(example.replace("localhost:8080", f"127.0.0.1:{node.port}"), names)  # noqa: S102 - it is ours
            names["api"].close()

    await asyncio.to_thread(work)
    assert await with_timeout(client.recv()) == "hello"
    assert gone == [GONE]


async def test_a_session_token_is_signed_and_accepted(stage: Stage) -> None:
    async with recorded(stage) as (link, there):
        client, name = await there.admit()

        def work() -> None:
            session = boto3.Session(KEY_ID, SECRET, "session/token+=", REGION)
            api = session.client("apigatewaymanagementapi", endpoint_url=f"http://127.0.0.1:{link.port}")
            api.post_to_connection(ConnectionId=name, Data=b"hi")
            api.close()

        await asyncio.to_thread(work)
        assert await with_timeout(client.recv()) == "hi"
        (request,) = link.requests
        check_signed(request, "x-amz-security-token")


# AWS's SDK for JavaScript.


@pytest.fixture(scope="session")
def sdk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with AWS's SDK for JavaScript."""
    folder = tmp_path_factory.mktemp("sdk")
    (folder / "package.json").write_text('{"private": true}')
    npm_install(folder, "@aws-sdk/client-apigatewaymanagementapi@3")
    return folder


async def run_node(sdk: Path, link: RecordingLink, *calls: Any, secret: str = SECRET, clock_offset: int = 0) -> Any:
    """Make calls with AWS's SDK for JavaScript; return what they returned or threw."""
    node = shutil.which("node")
    assert node is not None
    credentials = {"accessKeyId": KEY_ID, "secretAccessKey": secret}
    options = {"endpoint": f"http://127.0.0.1:{link.port}/prod", "region": REGION, "credentials": credentials}
    given = json.dumps({"options": options, "calls": calls, "clockOffset": clock_offset})
    return json.loads((await run_tool(node, str(SCRIPT), str(sdk), given)).stdout)


@needs_node
@pytest.mark.parametrize("place", PLACES)
async def test_the_sdk_for_javascript_sends_describes_and_closes(stage: Stage, sdk: Path, place: str) -> None:
    async with recorded(stage, place) as (link, there):
        raw = await there.upgraded()
        name = (await stage.backend.take("POST")).client
        text, binary, found, deleted = await run_node(
            sdk,
            link,
            ("PostToConnectionCommand", {"ConnectionId": name, "Data": "Grüße"}),
            ("PostToConnectionCommand", {"ConnectionId": name, "base64": base64.b64encode(b"\xff\x00").decode()}),
            ("GetConnectionCommand", {"ConnectionId": name}),
            ("DeleteConnectionCommand", {"ConnectionId": name}),
        )
        once = {"attempts": 1}
        assert (text, binary, deleted) == ({"status": 200, **once}, {"status": 200, **once}, {"status": 204, **once})
        assert found["Identity"] == {"SourceIp": "127.0.0.1", "UserAgent": ""}
        assert datetime.fromisoformat(found["ConnectedAt"].replace("Z", "+00:00")) <= datetime.now(timezone.utc)
        assert [await raw.frame() for _ in range(2)] == [(TEXT, "Grüße".encode()), (BINARY, b"\xff\x00")]
        raw.close()
        path = f"/prod/@connections/{name}"
        assert link.log == [("POST", path), ("POST", path), ("GET", path), ("DELETE", path)]
        assert [each.body for each in link.requests] == ["Grüße".encode(), b"\xff\x00", b"", b""]
        for request in link.requests:
            check_signed(request, "x-amz-content-sha256")
            assert request.headers[b"x-amz-content-sha256"].decode() == hashlib.sha256(request.body).hexdigest()


@needs_node
async def test_the_sdk_for_javascript_throws_the_exceptions_of_its_model(stage: Stage, sdk: Path) -> None:
    async with recorded(stage, max_message_size=1000) as (link, there):
        _, name = await there.admit()
        results = await run_node(
            sdk,
            link,
            ("PostToConnectionCommand", {"ConnectionId": GONE, "Data": "hi"}),
            ("DeleteConnectionCommand", {"ConnectionId": FOREIGN}),
            ("PostToConnectionCommand", {"ConnectionId": name, "Data": "x" * 1001}),
        )
        errors = [(each["status"], each["error"], each["isModelled"], each["attempts"]) for each in results]
        assert errors == [
            (410, "GoneException", True, 1),
            (410, "GoneException", True, 1),
            (413, "PayloadTooLargeException", True, 1),
        ]
        assert all(each["message"] for each in results)
        call = ("GetConnectionCommand", {"ConnectionId": name})
        (refused,) = await run_node(sdk, link, call, secret="wrong")
        assert (refused["status"], refused["error"], refused["isModelled"]) == (403, "ForbiddenException", True)


@needs_node
async def test_the_sdk_for_javascript_corrects_a_clock_that_is_wrong(stage: Stage, sdk: Path) -> None:
    async with recorded(stage) as (link, there):
        client, name = await there.admit()
        call = ("PostToConnectionCommand", {"ConnectionId": name, "Data": "hi"})
        (result,) = await run_node(sdk, link, call, clock_offset=-3_600_000)
        assert (result["status"], result["attempts"]) == (200, 2)
        assert await with_timeout(client.recv()) == "hi"
