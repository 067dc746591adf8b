"""A connection to a listener, over a fake transport, in front of a fake backend."""

import json

from tests.support.fakes import (
    KEY,
    FakeClock,
    FakePendingClient,
    FakeTimeouts,
    FakeTransport,
    FakeWebhook,
    make_gate,
    make_settings,
    start_session,
)
from wsaas.access_keys import AccessKeys
from wsaas.api.api import Api
from wsaas.delivery.journal import NoJournal
from wsaas.run_queue import RunQueue
from wsaas.sessions.fan_out import FanOutQueue
from wsaas.sessions.registry import Registry
from wsaas.transport.admission import Gate, SharedGate
from wsaas.transport.context import ServerContext
from wsaas.transport.http_server import HttpProtocol
from wsaas.transport.site import Site

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
NOTHING = b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n"
HANDSHAKE = (
    b"GET /room?a=b HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY + b"\r\n\r\n"
)


def responses(data):
    """Take responses apart: status, code, and whether the connection will be closed."""
    found = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:])
        size = int(headers["Content-Length"])
        body, data = json.loads(data[:size]), data[size:]
        found.append((int(lines[0].split()[1]), body["code"], headers.get("Connection") == "close"))
    return found


class HttpRig:
    """A connection to a listener that has a `control`, a `registry`, or both."""

    def __init__(self, *, control=True, registry=True, peername=("192.0.2.7", 1), room=10, limit=10, **values):
        settings = make_settings(**values)
        self.clock = FakeClock()
        self.timeouts = FakeTimeouts()
        self.webhook = FakeWebhook()
        if settings.control_azure_keys:
            self.webhook.access_keys = AccessKeys(settings.control_azure_keys)
        self.registry = Registry(settings, self.clock, self.webhook, NoJournal(), limit)
        self.seconds = 0.0
        """By how much each reading of the time advances it."""
        self.elapsed = 0.0
        run_queue = RunQueue(self.clock, self.stopwatch)
        self.context = ServerContext(settings, self.clock, self.timeouts, run_queue)
        self.fan_out = FanOutQueue(run_queue, settings.max_publishes)
        self.site = Site(
            self.context,
            Api(settings, self.registry, self.fan_out) if control else None,
            self.registry if registry else None,
            make_gate(self.registry, self.timeouts, clients=room, kind=Gate if not control else SharedGate),
        )
        self.protocol = HttpProtocol(self.site)
        self.transport = FakeTransport(self.protocol, peername)
        self.protocol.connection_made(self.transport)

    def stopwatch(self):
        self.elapsed += self.seconds
        return self.elapsed

    def visit(self):
        """Make one more connection; return its transport."""
        transport = FakeTransport(HttpProtocol(self.site))
        transport.protocol.connection_made(transport)
        return transport

    def receive(self, data):
        self.transport.protocol.data_received(data)

    def push(self, *lines, start=b"PUT", size=5, body=b""):
        """Return a push to a connected client, with a body of `size` bytes."""
        if not len(self.registry):
            start_session(self.registry, FakePendingClient())
        (session,) = self.registry.live()
        head = b"%b /%b HTTP/1.1\r\nHost: localhost\r\n" % (start, session.id.encode())
        length = b"Transfer-Encoding: chunked" if size is None else b"Content-Length: %d" % size
        return head + b"\r\n".join([length, *lines, b"", body])

    def pass_time(self, seconds, beats=1):
        for _ in range(beats):
            self.clock.advance(seconds / beats)
            self.timeouts.check(self.clock.now())

    def responses(self):
        return responses(self.transport.take())

    @property
    def is_half_closed(self):
        """Whether it has closed its sending side only."""
        return self.transport.ended and not self.transport.closed
