"""Turns events into requests to the backend, and responses into verdicts.

No side effects except `Webhook.call` and the logging of failed responses.
"""

from codecs import BOM_UTF8
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timezone
from email.utils import parsedate_to_datetime
from typing import Protocol

import orjson

from wsaas import __version__, errors
from wsaas.clock import rfc3339
from wsaas.delivery.circuit_breaker import CircuitBreaker, QueuedDelivery
from wsaas.delivery.event_bodies import connect_body, disconnect_body
from wsaas.delivery.failure_report import METHODS, NOT_RETRIED, Excerpt, advice, is_deliberate
from wsaas.delivery.outbox_state import DELIVERING, State
from wsaas.delivery.pool import UNSENT, Exchange, Failure, Outcome, Pool
from wsaas.delivery.signature import Signer
from wsaas.errors import RETRY_AFTER
from wsaas.events import Closed, Event, Message, Opened, Reason
from wsaas.http.headers import content_coding
from wsaas.http.response import Response
from wsaas.log.throttle import throttle
from wsaas.settings import Settings
from wsaas.websocket.frames import valid_text

MAX_CONTEXT = 4096
"""Most characters of a context."""

_SERVER_ERROR = 500
_PLAIN = {200, 204}
"""The usual answers to a message."""
_RETRIED = {408, 425, 429}
_ACKNOWLEDGED = {404, 410}
"""Statuses that acknowledge a DELETE, as a 2xx does: the backend has no such connection."""
_UNKNOWN = {502, 504}
"""Statuses of a proxy that do not tell whether the backend has seen the request."""
_MAX_SHOWN = 40
"""Bytes of an invalid header that are logged."""
_ENDS = {410: Reason.BACKEND_GONE, 413: Reason.TOO_LARGE}
"""Why a client is closed, by the status that refused its message. A 413 of a proxy means the same."""
_TYPES = {Opened: "wsaas.connect", Message: "wsaas.message", Closed: "wsaas.disconnect"}
_JSON, _TEXT, _BINARY = (
    f"Content-Type: {name}\r\nContent-Length: "
    for name in ("application/json", "text/plain; charset=utf-8", "application/octet-stream")
)


@dataclass(slots=True)
class Accepted:
    """The backend accepted the client."""

    subprotocol: str | None
    context: str | None


@dataclass(slots=True)
class Rejected:
    """The client is refused with `error`.

    `disconnect_owed`: the backend may consider the client connected, so it gets a DELETE. `unusable`: the unusable part
    of the backend's answer, for the log.
    """

    error: errors.HTTPError
    disconnect_owed: bool
    unusable: str = ""


@dataclass(slots=True)
class Delivered:
    """The backend took the event; `reply` is its message for the client."""

    reply: Message | None = None


@dataclass(slots=True)
class Retry:
    """The event failed, but may succeed when it is sent again, at least `after` seconds later.

    `sent`: whether the backend may have seen the request.
    """

    why: str
    after: float = 0.0
    sent: bool = True


@dataclass(slots=True)
class Undeliverable:
    """The backend refuses the event; the client is closed for `reason`."""

    why: str
    reason: Reason


Verdict = Accepted | Rejected | Delivered | Retry | Undeliverable

DELIVERED = Delivered()


class Subject:
    """The connection that requests are about: the values of the headers that all of its requests share.

    `authorization`: the bytes of the header in the handshake. `authorization` and `context` are None if there is none.
    """

    __slots__ = ("authorization", "context", "id", "ws_uri")

    def __init__(
        self, connection_id: str, ws_uri: str, authorization: bytes | None, context: str | None = None
    ) -> None:
        """Keep the values. Only `context` may change."""
        self.authorization = authorization
        self.context = context
        self.id = connection_id
        self.ws_uri = ws_uri


class Delivery(QueuedDelivery, Protocol):
    """The event of a connection that is being delivered."""

    state: State

    @property
    def subject(self) -> Subject:
        """The connection."""

    def judged(self, verdict: Verdict) -> None:
        """Act on the answer to the event."""


class _EventExchange(Exchange):
    """The request of one event. Passes its outcome to the circuit breaker and, as a verdict, to the delivery."""

    __slots__ = ("_delivery", "_event", "_webhook")

    def __init__(self, webhook: "Webhook", delivery: Delivery, event: Event) -> None:
        # Sets the attributes of the base class without calling it, as this is done for each message.
        window = webhook.windows[type(event)]
        self.request = webhook.request(delivery.subject, event)
        self.wait_timeout = webhook.timeout + window
        self.retried = window > 0
        self.deadline = 0.0
        self.fresh = False
        self._delivery = delivery
        self._event = event
        self._webhook = webhook

    def answered(self, outcome: Outcome) -> None:
        delivery, webhook = self._delivery, self._webhook
        webhook.breaker.observe(delivery, outcome)
        # The outbox may have been abandoned meanwhile.
        if delivery.state is DELIVERING:
            delivery.judged(webhook.judge(self._event, outcome))


class Webhook:
    """Sends events to the backend."""

    def __init__(self, settings: Settings, pool: Pool, breaker: CircuitBreaker, wall: Callable[[], float]) -> None:
        """Send through `pool`; `wall` returns the seconds since the epoch."""
        self._pool = pool
        self.breaker = breaker
        self._wall = wall
        self.timeout = settings.api_timeout
        """Most seconds of one attempt."""
        self.signer = Signer(settings.api_secret) if settings.api_secret else None
        """Signs each request, None if no secret is set. Its secrets may be replaced while it is used."""
        self._target = settings.api_uri.target
        self.windows = {
            Opened: 0.0,
            Message: settings.api_retry,
            Closed: settings.delete_retry,
        }
        """For how many seconds a request of each event is retried."""
        self._names = {kind: f"{method} {self._target.partition('?')[0]}" for kind, method in METHODS.items()}
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
        return f"{METHODS[kind]} {target}".encode() + self._static_headers[kind]

    def call(self, delivery: Delivery, event: Event) -> None:
        """Send `event`, the current one of `delivery`; its `judged` is called unless it was abandoned meanwhile."""
        self._pool.send(_EventExchange(self, delivery, event))

    def request(self, subject: Subject, event: Event) -> bytes:
        """Return the request for `event`. Each attempt has the same bytes, except for the signature and its time."""
        kind = type(event)
        start = self._starts.get(kind) or self._start(kind, self._target.replace("{id}", subject.id))
        if isinstance(event, Message):
            content, body = (_TEXT if event.text else _BINARY), event.data
        else:
            content, body = _JSON, connect_body(event) if isinstance(event, Opened) else disconnect_body(event)
        connection_id = subject.id
        context = "" if subject.context is None else f"Ws-Context: {subject.context}\r\n"
        headers = (
            f"Ws-Uri: {subject.ws_uri}\r\nce-subject: {connection_id}\r\n{context}"
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
            # The usual answer.
            if isinstance(outcome, Response) and outcome.status in _PLAIN and b"ws-reply" not in outcome.headers:
                return DELIVERED
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
            what = f"a client was refused with {verdict.error.status}"
        elif isinstance(verdict, Retry):
            window = self.windows[kind]
            why, what = verdict.why, f"the request is sent again for up to {window:g} s" if window else NOT_RETRIED
        else:
            why, what = verdict.why, f"the client is closed with {verdict.reason.code}"
        is_expected = isinstance(verdict, Rejected) and not verdict.unusable and is_deliberate(response)
        log = throttle.info if is_expected else throttle.warning
        log((kind, why), "%s: %s%s; %s%s", self._names[kind], why, Excerpt(response), what, advice(response))

    def _judge_message(self, outcome: Outcome) -> Verdict:
        if not isinstance(outcome, Response):
            return _unanswered(outcome)
        if outcome.status // 100 == 2:  # noqa: PLR2004 - the class of success (RFC 9110 section 15)
            kind = outcome.headers.get(b"ws-reply")
            return DELIVERED if kind is None else _reply(kind.lower(), outcome)
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


def _unanswered(failure: Failure) -> Retry:
    return Retry(f"the backend {failure.value}", sent=failure not in UNSENT)


def judge_opened(outcome: Outcome) -> Accepted | Rejected:
    """Return the verdict on a client, from the outcome of its POST."""
    if isinstance(outcome, Failure):
        return Rejected(*_REFUSALS[outcome])
    if outcome.status // 100 == 2:  # noqa: PLR2004 - as above
        return _judge_code(outcome)
    if (make := _PASSED_ON.get(outcome.status)) is not None:
        names = (b"www-authenticate", b"retry-after")
        headers = [
            (name.title().decode(), outcome.headers[name].decode("latin-1"))
            for name in names
            if name in outcome.headers
        ]
        return Rejected(make("The backend refused the connection.", *headers), disconnect_owed=False)
    return Rejected(
        errors.BadGateway(f"The backend answered {outcome.status}."), disconnect_owed=outcome.status in _UNKNOWN
    )


def _judge_code(response: Response) -> Accepted | Rejected:
    if coding := content_coding(response.headers):
        return _unusable(f"a body in Content-Encoding {coding}")
    try:
        body = orjson.loads(response.body.removeprefix(BOM_UTF8))
    except orjson.JSONDecodeError:
        body = None
    code = body.get("code") if isinstance(body, dict) else None
    if not isinstance(code, str):
        return _unusable('a body that is not JSON such as {"code": "OK"}')
    if code != "OK":
        return Rejected(errors.Forbidden("The backend refused the connection."), disconnect_owed=False)
    subprotocol, context = body.get("subprotocol"), body.get("context")
    if not isinstance(subprotocol, str | None):
        return _unusable("a subprotocol that is not a string")
    if context is not None and not _printable(context):
        return _unusable(f"a context that is not a string of at most {MAX_CONTEXT} printable ASCII characters")
    return Accepted(subprotocol, context)


def _printable(context: object) -> bool:
    """Return whether `context` can be the value of a header, which has no spaces at its ends."""
    return (
        isinstance(context, str)
        and len(context) <= MAX_CONTEXT
        and context.isascii()
        and context.isprintable()
        and context == context.strip(" ")
    )


def _unusable(what: str) -> Rejected:
    return Rejected(errors.BadGateway(f"The backend answered with {what}."), disconnect_owed=True, unusable=what)


def _reply(kind: bytes, response: Response) -> Verdict:
    """Return the verdict on a 2xx with `Ws-Reply`. The message was delivered, so an invalid reply is not retried."""
    if kind not in {b"text", b"binary"}:
        shown = kind[:_MAX_SHOWN].decode("latin-1")
        return Undeliverable(f"the backend's Ws-Reply is {shown!r}, neither text nor binary", Reason.UNDELIVERED)
    if response.is_too_large:
        return Undeliverable("the backend's reply is over MAX_MESSAGE_SIZE", Reason.UNDELIVERED)
    if coding := content_coding(response.headers):
        return Undeliverable(f"the backend's reply is in Content-Encoding {coding}", Reason.UNDELIVERED)
    if kind == b"text" and not valid_text(response.body):
        return Undeliverable("the backend's text reply is not UTF-8", Reason.UNDELIVERED)
    return Delivered(Message(kind == b"text", response.body))


_PASSED_ON: dict[int, type[errors.HTTPError]] = {
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
    429: errors.TooManyRequests,
    503: errors.Unavailable,
}
_REFUSALS = {
    Failure.UNREACHABLE: (errors.Unavailable("The backend cannot be reached.", RETRY_AFTER), False),
    Failure.POOL_TIMEOUT: (errors.Unavailable("The backend is busy.", RETRY_AFTER), False),
    Failure.BROKEN: (errors.BadGateway("The backend closed the connection without a complete answer."), True),
    Failure.INVALID_RESPONSE: (errors.BadGateway("The backend did not answer in valid HTTP."), True),
    Failure.TIMED_OUT: (errors.GatewayTimeout("The backend did not answer in time."), True),
}
