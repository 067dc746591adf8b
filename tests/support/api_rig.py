"""The REST API in front of fake clients."""

from typing import Any

import orjson

from tests.support.fakes import (
    FakeClock,
    FakePendingClient,
    FakeWebhook,
    Stopwatch,
    make_settings,
    read_all,
    start_session,
)
from tests.support.openapi import check_answer
from wsaas.access_keys import AccessKeys
from wsaas.api.api import Api
from wsaas.delivery.journal import NoJournal
from wsaas.delivery.verdicts import Accepted
from wsaas.http.deferred import DeferredResponse
from wsaas.http.request import Request, RequestParser
from wsaas.http.serialize import OutgoingResponse, serialize
from wsaas.run_queue import RunQueue
from wsaas.sessions.fan_out import FAN_OUT_SLICE_S, FanOutQueue
from wsaas.sessions.registry import Registry

NO_CONTENT = 204


class Answer:
    """One complete response, parsed."""

    def __init__(self, data, *, head=False):
        top, _, self.body = data.partition(b"\r\n\r\n")
        start, *lines = top.decode().split("\r\n")
        version, status, self.phrase = start.split(" ", 2)
        assert version == "HTTP/1.1"
        self.status = int(status)
        self.headers = dict(line.split(": ", 1) for line in lines)
        assert len(self.headers) == len(lines)
        # A 204 has neither a body nor its length (RFC 9110 section 8.6).
        assert ("Content-Length" in self.headers) == (self.status != NO_CONTENT)
        self.length = int(self.headers.get("Content-Length", "0"))
        assert len(self.body) == (0 if head else self.length)
        self.json: Any = orjson.loads(self.body) if self.body else None

    @property
    def said(self):
        return self.status, self.json["code"]


class Rig:
    """An API with one client."""

    def __init__(self, *, enters=True, limit=10, **values):
        settings = make_settings(**values)
        self.clock = FakeClock()
        self.webhook = FakeWebhook()
        if settings.control_azure_keys:
            self.webhook.access_keys = AccessKeys(settings.control_azure_keys)
        self.registry = Registry(settings, self.clock, self.webhook, NoJournal(), limit)
        self.stopwatch = Stopwatch()
        self.run_queue = RunQueue(self.clock, self.stopwatch)
        self.fan_out = FanOutQueue(self.run_queue, settings.max_publishes)
        self.api = Api(settings, self.registry, self.fan_out)
        self.sessions = []
        self.session = self.admit(enters=enters)
        self.connection = self.pending_client.connection
        self.path = "/" + self.session.id

    def admit(self, *, enters=True):
        self.pending_client = FakePendingClient()
        session = start_session(self.registry, self.pending_client)
        self.sessions.append(session)
        if enters:
            self.webhook.calls.pop()[1](Accepted(None, None))
        return session

    def crowd(self, count):
        """Admit clients until there are `count`."""
        while len(self.registry) < count:
            self.admit()

    def request(self, method, target, *headers, body=b"", host="localhost"):
        """Return a complete request."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}", *headers, "", ""]
        (request,) = read_all(RequestParser(1024 * 1024), "\r\n".join(lines).encode() + body)
        assert isinstance(request, Request)
        return request

    def raw(self, method, target, *headers, body=b"", host="localhost"):
        request = self.request(method, target, *headers, body=body, host=host)
        response = self.api.respond(request)
        assert isinstance(response, OutgoingResponse)
        return serialize(response, self.clock.wall(), request)

    def ask(self, method, target, *headers, body=b"", host="localhost"):
        return self._ask(method, target, *headers, body=body, host=host, head=method == "HEAD")

    def ask_for_head(self, method, target, *headers):
        """Make a request whose answer has no body, but the headers of one with a body."""
        return self._ask(method, target, *headers, body=b"", host="localhost", head=True)

    def _ask(self, method, target, *headers, body, host, head):
        answer = Answer(self.raw(method, target, *headers, body=body, host=host), head=head)
        check_answer(method, target, answer.status, answer.headers, answer.body)
        return answer

    def defer(self, method, target, *headers, body=b""):
        """Make a request that takes more than one slice; return its deferred response, and a list for the answer."""
        request = self.request(method, target, *headers, body=body)
        deferred = self.api.respond(request)
        assert isinstance(deferred, DeferredResponse)
        answers: list[Answer] = []
        deferred.on_response(lambda response: answers.append(Answer(serialize(response, self.clock.wall(), request))))
        return deferred, answers

    def serve_per_slice(self, clients):
        """Let one slice suffice for as many clients."""
        self.stopwatch.step = FAN_OUT_SLICE_S / clients

    def put(self, body, content_type=None):
        headers = [] if content_type is None else [f"Content-Type: {content_type}"]
        return self.ask("PUT", self.path, *headers, body=body)
