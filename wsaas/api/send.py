"""`POST /send`: one request with messages for many clients."""

from io import BytesIO
from typing import Final

from wsaas.api.fan_out import FanOutRunner
from wsaas.api.message import check_memory, refuse_content_coding
from wsaas.api.route import Response
from wsaas.cluster.router import Router
from wsaas.http.request import Request, too_large
from wsaas.sessions.send_batch import SendBatch
from wsaas.sessions.session import Services

NDJSON: Final = frozenset({b"application/x-ndjson", b"application/ndjson", b"application/jsonl"})
"""Media types of one JSON object on each line. No registered one exists: these are in use."""


class SendResource:
    """Takes messages for many clients: one JSON object, or one on each line."""

    __slots__ = ("_max_body", "_max_message_size", "_router", "_runner", "_services")

    def __init__(self, router: Router, services: Services, runner: FanOutRunner, max_body: int) -> None:
        """Find clients by `router`; take bodies of at most `max_body` bytes."""
        self._router = router
        self._max_body = max_body
        self._max_message_size = services.settings.max_message_size
        self._runner = runner
        self._services = services

    def body_limit(self, request: Request) -> int:
        """Return how many bytes the body may have. Raises the `HTTPError` that refuses the request before it."""
        refuse_content_coding(request)
        check_memory(request, self._services.memory, self._max_body)
        return self._max_body

    def post(self, request: Request) -> Response:
        """Send the messages, those to one client in the order of the request."""
        refuse_content_coding(request)
        body = request.body
        if len(body) > self._max_body:
            raise too_large(self._max_body)
        # Not `split`, which would make an object of each line before the first is read.
        documents = BytesIO(body) if _is_ndjson(request) else [body]
        router = self._router.for_request(request)
        batch = SendBatch(router.find, documents, self._max_message_size, router.find_process)
        return self._runner.send(batch, request)


def _is_ndjson(request: Request) -> bool:
    content_type = request.headers.get(b"content-type", b"")
    return content_type.partition(b";")[0].strip().lower() in NDJSON
