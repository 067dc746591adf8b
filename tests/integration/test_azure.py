"""`EVENT_FORMAT=azure`, used by applications with the packages of Azure Web PubSub as they are."""

import asyncio
import json
import shutil
import sqlite3
import sys
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.support import azure_sdk
from tests.support.azure_application import PACKAGES, AzureApplication, NodeClient, azure_application
from tests.support.azure_tokens import KEY, OTHER_KEY, client_token
from tests.support.gateway_process import gateway_process
from tests.support.javascript_client import needs_node
from tests.support.npm import npm_install
from tests.support.ports import free_port
from tests.support.recording_link import RecordingLink, recording_link
from tests.support.stage import Node, Stage
from tests.support.waiting import wait_until, with_timeout

pytestmark = needs_node

VERSION = "api-version="
GONE = "a" * 30


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages of Azure."""
    folder = tmp_path_factory.mktemp("azure")
    (folder / "package.json").write_text('{"private": true}')
    npm_install(folder, *PACKAGES)
    return folder


class Scene:
    """An application, the gateway that it calls through `link`, and the one to which clients connect."""

    def __init__(self, application: AzureApplication, link: RecordingLink, here: Node, there: Node) -> None:
        self.application = application
        self.here = here
        self.link = link
        self.there = there

    def log(self) -> list[str]:
        """Return the requests that the SDK has made since the last call, without the version of the API."""
        taken = [(each.method.decode(), each.target.decode()) for each in self.link.take() if not each.upgrade]
        assert all(VERSION in target for _, target in taken), taken
        return [f"{method} {_without_version(target)}" for method, target in taken]

    async def url(self, **options: Any) -> str:
        """Return the URL for a client, as the SDK makes it."""
        token = await self.application.call("getClientAccessToken", options)
        assert token["url"].startswith(token["baseUrl"])
        url: str = token["url"].replace(f":{self.link.port}/", f":{self.there.port}/")
        return url

    async def client(self, query: str = "", *protocols: str, **options: Any) -> tuple[NodeClient, str]:
        """Connect a client with a token of the SDK; return it and its id."""
        before = len(await self.application.events("connected"))
        client = await self.application.connect(await self.url(**options) + query, *protocols)
        connected = await self.application.wait_for("connected", before + 1)
        return client, connected["context"]["connectionId"]


def _without_version(target: str) -> str:
    path, _, query = target.partition("?")
    parameters = [each for each in query.split("&") if not each.startswith(VERSION)]
    return "?".join([path, *(["&".join(parameters)] if parameters else [])])


@asynccontextmanager
async def scene(
    stage: Stage, packages: Path, tmp_path: Path, place: str = "here", **chosen: Any
) -> AsyncIterator[Scene]:
    """Run an application and its gateways."""
    ports: list[int] = [free_port()]
    async with recording_link(ports[0]) as link:
        endpoint = f"http://127.0.0.1:{link.port}"
        async with azure_application(packages, tmp_path / "log", endpoint) as application:
            given = {"event_format": "azure", "control_azure_keys": KEY, "api_uri": application.api_uri, **chosen}
            if place == "here":
                here = there = await stage.node(backend=None, ws_hostname=f"127.0.0.1:{ports[0]}", **given)
            elif place == "worker":
                here, there = await stage.workers(2, **given)
            else:
                here, there = await stage.cluster(2, **given)
            link.lead_to(here.port)
            try:
                yield Scene(application, link, here, there)
            finally:
                for node in stage.nodes:
                    # While the application is there for the last events.
                    assert await node.drain()


async def test_a_client_connects_with_a_token_and_gets_its_message_back(
    stage: Stage, packages: Path, tmp_path: Path
) -> None:
    async with scene(stage, packages, tmp_path) as at:
        answer = quote('{"groups":["room 1"],"state":1,"subprotocol":"b"}')
        client, client_id = await at.client(
            f"&answer={answer}", "a", "b", userId="ann", roles=["webpubsub.sendToGroup"]
        )
        (connect,) = await at.application.events("connect")
        assert connect["context"] | {"signature": "", "states": ""} == {
            "connectionId": client_id,
            "eventName": "connect",
            "hub": "chat",
            "origin": f"127.0.0.1:{at.there.port}",
            "signature": "",
            "states": "",
            "userId": "ann",
        } | ({"clientProtocol": "default"} if "clientProtocol" in connect["context"] else {})
        assert connect["context"]["signature"].startswith("sha256=")
        assert connect["claims"]["sub"] == ["ann"]
        assert connect["claims"]["role"] == ["webpubsub.sendToGroup"]
        assert list(connect["queries"]) == ["answer"]
        assert connect["subprotocols"] == ["a", "b"]
        assert connect["headers"]["sec-websocket-version"] == ["13"]

        assert (await client.do(text="hello"))["protocol"] == "b"
        await client.do(base64=b64encode(b"\0\xff").decode())
        await client.do(text="nothing")
        await client.do(text="count")
        received = ["echo: hello", {"hex": "00ff"}, '{"count":2}']
        await client.wait_for("received", received)
        await client.do(text="count")
        await client.wait_for("received", [*received, '{"count":3}'])
        messages = await at.application.events("message")
        assert [each["dataType"] for each in messages] == ["text", "binary", "text", "text", "text"]
        assert [each["context"]["states"] for each in messages] == [{"count": 1}] * 4 + [{"count": 2}]
        assert {each["context"]["userId"] for each in messages} == {"ann"}

        await client.do(close=[1000, "bye"])
        disconnected = await at.application.wait_for("disconnected")
        assert disconnected["reason"] == "bye"
        assert disconnected["context"]["states"] == {"count": 3}
        assert at.log() == []


async def test_a_client_without_a_valid_token_is_refused(stage: Stage, packages: Path, tmp_path: Path) -> None:
    async with scene(stage, packages, tmp_path) as at:
        base = f"ws://127.0.0.1:{at.here.port}/client/hubs/chat"
        for query in ("", "?access_token=x", f"?access_token={client_token('other')}"):
            client = await at.application.connect(base + query)
            await client.wait_for("status", 401)
        assert await at.application.events() == []


@pytest.mark.parametrize(("fail", "status"), [(401, 401), (400, 502), (500, 502)])
async def test_the_application_refuses_a_client(
    stage: Stage, packages: Path, tmp_path: Path, fail: int, status: int
) -> None:
    async with scene(stage, packages, tmp_path) as at:
        url = await at.url() + "&answer=" + quote(f'{{"fail":{fail}}}')
        client = await at.application.connect(url)
        await client.wait_for("status", status)
        assert [each["name"] for each in await at.application.events()] == ["connect"]


async def test_a_message_that_fails_closes_the_client(stage: Stage, packages: Path, tmp_path: Path) -> None:
    async with scene(stage, packages, tmp_path) as at:
        client, _ = await at.client()
        await client.do(text="fail")
        assert (await client.wait_for("opened", True)) is not None
        await at.application.wait_for("disconnected")
        known = await client.do()
        assert known["closed"][0] == 1011


@pytest.mark.parametrize("place", ["here", "worker", "node"])
async def test_the_service_client_reaches_connections_groups_and_users(
    stage: Stage, packages: Path, tmp_path: Path, place: str
) -> None:
    async with scene(stage, packages, tmp_path, place) as at:
        app = at.application
        ann, ann_id = await at.client(userId="ann")
        bob, bob_id = await at.client(userId="bob/ü", groups=["room"])
        at.log()

        await app.call("sendToAll", {"to": "all"})
        await app.call("sendToAll", "not bob", {"contentType": "text/plain", "excludedConnections": [bob_id]})
        await app.call("sendToAll", {"base64": b64encode(b"\0\xff").decode()})
        await app.call("sendToConnection", ann_id, "you", {"contentType": "text/plain"})
        await app.call("sendToUser", "bob/ü", "user", {"contentType": "text/plain"})
        await app.call("sendToAll", "room", {"contentType": "text/plain"}, group="room")
        assert await app.call("connectionExists", ann_id)
        assert await app.call("userExists", "ann")
        assert await app.call("groupExists", "room")
        assert not await app.call("userExists", "eve")
        assert not await app.call("groupExists", "empty")
        assert not await app.call("connectionExists", GONE)
        path = "/api/hubs/chat"
        user = f"{path}/users/{quote('bob/ü', safe='')}"
        assert at.log() == [
            f"POST {path}/:send",
            f"POST {path}/:send?excluded={bob_id}",
            f"POST {path}/:send",
            f"POST {path}/connections/{ann_id}/:send",
            f"POST {user}/:send",
            f"POST {path}/groups/room/:send",
            f"HEAD {path}/connections/{ann_id}",
            f"HEAD {path}/users/ann",
            f"HEAD {path}/groups/room",
            f"HEAD {path}/users/eve",
            f"HEAD {path}/groups/empty",
            f"HEAD {path}/connections/{GONE}",
        ]
        for_all = ['{"to":"all"}', "not bob", {"hex": "00ff"}]
        await ann.wait_for("received", [*for_all, "you"])
        await bob.wait_for("received", [for_all[0], for_all[2], "user", "room"])

        text = {"contentType": "text/plain"}
        await app.call("addConnection", ann_id, group="room")
        await app.call("sendToAll", "both", text, group="room")
        await app.call("removeConnection", bob_id, group="room")
        await app.call("addUser", "ann", group="other room")
        await app.call("sendToAll", "ann alone", text, group="room")
        await app.call("sendToAll", "other", text, group="other room")
        await app.call("removeUser", "ann", group="other room")
        assert not await app.call("groupExists", "other room")
        await app.call("removeUserFromAllGroups", "ann")
        assert not await app.call("groupExists", "room")
        await app.call("addConnection", bob_id, group="room")
        await app.call("removeConnectionFromAllGroups", bob_id)
        assert not await app.call("groupExists", "room")
        other = f"{path}/groups/other%20room"
        assert at.log() == [
            f"PUT {path}/groups/room/connections/{ann_id}",
            f"POST {path}/groups/room/:send",
            f"DELETE {path}/groups/room/connections/{bob_id}",
            f"PUT {path}/users/ann/groups/other%20room",
            f"POST {path}/groups/room/:send",
            f"POST {other}/:send",
            f"DELETE {path}/users/ann/groups/other%20room",
            f"HEAD {other}",
            f"DELETE {path}/users/ann/groups",
            f"HEAD {path}/groups/room",
            f"PUT {path}/groups/room/connections/{bob_id}",
            f"DELETE {path}/connections/{bob_id}/groups",
            f"HEAD {path}/groups/room",
        ]
        await ann.wait_for("received", [*for_all, "you", "both", "ann alone", "other"])
        await bob.wait_for("received", [for_all[0], for_all[2], "user", "room", "both"])

        await app.call("closeConnection", ann_id, {"reason": "bye"})
        await ann.wait_for("closed", [1000, "bye"])
        await app.wait_for("disconnected")
        assert not await app.call("connectionExists", ann_id)
        await app.call("closeConnection", ann_id)
        await app.call("sendToConnection", ann_id, "gone", text)
        await app.call("closeAllConnections", {"reason": "all"})
        await bob.wait_for("closed", [1000, "all"])
        assert at.log() == [
            f"DELETE {path}/connections/{ann_id}?reason=bye",
            f"HEAD {path}/connections/{ann_id}",
            f"DELETE {path}/connections/{ann_id}",
            f"POST {path}/connections/{ann_id}/:send",
            f"POST {path}/:closeConnections?reason=all",
        ]


async def test_the_service_client_shows_errors(stage: Stage, packages: Path, tmp_path: Path) -> None:
    async with scene(stage, packages, tmp_path, max_groups=3) as at:
        _, client_id = await at.client(userId="ann", groups=["a"])
        cases = [
            (("sendToAll", "x", {"filter": "userId eq 'ann'"}), 400, "BAD_REQUEST"),
            (("grantPermission", client_id, "sendToGroup"), 501, "NOT_IMPLEMENTED"),
            (("closeConnection", client_id, {"reason": "a" * 124}), 400, "BAD_REQUEST"),
        ]
        for call, status, code in cases:
            answer = await at.application.try_call(*call)
            assert (answer["error"], answer["status"], answer["code"]) == ("RestError", status, code), answer
        answer = await at.application.try_call("addConnection", client_id, group="b")
        assert (answer["status"], answer["code"]) == (409, "TOO_MANY_GROUPS")
        answer = await at.application.try_call("addConnection", GONE, group="b")
        assert answer["status"] == 404


async def test_a_wrong_key_is_refused(stage: Stage, packages: Path, tmp_path: Path) -> None:
    async with scene(stage, packages, tmp_path, control_azure_keys=OTHER_KEY) as at:
        answer = await at.application.try_call("sendToAll", "x")
        assert (answer["error"], answer["status"], answer["code"]) == ("RestError", 401, "UNAUTHORIZED")
        client = await at.application.connect(await at.url())
        await client.wait_for("status", 401)


async def test_without_keys_any_key_will_do_on_this_machine(stage: Stage, packages: Path, tmp_path: Path) -> None:
    port = free_port()
    async with azure_application(packages, tmp_path / "log", f"http://127.0.0.1:{port}") as application:
        given = {"event_format": "azure", "api_uri": application.api_uri, "ws_hostname": f"127.0.0.1:{port}"}
        node = await stage.node(backend=None, **given)
        client = await application.connect(f"ws://127.0.0.1:{port}/client/hubs/chat")
        await application.wait_for("connected")
        await application.call("sendToAll", "hello", {"contentType": "text/plain"})
        await client.wait_for("received", ["hello"])
        assert await node.drain()
        await application.wait_for("disconnected")


async def test_a_backend_that_does_not_allow_the_gateway_is_named_in_the_log(
    stage: Stage, packages: Path, tmp_path: Path
) -> None:
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    allowed = ["https://xxx.webpubsub.azure.com"]
    async with azure_application(packages, tmp_path / "log", endpoint, allowedEndpoints=allowed) as application:
        given = {"event_format": "azure", "api_uri": application.api_uri, "ws_hostname": f"127.0.0.1:{port}"}
        await stage.node(backend=None, **given)
        client = await application.connect(f"ws://127.0.0.1:{port}/client/hubs/chat")
        await client.wait_for("status", 502)
        assert [line for line in stage.messages() if "WebHook-Allowed-Origin: xxx.webpubsub.azure.com" in line]
        assert await application.events() == []


async def test_the_middleware_may_name_the_gateway(stage: Stage, packages: Path, tmp_path: Path) -> None:
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    async with azure_application(packages, tmp_path / "log", endpoint, allowedEndpoints=[endpoint]) as application:
        given = {"event_format": "azure", "api_uri": application.api_uri, "ws_hostname": f"127.0.0.1:{port}"}
        node = await stage.node(backend=None, **given)
        await application.connect(f"ws://127.0.0.1:{port}/client/hubs/chat")
        await application.wait_for("connected")
        await wait_until(lambda: node.statistics.clients == 1)
        assert await node.drain()


def contexts(journal: Path) -> list[tuple[str]]:
    """Return the contexts in a journal that a gateway is using, which has locked the file."""
    copy = journal.with_name("copy")
    copy.unlink(missing_ok=True)
    for suffix in ("", "-wal"):
        shutil.copy(f"{journal}{suffix}", f"{copy}{suffix}")
    with closing(sqlite3.connect(copy)) as connection:
        return connection.execute("SELECT context FROM connections WHERE context IS NOT NULL").fetchall()


async def test_after_a_kill_the_application_learns_who_has_gone(stage: Stage, packages: Path, tmp_path: Path) -> None:
    async with azure_application(packages, tmp_path / "log", "http://localhost:8080") as application:
        given = {"event_format": "azure", "control_azure_keys": KEY, "journal": tmp_path / "journal"}
        async with gateway_process(stage, tmp_path / "gateway", api_uri=application.api_uri, **given) as running:
            token = client_token("chat", sub="ann")
            url = f"ws://127.0.0.1:{running.port}/client/hubs/chat?access_token={token}&answer="
            await application.connect(url + quote('{"state":1}'))
            connected = await application.wait_for("connected")
            await wait_until(lambda: contexts(tmp_path / "journal"), "the state in the journal")
            running.program.kill()
            await running.program.start()
            gone = await application.wait_for("disconnected")
            assert gone["reason"] == "gateway lost"
            same = {"connectionId", "userId", "hub", "states"}
            assert {key: gone["context"][key] for key in same} == {key: connected["context"][key] for key in same}
            assert await running.stop() == 0


async def test_the_service_client_for_python(stage: Stage, packages: Path, tmp_path: Path) -> None:
    async with scene(stage, packages, tmp_path) as at:
        client, client_id = await at.client(userId="ann")
        at.log()
        connection_string = f"Endpoint=http://127.0.0.1:{at.link.port};AccessKey={KEY};Version=1.0;"
        command = [sys.executable, azure_sdk.__file__, connection_string, client_id]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        said, _ = await with_timeout(process.communicate())
        assert json.loads(said) == [True, True, False, 400]
        path = "/api/hubs/chat"
        assert at.log() == [
            f"POST {path}/:send",
            f"POST {path}/users/ann/:send",
            f"PUT {path}/groups/room/connections/{client_id}",
            f"POST {path}/groups/room/:send",
            f"HEAD {path}/users/ann",
            f"HEAD {path}/groups/room",
            f"HEAD {path}/groups/empty",
            f"POST {path}/:send?filter=userId%20eq%20%27ann%27",
            f"DELETE {path}/connections/{client_id}?reason=bye",
        ]
        await client.wait_for("closed", [1000, "bye"])
        assert (await client.do())["received"] == ['{"to": "all"}', "user", {"hex": "00ff"}]
