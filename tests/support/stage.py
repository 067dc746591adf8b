"""The environment of tests with real sockets: an event loop, gateways in this process, their backend and clients.

Each `async` test runs on its own uvloop, within a time-out. Afterwards everything is closed. No task, no timer of the
gateway and no socket may be left, no error may have been logged, and no exception may have reached the loop.
"""

import asyncio
import logging
import socket
import ssl
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import Context
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import pytest
import uvloop
import websockets

from tests.support.backend import Backend
from tests.support.clients import Answer, RawClient, upgrade
from tests.support.cluster_view import FakeView, make_member
from tests.support.openapi import check_answer, check_webhook
from tests.support.ports import free_port
from tests.support.resources import open_sockets
from tests.support.waiting import TIMEOUT_S, wait_until, with_timeout
from wsaas import settings
from wsaas.cluster.peers import Place
from wsaas.gateway import Gateway
from wsaas.membership.member import Member
from wsaas.sessions import registry
from wsaas.sessions.session import Session
from wsaas.statistics import Statistics

TEST_TIMEOUT_S = 60.0
MAX_CHECKED_CALLS = 100
"""How many of the requests to the backend are compared with the OpenAPI document, for each test."""


class Records(logging.Handler):
    """Appends each log record to a list."""

    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__(logging.DEBUG)
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append(record)


class Loop(uvloop.Loop):
    """A loop that remembers the timers of the gateway until they expire."""

    def __init__(self) -> None:
        super().__init__()
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._numbers = count()

    def call_later(  # type: ignore[override]  # it does not relate the types of the arguments to the callback
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        owner = getattr(callback, "__self__", callback)
        if not type(owner).__module__.startswith("wsaas."):
            return super().call_later(delay, callback, *args, context=context)
        number = next(self._numbers)

        def expire() -> None:
            del self._timers[number]
            callback(*args)

        timer = super().call_later(delay, expire, context=context)
        self._timers[number] = timer
        return timer

    def pending(self) -> list[asyncio.TimerHandle]:
        """Return the timers of the gateway that will expire."""
        return [timer for timer in self._timers.values() if not timer.cancelled()]


def load_settings(**values: Any) -> settings.Settings:
    """Return settings with `values`. By default, no backend listens at `api_uri`."""
    return settings.load({"api_uri": "127.0.0.1:9/hook", **{name: str(value) for name, value in values.items()}}, {})


class Stage:
    """The backend, the gateways and the clients of one test.

    `expected_errors`: parts of the errors that the test expects in the log. `timeout`: seconds for the whole test.
    `tls`: the context of clients, None without TLS.
    """

    def __init__(self) -> None:
        self.backend = Backend()
        self.stack = AsyncExitStack()
        self.nodes: list[Node] = []
        self.logged: list[logging.LogRecord] = []
        self.expected_errors: list[str] = []
        self.timeout = TEST_TIMEOUT_S
        self.tls: ssl.SSLContext | None = None
        self.surprises: list[dict[str, Any]] = []

    def run(self, test: Callable[..., Awaitable[None]], arguments: Mapping[str, Any]) -> None:
        """Run `test` on a loop of its own."""
        handler = Records(self.logged)
        loggers = [logging.getLogger(name) for name in ("wsaas", "asyncio")]
        levels = [logger.level for logger in loggers]
        for logger in loggers:
            logger.addHandler(handler)
            logger.setLevel(logging.DEBUG)
        try:
            # Not `uvloop.run`: it has no `loop_factory` for every version of Python.
            loop = Loop()
            try:
                loop.run_until_complete(self._perform(test, arguments, loop))
            finally:
                for task in asyncio.all_tasks(loop):
                    task.cancel()
                loop.run_until_complete(loop.shutdown_default_executor())
                with warnings.catch_warnings(record=True) as unclosed:
                    # Raised as errors within `close`, these would make uvloop hang.
                    warnings.simplefilter("always")
                    loop.close()
            assert not unclosed, [str(each.message) for each in unclosed]
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.removeHandler(handler)
                logger.setLevel(level)

    async def _perform(self, test: Callable[..., Awaitable[None]], arguments: Mapping[str, Any], loop: Loop) -> None:
        loop.set_exception_handler(lambda _loop, context: self.surprises.append(context))
        before = open_sockets()
        try:
            await asyncio.wait_for(test(**arguments), self.timeout)
        finally:
            await self._clear()
            # Sockets that are being closed have to be closed before the loop.
            for _ in range(200):
                if open_sockets() <= before:
                    break
                await asyncio.sleep(0.005)
        assert not self.surprises, self.surprises
        for call in self.backend.calls[:MAX_CHECKED_CALLS]:
            # A test may make up the entries of an earlier process.
            if registry.ID_FORM.fullmatch(call.client):
                check_webhook(call.method, call.headers, call.body)
        for record in self.logged:
            if record.levelno >= logging.ERROR or record.exc_info:
                text = record.getMessage()
                assert not record.exc_info, text
                assert any(expected in text for expected in self.expected_errors), text
        for node in self.nodes:
            assert node.statistics.backend_connections_opening == 0
            assert node.statistics.clients == 0
            assert self.expected_errors or node.statistics.disconnects_owed == 0
            assert node.statistics.accepted_connections == 0
            assert node.statistics.backend_connections_idle == 0
            assert node.statistics.backend_connections_busy == 0
        await wait_until(lambda: len(asyncio.all_tasks()) == 1, "all tasks to end", asyncio.all_tasks)
        assert not loop.pending()
        await wait_until(lambda: open_sockets() == before, "all sockets to be closed")

    async def _clear(self) -> None:
        await with_timeout(self.stack.aclose())
        self.backend.release()
        for node in self.nodes:
            if not node.drained:
                assert await node.drain() or self.expected_errors, "events were not delivered"
        await with_timeout(self.backend.stop())

    def messages(self, level: int = logging.WARNING) -> list[str]:
        """Return the messages logged at `level` and above."""
        return [record.getMessage() for record in self.logged if record.levelno >= level]

    async def node(self, **chosen: Any) -> "Node":
        """Start a gateway, and the backend unless it runs already.

        `backend=None`: do not start the backend. `sockets`: descriptors of open sockets by address.
        """
        backend, sockets = chosen.pop("backend", self.backend), chosen.pop("sockets", {})
        if backend is not None and not backend.port:
            await backend.start()
        given = self._given({"ws_hostname": f"127.0.0.1:{free_port()}", **chosen})
        node = Node(self, settings.load(given, {}))
        self.nodes.append(node)
        await node.gateway.start(sockets)
        return node

    async def workers(self, count: int, **chosen: Any) -> "list[Node]":
        """Start gateways that are the peers of each other, as the workers of one node are.

        Each listens on a port of its own, so that a test chooses the worker that takes a request.
        """
        if not self.backend.port:
            await self.backend.start()
        folder = Path(self.stack.enter_context(TemporaryDirectory(prefix="wsaas-")))
        hostname = f"127.0.0.1:{free_port()}"
        workers = []
        for _ in range(count):
            port = free_port()
            given = self._given({"listen": f"127.0.0.1:{port}", "ws_hostname": hostname, **chosen})
            node = Node(self, settings.load(given, {}), port)
            self.nodes.append(node)
            workers.append(node)
            node.private_path = await node.gateway.start_private(folder)
        introduce(workers)
        for node in workers:
            await node.gateway.start()
        return workers

    async def cluster(self, count: int, name: str = "node", **chosen: Any) -> "list[Node]":
        """Start gateways that are the nodes of a cluster, without NATS: the test sets the members.

        `ws_hostname` is the same for all, as if there were a load balancer. `name`: what the names of the nodes begin
        with; it is the name of a single one.
        """
        names = [name] if count == 1 else [f"{name}-{number}" for number in range(count)]
        nodes = [await self._member(each, "", **chosen) for each in names]
        for node in nodes:
            meet(node, nodes)
            await node.gateway.start()
        return nodes

    async def cluster_of_workers(self, count: int, *, has_ports: bool) -> "list[list[Node]]":
        """Start the nodes of a cluster, which have two workers each.

        `has_ports`: whether other nodes reach each worker at a port of its own. Otherwise, they reach the first one.
        """
        nodes: list[list[Node]] = []
        for number in range(count):
            folder = Path(self.stack.enter_context(TemporaryDirectory(prefix="wsaas-")))
            workers: list[Node] = []
            for _ in range(2):
                address = "" if has_ports or not workers else workers[0].view.own.address
                workers.append(await self._member(f"node-{number}", address))
                workers[-1].private_path = await workers[-1].gateway.start_private(folder)
            introduce(workers)
            nodes.append(workers)
        everyone = [worker for workers in nodes for worker in workers]
        for worker in everyone:
            meet(worker, everyone)
            await worker.gateway.start()
        return nodes

    async def _member(self, name: str, address: str, **chosen: Any) -> "Node":
        """Return a process of the node `name`. It is not started. `address`: where other nodes reach it."""
        if not self.backend.port:
            await self.backend.start()
        port = free_port()
        address = address or f"{'https' if 'tls_cert' in chosen else 'http'}://127.0.0.1:{port}"
        usual = {"listen": f"127.0.0.1:{port}", "ws_hostname": "gateway.test", "node_address": address}
        given = self._given({"cluster": "nats://127.0.0.1:9", **usual, **chosen})
        view = FakeView(make_member(name, address=given["node_address"]))
        node = Node(self, settings.load(given, {}), port, view)
        view.own.prefix = node.prefix
        self.nodes.append(node)
        return node

    def _given(self, chosen: Mapping[str, Any]) -> dict[str, str]:
        texts = {name: str(value) for name, value in chosen.items()}
        return {"api_uri": f"{self.backend.authority}/hook", "drain_timeout": "5000", **texts}

    @asynccontextmanager
    async def using(self, raw: RawClient) -> AsyncIterator[RawClient]:
        """Close `raw` at the end."""
        try:
            yield raw
        finally:
            raw.close()


class Node:
    """A gateway in this process, and methods to connect clients and callers.

    `port`: where it listens, by default the port of `ws_hostname`. `private_path`: the socket for its peers.
    """

    def __init__(
        self, stage: Stage, chosen: settings.Settings, port: int | None = None, view: FakeView | None = None
    ) -> None:
        self.stage = stage
        self.view = view or FakeView(make_member("alone"))
        self.port = port or chosen.ws_hostname.port
        self.private_path = ""
        self.settings = chosen
        self.gateway = Gateway(chosen, asyncio.get_running_loop(), view=view)
        self.drained = False

    @property
    def prefix(self) -> str:
        """The first characters of the ids of its clients."""
        return self.gateway.sessions.prefix

    async def drain(self) -> bool:
        """Drain it, as a signal does; return whether all events were delivered."""
        self.drained = True
        delivered: bool = await with_timeout(self.gateway.drain(), 20)
        return delivered

    @property
    def statistics(self) -> Statistics:
        """The statistics of the gateway."""
        return self.gateway.statistics()

    def session(self, client: str) -> Session:
        """Return the session of a client, which is connected or in its handshake."""
        session = self.gateway.sessions.find(client)
        assert session is not None
        return session

    async def connect(self, path: str = "/", **options: Any) -> websockets.ClientConnection:
        """Connect a real client."""
        options.setdefault("ssl", self.stage.tls)
        scheme = "wss" if options["ssl"] else "ws"
        connecting = websockets.connect(f"{scheme}://127.0.0.1:{self.port}{path}", ping_interval=None, **options)
        client: websockets.ClientConnection = await with_timeout(connecting)
        self.stage.stack.push_async_callback(close_quietly, client)
        return client

    async def admit(self, path: str = "/", **options: Any) -> tuple[websockets.ClientConnection, str]:
        """Connect a real client; return it and its id."""
        client = await self.connect(path, **options)
        call = await self.stage.backend.take("POST")
        return client, call.client

    async def raw(
        self, port: int | None = None, *, host: str = "127.0.0.1", receive: int = 0, tls: bool = True
    ) -> RawClient:
        """Open a bare connection. `receive`: the size of its receive buffer. `tls`: use TLS if the stage has it."""
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        sock.setblocking(False)
        if receive:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        try:
            await with_timeout(asyncio.get_running_loop().sock_connect(sock, (host, port or self.port)))
        except OSError:
            sock.close()
            raise
        context = self.stage.tls if tls else None
        name = host if context else None
        opening = asyncio.open_connection(sock=sock, limit=64 * 1024, ssl=context, server_hostname=name)
        raw = RawClient(*await with_timeout(opening))
        self.stage.stack.callback(raw.close)
        return raw

    async def upgraded(self, **options: Any) -> RawClient:
        """Open a bare connection that has its 101."""
        raw = await self.raw(**options)
        raw.send(upgrade())
        answer = await raw.answer()
        assert answer.status == 101, answer
        return raw

    async def rest(
        self,
        method: str,
        path: str,
        body: bytes | str = b"",
        *,
        port: int | None = None,
        tls: ssl.SSLContext | None = None,
        headers: Mapping[str, str] | None = None,
        **more: str,
    ) -> Answer:
        """Make one REST request with a real client. `path` may be an id. `tls` replaces the context of the stage.

        `more`: further headers; `Content_Type="text/plain"` becomes `Content-Type: text/plain`.
        """
        if not path.startswith("/"):
            path = "/" + path
        given = {**(headers or {}), **{name.replace("_", "-"): value for name, value in more.items()}}
        skip = () if "Content-Type" in given else ("Content-Type",)
        context = tls or self.stage.tls
        async with (
            aiohttp.ClientSession(skip_auto_headers=skip) as http,
            http.request(
                method,
                f"{'https' if context else 'http'}://127.0.0.1:{port or self.port}{path}",
                data=body or None,
                headers=given,
                ssl=context or True,
                timeout=aiohttp.ClientTimeout(TIMEOUT_S),
            ) as response,
        ):
            answer = Answer(response.status, dict(response.headers), await response.read())
        check_answer(method, path, answer.status, answer.headers, answer.body)
        return answer

    async def information(self, client: str) -> Any:
        """Return the JSON of `GET ws_uri`."""
        answer = await self.rest("GET", client)
        assert answer.status == 200, answer
        return answer.json


def introduce(workers: "Sequence[Node]") -> None:
    """Tell each of the workers who the others are."""
    places = {each.prefix: Place(f"worker {number}", each.private_path) for number, each in enumerate(workers, 1)}
    for node in workers:
        node.gateway.peers.update({prefix: place for prefix, place in places.items() if prefix != node.prefix})


def meet(node: "Node", others: "Sequence[Node]") -> None:
    """Let a node of a cluster know `others`, and nobody else."""
    know(node, {each.prefix: each.view.own for each in others if each is not node})


def know(node: "Node", members: "Mapping[str, Member]") -> None:
    """Let a node of a cluster know these processes, by the prefix of their ids, and nobody else."""
    node.view.members = members
    assert node.gateway.nodes is not None
    node.gateway.nodes.update(members)


async def received_close(client: websockets.ClientConnection) -> tuple[int, str]:
    """Wait until a client receives a Close, before which no message may arrive; return its code and reason."""
    with pytest.raises(websockets.ConnectionClosed) as caught:
        await with_timeout(client.recv())
    close = caught.value.rcvd
    assert close is not None
    return close.code, close.reason


async def close_quietly(client: websockets.ClientConnection) -> None:
    """Close the connection of a client in any state."""
    client.transport.abort()
    await client.wait_closed()
