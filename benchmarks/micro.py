"""What each part of the two paths costs without sockets: CPU time for one message, on the fake transports of the tests.

Run it in a clone of the repository: the fakes are the tests' own (`tests/fakes.py`).
"""

import time
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from importlib import import_module
from statistics import median
from typing import Any

from benchmarks.framing import frame
from wsaas.api.api import Api
from wsaas.delivery.circuit_breaker import CircuitBreaker
from wsaas.delivery.journal import NoJournal
from wsaas.delivery.pool import Limits, Pool
from wsaas.delivery.webhook import Subject, Webhook
from wsaas.events import Message
from wsaas.http.request import RequestParser
from wsaas.http.response import ResponseParser
from wsaas.sessions.registry import Registry
from wsaas.transport.context import ServerContext
from wsaas.transport.http_server import HttpProtocol, Site
from wsaas.websocket.decoder import FrameDecoder
from wsaas.websocket.frames import BINARY, encode

LIMIT = 1 << 20
OK = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{"code":"OK"}'
TAKEN = b"HTTP/1.1 204 No Content\r\nDate: Sat, 31 Jan 2026 12:00:00 GMT\r\nServer: any\r\n\r\n"

Step = Callable[[], object]


class Node:
    """A gateway without a loop, one client of which is in."""

    def __init__(self) -> None:
        """Let the client in."""
        fakes: Any = import_module("tests.fakes")
        settings = fakes.make_settings()
        clock, timeouts = fakes.FakeClock(), fakes.FakeTimeouts()
        opener = fakes.FakeOpener()
        pool = Pool(clock, opener, Limits(connections=1, attempt=10, idle=60, body=LIMIT))
        self.webhook = Webhook(settings, pool, CircuitBreaker(clock, pool), clock.wall)
        registry = Registry(settings, clock, self.webhook, NoJournal(), 10)
        site = Site(
            ServerContext(settings, clock, timeouts),
            Api(settings, registry),
            registry,
            fakes.make_gate(clock, registry, timeouts),
        )

        def visit() -> Any:
            transport = fakes.FakeTransport(HttpProtocol(site))
            transport.protocol.connection_made(transport)
            return transport

        self.client, self.rest = visit(), visit()
        self.client.protocol.data_received(
            b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        self.backend = opener.open()
        self.backend.protocol.data_received(OK)
        (session,) = registry.live()
        self.id = session.id

    def message(self, data: bytes) -> Step:
        """Return what takes `data` from the client to the backend, and the answer back."""

        def step() -> None:
            self.client.protocol.data_received(data)
            self.backend.protocol.data_received(TAKEN)
            self.backend.writes.clear()

        return step

    def push(self, size: int) -> Step:
        """Return what takes a message of `size` bytes from the backend to the client."""
        data = push_request(self.id, size)

        def step() -> None:
            self.rest.protocol.data_received(data)
            self.client.writes.clear()
            self.rest.writes.clear()

        return step


def push_request(connection_id: str, size: int) -> bytes:
    """Return the request that pushes `size` bytes."""
    head = f"PUT /{connection_id} HTTP/1.1\r\nHost: localhost:8080\r\nContent-Type: text/plain\r\n"
    return f"{head}Content-Length: {size}\r\n\r\n{'x' * size}".encode()


def steps(size: int) -> dict[str, Step]:
    """Return what is measured, by name."""
    node = Node()
    stream, data = FrameDecoder(LIMIT), frame(size)
    requests, responses = RequestParser(LIMIT), ResponseParser(LIMIT)
    put, event = push_request("i" * 22, size), Message(True, b"x" * size, 1.0, 1)
    subject = Subject("i" * 22, "localhost:8080/" + "i" * 22, b"Bearer token")

    def decode() -> None:
        stream.receive(data)
        stream.next()
        stream.next()

    def read() -> None:
        requests.receive(put)
        requests.next()

    return {
        "a frame decoded": decode,
        "a frame encoded": lambda: encode(BINARY, event.data),
        "a request read": read,
        "a response read": lambda: responses.feed(TAKEN),
        "a webhook built": lambda: node.webhook.request(subject, event),
        "message: client to backend and its answer": node.message(data),
        "push: backend to client and the answer": node.push(size),
    }


def cost(step: Step, times: int) -> float:
    """Return the CPU time of one step in microseconds."""
    begin = time.process_time()
    for _ in range(times):
        step()
    return (time.process_time() - begin) / times * 1e6


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the case."""
    parser = ArgumentParser(prog="python -m benchmarks micro", description="The parts of the paths, without sockets.")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--times", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=5)
    chosen = parser.parse_args(arguments)
    print(f"| {chosen.size} B | CPU time |\n| --- | --- |")
    made = steps(chosen.size)
    costs: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(chosen.repeats):
        for name, step in made.items():
            costs[name].append(cost(step, chosen.times))
    for name, values in costs.items():
        print(f"| {name} | {median(values):.2f} µs |")
