"""Spans of sampled clients are exported to a collector of OpenTelemetry."""

import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.support.collector import Collector, attributes
from tests.support.gateway_process import gateway_process
from tests.support.stage import Stage
from tests.support.waiting import wait_until
from wsaas.errors import SettingError

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
SAMPLED = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1"}
UNSAMPLED = {"traceparent": f"00-{TRACE}-{PARENT}-00"}


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    made = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", made.url)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "edge")
    yield made
    made.close()


def parent_id(traceparent: str) -> str:
    return traceparent.split("-")[2]


async def test_the_spans_of_a_sampled_client_are_exported_with_the_ids_that_the_backend_gets(
    stage: Stage, collector: Collector
) -> None:
    node = await stage.node(traces="on", api_retry=10_000)
    statuses = itertools.chain([503], itertools.repeat(200))
    stage.backend.on["PUT"] = lambda call: call.answer(next(statuses))
    client, name = await node.admit("/room?token=s3cret", additional_headers=SAMPLED)
    await client.send("one")
    await client.send("two")
    await stage.backend.wait(lambda: stage.backend.count("PUT") == 3)
    await client.close()
    await stage.backend.take("DELETE")
    assert await node.drain()
    assert collector.services == {"edge"}
    (handshake,) = collector.named("GET")
    assert handshake.trace_id.hex() == TRACE
    assert handshake.parent_span_id.hex() == PARENT
    assert handshake.kind == Span.SPAN_KIND_SERVER
    assert handshake.trace_state == "vendor=1"
    assert attributes(handshake.attributes)["http.response.status_code"] == 101
    requests = collector.named("POST") + collector.named("PUT") + collector.named("DELETE")
    assert {span.parent_span_id for span in requests} == {handshake.span_id}
    sent = {call.headers["ce-id"]: call.headers["traceparent"] for call in stage.backend.of(name)}
    assert len(sent) == len(requests) == 4
    for span in requests:
        found = attributes(span.attributes)
        assert sent[found["cloudevents.event_id"]] == f"00-{TRACE}-{span.span_id.hex()}-01"
        assert span.status.code == Status.STATUS_CODE_UNSET
        assert found["url.full"] == f"http://{stage.backend.authority}/hook"
    (retried,) = (span for span in requests if span.events)
    assert [event.name for event in retried.events] == ["attempt failed", "retry"]
    assert attributes(retried.attributes)["http.request.resend_count"] == 1
    assert "s3cret" not in str(collector.spans)


@pytest.mark.parametrize("headers", [{}, UNSAMPLED, {"traceparent": "nonsense"}])
async def test_nothing_is_recorded_of_other_clients(
    stage: Stage, collector: Collector, headers: dict[str, str]
) -> None:
    node = await stage.node(traces="on")
    client, name = await node.admit(additional_headers=headers)
    await client.send("one")
    await client.close()
    await stage.backend.take("DELETE")
    assert await node.drain()
    assert collector.requests == []
    assert [call.headers.get("traceparent", "")[-2:] for call in stage.backend.of(name)] in ([""] * 3, ["00"] * 3)


async def test_the_post_of_an_unsampled_client_has_the_headers_of_its_handshake(
    stage: Stage, collector: Collector
) -> None:
    node = await stage.node(traces="on")
    await node.connect(additional_headers=UNSAMPLED)
    assert (await stage.backend.take("POST")).headers["traceparent"] == UNSAMPLED["traceparent"]
    assert collector.spans == []


async def test_spans_that_nobody_collects_stop_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "1")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
    monkeypatch.setattr("wsaas.tracing.recorder.CLOSE_TIMEOUT_S", 0.01)
    node = await stage.node(traces="on")
    client, _ = await node.admit(additional_headers=SAMPLED)
    for number in range(10):
        await client.send(str(number))
    await stage.backend.wait(lambda: stage.backend.count("PUT") == 10)
    await client.close()
    await stage.backend.take("DELETE")
    assert await node.drain()


async def test_a_variable_that_cannot_be_used_stops_the_start(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(SettingError, match="OTEL_EXPORTER_OTLP_PROTOCOL='grpc': expected http/protobuf"):
        await stage.node(traces="on")


def test_nothing_of_the_extra_is_imported_while_traces_are_off() -> None:
    code = "import sys, wsaas.gateway; assert not [each for each in sys.modules if 'opentelemetry' in each]"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
async def test_each_worker_exports_its_spans(stage: Stage, collector: Collector, tmp_path: Path) -> None:
    async with gateway_process(stage, tmp_path / "log", workers=2, traces="on", handshake_timeout=1000) as node:
        raws = [await node.upgraded("/", f"traceparent: {SAMPLED['traceparent']}") for _ in range(20)]
        for raw in raws:
            raw.close()
        await stage.backend.wait(lambda: stage.backend.count("DELETE") == len(raws))
        assert await node.stop() == 0
    await wait_until(lambda: len(collector.named("DELETE")) == len(raws))
    names = {attributes(span.attributes)["cloudevents.event_id"][:8] for span in collector.named("DELETE")}
    assert len(names) == 2
    assert len(collector.named("GET")) == len(raws)
