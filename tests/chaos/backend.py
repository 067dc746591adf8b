"""A backend that can be killed at any moment. It logs all requests and pushes to a file.

    python -m tests.chaos.backend PORT GATEWAYS LOG LIFE SEED

GATEWAYS is a list of addresses with commas. `WS_HOSTNAME` has to be the first one. The backend listens on CHAOS_HOST,
or on 127.0.0.1.

Each request is logged before it is answered, with one system call, so that the log survives a kill. The log is its only
memory: after a start, it reads the connected clients from there. It also fails by itself: it answers late, with 503 or
not at all, hangs up before or after it logged a request, and closes idle connections.

A line of the log has: a method or another word, the connection id, the number of the event or push, the verdict, the
`Authorization` and `Ws-Context` of the request ("-" for none), and the stripped body. The line of a POST has the groups
of the answer instead. Other lines: see `push` and publishers.py. Each line ends with the time, in nanoseconds of the
monotonic clock, which the clients use too, and a full stop: a line without one is incomplete, and its request was not
answered. The line of a request has the time of its arrival, that of an answer the time after it.

A message "NUMBER NAME ? +GROUP" has the answer join the group, "-GROUP" leave it.

The name of a hostile client selects the verdict (`FATES`). The log has no bodies of its messages, and no pushes to it.
"""

import asyncio
import json
import os
import random
import re
import sys
import time
import zlib
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

import uvloop

from tests.chaos.link import Address, Link, parse
from tests.chaos.publishers import Publishers, connect_groups

OK = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{"code":"OK"}'
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
BAD = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
BUSY_FOR_A_SECOND = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"

PUSHERS = 8
PUSH_PAUSE = 0.02
"""Mean seconds between two pushes of one pusher."""

EARLY_PUSH_PERCENT = 10
"""Percentage of the clients that get a push before their 101."""

CE_ID = re.compile(r"([\w-]+)[.:](\d+|end)")
"""The connection id and the number of the event, or `end`."""

HOSTILE = "hostile-"
FATES = {
    "poison500": ("PUT", "busy"),
    "poisonhung": ("PUT", "hung"),
    "poisonmute": ("PUT", "mute"),
    "dropped": ("PUT", "bad"),
    "post500": ("POST", "busy"),
    "posthung": ("POST", "hung"),
}
"""The method that fails and its verdict, by kind of hostile client. Other kinds are treated like honest clients."""

DEAF = "hostile-deaf-"
DEAF_PUSH = b"." * 30_000
DEAF_PAUSE = 0.02

BUSY_PERCENT, UNSEEN_PERCENT, MUTE_PERCENT, HUNG_PERCENT, SLOW_PERCENT, CLOSING_PERCENT = 0.5, 0.3, 0.3, 0.02, 1, 0.5


def shortened(body: str) -> str:
    """Return a body without its padding."""
    return body.rstrip(".\n")


def answered(body: bytes, *headers: str) -> bytes:
    head = "\r\n".join(["HTTP/1.1 200 OK", *headers, f"Content-Length: {len(body)}", "", ""])
    return head.encode() + body


def membership_header(command: str) -> list[str]:
    """Return the header that a message asks for by `+GROUP` or `-GROUP`, if it does."""
    name = {"+": "Ws-Join", "-": "Ws-Leave"}.get(command[:1])
    return [f"{name}: {command[1:]}"] if name else []


class Log:
    """The log file, and a second file of connected clients, which stays short enough to be read at a start."""

    def __init__(self, path: Path) -> None:
        self.clients: dict[str, str] = {}
        self.deaf: dict[str, str] = {}
        clients = path.with_suffix(".clients")
        if clients.exists():
            for line in clients.read_bytes().decode().splitlines():
                if line.endswith(" ."):
                    self._remember(line)
        self._file, self._clients = (
            os.open(each, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600) for each in (path, clients)
        )
        os.write(self._file, b"\n")
        os.write(self._clients, b"\n")

    def _remember(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        if word in ("POST", "DELETE"):
            client, _, verdict, name, *_ = rest.split(" ")
            clients = self.deaf if name.startswith(DEAF) else self.clients
            if word == "DELETE":
                clients.pop(client, None)
            elif verdict == "ok" and (clients is self.deaf or not name.startswith(HOSTILE)):
                clients[client] = name

    def write(self, *fields: object) -> None:
        line = " ".join([*map(str, fields), f"@{time.monotonic_ns()}", "."])
        os.write(self._file, line.encode() + b"\n")
        if fields[0] in ("POST", "DELETE"):
            os.write(self._clients, line.encode() + b"\n")
            self._remember(line)


class Request:
    def __init__(self, head: bytes, body: bytes) -> None:
        start, *lines = head.decode("latin-1").split("\r\n")
        self.method = start.split(" ", 1)[0]
        headers = dict(line.lower().split(": ", 1) for line in lines)
        matched = CE_ID.fullmatch(dict(line.split(": ", 1) for line in lines)["ce-id"])
        assert matched is not None, head
        self.client, self.event = matched.groups()
        self.name = headers.get("authorization", "-").removeprefix("bearer ")
        self.context = headers.get("ws-context", "-")
        self.body = body.decode()

    @property
    def is_hostile(self) -> bool:
        return self.name.startswith(HOSTILE)


class Backend:
    def __init__(self, gateways: Sequence[Address], log: Log, life: int, chance: random.Random) -> None:
        self.log = log
        self.chance = chance
        self._gateways = gateways
        self._busy: set[str] = set()
        self._numbers = iter(range(life * 1_000_000, (life + 1) * 1_000_000))
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        for _ in range(PUSHERS):
            self.do(self._push_for_ever())
        self.do(self._push_to_the_deaf())
        publishers = Publishers(self._gateways, self.log.write, self.log.clients, self._numbers, self.chance)
        for each in publishers.start():
            self.do(each)

    def do(self, what: Coroutine[object, object, None]) -> None:
        task = asyncio.ensure_future(what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def percent(self, share: float) -> bool:
        return self.chance.random() * 100 < share

    def verdict(self, request: Request) -> str:
        """Decide the answer to a request and log it, unless the request is to be treated as never received."""
        method, fate_of_hostile = FATES.get(request.name.split("-")[1], ("", "")) if request.is_hostile else ("", "")
        if request.method == method:
            verdict = fate_of_hostile
        elif request.is_hostile and request.method == "POST":
            verdict = "ok"
        elif request.method == "POST":
            # The verdict depends on the name only, so that a repeated POST gets the same answer.
            fate = zlib.crc32(request.name.encode()) % 1000
            verdict = "no" if fate < 30 else "busy" if fate < 35 else "mute" if fate < 45 else "ok"
        elif self.percent(BUSY_PERCENT):
            verdict = "busy"
        elif self.percent(UNSEEN_PERCENT):
            return "unseen"
        else:
            verdict = "mute" if self.percent(MUTE_PERCENT) else "hung" if self.percent(HUNG_PERCENT) else "ok"
        body = "" if request.is_hostile and request.method == "PUT" else request.body
        if request.method == "POST":
            body = ",".join(connect_groups(request.name)) if verdict == "ok" else ""
        self.log.write(
            request.method, request.client, request.event, verdict, request.name, request.context, shortened(body)
        )
        return verdict

    async def push(self, client: str, link: Link) -> None:
        """Push the next number to a client, unless a push to it is under way.

        Its line has the status and the name, and the time at which it was sent before that of its answer.
        """
        if client in self._busy:
            return
        self._busy.add(client)
        number, status = next(self._numbers), "unknown"
        name = self.log.clients.get(client, "-")
        padding = "." * (30_000 if self.percent(1) else 10)
        begin = time.monotonic_ns()
        try:
            status, _ = await link.request("PUT", f"/{client}", f"p {number} {name} {padding}".encode())
        finally:
            self.log.write("PUSH", client, number, status, name, begin)
            self._busy.discard(client)
        if status == "410":
            self.log.clients.pop(client, None)

    async def _push_for_ever(self) -> None:
        link = Link(self._gateways)
        while True:
            await asyncio.sleep(self.chance.expovariate(1 / PUSH_PAUSE))
            if self.log.clients:
                await self.push(self.chance.choice(list(self.log.clients)), link)

    async def _push_to_the_deaf(self) -> None:
        """Push to clients that never read; the answers are not logged."""
        link = Link(self._gateways)
        while True:
            await asyncio.sleep(DEAF_PAUSE)
            if self.log.deaf:
                client = self.chance.choice(list(self.log.deaf))
                if (await link.request("PUT", f"/{client}", DEAF_PUSH))[0] == "410":
                    self.log.deaf.pop(client, None)

    async def push_early(self, request: Request) -> None:
        """Push to a client that still waits for its 101."""
        link = Link(self._gateways)
        try:
            await self.push(request.client, link)
        finally:
            link.close()


class Server(asyncio.Protocol):
    """A connection of the gateway, with one request at a time."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._buffer = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, mark, rest = self._buffer.partition(b"\r\n\r\n")
        if mark:
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            if len(rest) >= length:
                assert len(rest) == length, "a second request arrived before the first was answered"
                self._buffer = b""
                self._take(Request(head, rest))

    def _take(self, request: Request) -> None:
        backend = self._backend
        verdict = backend.verdict(request)
        if verdict in ("mute", "unseen"):
            self._transport.close()
        elif verdict == "busy":
            self._transport.write(BUSY_FOR_A_SECOND if backend.percent(10) else BUSY)
            self._log_refusal(request)
        elif verdict == "bad":
            self._transport.write(BAD)
        elif verdict == "no":
            self._transport.write(answered(b'{"code":"NO"}'))
            self._log_refusal(request)
        elif verdict == "ok":
            if request.method == "POST" and not request.is_hostile and backend.percent(EARLY_PUSH_PERCENT):
                backend.do(self._push_early(request))
            elif backend.percent(SLOW_PERCENT):
                pause = backend.chance.uniform(0, 0.1)
                asyncio.get_running_loop().call_later(pause, self._answer, request)
            else:
                self._answer(request)

    def _log_refusal(self, request: Request) -> None:
        """Log that the gateway received the refusal of a POST, after which no DELETE may follow."""
        if request.method == "POST" and not request.is_hostile:
            # The answer is sent at the end of the loop's turn.
            asyncio.get_running_loop().call_later(0.02, self._backend.log.write, "REFUSED", request.client, 0)

    async def _push_early(self, request: Request) -> None:
        await self._backend.push_early(request)
        self._answer(request)

    def _answer(self, request: Request) -> None:
        if self._transport.is_closing():
            # The gateway was killed.
            return
        if request.method == "POST":
            self._transport.write(answered(self._connect_answer(request.name)))
        elif request.method == "PUT":
            kind, command = [*request.body.split(" ")[2:4], "", ""][:2]
            headers = membership_header(command)
            reply = b""
            if kind == "?":
                headers.append("Ws-Reply: text")
                reply = f"r {request.event} {request.name}".encode()
            self._transport.write(answered(reply, *headers))
        else:
            self._transport.write(OK)
        if self._backend.percent(CLOSING_PERCENT):
            self._transport.close()

    def _connect_answer(self, name: str) -> bytes:
        groups = connect_groups(name)
        return json.dumps({"code": "OK", "context": name, **({"groups": groups} if groups else {})}).encode()


async def main(port: int, gateways: Sequence[Address], log: str, life: int, seed: int) -> None:
    chance = random.Random(seed * 1000 + life)
    backend = Backend(gateways, Log(Path(log)), life, chance)
    host = os.environ.get("CHAOS_HOST", "127.0.0.1")
    server = await asyncio.get_running_loop().create_server(lambda: Server(backend), host, port, backlog=4096)
    backend.start()
    print("listening", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        uvloop.run(main(int(sys.argv[1]), parse(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])))
