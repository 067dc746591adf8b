"""Measures the code of one checkout: `python -m benchmarks.in_process.worker CHECKOUT SIZE TRACES`.

`TRACES` is off, passed (all clients have a sampled trace) or recorded (their spans are exported, too).
It prints the names of the steps that it can measure, as a JSON list. Then it reads lines with a step and a number of
times, as a JSON list of two, and answers each with the CPU time of one step in microseconds. It ends with its stdin.
"""

import asyncio
import gc
import json
import sys
import time
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path

from benchmarks.in_process.gateway import InProcessGateway, Loop, MemoryTransport, start
from benchmarks.in_process.parts import PARTS, Step, usable
from benchmarks.wire import (
    HANDSHAKE,
    NO_CONTENT,
    OK,
    PING,
    SAMPLED_HANDSHAKE,
    browser_handshakes,
    close,
    forwarded_push,
    frame,
    push,
    request,
    text,
)

SETTINGS = {"WS_TIMEOUT": "0", "KEEP_ALIVE_TIMEOUT": "3600000", "API_CONNECTION_AGE": "0"}
"""No connection ends while it is measured."""


PIPELINED = 10
"""Requests that arrive at once. They take less than a slice."""


BROWSERS = 5000
"""Browsers that connect in turn. No cache in the gateway has room for as many."""


class Peers:
    """One client, the backend's connection to the REST API, and the gateway's to the backend."""

    def __init__(self, gateway: InProcessGateway, client: MemoryTransport, path: str, handshake: bytes) -> None:
        """Measure `gateway`, whose only client is at `path`. Further clients connect with `handshake`."""
        self.gateway = gateway
        self.handshake = handshake
        self.client = client
        self.path = path
        self.api = gateway.accept()
        (self.backend,) = gateway.backend

    def take(self) -> tuple[bytes, bytes, bytes]:
        """Return what was written to the client, on the REST API and to the backend, and forget it."""
        written = [b"".join(each.written) for each in (self.client, self.api, self.backend)]
        for each in (self.client, self.api, self.backend):
            each.written.clear()
        return written[0], written[1], written[2]


def request_step(peers: Peers, data: bytes) -> Step:
    """Return a step that answers the request `data` on the REST API."""
    client, api = peers.client.written, peers.api

    def step() -> None:
        api.protocol.data_received(data)
        client.clear()
        api.written.clear()

    return step


def pipelined_step(peers: Peers, connection: MemoryTransport, data: bytes) -> Step:
    """Return a step that answers `PIPELINED` requests at once, which are `data`."""
    client, requests = peers.client.written, data * PIPELINED

    def step() -> None:
        connection.protocol.data_received(requests)
        client.clear()
        connection.written.clear()

    return step


def message_step(peers: Peers, size: int) -> Step:
    """Return a step that takes a message from the client to the backend, and the backend's response."""
    client, backend, data = peers.client, peers.backend, text(size)

    def step() -> None:
        client.protocol.data_received(data)
        backend.written.clear()
        backend.protocol.data_received(NO_CONTENT)

    return step


def ping_step(peers: Peers) -> Step:
    """Return a step that answers a ping of the client."""
    client, data = peers.client, frame(b"ping", PING)

    def step() -> None:
        client.protocol.data_received(data)
        client.written.clear()

    return step


def connect_step(peers: Peers, handshakes: Sequence[bytes]) -> Step:
    """Return a step in which a client connects with one of `handshakes`, and disconnects by a Close frame."""
    backend, data, sent = peers.backend, close(), cycle(handshakes)

    def step() -> None:
        client = peers.gateway.accept()
        client.receive(next(sent))
        backend.written.clear()
        backend.receive(OK)
        client.receive(data)
        client.lose()
        backend.written.clear()
        backend.receive(NO_CONTENT)

    return step


def expect(written: bytes, start_of_it: bytes) -> None:
    """Raise `AssertionError` unless `written` starts as expected."""
    if not written.startswith(start_of_it):
        raise AssertionError(f"the gateway wrote {written[:200]!r}, expected {start_of_it!r}")


def check(peers: Peers, size: int) -> None:
    """Do each path once and compare what the gateway writes. Raises `AssertionError`."""
    payload = b"x" * size
    peers.api.receive(push(peers.path, size))
    client, api, _ = peers.take()
    expect(api, b"HTTP/1.1 200")
    expect(client[-size:], payload)
    peers.client.receive(text(size))
    _, _, backend = peers.take()
    expect(backend, b"PUT / HTTP/1.1\r\n")
    expect(backend[-size:], payload)
    peers.backend.receive(NO_CONTENT)
    peers.api.receive(request("GET", "/healthz"))
    expect(peers.take()[1], b"HTTP/1.1 200")


def steps(peers: Peers, size: int) -> dict[str, Step]:
    """Return what can be measured in this checkout, by name."""
    put = push(peers.path, size)
    unknown = push("/" + "i" * 30, size)
    found: dict[str, Step] = {
        "push: PUT in, frame and response out": request_step(peers, put),
        "push to an unknown client": request_step(peers, unknown),
        "ten pipelined pushes": pipelined_step(peers, peers.gateway.accept(), put),
        "message: frame in, PUT out, response in": message_step(peers, size),
        "ping in, pong out": ping_step(peers),
        "connect and disconnect": connect_step(peers, [peers.handshake]),
        "a browser connects and disconnects": connect_step(peers, browser_handshakes(BROWSERS)),
        "GET /healthz": request_step(peers, request("GET", "/healthz")),
    }
    if (peer := peers.gateway.accept_peer()) is not None:
        found["ten pushes from a peer"] = pipelined_step(peers, peer, forwarded_push(peers.path, size))
    scrape = request("GET", "/metrics")
    peers.api.receive(scrape)
    if peers.take()[1].startswith(b"HTTP/1.1 200"):
        # Not every checkout has metrics.
        found["GET /metrics"] = request_step(peers, scrape)
    parts = {name: usable(name, size) for name in PARTS}
    return {**found, **{name: step for name, step in parts.items() if step is not None}}


def cost(step: Callable[[], object], times: int) -> float:
    """Return the CPU time of one step in microseconds."""
    begin = time.process_time_ns()
    for _ in range(times):
        step()
    return (time.process_time_ns() - begin) / times / 1000


async def serve(loop: Loop, checkout: Path, size: int, traces: str) -> None:
    """Answer commands until stdin ends."""
    recorded = {"TRACES": "on"} if traces == "recorded" else {}
    gateway = await start(loop, **SETTINGS, **recorded)
    import wsaas  # noqa: PLC0415 - of the checkout, which is on the path only now

    if checkout not in Path(wsaas.__file__).parents:
        raise SystemExit(f"wsaas was imported from {wsaas.__file__}, not from {checkout}")
    handshake = HANDSHAKE if traces == "off" else SAMPLED_HANDSHAKE
    peers = Peers(gateway, *await gateway.connect(handshake), handshake)
    check(peers, size)
    found = steps(peers, size)
    gc.collect()
    gc.freeze()
    print(json.dumps(list(found)), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        name, times = json.loads(line)
        print(json.dumps(cost(found[name], times)), flush=True)
        check(peers, size)


def main(checkout: str, size: str, traces: str) -> None:
    """Run the worker."""
    folder = Path(checkout).resolve()
    sys.path.insert(0, str(folder))
    loop = Loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(serve(loop, folder, int(size), traces))


if __name__ == "__main__":
    main(*sys.argv[1:])
