"""Turns events into requests to the backend, and responses into verdicts.

No side effects except `Webhook.call` and the logging of failed responses.
"""

from collections.abc import Callable
from datetime import timezone
from email.utils import parsedate_to_datetime
from typing import Final, Protocol

from wsaas import __version__
from wsaas.access_keys import AccessKeys
from wsaas.clock import rfc3339
from wsaas.counters import FIRST_BOUND, Counters
from wsaas.delivery.circuit_breaker import CircuitBreaker, QueuedDelivery
from wsaas.delivery.connect_answer import judge_opened
from wsaas.delivery.event_bodies import connect_body, disconnect_body
from wsaas.delivery.failure_report import FAILED, NOT_RETRIED, Quoting, advice, hints_of, is_deliberate, methods_of
from wsaas.delivery.message_answer import InvalidAnswer, read_actions
from wsaas.delivery.outbox_state import DELIVERING, State
from wsaas.delivery.pool import UNSENT, Exchange, Failure, Outcome, Pool
from wsaas.delivery.signature import Signer
from wsaas.delivery.trace import Trace
from wsaas.delivery.verdicts import DELIVERED, Accepted, Delivered, Rejected, Retry, Undeliverable, Verdict
from wsaas.events import Closed, Event, Message, Opened
from wsaas.http.response import Response
from wsaas.http.trace_context import TraceContext
from wsaas.log.throttle import throttle
from wsaas.reason import Reason
from wsaas.settings import Settings

_SERVER_ERROR: Final = 500
_PLAIN: Final = {200, 204}
"""The usual answers to a message."""
_RETRIED: Final = {408, 425, 429}
_ACKNOWLEDGED: Final = {404, 410}
"""Statuses that acknowledge a DELETE, as a 2xx does: the backend has no such connection."""
_ENDS: Final = {410: Reason.BACKEND_GONE, 413: Reason.TOO_LARGE}
"""Why a client is closed, by the status that refused its message. A 413 of a proxy means the same."""
FAILURE_RESULTS: Final = {
    Failure.UNREACHABLE: "unreachable",
    Failure.POOL_TIMEOUT: "no_connection",
    Failure.BROKEN: "broken",
    Failure.TIMED_OUT: "timeout",
    Failure.INVALID_RESPONSE: "invalid",
}
"""The results that are counted, by failure."""
_TYPES: Final = {Opened: "wsaas.connect", Message: "wsaas.message", Closed: "wsaas.disconnect"}
JSON: Final = "Content-Type: application/json\r\nContent-Length: "
BINARY: Final = "Content-Type: application/octet-stream\r\nContent-Length: "


class Subject:
    """The connection that requests are about: the values of the headers that all of its requests share.

    `authorization`: the bytes of the header in the handshake. `node`: the `WS_HOSTNAME` of the connection's process.
    `trace`: that of the handshake. `authorization`, `context` and `trace` are None if there is none.
    """

    __slots__ = ("authorization", "context", "id", "node", "trace")

    def __init__(
        self,
        connection_id: str,
        node: str,
        authorization: bytes | None,
        context: str | None = None,
        trace: TraceContext | None = None,
    ) -> None:
        """Keep the values. Only `context` may change."""
        self.authorization = authorization
        self.context = context
        self.id = connection_id
        self.node = node
        self.trace = None if trace is None else Trace(trace, connection_id)

    @property
    def ws_uri(self) -> str:
        """The URI at which the backend reaches the client. Not kept, as that would take 96 bytes for each client."""
        return f"{self.node}/{self.id}"

    @property
    def trace_context(self) -> TraceContext | None:
        """The trace context of the handshake, None if there is none."""
        return None if self.trace is None else self.trace.context

    @property
    def trace_id(self) -> str | None:
        """The id of the trace, None if there is none."""
        return None if self.trace is None else self.trace.context.trace_id


class Delivery(QueuedDelivery, Protocol):
    """The event of a connection that is being delivered."""

    state: State

    @property
    def subject(self) -> Subject:
        """The connection."""

    @property
    def retry_due(self) -> float | None:
        """When the event is sent again (monotonic seconds), None if that is not known."""

    def judged(self, verdict: Verdict) -> None:
        """Act on the answer to the event."""

    def delivered(self) -> None:
        """Do what `judged` does with `DELIVERED`, for a message."""


class EventExchange(Exchange):
    """The request of one event. Passes its outcome to the circuit breaker and, as a verdict, to the delivery."""

    __slots__ = ("_delivery", "_event", "_is_direct", "_webhook")

    def __init__(self, webhook: "Webhook", delivery: Delivery, event: Event, is_direct: bool) -> None:
        """Send `event` of `delivery`. `is_direct`: see `Webhook.call`."""
        # Sets the attributes of the base class without calling it, as this is done for each message.
        self.request = webhook.request(delivery.subject, event)
        self.wait_timeout, self.retried = webhook.waits[type(event)]
        self.deadline = self.took = 0.0
        self.fresh = False
        self._delivery = delivery
        self._event = event
        self._is_direct = is_direct
        self._webhook = webhook

    def explain(self, detail: str, advice: str) -> None:
        """Pass on what is known about a failure."""
        self._webhook.explain(detail, advice)

    @property
    def refuses_client(self) -> bool:
        """Whether this is about a client that waits for its handshake."""
        return isinstance(self._event, Opened)

    def answered(self, outcome: Outcome) -> None:
        """Report the outcome."""
        delivery, webhook = self._delivery, self._webhook
        webhook.breaker.observe(delivery, outcome)
        # The outbox may have been abandoned meanwhile.
        if delivery.state is DELIVERING:
            if (
                self._is_direct
                and not self.deadline
                and isinstance(outcome, Response)
                and outcome.status in _PLAIN
                and not outcome.has_actions
            ):
                # The usual answer (`python -m benchmarks micro`, case `message`). The lines below would do the same.
                direct, took = webhook.direct, self.took
                if took <= FIRST_BOUND:
                    direct.first += 1
                    direct.sum += took
                else:
                    direct.observe(took)
                delivery.delivered()
                return
            verdict = webhook.judge(self._event, outcome)
            webhook.count(self._event, outcome, verdict, self.took)
            delivery.judged(verdict)


class Webhook:
    """Sends events to the backend."""

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        breaker: CircuitBreaker,
        wall: Callable[[], float],
        counters: Counters | None = None,
    ) -> None:
        """Send through `pool`; `wall` returns the seconds since the epoch. Count in `counters`."""
        self._pool = pool
        self.breaker = breaker
        self.counters = counters or Counters()
        self.direct = self.counters.direct
        self._wall = wall
        self.timeout = settings.api_timeout
        """Time limit for one attempt, in seconds."""
        self.signer = Signer(settings.api_secret) if settings.api_secret else None
        """Signs each request, None if no secret is set. Its secrets may be replaced while it is used."""
        self.access_keys = AccessKeys(settings.control_azure_keys) if settings.control_azure_keys else None
        """The access keys of `EVENT_FORMAT=azure`, None if none is set. They may be replaced while they are used."""
        self.is_per_connection = False
        """Whether each connection needs a webhook of its own (see `for_connection`)."""
        self._target = settings.api_uri.target
        self._text = f"Content-Type: {settings.text_content_type}\r\nContent-Length: "
        self.windows = {
            Opened: 0.0,
            Message: settings.api_retry,
            Closed: settings.delete_retry,
        }
        """For how many seconds a request of each event is retried."""
        self.waits = {kind: (self.timeout + window, window > 0) for kind, window in self.windows.items()}
        """For how many seconds a request of each event waits for a connection, and whether it is retried."""
        self._hints = hints_of(settings.event_format)
        self._methods = methods_of(settings.event_format)
        self._names = {kind: f"{method} {self._target.partition('?')[0]}" for kind, method in self._methods.items()}
        self._static_headers = {
            kind: (
                f" HTTP/1.1\r\nHost: {settings.api_uri.authority}\r\nUser-Agent: wsaas/{__version__}\r\n"
                f"Accept-Encoding: identity\r\n"
                f"ce-specversion: 1.0\r\nce-type: {_TYPES[kind]}\r\nce-source: {settings.ws_hostname.text}\r\n"
            ).encode()
            for kind in _TYPES
        }
        templated = "{id}" in self._target
        self._starts = {} if templated else {kind: self._start(kind, self._target) for kind in _TYPES}

    def _start(self, kind: type[Event], target: str) -> bytes:
        return f"{self._methods[kind]} {target}".encode() + self._static_headers[kind]

    def content(self, subject: Subject, event: Event, event_id: str) -> tuple[str, bytes]:  # noqa: ARG002 - see below
        """Return the body of the request for `event`, and the lines before it: its type, and the start of its length.

        `event_id`: the `ce-id`. The formats of other services need `subject` and `event_id`.
        """
        if isinstance(event, Message):
            return self._text if event.text else BINARY, event.data
        return JSON, connect_body(event) if isinstance(event, Opened) else disconnect_body(event)

    def compose(self, subject: Subject, event: Event, event_id: str, more: str = "") -> bytes:
        """Return the request for `event` with another `ce-id`, and with `more` header lines.

        Otherwise it is what `request` returns, which is faster.
        """
        kind = type(event)
        content, body = self.content(subject, event, event_id)
        start = self._start(kind, self._target.replace("{id}", subject.id))
        lines = f"{more}Ws-Uri: {subject.ws_uri}\r\nce-subject: {subject.id}\r\n"
        if subject.context is not None:
            lines += f"Ws-Context: {subject.context}\r\n"
        if subject.trace is not None:
            lines += subject.trace.headers(event.number)
        lines += f"ce-id: {event_id}\r\nce-time: {rfc3339(event.at)}\r\n{content}{len(body)}\r\n\r\n"
        if subject.authorization is not None:
            start += b"Authorization: " + subject.authorization + b"\r\n"
        if self.signer is not None:
            start += self.signer.lines(event_id.encode(), self._wall(), body)
        return start + lines.encode() + body

    def call(self, delivery: Delivery, event: Event, is_direct: bool = False) -> None:
        """Send `event`, the current one of `delivery`; its `judged` is called unless it was abandoned meanwhile.

        `is_direct`: it is a message that was just received, and that has not waited.
        """
        self._pool.send(EventExchange(self, delivery, event, is_direct))

    def for_connection(self, subject: Subject) -> "Webhook":  # noqa: ARG002 - wrappers and formats need it
        """Return the webhook for the events of one connection.

        Called for connections with a trace, and for all others if `is_per_connection`.
        """
        return self

    def user_agent(self) -> str:
        """Return the `User-Agent` of the client of one connection, empty if the format has no use for it."""
        return ""

    def given_up(self, subject: Subject, event: Event, why: str) -> None:
        """Learn that `event` is not retried any more, or was never sent. `why`: for people."""

    def abandoned(self) -> None:
        """Learn that no further event of a connection is sent, and that the one under way has no verdict."""

    def count(self, event: Event, outcome: Outcome, verdict: Verdict, took: float) -> None:
        """Count the `outcome` of a request, which `took` so many seconds."""
        counters = self.counters
        requests = counters.requests[type(event)]
        result = result_of(outcome, verdict)
        if result == "ok" and isinstance(event, Message):
            counters.delayed.observe(max(0.0, self._wall() - event.at))
        requests.results[result] += 1
        if not isinstance(outcome, Failure) or outcome not in UNSENT:
            requests.durations.observe(took)

    def explain(self, detail: str, advice: str) -> None:
        """Learn more about the `Failure` that `judge` gets next. `wsaas check` reports it: see `Exchange.explain`."""

    def request(self, subject: Subject, event: Event) -> bytes:
        """Return the request for `event`. Each attempt has the same bytes, except for the signature and its time."""
        kind = type(event)
        start = self._starts.get(kind) or self._start(kind, self._target.replace("{id}", subject.id))
        if isinstance(event, Message):
            content, body = (self._text if event.text else BINARY), event.data
        else:
            content, body = JSON, connect_body(event) if isinstance(event, Opened) else disconnect_body(event)
        connection_id = subject.id
        more = "" if subject.context is None else f"Ws-Context: {subject.context}\r\n"
        if subject.trace is not None:
            more += subject.trace.headers(event.number)
        headers = (
            f"Ws-Uri: {subject.node}/{connection_id}\r\nce-subject: {connection_id}\r\n{more}"
            f"ce-id: {connection_id}:{event.number}\r\nce-time: {rfc3339(event.at)}\r\n{content}{len(body)}\r\n\r\n"
        ).encode()
        if self.signer is not None:
            headers = self.signer.lines(f"{connection_id}:{event.number}".encode(), self._wall(), body) + headers
        if (authorization := subject.authorization) is None:
            return start + headers + body
        return b"".join((start, b"Authorization: ", authorization, b"\r\n", headers, body))

    def judge(self, event: Event, outcome: Outcome) -> Verdict:
        """Return the verdict on `event`; log a response that is not a success."""
        verdict: Verdict
        if isinstance(event, Message):
            verdict = self._judge_message(outcome)
        else:
            verdict = judge_opened(outcome) if isinstance(event, Opened) else self._judge_closed(outcome)
        if isinstance(outcome, Response) and not isinstance(verdict, (Accepted, Delivered)):
            self._log(type(event), outcome, verdict)
        return verdict

    def _log(self, kind: type[Event], response: Response, verdict: Rejected | Retry | Undeliverable) -> None:
        """Log what is wrong with `response`, and what happens next. The pool logs requests without a response."""
        if isinstance(verdict, Rejected):
            why = f"the backend answered {response.status}{verdict.unusable and ' with '}{verdict.unusable}"
            what = f"a client was refused with {verdict.error.answer}"
        elif isinstance(verdict, Retry):
            window = self.windows[kind]
            why, what = verdict.why, f"the request is sent again for up to {window:g} s" if window else NOT_RETRIED
        else:
            why, what = verdict.why, f"the client is closed with {verdict.reason.code}"
        is_expected = isinstance(verdict, Rejected) and not verdict.unusable and is_deliberate(response)
        log = throttle.info if is_expected else throttle.warning
        # What the backend says to a message that it took may be for the client.
        is_private = kind is Message and response.status // 100 == 2  # noqa: PLR2004 - as below
        said = why if is_private else Quoting(why, response)
        effect = f"{what}{advice(response, self._hints)}"
        fields = {"request": self._names[kind], "status": response.status, "why": said, "effect": effect}
        log((kind, why), FAILED, fields)

    def _judge_message(self, outcome: Outcome) -> Verdict:
        if not isinstance(outcome, Response):
            return _unanswered(outcome)
        if outcome.status // 100 == 2:  # noqa: PLR2004 - the class of success (RFC 9110 section 15)
            try:
                return Delivered(read_actions(outcome)) if outcome.has_actions else DELIVERED
            except InvalidAnswer as error:
                # The backend acknowledged the message, so it is not sent again.
                return Undeliverable(str(error), Reason.UNDELIVERED)
        return self._judge_refusal(outcome)

    def _judge_closed(self, outcome: Outcome) -> Verdict:
        if isinstance(outcome, Failure):
            return _unanswered(outcome)
        if outcome.status // 100 == 2 or outcome.status in _ACKNOWLEDGED:  # noqa: PLR2004 - as above
            return DELIVERED
        return Retry(f"the backend answered {outcome.status}", self._retry_after(outcome))

    def _judge_refusal(self, response: Response) -> Verdict:
        why = f"the backend answered {response.status}"
        if response.status in _RETRIED or response.status >= _SERVER_ERROR:
            return Retry(why, self._retry_after(response))
        return Undeliverable(why, _ENDS.get(response.status, Reason.UNDELIVERED))

    def _retry_after(self, response: Response) -> float:
        """Return the seconds of `Retry-After` (RFC 9110 section 10.2.3), 0 if it is absent or invalid."""
        value = response.headers.get(b"retry-after", b"").decode("latin-1")
        if value.isascii() and value.isdigit():
            return float(value[:9])
        try:
            moment = parsedate_to_datetime(value)
            # A date in the format of C's asctime has no zone, and is UTC (RFC 9110 section 5.6.7).
            moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
            return max(0.0, moment.timestamp() - self._wall())
        except (ValueError, OverflowError):
            return 0.0


def result_of(outcome: Outcome, verdict: Verdict) -> str:
    """Return the result that is counted: one of `RESULTS`."""
    if isinstance(verdict, Delivered):
        return "error" if verdict.failed else "ok"
    if isinstance(verdict, Accepted):
        return "ok"
    if isinstance(outcome, Failure):
        return FAILURE_RESULTS[outcome]
    return "refused" if _is_refusal(outcome, verdict) else "error"


def _is_refusal(response: Response, verdict: Verdict) -> bool:
    """Return whether a `response` that is no success is a decision of the backend, and not a fault."""
    if isinstance(verdict, Rejected):
        return verdict.error.status < _SERVER_ERROR
    # A success without effect had a header that cannot be understood.
    return isinstance(verdict, Undeliverable) and response.status // 100 != 2  # noqa: PLR2004 - as above


def _unanswered(failure: Failure) -> Retry:
    return Retry(f"the backend {failure.value}", sent=failure not in UNSENT)
