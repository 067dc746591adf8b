"""The connection of a client from its handshake on, over a fake transport, in front of a fake backend."""

import asyncio

import orjson

from tests.support.fakes import (
    ANSWER_TO_KEY,
    FakeClock,
    FakeSessionListener,
    FakeTimeouts,
    FakeTransport,
    FakeWebhook,
    Stopwatch,
    body_of,
    make_handshake,
    make_services,
    make_settings,
)
from wsaas.delivery.verdicts import DELIVERED, Accepted
from wsaas.events import Closed, Message
from wsaas.run_queue import SLICE_S, RunQueue
from wsaas.sessions.connection_info import ConnectionInfo
from wsaas.sessions.heartbeat_session import HeartbeatSession
from wsaas.sessions.opening_handshake import OpeningHandshake
from wsaas.sessions.session import Session
from wsaas.transport.context import ServerContext
from wsaas.transport.pending_client import PendingClientProtocol

SWITCHING_PROTOCOLS = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: " + ANSWER_TO_KEY + b"\r\n\r\n"
)


class WebSocketRig:
    """A client behind a fake transport, in front of a fake backend."""

    def __init__(self, early_data=b"", offered=(), **values):
        self.clock = FakeClock()
        self.webhook = FakeWebhook()
        self.listener = FakeSessionListener()
        self.timeouts = FakeTimeouts()
        self.transport = FakeTransport()
        settings = make_settings(**values)
        self.stopwatch = Stopwatch()
        run_queue = RunQueue(self.clock, self.stopwatch)
        self.context = ServerContext(settings, self.clock, self.timeouts, run_queue)
        handshake = make_handshake(offered)
        services = make_services(settings, self.clock, self.webhook, self.listener)
        info = ConnectionInfo("i" * 30, settings.ws_hostname.text, handshake, "", self.clock)
        self.session = (
            Session(services, info, handshake)
            if settings.heartbeat is None
            else HeartbeatSession(services, info, handshake, settings.heartbeat)
        )
        # It received the handshake.
        http_connection = asyncio.Protocol()
        self.timeouts.add(http_connection)
        self.transport.set_protocol(http_connection)
        self.pending_client = PendingClientProtocol(self.context, self.transport, self.session, handshake, early_data)
        self.pending_client.start()
        OpeningHandshake(services, self.session, handshake, self.pending_client).start()

    def enter(self):
        self.webhook.answer(Accepted(None, None))
        assert self.transport.take() == SWITCHING_PROTOCOLS
        return self

    def receive(self, data):
        self.transport.protocol.data_received(data)

    def pass_time(self, seconds, checks=1):
        for _ in range(checks):
            self.clock.advance(seconds / checks)
            self.timeouts.check(self.clock.now())

    def slices_of(self, frames):
        """Let the time slice of a connection suffice for `frames` frames."""
        self.stopwatch.step = SLICE_S / frames * 1.0001
        return self

    def turn(self):
        """Make the calls of this turn of the loop. None may be scheduled for later."""
        assert all(timer.at == self.clock.now() for timer in self.clock.timers)
        self.clock.turn()

    def answer_all(self):
        while self.webhook.calls or self.context.run_queue.waiting:
            self.clock.advance(0)
            if self.webhook.calls:
                self.webhook.answer(DELIVERED)

    @property
    def messages(self):
        return [event.data for event in self.webhook.events if isinstance(event, Message)]

    @property
    def end(self):
        """Code and reason of the only DELETE."""
        (event,) = [event for event in self.webhook.events if isinstance(event, Closed)]
        body = orjson.loads(body_of(event))
        return body["code"], body["reason"]
