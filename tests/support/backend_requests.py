"""The requests that a gateway makes to its backend, for tests of `wsaas.backend`."""

from typing import NamedTuple

from tests.support.fakes import FakeBreaker, FakePool, make_settings
from wsaas.delivery.watched_webhook import Replayed
from wsaas.delivery.webhook import Subject, Webhook
from wsaas.events import Event
from wsaas.http.trace_context import TraceContext

ID = "q3ZKx0aTdFz3SVRbrQqKHCtCWhRzoQ"
NODE = "localhost:8080"
WS_URI = f"{NODE}/{ID}"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class SentRequest(NamedTuple):
    """A request, as a framework passes it."""

    method: str
    headers: list[tuple[str, str]]
    body: bytes


def sent_request(event: Event, subject: Subject | None = None, secret: str = SECRET) -> SentRequest:
    """Return the request of a gateway for `event`. It is signed at the time 0."""
    return _as_received(_webhook(secret).request(subject or make_subject(), event))


def replayed_request(event: Event, number: int) -> SentRequest:
    """Return the request with which somebody sends `event` once more in the console, for the time `number`."""
    return _as_received(Replayed(event, make_subject(), _webhook(SECRET), number).request())


def _webhook(secret: str) -> Webhook:
    return Webhook(make_settings(api_secret=secret), FakePool(), FakeBreaker(), lambda: 0.0)


def _as_received(request: bytes) -> SentRequest:
    head, _, body = request.partition(b"\r\n\r\n")
    start, *lines = head.decode("latin-1").split("\r\n")
    headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
    return SentRequest(start.split(" ")[0], headers, body)


def make_subject(
    authorization: bytes | None = None, context: str | None = None, trace: TraceContext | None = None
) -> Subject:
    """Return the connection that the requests are about."""
    return Subject(ID, NODE, authorization, context, trace)
