"""Webhooks that record a span of each event, from when it happened until it is delivered or given up.

Each retry is an event of the span. The id of a span follows from the `ce-id`, and its request carries it as the parent
id: so it is the same for each attempt, and whichever process makes it.

The names and attributes are those of the semantic conventions for HTTP and for CloudEvents. Queries are left out: they
may contain secrets.
"""

from collections.abc import Mapping
from typing import Final

from opentelemetry.context import Context
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from wsaas.backend_setting_type import Backend
from wsaas.delivery.failure_report import methods_of
from wsaas.delivery.pool import Failure, Outcome
from wsaas.delivery.trace import HANDSHAKE, RecordedTrace
from wsaas.delivery.verdicts import Accepted, Delivered, Rejected, Retry, Undeliverable, Verdict
from wsaas.delivery.webhook import FAILURE_RESULTS, Delivery, Subject, Webhook
from wsaas.delivery.webhook_wrapper import WebhookWrapper
from wsaas.errors import HTTPError, RefusedWithClose
from wsaas.events import Event, Message, Opened
from wsaas.http.trace_context import SAMPLED, TraceContext
from wsaas.settings import Settings
from wsaas.tracing.recorder import Attributes, Recorder

_BAD_GATEWAY: Final = 502
_SWITCHING_PROTOCOLS: Final = 101
_SERVER_ERROR: Final = 500


class Descriptions:
    """The names and attributes of spans that are the same for all connections. Each attribute takes 0.6 µs."""

    def __init__(self, settings: Settings) -> None:
        """Describe the backend, without its query."""
        backend = settings.api_uri
        self._path = backend.target.partition("?")[0]
        self._root = f"{backend.scheme}://{backend.authority}"
        methods = methods_of(settings.event_format)
        self.names = {kind: f"{method} {self._path}" for kind, method in methods.items()}
        self.common: dict[type[Event], Attributes] = {
            kind: {
                "http.request.method": method,
                "cloudevents.event_source": settings.ws_hostname.text,
                **_address(backend),
            }
            for kind, method in methods.items()
        }
        self.handshake: Attributes = {
            "http.request.method": "GET",
            "url.scheme": "http" if settings.tls_cert is None else "https",
        }

    def url(self, connection_id: str) -> str:
        """Return the URL of the requests about a connection."""
        return self._root + self._path.replace("{id}", connection_id)


class TracingWebhook(WebhookWrapper):
    """Has the spans of connections recorded whose trace is sampled. All others use the webhook that it wraps."""

    def __init__(self, inner: Webhook, recorder: Recorder, settings: Settings) -> None:
        """Record with `recorder`."""
        super().__init__(inner)
        self._descriptions = Descriptions(settings)
        self._recorder = recorder

    def for_connection(self, subject: Subject) -> Webhook:
        """Return the webhook for the events of a connection: one that records them if its trace is sampled."""
        context, inner = subject.trace_context, self.inner.for_connection(subject)
        if context is None or not context.is_sampled:
            return inner
        trace = subject.trace = RecordedTrace(context, subject.id)
        descriptions = self._descriptions
        return RecordedWebhook(inner, self._recorder, descriptions, trace, descriptions.url(subject.id))


class RecordedWebhook(WebhookWrapper):
    """Sends the events of one connection, one at a time, and records a span of each.

    The POST has two: that of the client's handshake, which is the parent of all others, and that of the request.
    """

    def __init__(
        self, inner: Webhook, recorder: Recorder, descriptions: Descriptions, trace: RecordedTrace, url: str
    ) -> None:
        """Record nothing yet. `url`: of all requests."""
        super().__init__(inner)
        self._attempts = 0
        self._descriptions = descriptions
        self._event: Event | None = None
        self._handshake: Span | None = None
        self._recorder = recorder
        self._span: Span | None = None
        self._trace = trace
        self._url = url
        context = trace.context
        self._parent = _parent(context, trace.span_id(HANDSHAKE), is_remote=False)

    def call(self, delivery: Delivery, event: Event, is_direct: bool = False) -> None:  # noqa: ARG002 - see the base
        """Send `event`. The shortcut for the usual answers would not call `judge`."""
        super().call(delivery, event)

    def request(self, subject: Subject, event: Event) -> bytes:
        """Return the request; start a span, or note the retry in the one of `event`."""
        request = super().request(subject, event)
        if event is self._event and self._span is not None:
            self._attempts += 1
            self._span.add_event("retry", {"http.request.resend_count": self._attempts})
        else:
            self._begin(subject, event)
        return request

    def judge(self, event: Event, outcome: Outcome) -> Verdict:
        """Return the verdict, and note it in the span. It ends, unless the event is sent again."""
        verdict = super().judge(event, outcome)
        span = self._span
        if span is not None:
            result = _result(outcome, verdict)
            if isinstance(verdict, Retry):
                span.add_event("attempt failed", result)
            else:
                span.set_attributes(result)
                self._end(_error(outcome, verdict))
                if isinstance(event, Opened) and self._handshake is not None:
                    _end_handshake(self._handshake, event, verdict)
                    self._handshake = None
        return verdict

    def given_up(self, subject: Subject, event: Event, why: str) -> None:
        """End the span of `event`."""
        super().given_up(subject, event, why)
        if self._span is None:
            self._begin(subject, event)
        self._end(why)

    def abandoned(self) -> None:
        """End the span of the event that is under way, which may be sent again by another process."""
        super().abandoned()
        self._end("abandoned")
        if (handshake := self._handshake) is not None:
            self._handshake = None
            handshake.end()

    def _begin(self, subject: Subject, event: Event) -> None:
        descriptions, kind, trace = self._descriptions, type(event), self._trace
        if isinstance(event, Opened):
            remote = _parent(trace.context, int(trace.context.parent_id, 16), is_remote=True)
            identity = trace.span_id(HANDSHAKE), event.at
            more = descriptions.handshake | _handshake_attributes(event)
            self._handshake = self._recorder.span("GET", SpanKind.SERVER, remote, identity, more)
        attributes = {
            **descriptions.common[kind],
            "url.full": self._url,
            "cloudevents.event_id": f"{subject.id}:{event.number}",
        }
        if isinstance(event, Message):
            attributes["http.request.body.size"] = len(event.data)
        identity = trace.span_id(event.number), event.at
        name = descriptions.names[kind]
        self._attempts, self._event = 0, event
        self._span = self._recorder.span(name, SpanKind.CLIENT, self._parent, identity, attributes)

    def _end(self, error: str | None) -> None:
        span, self._span, self._event = self._span, None, None
        if span is None:
            return
        if self._attempts:
            span.set_attribute("http.request.resend_count", self._attempts)
        if error is not None:
            span.set_status(StatusCode.ERROR, error)
        span.end()


def _end_handshake(span: Span, opened: Opened, verdict: Verdict) -> None:
    """End the span of a handshake, with the status that the client gets."""
    answer = verdict.error if isinstance(verdict, Rejected) else verdict
    status = answer.status if isinstance(answer, HTTPError) else _SWITCHING_PROTOCOLS
    chosen = answer.subprotocol if isinstance(answer, Accepted | RefusedWithClose) else None
    if chosen not in {None, *opened.subprotocols}:
        status = _BAD_GATEWAY
    span.set_attribute("http.response.status_code", status)
    if status >= _SERVER_ERROR:
        span.set_attribute("error.type", str(status))
        span.set_status(StatusCode.ERROR)
    span.end()


def _address(backend: Backend) -> Attributes:
    """Return where the backend is. A Unix socket has no port."""
    if backend.socket:
        return {"network.transport": "unix", "server.address": backend.socket}
    return {"server.address": backend.host, "server.port": backend.port}


def _parent(context: TraceContext, span_id: int, *, is_remote: bool) -> Context:
    """Return `context` for the SDK, with the span `span_id`."""
    state = TraceState.from_header([context.tracestate]) if context.tracestate else None
    flags = TraceFlags(SAMPLED)
    span = NonRecordingSpan(SpanContext(int(context.trace_id, 16), span_id, is_remote, flags, state))
    return set_span_in_context(span, Context())


def _handshake_attributes(opened: Opened) -> Attributes:
    attributes: Attributes = {"url.path": opened.path}
    if opened.remote_address:
        attributes["client.address"] = opened.remote_address
    if (agent := opened.headers.get("user-agent")) is not None:
        attributes["user_agent.original"] = agent
    return attributes


def _result(outcome: Outcome, verdict: Verdict) -> Attributes:
    """Return the attributes for the outcome of an attempt."""
    if isinstance(outcome, Failure):
        return {"error.type": FAILURE_RESULTS[outcome]}
    status: Mapping[str, int] = {"http.response.status_code": outcome.status}
    is_error = outcome.status >= 400 and not isinstance(verdict, Delivered)  # noqa: PLR2004 - the classes of errors
    return {**status, "error.type": str(outcome.status)} if is_error else {**status}


def _error(outcome: Outcome, verdict: Verdict) -> str | None:
    """Return what is wrong with the outcome of an event, None if nothing is. The status needs no further words."""
    if isinstance(verdict, Undeliverable):
        return verdict.why
    if isinstance(outcome, Failure):
        return f"the backend {outcome.value}"
    if isinstance(verdict, Rejected) and (verdict.unusable or outcome.status >= 400):  # noqa: PLR2004 - as above
        return f"the backend answered with {verdict.unusable}" if verdict.unusable else ""
    return None
