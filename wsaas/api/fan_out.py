"""Requests about many clients: the work is done in this process and at all peers, and answered with one summary."""

from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Any, Final

import orjson

from wsaas.api.peer_answers import PeerAnswers, ignore, missing_at
from wsaas.api.route import Response
from wsaas.clock import Clock
from wsaas.cluster.peer_process import PeerProcess
from wsaas.cluster.router import Router
from wsaas.errors import Gone
from wsaas.http.request import Request
from wsaas.http.serialize import OK, OutgoingResponse, error_response
from wsaas.sessions.fan_out import FanOut, FanOutQueue, Summary
from wsaas.sessions.publication import MAX_NAMED, NamedClients
from wsaas.sessions.send_batch import SendBatch

NDJSON: Final = b"application/x-ndjson"


class FanOutRunner:
    """Starts work on many clients. The response is deferred unless the work is small and there are no peers.

    The work goes on if the caller goes away meanwhile: some clients have been served already.
    """

    __slots__ = ("_clock", "_queue", "_router", "_timeout")

    def __init__(self, queue: FanOutQueue, clock: Clock, timeout: float, router: Router) -> None:
        """Let a caller wait for `timeout` seconds at most. `router`: knows the peers."""
        self._clock = clock
        self._queue = queue
        self._router = router
        self._timeout = timeout

    def run(self, work: FanOut, channel: Hashable, request: Request) -> Response:
        """Start `work` on `channel`, and forward `request` to each peer. Raises `TooManyRequests`, `Misdirected`.

        Peers that do not answer are named in `missing`. A peer that ends has no clients any more.
        """
        router = self._router.for_request(request)
        self._queue.start(work, channel)
        merged = _MergedSummary({"missing": [*router.unknown]})
        answers = PeerAnswers(partial(merged.response, work))
        # A node answers for several processes.
        for peer in dict.fromkeys(router.processes.values()):
            missing = partial(merged.add_missing, peer)
            answers.ask(partial(peer.forward, request), partial(merged.add_answer, peer, missing, ignore))
        return self._finish(work, answers, answers.done)

    def send(self, batch: SendBatch[PeerProcess], request: Request) -> Response:
        """Send the messages of `batch`, and forward what is for clients of the peers. Raises `TooManyRequests`.

        The recipients at peers that do not answer are named in `unreached`.
        """
        # A channel of its own: nothing is promised about the order of two requests that overlap.
        self._queue.start(batch, batch)
        merged = _MergedSummary({"unreached": [], "unreached_count": 0})
        answers = PeerAnswers(partial(merged.response, batch))
        return self._finish(batch, answers, partial(self._forward, batch, request, merged, answers))

    def _finish(self, work: FanOut, answers: PeerAnswers, on_done: Callable[[], None]) -> Response:
        if work.is_done:
            on_done()
        else:
            work.on_done = on_done
        return answers.response(self._clock.now() + self._timeout)

    def _forward(
        self, batch: SendBatch[PeerProcess], request: Request, merged: "_MergedSummary", answers: PeerAnswers
    ) -> None:
        for peer, part in batch.remote.items():
            gone = partial(merged.add, _named("gone", part.recipients))
            unreached = partial(merged.add_unanswered, _named("unreached", part.recipients))
            post = partial(peer.post, request, NDJSON, b"\n".join(part.lines))
            answers.ask(post, partial(merged.add_answer, peer, unreached, gone))
        if batch.unknown.count:
            merged.add_unanswered(_named("unreached", batch.unknown))
        answers.done()


class _MergedSummary:
    """The summaries of the peers: numbers add up, and lists are joined. That of this process is added at the end.

    `unanswered`: the part about peers that did not answer. The code is PARTIAL if there is any.
    """

    __slots__ = ("_others", "_unanswered")

    def __init__(self, unanswered: Summary) -> None:
        self._others: list[Mapping[str, Any]] = []
        self._unanswered = unanswered

    def add(self, other: Mapping[str, Any]) -> None:
        self._others.append(other)

    def add_unanswered(self, other: Summary) -> None:
        self._unanswered = _sum(self._unanswered, other)

    def add_missing(self, peer: PeerProcess) -> None:
        if peer.may_have_clients():
            self.add_unanswered({"missing": [peer.name]})

    def add_answer(
        self, peer: PeerProcess, on_silence: Callable[[], None], on_gone: Callable[[], None], answer: OutgoingResponse
    ) -> None:
        """Add the answer of a `peer`. `on_silence`: called if it is no summary; `on_gone`: if the peer has ended."""
        if answer.status == OK.status:
            found = orjson.loads(answer.body)
            self.add(found)
            self.add_unanswered({**found, "missing": missing_at(peer.name, found)})
        elif answer.status == Gone.status:
            on_gone()
        else:
            on_silence()

    def response(self, work: FanOut) -> OutgoingResponse:
        """Return the response for `work`, which is what was done in this process."""
        if work.error is not None:
            return error_response(work.error)
        summary = work.summary()
        for other in self._others:
            summary = _sum(summary, other)
        code = "PARTIAL" if any(self._unanswered.values()) else "OK"
        return OutgoingResponse(200, orjson.dumps({"code": code, **summary, **self._unanswered}))


def _named(key: str, recipients: NamedClients) -> Summary:
    """Return the summary in which `recipients` are named, and counted."""
    return {key: recipients.ids, f"{key}_count": recipients.count}


def _sum(summary: Summary, other: Mapping[str, Any]) -> Summary:
    """Add what `other` has under the same names. Of joined lists, at most `MAX_NAMED` are kept."""
    return {
        key: (value + other.get(key, []))[:MAX_NAMED] if isinstance(value, list) else value + other.get(key, 0)
        for key, value in summary.items()
    }
