"""The console in front of fake clients and a fake backend, with streams that a test reads."""

import orjson

from tests.support.api_rig import Rig
from tests.support.fakes import FakePool, make_metrics
from tests.support.peers import FakeRouter
from wsaas.api.api import Api
from wsaas.api.console.console import Console
from wsaas.delivery.webhook import Webhook
from wsaas.http.streamed import StreamedResponse
from wsaas.metrics.own import OwnMetrics


class FakeSink:
    """A viewer. `is_full`: whether it reads nothing; `events`: what it has read."""

    def __init__(self):
        self.events = []
        self.comments = 0
        self.is_full = False
        self.has_ended = False

    def write(self, data):
        for piece in data.split(b"\n\n")[:-1]:
            if piece.startswith(b":"):
                self.comments += 1
            else:
                self.events.append(orjson.loads(piece.partition(b"data: ")[2]))

    def end(self):
        self.has_ended = True

    @property
    def kinds(self):
        return [event["kind"] for event in self.events]


class ConsoleRig(Rig):
    """An API with a console. `router`: finds `processes`."""

    def __init__(self, *processes, rows=None, gauges=None, **values):
        super().__init__(**values)
        # A peer answers for ids that begin with eight times its name.
        self.router = FakeRouter(self.registry, {each.name * 8: each for each in processes})
        counters = self.registry.services.counters
        metrics = OwnMetrics(counters, make_metrics(counters, **(gauges or {})).statistics, rows)
        self.pool = FakePool()
        # What a watched connection sends goes to the pool.
        real = Webhook(self.registry.services.settings, self.pool, self.webhook.breaker, self.clock.wall, counters)
        vars(self.webhook).update(vars(real))
        self.console = Console(self.registry, self.pool, metrics, self.run_queue)
        self.watcher = self.console.watcher
        settings = self.registry.services.settings
        self.api = Api(settings, self.registry, self.fan_out, self.router, metrics=metrics, console=self.console)

    def open(self, path, *headers):
        """Open a stream; return it and its viewer."""
        stream = self.api.respond(self.request("GET", f"/console/api/{path}", *headers))
        assert isinstance(stream, StreamedResponse)
        sink = FakeSink()
        stream.start(sink)
        return stream, sink

    def watch(self, *headers):
        """Follow the client; return the stream and its viewer."""
        return self.open(f"connections/{self.session.id}/events", *headers)

    def get(self, path):
        answer = self.ask("GET", f"/console/api/{path}")
        assert answer.status == 200, answer.json
        return answer.json
