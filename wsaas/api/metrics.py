"""`GET /metrics`: the figures of this node, with all of its workers, for Prometheus."""

from functools import partial
from typing import Final

import orjson

from wsaas.api.peer_answers import PeerAnswers
from wsaas.api.query import read_query
from wsaas.api.route import Response
from wsaas.cluster.router import Router
from wsaas.http.request import Request
from wsaas.http.serialize import OK, OutgoingResponse
from wsaas.metrics.encode import encode
from wsaas.metrics.metric import Row
from wsaas.metrics.own import OwnMetrics
from wsaas.metrics.row import ROW_LENGTH, merge_rows

WORKER_TARGET: Final = b"/metrics?worker=1"
"""What a worker asks the others for: their rows."""


class MetricsResource:
    """The metrics. The worker that is asked adds the figures of the others to its own."""

    __slots__ = ("_own", "_router")

    def __init__(self, own: OwnMetrics, router: Router) -> None:
        """Describe this process, and the workers that `router` knows."""
        self._own = own
        self._router = router

    def get(self, request: Request) -> Response:
        """Return the metrics of the node, or of this worker alone as a JSON object with its row."""
        own = self._own
        if "worker" in read_query(request):
            return OutgoingResponse(200, orjson.dumps({"code": "OK", "worker": own.index, "row": own.read()}))
        rows: dict[int, Row] = {}
        answers = PeerAnswers(partial(self._respond, rows, request.headers.get(b"accept", b"").decode("latin-1")))
        for peer in self._router.within_node.processes.values():
            answers.ask(partial(peer.get, request, WORKER_TARGET), partial(_add, rows))
        answers.done()
        # A link answers in time for all that do not.
        return answers.response(float("inf"))

    def _respond(self, rows: dict[int, Row], accept: str) -> OutgoingResponse:
        own = self._own
        row = merge_rows([own.read(), *rows.values(), *own.stored(rows)])
        answered = 1 + len(rows)
        body, content_type = encode(row, (answered, max(0, own.workers - answered)), accept)
        return OutgoingResponse(200, body, content_type=content_type)


def _add(rows: dict[int, Row], answer: OutgoingResponse) -> None:
    """Add the row of another worker, unless it has not answered, or has ended."""
    if answer.status == OK.status:
        content = orjson.loads(answer.body)
        # A worker of another version, which is being replaced, has other rows.
        if len(content["row"]) == ROW_LENGTH:
            rows[content["worker"]] = content["row"]
