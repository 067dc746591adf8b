import threading

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from wsaas.errors import SettingError
from wsaas.tracing import recorder
from wsaas.tracing.recorder import Recorder


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", *recorder._PROTOCOLS):
        monkeypatch.delenv(name, raising=False)


def record(of, number=7):
    of.span("PUT /", SpanKind.CLIENT, Context(), (number, 1.5), {"a": 1}).end()


def exported():
    """Return a span that was exported by a recorder of its own."""
    exporter = InMemorySpanExporter()
    one = Recorder(exporter)
    one.start()
    record(one)
    one.close()
    (span,) = exporter.get_finished_spans()
    return span


def test_a_span_has_the_id_and_the_time_that_are_given():
    span = exported()
    assert (span.name, span.context.span_id, span.start_time) == ("PUT /", 7, 1_500_000_000)
    assert span.instrumentation_scope.name == "wsaas"


def test_nothing_is_recorded_before_the_start_and_after_the_close():
    exporter = InMemorySpanExporter()
    one = Recorder(exporter)
    record(one)
    one.close()
    one.start()
    one.close()
    record(one)
    one.close()
    assert exporter.get_finished_spans() == ()


@pytest.mark.parametrize(("share", "number"), [("0", 0), ("1", 1)])
def test_the_sampler_of_the_variables_decides_how_much_is_recorded(monkeypatch, share, number):
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", share)
    exporter = InMemorySpanExporter()
    one = Recorder(exporter)
    one.start()
    record(one)
    one.close()
    assert len(exporter.get_finished_spans()) == number


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({}, "wsaas"),
        ({"OTEL_SERVICE_NAME": "edge"}, "edge"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=edge,zone=a"}, "edge"),
    ],
)
def test_the_name_of_the_service_is_that_of_the_variables(monkeypatch, variables, name):
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    assert exported().resource.attributes["service.name"] == name


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "OTEL_EXPORTER_OTLP_PROTOCOL='grpc': expected http/protobuf"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json", "'http/json': expected http/protobuf"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0", "max_queue_size must be a positive integer"),
    ],
)
def test_a_variable_that_cannot_be_used_stops_the_start(monkeypatch, variable, value, why):
    monkeypatch.setenv(variable, value)
    one = Recorder()
    with pytest.raises(SettingError, match=why) as raised:
        one.start()
    assert str(raised.value).startswith("TRACES='on': a variable for OpenTelemetry cannot be used: ")
    one.close()


def test_the_protocol_may_be_named(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    one = Recorder()
    one.start()
    one.close()


class StuckExporter(SpanExporter):
    """Exports nothing until it is shut down."""

    def __init__(self):
        self.released = threading.Event()
        self.shutdowns = 0

    def export(self, _spans):
        self.released.wait()
        return SpanExportResult.FAILURE

    def shutdown(self):
        self.shutdowns += 1
        self.released.set()


def test_a_close_does_not_wait_for_an_exporter_that_is_stuck(monkeypatch, caplog):
    monkeypatch.setattr(recorder, "CLOSE_TIMEOUT_S", 0.01)
    exporter = StuckExporter()
    one = Recorder(exporter)
    one.start()
    record(one)
    one.close()
    assert caplog.messages == ["the last spans were not exported within 0.01 s"]
    for thread in threading.enumerate():
        if thread.name == "traces":
            thread.join()
    assert exporter.shutdowns == 1
