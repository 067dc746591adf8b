"""Records spans, and exports them with the SDK of OpenTelemetry: in a thread of its own, and from a bounded queue.

The standard `OTEL_*` variables say where to, and how much.
"""

import os
from collections.abc import Sequence
from threading import Thread
from typing import Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import NoOpTracer, Span, SpanKind, Tracer
from opentelemetry.util.types import AttributeValue

from wsaas import __version__
from wsaas.errors import SettingError
from wsaas.log import logger

CLOSE_TIMEOUT_S: Final = 5.0
"""Maximum seconds that a stop waits for the export of the last spans."""

_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_HTTP: Final = "http/protobuf"
_NO_NAME: Final = "unknown_service"
"""What the SDK calls a service without a name; it may append the name of the program."""

Attributes = dict[str, AttributeValue]


class _GivenIds(RandomIdGenerator):
    """Gives the next span the id `span_id`."""

    def __init__(self) -> None:
        self.span_id = 0

    def generate_span_id(self) -> int:
        return self.span_id


class _ClosableExporter(SpanExporter):
    """Exports with `inner`, which can be shut down several times."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self._is_shut_down = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return self._inner.export(spans)

    def shutdown(self) -> None:
        if not self._is_shut_down:
            self._is_shut_down = True
            self._inner.shutdown()


class Recorder:
    """Records spans from `start` to `close`. Use it in one thread only."""

    def __init__(self, exporter: SpanExporter | None = None) -> None:
        """Start nothing yet. `exporter`: instead of the one that the `OTEL_*` variables describe."""
        self._given = exporter
        self._exporter: _ClosableExporter | None = None
        self._ids = _GivenIds()
        self._provider: TracerProvider | None = None
        self._tracer: Tracer = NoOpTracer()

    def start(self) -> None:
        """Start the thread that exports. Raises `SettingError` if there is an `OTEL_*` variable that cannot be used."""
        try:
            self._provider = self._make_provider()
        except (OSError, ValueError) as error:
            raise SettingError(f"TRACES='on': a variable for OpenTelemetry cannot be used: {error}") from error
        self._tracer = self._provider.get_tracer("wsaas", __version__)

    def close(self) -> None:
        """Export what was recorded, and stop. Blocks for at most `CLOSE_TIMEOUT_S`."""
        provider, self._provider, self._tracer = self._provider, None, NoOpTracer()
        if provider is None:
            return
        thread = Thread(target=provider.shutdown, name="traces", daemon=True)
        thread.start()
        thread.join(CLOSE_TIMEOUT_S)
        if thread.is_alive() and self._exporter is not None:
            logger.warning("the last spans were not exported within %g s", CLOSE_TIMEOUT_S)
            # It retries for longer, unless it is stopped.
            self._exporter.shutdown()

    def span(self, name: str, kind: SpanKind, parent: Context, identity: tuple[int, float], more: Attributes) -> Span:
        """Start a span. `identity`: its id, and when it began, in seconds since the epoch. `more`: its attributes."""
        self._ids.span_id, began_at = identity
        return self._tracer.start_span(name, parent, kind, more, start_time=round(began_at * 1e9))

    def _make_provider(self) -> TracerProvider:
        self._exporter = _ClosableExporter(self._given or _make_exporter())
        # At the end of the process, the gateway has called `close`.
        provider = TracerProvider(id_generator=self._ids, resource=_resource(), shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(self._exporter))
        return provider


def _make_exporter() -> SpanExporter:
    """Return the exporter that the `OTEL_*` variables describe."""
    protocol = next((value for name in _PROTOCOLS if (value := os.environ.get(name))), _HTTP)
    if protocol != _HTTP:
        raise ValueError(f"{_PROTOCOLS[-1]}={protocol!r}: expected {_HTTP}")
    return OTLPSpanExporter()


def _resource() -> Resource:
    """Return the description of this process: that of the `OTEL_*` variables, and `wsaas` as the default name."""
    found = Resource.create()
    if str(found.attributes[SERVICE_NAME]).startswith(_NO_NAME):
        found = found.merge(Resource({SERVICE_NAME: "wsaas"}))
    return found
