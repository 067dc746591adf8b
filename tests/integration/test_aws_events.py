"""`EVENT_FORMAT=aws`: a gateway in front of a Lambda function."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import websockets

from tests.support.command import connect_client, running_wsaas
from tests.support.console import stream
from tests.support.journal import write_journal
from tests.support.lambda_function import ServedFunction, serving
from tests.support.stage import Node, Stage
from tests.support.waiting import with_timeout
from wsaas.delivery.journal import Entry

ID = "q3ZKx0aTdFz3SVRbrQqKHCtCWhRzoQ"


def chat(event: dict[str, Any]) -> Any:
    """Answer as a function of a user might."""
    request = event["requestContext"]
    if request["eventType"] == "CONNECT":
        if event.get("queryStringParameters", {}).get("token") == "wrong":
            return {"statusCode": 401, "headers": {"WWW-Authenticate": "Bearer"}}
        if event["headers"].get("Sec-WebSocket-Protocol"):
            return {"statusCode": 200, "headers": {"Sec-WebSocket-Protocol": "v1"}}
        return {"statusCode": 200}
    if request["routeKey"] == "fail":
        raise ValueError("boom")
    return {"statusCode": 200, "body": event.get("body"), "isBase64Encoded": event["isBase64Encoded"]}


@pytest.fixture
def function() -> Iterator[ServedFunction]:
    with serving(chat) as function:
        yield function


async def take(function: ServedFunction, kind: str) -> dict[str, Any]:
    """Wait for the next event of this type."""
    return await asyncio.get_running_loop().run_in_executor(None, function.take, kind)


async def start(stage: Stage, function: ServedFunction, **chosen: Any) -> Node:
    """Start a gateway in front of `function`."""
    return await stage.node(backend=None, api_uri=function.uri, event_format="aws", **chosen)


async def test_a_client_connects_sends_and_leaves(stage: Stage, function: ServedFunction) -> None:
    node = await start(stage, function, aws_route_responses="on")
    client = await node.connect("/?room=1", user_agent_header="a test", subprotocols=["v2", "v1"])
    (described,) = (await node.rest("GET", "connections")).json["connections"]
    assert described["user_agent"] == "a test"
    identity = (await node.rest("GET", f"@connections/{described['id']}")).json["identity"]
    assert identity == {"sourceIp": "127.0.0.1", "userAgent": "a test"}
    assert client.subprotocol == "v1"
    opened = await take(function, "CONNECT")
    assert opened["queryStringParameters"] == {"room": "1"}
    assert opened["headers"]["Sec-WebSocket-Protocol"] == "v2, v1"
    for sent, route in (("hello", "$default"), ('{"action":"join","x":"é"}', "join"), (b"\xff\0", "$default")):
        await client.send(sent)
        assert await with_timeout(client.recv()) == sent
        event = await take(function, "MESSAGE")
        assert event["requestContext"]["routeKey"] == route
    await client.close(4000, "bye")
    closed = (await take(function, "DISCONNECT"))["requestContext"]
    assert (closed["disconnectStatusCode"], closed["disconnectReason"]) == (4000, "bye")
    for name in ("connectedAt", "connectionId", "identity", "domainName", "stage"):
        assert closed[name] == opened["requestContext"][name] == event["requestContext"][name]
    assert closed["identity"] == {"sourceIp": "127.0.0.1", "userAgent": "a test"}
    assert (closed["domainName"], closed["stage"]) == (f"127.0.0.1:{node.port}", "local")


@pytest.mark.parametrize(("proxies", "expected"), [("10.0.0.1", ("http", "{port}")), ("127.0.0.1", ("https", "443"))])
async def test_only_a_trusted_proxy_says_how_a_client_came(
    stage: Stage, function: ServedFunction, proxies: str, expected: tuple[str, str]
) -> None:
    node = await start(stage, function, trusted_proxies=proxies)
    await node.connect("/", additional_headers={"X-Forwarded-Proto": "https", "X-Forwarded-Port": "443"})
    headers = (await take(function, "CONNECT"))["headers"]
    found = headers["X-Forwarded-Proto"], headers["X-Forwarded-Port"]
    assert found == tuple(each.format(port=node.port) for each in expected)


async def test_without_route_responses_the_client_gets_nothing(stage: Stage, function: ServedFunction) -> None:
    node = await start(stage, function)
    client = await node.connect()
    await client.send("one")
    await client.send('{"action":"fail"}')
    # The error is the first thing that arrives.
    assert "Internal server error" in await with_timeout(client.recv())


async def test_a_function_that_fails_is_told_to_the_client_and_not_invoked_again(
    stage: Stage, function: ServedFunction, capfd: pytest.CaptureFixture[str]
) -> None:
    node = await start(stage, function, aws_route_responses="on")
    client = await node.connect()
    connection = (await take(function, "CONNECT"))["requestContext"]["connectionId"]
    await client.send('{"action":"fail"}')
    said = json.loads(await with_timeout(client.recv()))
    assert said == {"message": "Internal server error", "connectionId": connection, "requestId": f"{connection}:1"}
    await client.send("still there")
    assert await with_timeout(client.recv()) == "still there"
    routes = [(await take(function, "MESSAGE"))["requestContext"]["routeKey"] for _ in range(2)]
    assert routes == ["fail", "$default"]
    assert "[ERROR] ValueError: boom" in capfd.readouterr().err
    assert any("the function failed with ValueError: 'boom'; the client was sent" in each for each in stage.messages())
    await client.close()


async def test_a_client_is_refused_as_the_function_says(stage: Stage, function: ServedFunction) -> None:
    node = await start(stage, function)
    with pytest.raises(websockets.InvalidStatus) as caught:
        await node.connect("/?token=wrong")
    assert caught.value.response.status_code == 401
    assert caught.value.response.headers["WWW-Authenticate"] == "Bearer"


async def test_a_connection_that_an_earlier_process_has_left_is_told_to_the_function(
    stage: Stage, function: ServedFunction, tmp_path: Path
) -> None:
    path = tmp_path / "journal"
    write_journal(path, Entry(ID, f"ws.example.com/prod/{ID}", b"Bearer x", '{"user":"7"}', 1_700_000_000.0))
    await start(stage, function, journal=path)
    event = (await take(function, "DISCONNECT"))["requestContext"]
    assert event["connectionId"] == ID
    assert (event["disconnectStatusCode"], event["disconnectReason"]) == (1006, "gateway lost")
    assert abs(event["connectedAt"] - 1_700_000_000_000) <= 1
    assert event["authorizer"] == {"user": "7"}
    assert (event["domainName"], event["stage"]) == ("ws.example.com", "prod")


def test_after_a_crash_the_function_learns_of_each_connection(function: ServedFunction, tmp_path: Path) -> None:
    chosen = {"API_URI": function.uri, "EVENT_FORMAT": "aws", "JOURNAL": str(tmp_path / "journal")}
    with running_wsaas(**chosen) as (process, port), connect_client(port):
        connection = function.take("CONNECT")["requestContext"]["connectionId"]
        process.kill()
        process.wait()
    with running_wsaas(**chosen):
        event = function.take("DISCONNECT")["requestContext"]
    assert event["connectionId"] == connection
    assert event["disconnectReason"] == "gateway lost"
    assert event["requestId"] == f"{connection}:end"


async def test_the_console_shows_events_without_credentials_and_replays_them(
    stage: Stage, function: ServedFunction
) -> None:
    node = await start(stage, function, browser_authorization="query:token")
    async with stream(node, "connects/events?count=1") as viewer:
        await viewer.next()
        headers = {"Cookie": "session=s3cret", "X-Api-Key": "s3cret"}
        client = await node.connect("/?token=s3cret&a=b", additional_headers=headers)
        request = await viewer.until("request")
        shown = json.loads(request["body"]["text"])
        assert "s3cret" not in str(request)
        assert request["method"] == "POST"
        assert shown["headers"]["Authorization"] == "•••"
        assert shown["queryStringParameters"] == {"a": "b"}
        assert (await take(function, "CONNECT"))["headers"]["Authorization"] == "Bearer s3cret"
        await client.send("hello")
        request = await viewer.until("request")
        assert json.loads(request["body"]["text"])["body"] == "hello"
        assert (await viewer.until("response"))["result"] == "ok"
        before = await take(function, "MESSAGE")
        name = request["connection"]
        answer = await node.rest("POST", f"/console/api/connections/{name}/replay", f'{{"seq": {request["seq"]}}}')
        assert answer.json["status"] == 200
        again = await take(function, "MESSAGE")
    assert again["requestContext"]["requestId"] == f"{name}:1:replay-1"
    for event in (before, again):
        for key in ("requestId", "extendedRequestId", "messageId"):
            del event["requestContext"][key]
    assert again == before
