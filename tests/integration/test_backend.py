"""`wsaas.backend` with real gateways: what it verifies, parses, answers and asks for."""

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import websockets

from tests.support.backend import Backend, Call, Policy
from tests.support.backend_requests import SECRET
from tests.support.certificate_authority import CertificateAuthority
from tests.support.ports import free_port
from tests.support.stage import Node, Stage, received_close
from tests.support.waiting import wait_until, with_timeout
from wsaas import backend
from wsaas.backend import Answer, AsyncClient, Client, Connect, Disconnect, Event, Message

TOKEN = "s3cret"
UNKNOWN_ID = "A" * 30


class Caller:
    """A client of `wsaas.backend`, blocking in a thread or not: `await caller("push", ws_uri, "hi")`."""

    def __init__(self, client: Client | AsyncClient) -> None:
        self._client = client

    async def __call__(self, name: str, *arguments: Any, **options: Any) -> Any:
        method = getattr(self._client, name)
        if isinstance(self._client, AsyncClient):
            found = method(*arguments, **options)
            return [each async for each in found] if inspect.isasyncgen(found) else await with_timeout(found)

        def call() -> Any:
            found = method(*arguments, **options)
            return list(found) if inspect.isgenerator(found) else found

        return await with_timeout(asyncio.to_thread(call))


@asynccontextmanager
async def opened(kind: type[Client] | type[AsyncClient], *arguments: Any, **options: Any) -> AsyncIterator[Caller]:
    client = kind(*arguments, **options)
    try:
        yield Caller(client)
    finally:
        if isinstance(client, AsyncClient):
            await client.aclose()
        else:
            client.close()


@pytest.fixture(params=[Client, AsyncClient], ids=["Client", "AsyncClient"])
def kind(request: pytest.FixtureRequest) -> Any:
    """The class of the client."""
    return request.param


def answering(events: list[Event], answer: Callable[[Event], Answer]) -> Policy:
    """Return a backend that verifies and parses a request, and answers it."""

    def respond(call: Call) -> None:
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in call.raw_headers]
        backend.verify(headers, call.body, SECRET)
        events.append(backend.parse(call.method, headers, call.body))
        body, status, more = answer(events[-1])
        lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in more.items()]
        call.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    return respond


async def use(stage: Stage, answer: Callable[[Event], Answer], **settings: Any) -> tuple[Node, list[Event]]:
    """Return a gateway, and the events that its backend has received."""
    events: list[Event] = []
    stage.backend.on = dict.fromkeys(stage.backend.on, answering(events, answer))
    return await stage.node(api_secret=SECRET, **settings), events


def accept_all(event: Event) -> Answer:
    return backend.accept() if isinstance(event, Connect) else backend.ok()


# Requests of the gateway, and answers to it


async def test_all_requests_about_a_client_are_verified_and_parsed(stage: Stage) -> None:
    def answer(event: Event) -> Answer:
        if isinstance(event, Connect):
            return backend.accept(subprotocol="v1", context="user 7", groups=["lobby"])
        return backend.ok(event.data) if isinstance(event, Message) else backend.ok()

    node, events = await use(stage, answer)
    client = await node.connect(
        "/rooms/a%20b?nick=ada",
        subprotocols=[websockets.Subprotocol("v2"), websockets.Subprotocol("v1")],
        additional_headers={"Authorization": "Bearer ada"},
    )
    assert client.subprotocol == "v1"
    for data in ("Grüße", b"\xff\x00", ""):
        await client.send(data)
        assert await with_timeout(client.recv()) == data
    await client.close(4001, "bye")
    await wait_until(lambda: len(events) == 5)
    connect, *messages, disconnect = events
    assert isinstance(connect, Connect)
    assert (connect.request.path, connect.request.query) == ("/rooms/a%20b", "nick=ada")
    assert connect.request.subprotocols == ("v2", "v1")
    assert connect.timeout == timedelta(seconds=30)
    assert [(each.data, each.number, each.context) for each in messages if isinstance(each, Message)] == [
        ("Grüße", 1, "user 7"),
        (b"\xff\x00", 2, "user 7"),
        ("", 3, "user 7"),
    ]
    assert isinstance(disconnect, Disconnect)
    assert (disconnect.code, disconnect.reason, disconnect.messages_in, disconnect.undelivered) == (4001, "bye", 3, 0)
    assert {(each.ws_uri, each.id, each.authorization) for each in events} == {
        (f"{node.settings.ws_hostname.text}/{connect.id}", connect.id, "Bearer ada")
    }
    assert len({each.event_id for each in events}) == 5
    assert abs(connect.time.timestamp() - time.time()) < 60


async def test_a_message_is_answered_with_all_that_there_is(stage: Stage) -> None:
    def answer(event: Event) -> Answer:
        if isinstance(event, Message):
            return backend.ok("last", join=["a", "b"], leave=["b"], context="left", close=(4000, "tschüß à"))
        return accept_all(event)

    node, events = await use(stage, answer)
    client = await node.connect()
    await client.send("hi")
    assert await with_timeout(client.recv()) == "last"
    assert await received_close(client) == (4000, "tschüß à")
    await wait_until(lambda: len(events) == 3)
    assert events[-1].context == "left"


@pytest.mark.parametrize(
    ("answer", "status"),
    [(backend.reject("NO"), 403), (backend.reject("NO", status=404), 404), (backend.retry_later(7), 503)],
)
async def test_a_client_is_refused(stage: Stage, answer: Answer, status: int) -> None:
    node, events = await use(stage, lambda _: answer)
    with pytest.raises(websockets.InvalidStatus) as refused:
        await node.connect()
    assert refused.value.response.status_code == status
    assert [type(event) for event in events] == [Connect]


@pytest.mark.usefixtures("quick_retries")
async def test_an_event_that_is_asked_for_again_has_the_same_id(stage: Stage) -> None:
    def answer(event: Event) -> Answer:
        is_first = isinstance(event, Message) and sum(isinstance(each, Message) for each in events) == 1
        return backend.retry_later(0) if is_first else accept_all(event)

    node, events = await use(stage, answer)
    client = await node.connect()
    await client.send("hi")
    await wait_until(lambda: len(events) == 3)
    assert events[1] == events[2]
    await client.close()


# Requests to the gateway


async def test_a_client_is_pushed_to_looked_up_and_closed(stage: Stage, kind: Any) -> None:
    node, events = await use(stage, accept_all)
    client = await node.connect("/path?a=b")
    ws_uri = events[0].ws_uri
    async with opened(kind, node.settings.ws_hostname.text) as call:
        for data in ("Grüße", b"\xff\x00", ""):
            await call("push", ws_uri, data)
            assert await with_timeout(client.recv()) == data
        await call("push", events[0].id, "by id", traceparent=f"00-{'a' * 32}-{'b' * 16}-01")
        assert await with_timeout(client.recv()) == "by id"
        info = await call("info", ws_uri)
        assert (info.ws_uri, info.state, info.path, info.query, info.messages_out) == (
            ws_uri,
            "open",
            "/path",
            "a=b",
            4,
        )
        assert await call("exists", ws_uri)
        await call("disconnect", ws_uri, 4000, "tschüß")
        assert await received_close(client) == (4000, "tschüß")
        await wait_until(lambda: len(events) == 2)
        assert not await call("exists", ws_uri)
        for name in ("push", "info", "disconnect"):
            with pytest.raises(backend.Gone, match="has ended") as gone:
                await call(name, ws_uri, *(["hi"] if name == "push" else []))
            assert (gone.value.status, gone.value.code) == (410, "GONE")


async def test_a_ws_uri_alone_is_enough_to_push(stage: Stage, kind: Any) -> None:
    node, events = await use(stage, accept_all)
    client = await node.connect()
    async with opened(kind) as call:
        await call("push", events[0].ws_uri, "hi")
        await call("join", events[0].ws_uri, "lobby")
        assert (await call("info", events[0].ws_uri)).groups == ("lobby",)
    assert await with_timeout(client.recv()) == "hi"


async def test_groups_are_joined_published_to_listed_left_and_closed(stage: Stage, kind: Any) -> None:
    node, events = await use(stage, accept_all)
    clients = [await node.connect() for _ in range(3)]
    uris = [event.ws_uri for event in events]
    async with opened(kind, node.settings.ws_hostname.text) as call:
        for group in ("lobby", ".."):
            for uri in uris:
                await call("join", uri, group)
            assert [each.ws_uri for each in await call("iter_members", group)] == uris
            page = await call("members", group, limit=2)
            assert (page.total, len(page.connections), bool(page.next)) == (3, 2, True)
            done = await call("publish", group, b"\x00", exclude=uris[:1], close_slow=True)
            assert (done.sent, done.slow_count, done.missing) == (2, 0, ())
            assert [await with_timeout(client.recv()) for client in clients[1:]] == [b"\x00"] * 2
        assert (await call("broadcast", "all", exclude=uris[1:])).sent == 1
        assert await with_timeout(clients[0].recv()) == "all"
        await call("leave", uris[0], "..")
        assert (await call("publish", "nobody", "hi")).sent == 0
        assert (await call("disconnect_group", "..", 4000, "bye")).closed == 2
        assert [await received_close(client) for client in clients[1:]] == [(4000, "bye")] * 2
        assert await call("exists", uris[0])


async def test_several_clients_get_their_messages_with_one_request(stage: Stage, kind: Any) -> None:
    node, events = await use(stage, accept_all)
    clients = [await node.connect() for _ in range(2)]
    uris = [event.ws_uri for event in events]
    async with opened(kind, node.settings.ws_hostname.text) as call:
        done = await call("send", [*uris, UNKNOWN_ID], "hi")
        assert (done.sent, done.gone, done.gone_count, done.slow_count) == (2, (UNKNOWN_ID,), 1, 0)
        assert (await call("send_batch", [(uris, "1"), (uris[:1], b"2")])).sent == 3
    assert [await with_timeout(clients[0].recv()) for _ in range(3)] == ["hi", "1", b"2"]
    assert [await with_timeout(clients[1].recv()) for _ in range(2)] == ["hi", "1"]


async def test_connections_are_listed_page_by_page(stage: Stage, kind: Any) -> None:
    node, events = await use(stage, accept_all)
    for _ in range(3):
        await node.connect()
    ids = [event.id for event in events]
    async with opened(kind, node.settings.ws_hostname.text) as call:
        first = await call("connections", limit=2)
        assert (first.total, [each.id for each in first.connections]) == (3, ids[:2])
        rest = await call("connections", after=first.next)
        assert ([each.id for each in rest.connections], rest.next) == (ids[2:], None)
        assert [each.id for each in await call("iter_connections")] == ids
        long_ago = datetime(2020, 1, 1, tzinfo=timezone.utc)
        assert await call("iter_connections", connected_before=long_ago) == []
        assert await call("iter_connections", ending=True) == []


async def test_each_refusal_has_its_class(stage: Stage, kind: Any) -> None:
    node, events = await use(stage, accept_all, max_message_size=1000, max_groups=1, send_buffer=1000)
    await node.connect()
    ws_uri = events[0].ws_uri
    async with opened(kind, node.settings.ws_hostname.text) as call:
        with pytest.raises(backend.TooLarge, match="1000 bytes"):
            await call("push", ws_uri, "x" * 1001)
        await call("join", ws_uri, "a")
        with pytest.raises(backend.TooManyGroups):
            await call("join", ws_uri, "b")
    async with opened(kind, f"{node.settings.ws_hostname.text}/wrong") as call:
        with pytest.raises(backend.NotFound):
            await call("connections")


async def test_a_client_that_does_not_read_is_slow(stage: Stage, kind: Any) -> None:
    node, events = await use(stage, accept_all, send_buffer=1000)
    raw = await node.upgraded(receive=4096)
    async with opened(kind, node.settings.ws_hostname.text) as call:

        async def push_many() -> None:
            for _ in range(1000):
                await call("push", events[0].ws_uri, b"x" * 65536)

        with pytest.raises(backend.SlowClient, match="queued for it") as slow:
            await push_many()
        assert slow.value.retry_after == 1.0

        async def send_until_slow() -> Any:
            # The kernel may have taken some of the queued bytes meanwhile, for as long as its own buffers have room.
            while (done := await call("send", [events[0].id], b"x" * 65536)).sent:
                pass
            return done

        done = await with_timeout(send_until_slow())
        assert (done.sent, done.slow) == (0, (events[0].id,))
    raw.close()


async def test_the_token_is_needed_and_sent(stage: Stage, kind: Any) -> None:
    node, events = await use(stage, accept_all, control_token=f"{TOKEN},old")
    client = await node.connect()
    base = node.settings.ws_hostname.text
    async with opened(kind, base, token=f"{TOKEN},old") as call:
        await call("push", events[0].ws_uri, "hi")
    assert await with_timeout(client.recv()) == "hi"
    for token in (None, "other"):
        async with opened(kind, base, token=token) as call:
            with pytest.raises(backend.Unauthorized):
                await call("push", events[0].ws_uri, "hi")


async def test_a_gateway_with_tls_and_client_certificates(stage: Stage, kind: Any, tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path)
    stage.tls = authority.client()
    control = free_port()
    secured = {**authority.issue(), "control_tls_ca": authority.path, "control_listen": f"127.0.0.1:{control}"}
    base = f"https://127.0.0.1:{control}"
    _, events = await use(stage, accept_all, ws_hostname=base, listen="127.0.0.1:0", **secured)
    async with opened(kind, base, verify=authority.client(signed_by=authority)) as call:
        assert (await call("connections")).total == len(events) == 0
    async with opened(kind, base, verify=authority.client()) as call:
        with pytest.raises(backend.GatewayError):
            await call("connections")
    async with opened(kind, base) as call:
        with pytest.raises(backend.Unavailable, match="certificate"):
            await call("connections")


async def test_a_gateway_with_tls_whose_ws_uri_has_no_scheme(stage: Stage, kind: Any, tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path)
    stage.tls = authority.client()
    node, events = await use(stage, accept_all, **authority.issue())
    client = await node.connect()
    async with opened(kind, f"https://{node.settings.ws_hostname.text}", verify=authority.client()) as call:
        await call("push", events[0].ws_uri, "hi")
    assert await with_timeout(client.recv()) == "hi"


async def test_a_gateway_on_a_unix_socket(stage: Stage, kind: Any, tmp_path: Path) -> None:
    path = tmp_path / "control"
    node, events = await use(stage, accept_all, control_listen=f"unix:{path}", control_token=TOKEN)
    client = await node.connect()
    async with opened(kind, uds=str(path), token=TOKEN) as call:
        await call("push", events[0].ws_uri, "hi")
        assert (await call("broadcast", "all")).sent == 1
    assert [await with_timeout(client.recv()) for _ in range(2)] == ["hi", "all"]


async def test_requests_share_a_connection_until_the_gateway_closes_it(stage: Stage, kind: Any) -> None:
    node, events = await use(stage, accept_all, keep_alive_timeout=1000)
    client = await node.connect()
    async with opened(kind, node.settings.ws_hostname.text) as call:
        for _ in range(10):
            await call("push", events[0].ws_uri, "hi")
        assert node.statistics.accepted_connections == 2
        await wait_until(lambda: node.statistics.accepted_connections == 1)
        await call("push", events[0].ws_uri, "hi")
    assert [await with_timeout(client.recv()) for _ in range(11)] == ["hi"] * 11


async def test_a_gateway_that_is_not_there_is_unavailable(stage: Stage, kind: Any) -> None:
    await use(stage, accept_all)
    async with opened(kind, f"127.0.0.1:{free_port()}") as call:
        with pytest.raises(backend.Unavailable, match="was not sent: ConnectError"):
            await call("push", UNKNOWN_ID, "hi")


@pytest.mark.usefixtures("stage")
async def test_a_gateway_that_does_not_answer_in_time_is_unknown(kind: Any) -> None:
    async def ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(ignore, "127.0.0.1", 0)
    async with silent, opened(kind, f"127.0.0.1:{silent.sockets[0].getsockname()[1]}", timeout=0.1, retries=9) as call:
        with pytest.raises(backend.Unknown, match="may have been carried out"):
            await call("push", UNKNOWN_ID, "hi")


@pytest.mark.usefixtures("stage")
async def test_a_push_is_not_repeated_when_its_connection_breaks_although_it_was_reused(kind: Any) -> None:
    server = await Backend().start()
    server.on["PUT"] = lambda call: call.ok() if call.number == 0 else call.hang_up()
    async with opened(kind, server.authority, retries=9) as call:
        await call("push", UNKNOWN_ID, "first")
        with pytest.raises(backend.Unknown, match="may have been carried out"):
            await call("push", UNKNOWN_ID, "second")
    assert [call.text for call in server.calls] == ["first", "second"]
    assert server.accepted == 1
    await server.stop()
