"""A gateway that only has a console: it serves the page, answers its requests, and tells the stories that a test wants.

It runs on a thread of its own, as Playwright's synchronous API occupies that of the test.
"""

import asyncio
import base64
import json
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from aiohttp import WSMsgType, web

from tests.support.ports import free_port
from tests.support.waiting import run_ready_callbacks
from wsaas.console_page import console_page, content_security_policy

RING = 1000
Event = dict[str, Any]


def text_body(text: str) -> dict[str, Any]:
    """Return the body of an event."""
    return {"text": text, "size": len(text.encode()), "truncated": False}


def binary_body(data: bytes, size: int | None = None) -> dict[str, Any]:
    """Return the body of an event, truncated if it was `size` bytes long."""
    full = len(data) if size is None else size
    return {"base64": base64.b64encode(data).decode(), "size": full, "truncated": full > len(data)}


def connection(number: int, **fields: Any) -> dict[str, Any]:
    """Return an entry of the list of connections."""
    return {
        "id": f"Nd3aT0pR{number:022d}",
        "path": f"/rooms/{'lobby' if number % 3 else 'kitchen'}",
        "remote_address": f"203.0.113.{number % 250 + 1}",
        "context": f"room=lobby&nick=user-{number}" if number % 2 else None,
        "groups": ["lobby", f"user-{number}"] if number % 4 else [],
        "groups_count": 2 if number % 4 else 0,
        "state": "OPEN",
        "connected_at": time.time() - 17 * (number + 1),
        "messages_in": number * 7 % 90,
        "messages_out": number * 31 % 700,
        "inbox_bytes": 0,
        "send_buffer_bytes": 0,
        "paused": False,
        "worker": None,
        **fields,
    }


def calm_node() -> dict[str, Any]:
    """Return the answer of a node on which all is well."""
    names = "paused backlog_bytes disconnects_pending disconnects_given_up backend_requests_waiting retries undelivered"
    counters = "messages_in messages_out bytes_in bytes_out connects refused backend_connections_busy clients"
    return {
        "version": "0.1.0",
        "node": "gw-1",
        "started_at": time.time() - 93_784,
        "workers": 1,
        "client_url": "",
        "backend": {"url": "http://localhost:8000/websocket", "state": "up", "since": time.time() - 90_000},
        "journal": {"file": True, "writable": True},
        "cluster": None,
        "numbers": {
            **dict.fromkeys((*names.split(), *counters.split()), 0),
            "clients_limit": 19_000,
            "backend_connections_limit": 128,
            "loop_lag_ms": 0.3,
        },
        "backend_ms": {"buckets": [[0.5, 0], [1, 0], [2, 0], [5, 0], [10, 0], [50, 0], [None, 0]]},
        "closes": {},
        "problems": [],
    }


class FakeConsole:
    """The state that the page sees. Tests change it as they like."""

    def __init__(self) -> None:
        self.port = free_port()
        self.node = calm_node()
        self.node["client_url"] = f"ws://localhost:{self.port}"
        self.connections: list[dict[str, Any]] = []
        self.missing: list[str] = []
        self.rings: dict[str, deque[Event]] = defaultdict(lambda: deque(maxlen=RING))
        self.token = ""
        self.answers_node = True
        self.sent: list[tuple[str, str, str, bytes]] = []  # method, id, content type, body of what the page sent
        self.replayed: list[dict[str, Any]] = []
        self.replay_answer: dict[str, Any] = {"failure": "could not be reached", "took_ms": 1.5}
        self.polls = 0
        self.line_end = "\n"
        self.chunk = 0  # bytes of an event that are written at once; 0: all
        self.last_ids: list[str] = []  # of each stream that was opened
        self.streams: set[web.StreamResponse] = set()
        self.on_text: Callable[[str, str], None] = self.echo
        self._watchers: list[tuple[Callable[[Event], bool], asyncio.Queue[Event]]] = []
        self._sockets: dict[str, web.WebSocketResponse] = {}
        self._seq = 0
        self._loop = asyncio.new_event_loop()

    @property
    def url(self) -> str:
        """Return the address of the page."""
        return f"http://localhost:{self.port}/console"

    # Stories.

    def emit(self, connection_id: str, kind: str, **fields: Any) -> Event:
        """Put an event into the ring, and send it to those that watch."""
        self._seq += 1
        seq = {} if kind == "lost" else {"seq": self._seq}
        event = {**seq, "connection": connection_id, "at": time.time(), "kind": kind, **fields}
        self.rings[connection_id].append(event)
        self._loop.call_soon_threadsafe(self._distribute, event)
        return event

    def _distribute(self, event: Event) -> None:
        for wants, queue in self._watchers:
            if wants(event):
                queue.put_nowait(event)

    def handshake(self, connection_id: str, path: str, query: str = "") -> None:
        """Tell the handshake of a client that the backend accepts."""
        headers = [["Host", f"localhost:{self.port}"], ["Authorization", "•••"], ["User-Agent", "Mozilla/5.0"]]
        address = "203.0.113.7"
        self.emit(
            connection_id,
            "handshake",
            method="GET",
            path=path,
            query=query,
            headers=headers,
            remote_address=address,
        )
        request = {"path": path, "query": query, "headers": dict(headers[1:]), "remote_address": address}
        body = json.dumps({"ws_uri": f"http://localhost:{self.port}/{connection_id}", "request": request})
        self.request(connection_id, "connect", "0", text_body(body))

    def request(
        self, connection_id: str, event: str, number: str, body: Mapping[str, Any], attempt: int = 1, **headers: str
    ) -> None:
        """Tell that the backend gets a request."""
        ce_id = f"{connection_id}:{number}"
        self.emit(
            connection_id,
            "request",
            event=event,
            ce_id=ce_id,
            attempt=attempt,
            method={"connect": "POST", "message": "PUT", "disconnect": "DELETE"}[event],
            target="/websocket?token=•••",
            headers=[
                ["Host", "localhost:8000"],
                ["Authorization", "•••"],
                ["Content-Type", "text/plain; charset=utf-8" if event == "message" else "application/json"],
                ["Content-Length", str(body["size"])],
                ["Ws-Uri", f"http://localhost:{self.port}/{connection_id}"],
                ["ce-id", ce_id],
                ["ce-type", f"wsaas.{event}"],
                *([name, value] for name, value in headers.items()),
            ],
            body=body,
        )

    def response(self, connection_id: str, number: str, attempt: int = 1, **fields: Any) -> None:
        """Tell what the backend answered: 200 {"code": "OK"} unless `fields` say other."""
        answer = {
            "status": 200,
            "headers": [["content-type", "application/json"]],
            "body": text_body('{"code": "OK"}'),
            "result": "ok",
            "took_ms": 1.0 + len(connection_id) % 7 / 3,
            "retry_in_ms": None,
        }
        if "failure" in fields:
            answer = {"took_ms": 0.4, "result": "unreachable"}
        self.emit(connection_id, "response", ce_id=f"{connection_id}:{number}", attempt=attempt, **{**answer, **fields})

    def frame(self, connection_id: str, direction: str, body: Mapping[str, Any], **fields: Any) -> None:
        """Tell of a text or binary frame."""
        opcode = "text" if "text" in body else "binary"
        self.emit(connection_id, "frame", direction=direction, opcode=opcode, size=body["size"], body=body, **fields)

    def echo(self, connection_id: str, text: str) -> None:
        """Handle a message of the test client as the echo of the demo does; the text `fail` is retried twice."""
        number = str(len(self.rings[connection_id]))
        self.frame(connection_id, "in", text_body(text))
        attempts = 3 if text == "fail" else 1
        for attempt in range(1, attempts):
            self.request(connection_id, "message", number, text_body(text), attempt)
            self.response(connection_id, number, attempt, status=503, body=text_body("try later"), retry_in_ms=120.0)
        self.request(connection_id, "message", number, text_body(text), attempts)
        self.response(connection_id, number, attempts, headers=[["Ws-Reply", "text"]], body=text_body(text))
        self.frame(connection_id, "out", text_body(text), cause="reply")
        self.send(connection_id, text)

    def send(self, connection_id: str, text: str) -> None:
        """Send a text to the test client."""
        socket = self._sockets[connection_id]
        asyncio.run_coroutine_threadsafe(socket.send_str(text), self._loop)

    # The server.

    @contextmanager
    def running(self) -> Iterator["FakeConsole"]:
        """Serve on a thread."""
        thread = threading.Thread(target=self._loop.run_forever)
        thread.start()
        try:
            runner = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
            try:
                yield self
            finally:
                asyncio.run_coroutine_threadsafe(self._stop(runner), self._loop).result(10)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()

    async def _start(self) -> web.AppRunner:
        application = web.Application(middlewares=[self._authorize])
        api = "/console/api"
        application.add_routes(
            [
                web.get("/console", self._page),
                web.get(f"{api}/node", self._node),
                web.get(f"{api}/connections", self._list),
                web.get(f"{api}/connects/events", self._connects),
                web.get(f"{api}/connections/{{id}}", self._connection),
                web.put(f"{api}/connections/{{id}}", self._act),
                web.delete(f"{api}/connections/{{id}}", self._act),
                web.get(f"{api}/connections/{{id}}/events", self._events),
                web.post(f"{api}/connections/{{id}}/replay", self._replay),
                web.get("/{path:.*}", self._socket),
            ]
        )
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        return runner

    async def _stop(self, runner: web.AppRunner) -> None:
        server = runner.server
        assert server is not None
        await runner.cleanup()
        # A connection may have been accepted meanwhile. Otherwise the next test would fail with a warning about it.
        await run_ready_callbacks()
        for connection in server.connections:
            if connection.transport is not None:
                connection.transport.abort()
        await run_ready_callbacks()

    @web.middleware
    async def _authorize(self, request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
        given = request.headers.get("Authorization", "")
        if request.path.startswith("/console/api/") and self.token and given != f"Bearer {self.token}":
            return web.json_response({"code": "UNAUTHORIZED", "message": "Give the control token."}, status=401)
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _page(self, _: web.Request) -> web.Response:
        headers = {"Content-Security-Policy": content_security_policy(), "Cache-Control": "no-store"}
        return web.Response(body=console_page(), content_type="text/html", charset="utf-8", headers=headers)

    async def _node(self, _: web.Request) -> web.Response:
        self.polls += 1
        if not self.answers_node:
            return web.json_response({"code": "UNAVAILABLE", "message": "The node is stopping."}, status=503)
        return web.json_response({"now": time.time(), **self.node})

    async def _list(self, request: web.Request) -> web.Response:
        query = request.query
        text, field = query.get("search", "").lower(), query.get("field", "any")
        keys = {"address": "remote_address", "group": "groups"}
        fields = ("id", "path", "remote_address", "context", "groups") if field == "any" else (keys.get(field, field),)
        found = [each for each in self.connections if any(text in str(each[name] or "").lower() for name in fields)]
        if query.get("sort") == "waiting":
            found.sort(key=lambda each: -each["inbox_bytes"] - each["send_buffer_bytes"])
        start, limit = int(query.get("after", 0)), int(query["limit"])
        following = str(start + limit) if start + limit < len(found) else None
        page = {"connections": found[start : start + limit], "next": following}
        return web.json_response({**page, "matched": len(found), "missing": self.missing})

    def _known(self, connection_id: str) -> dict[str, Any] | None:
        return next((each for each in self.connections if each["id"] == connection_id), None)

    async def _connection(self, request: web.Request) -> web.Response:
        known = self._known(request.match_info["id"])
        if known is None:
            return self._gone()
        return web.json_response({"code": "OK", **known})

    @staticmethod
    def _gone() -> web.Response:
        return web.json_response({"code": "GONE", "message": "This connection has ended."}, status=410)

    async def _act(self, request: web.Request) -> web.Response:
        body = await request.read()
        connection_id = request.match_info["id"]
        self.sent.append((request.method, connection_id, request.headers.get("Content-Type", ""), body))
        if self._known(connection_id) is None:
            return self._gone()
        if request.method == "PUT":
            self.emit(connection_id, "push", method="PUT", status=200, code="OK", size=len(body))
            self.frame(connection_id, "out", text_body(body.decode(errors="replace")), cause="push")
            if connection_id in self._sockets:
                await self._sockets[connection_id].send_str(body.decode())
        return web.json_response({"code": "OK"})

    async def _replay(self, request: web.Request) -> web.Response:
        given = await request.json()
        self.replayed.append(given)
        if not any(event.get("seq") == given["seq"] for event in self.rings[request.match_info["id"]]):
            return web.json_response({"code": "NOT_FOUND", "message": "It has left the ring."}, status=404)
        return web.json_response(self.replay_answer)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        connection_id = request.match_info["id"]
        known = self._known(connection_id)
        if known is None and connection_id not in self.rings:
            return self._gone()
        after = int(request.headers.get("Last-Event-ID") or 0)
        kept = [event for event in self.rings[connection_id] if event.get("seq", after + 1) > after]
        hello = {"connection": known, "limits": {"events": 1000, "body_bytes": 16384}}
        return await self._stream(request, hello, kept, lambda event: event["connection"] == connection_id)

    async def _connects(self, request: web.Request) -> web.StreamResponse:
        path, watched = request.query.get("path"), set[str]()

        def wants(event: Event) -> bool:
            if event["kind"] == "handshake" and path in {None, event["path"]}:
                watched.add(event["connection"])
            return event["connection"] in watched

        return await self._stream(request, {"limits": {"events": 1000, "body_bytes": 16384}}, [], wants)

    async def _stream(
        self, request: web.Request, hello: Event, kept: list[Event], wants: Callable[[Event], bool]
    ) -> web.StreamResponse:
        self.last_ids.append(request.headers.get("Last-Event-ID", ""))
        queue: asyncio.Queue[Event] = asyncio.Queue()
        watcher = (wants, queue)
        self._watchers.append(watcher)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        await response.prepare(request)
        self.streams.add(response)
        try:
            await response.write(f"event: hello\ndata: {json.dumps(hello)}\n\n: keep-alive\n\n".encode())
            for event in kept:
                await self._write(response, event)
            while True:
                await self._write(response, await queue.get())
        except (ConnectionError, asyncio.CancelledError):
            return response
        finally:
            self._watchers.remove(watcher)
            self.streams.discard(response)

    async def _write(self, response: web.StreamResponse, event: Event) -> None:
        head = f"id: {event['seq']}\n" if "seq" in event else ""
        text = f"{head}event: {event['kind']}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n"
        data = text.replace("\n", self.line_end).encode()
        size = self.chunk or len(data)
        for start in range(0, len(data), size):
            await response.write(data[start : start + size])
            if self.chunk:
                await asyncio.sleep(0.001)

    def break_streams(self) -> None:
        """Cut all streams, as a restart of a proxy does."""

        def cut() -> None:
            for each in list(self.streams):
                if each._req is not None and each._req.transport is not None:  # noqa: SLF001 - there is no other way
                    each._req.transport.abort()  # noqa: SLF001 - as above

        self._loop.call_soon_threadsafe(cut)

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return web.Response(status=404)
        known = connection(len(self.connections) + 500, path=request.path, connected_at=time.time(), groups=[])
        connection_id = known["id"]
        self.handshake(connection_id, request.path, request.query_string)
        if request.path == "/refused":
            self.response(connection_id, "0", body=text_body('{"code": "NO_SUCH_ROOM"}'))
            self.emit(connection_id, "refused", status=403, code="NO_SUCH_ROOM")
            return web.Response(status=403)
        self.response(connection_id, "0", body=text_body('{"code": "OK", "context": "echo"}'))
        self.connections.append({**known, "ws_uri": f"localhost:{self.port}/{connection_id}"})
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._sockets[connection_id] = socket
        self.emit(connection_id, "opened", status=101, subprotocol=None, compression=True)
        self.emit(connection_id, "state", state="OPEN", reason=None)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                self.on_text(connection_id, message.data)
            elif message.type is WSMsgType.BINARY:
                self.frame(connection_id, "in", binary_body(message.data))
        self.emit(connection_id, "frame", direction="in", opcode="close", size=2, code=socket.close_code, reason="")
        self.connections[:] = [each for each in self.connections if each["id"] != connection_id]
        self.request(connection_id, "disconnect", "end", text_body('{"code": 1000}'))
        self.response(connection_id, "end")
        self.emit(connection_id, "end")
        return socket
