"""`GET /metrics`, with fake workers."""

import os

import pytest

from tests.support.api_rig import Rig
from tests.support.exposition import OPENMETRICS, Exposition
from tests.support.fakes import make_metrics
from tests.support.peers import FakeProcess, FakeRouter
from wsaas.api.api import Api
from wsaas.http.deferred import DeferredResponse
from wsaas.metrics.own import OwnMetrics
from wsaas.metrics.row import ROW_LENGTH
from wsaas.metrics.shared_rows import SharedRows, create


class MetricsRig(Rig):
    """An API with metrics. `rows`: of the workers."""

    def __init__(self, *processes, rows=None, **values):
        super().__init__(**values)
        router = FakeRouter(self.registry, {each.name: each for each in processes})
        self.counters = self.registry.services.counters
        metrics = OwnMetrics(self.counters, make_metrics(self.counters, clients=1).statistics, rows)
        self.api = Api(self.registry.services.settings, self.registry, self.fan_out, router, metrics=metrics)

    def ask(self, method, target, *headers, **more):
        raw = self.raw(method, target, *headers, **more)
        head, _, body = raw.partition(b"\r\n\r\n")
        (content_type,) = [line[14:] for line in head.decode().split("\r\n") if line.startswith("Content-Type: ")]
        return content_type, body

    def scrape(self, *headers):
        content_type, body = self.ask("GET", "/metrics", *headers)
        return Exposition(body, content_type)

    def defer_scrape(self):
        """Scrape a node whose other workers have to answer first; return a list for the result."""
        request = self.request("GET", "/metrics")
        found: list[Exposition] = []
        response = self.api.respond(request)
        assert isinstance(response, DeferredResponse)
        response.on_response(lambda answer: found.append(Exposition(answer.body)))
        return found


@pytest.fixture
def shared():
    descriptor = create(3)
    rows = [SharedRows(descriptor, index, 3) for index in range(3)]
    yield rows
    for each in rows:
        each.close()
    os.close(descriptor)


def test_a_scrape_shows_what_the_process_has_counted():
    rig = MetricsRig()
    rig.counters.messages_in = 3
    found = rig.scrape()
    assert found.labelled("messages_total", "direction") == {"in": 3}
    assert found.labelled("workers", "state") == {"answered": 1}


def test_the_format_is_that_of_the_accept_header():
    content_type, _ = MetricsRig().ask("GET", "/metrics")
    assert content_type.startswith("text/plain; ")
    content_type, body = MetricsRig().ask("GET", "/metrics", f"Accept: {OPENMETRICS}")
    assert content_type.startswith("application/openmetrics-text; ")
    assert Exposition(body, content_type).has("messages_total")


def test_a_scrape_needs_the_token_if_there_is_one():
    rig = MetricsRig(control_token="secret-secret-secret")
    assert rig.raw("GET", "/metrics").startswith(b"HTTP/1.1 401 ")
    assert rig.raw("GET", "/metrics", "Authorization: Bearer secret-secret-secret").startswith(b"HTTP/1.1 200 ")


def test_a_web_page_cannot_scrape():
    assert MetricsRig().raw("GET", "/metrics", "Origin: https://evil.test").startswith(b"HTTP/1.1 403 ")


def test_the_figures_of_all_workers_are_added():
    peer = FakeProcess("worker 2")
    rig = MetricsRig(peer)
    rig.counters.messages_in = 3
    row = make_metrics(rig.counters, clients=10).read()
    found = rig.defer_scrape()
    assert peer.requests[0][0].startswith(b"GET /metrics?worker=1 HTTP/1.1\r\n")
    assert found == []
    peer.answer(code="OK", worker=1, row=row)
    assert found[0].labelled("messages_total", "direction") == {"in": 6}
    assert found[0].value("connections", state="connecting") == 9


def test_a_worker_answers_another_one_with_its_row():
    rig = MetricsRig()
    rig.counters.messages_in = 3
    content_type, body = rig.ask("GET", "/metrics?worker=1")
    assert content_type == "application/json"
    assert body.startswith(b'{"code":"OK","worker":0,"row":[')


def test_a_worker_that_does_not_answer_is_shown_and_its_totals_stay(shared):
    silent, full = FakeProcess("worker 2"), FakeProcess("worker 3", is_full=True)
    rig = MetricsRig(silent, full, rows=shared[0])
    rig.counters.messages_in = 3
    shared[1].write([1000.0] * ROW_LENGTH)
    shared[2].write([100.0] * ROW_LENGTH)
    found = rig.defer_scrape()
    silent.answer(504)
    assert found[0].labelled("workers", "state") == {"answered": 1, "missing": 2}
    assert found[0].value("messages_total", direction="in") == 1103
    # Its gauges are not known.
    assert found[0].value("pool_waiting") == 0


def test_what_a_worker_says_replaces_what_it_has_stored(shared):
    peer = FakeProcess("worker 2")
    rig = MetricsRig(peer, rows=shared[0])
    shared[1].write([1000.0] * ROW_LENGTH)
    found = rig.defer_scrape()
    peer.answer(code="OK", worker=1, row=[1001.0] * ROW_LENGTH)
    assert found[0].value("messages_total", direction="in") == 1001
    assert found[0].labelled("workers", "state") == {"answered": 2, "missing": 1}


def test_a_row_of_another_version_is_ignored(shared):
    peer = FakeProcess("worker 2")
    rig = MetricsRig(peer, rows=shared[0])
    found = rig.defer_scrape()
    peer.answer(code="OK", worker=1, row=[1.0])
    assert found[0].labelled("workers", "state") == {"answered": 1, "missing": 2}
