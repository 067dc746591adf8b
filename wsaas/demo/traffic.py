"""Records the HTTP between the gateway and the chat for the page.

The chat does not know of it: `Traffic.observe` wraps the call that handles a request from the gateway, and
`Traffic.observed` wraps the function that calls the gateway.
"""

import base64
import codecs
import json
import secrets
import shlex
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from wsaas.demo.chat import Answer

UTF8: Final = codecs.getincrementaldecoder("utf-8")
MAX_EXCHANGES: Final = 200
MAX_BODY_BYTES: Final = 16 * 1024  # the recorded part of a body
KEEP_ALIVE_S: Final = 15.0  # silence after which a stream sends a comment, to detect a closed connection
# Headers of every HTTP request, which the page does not show.
HIDDEN_HEADERS: Final = frozenset({"accept", "accept-encoding", "connection", "content-length", "host", "user-agent"})


@dataclass(frozen=True)
class Request:
    """An HTTP request."""

    to: str  # "backend" or "gateway"
    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    ws_uri: str = ""  # of the client that the request is about; empty if it is about a group

    def shown_headers(self) -> dict[str, str]:
        """Return the headers without those that the page does not show."""
        return {name: value for name, value in self.headers.items() if name.lower() not in HIDDEN_HEADERS}


@dataclass
class Exchange:
    """A request and its answer. The answer is None until it arrives."""

    number: int
    request: Request
    at: float = field(default_factory=time.time)
    revision: int = 0  # number of the latest change, counted over all exchanges
    answer: Answer | None = None
    milliseconds: float | None = None
    error: str = ""

    def as_dict(self) -> dict[str, object]:
        """Return the members of its JSON object for the page."""
        request, answer = self.request, self.answer
        return {
            "number": self.number,
            "at": round(self.at * 1000),
            "to": request.to,
            "method": request.method,
            "url": request.url,
            "headers": request.shown_headers(),
            "body": printable(request.body),
            "ws_uri": request.ws_uri,
            "curl": curl(request),
            "status": answer and answer.status,
            "answer": answer and printable(answer.body),
            "ws_reply": answer and answer.ws_reply,
            "ms": self.milliseconds,
            "error": self.error,
        }


class Traffic:
    """The latest exchanges, and a live stream of them for any number of readers.

    All readers share one bounded ring, and each remembers its position. So nothing waits for a reader: a slow reader
    misses exchanges that have left the ring.
    """

    def __init__(self, kept: int = MAX_EXCHANGES, keep_alive: float = KEEP_ALIVE_S) -> None:
        """Keep `kept` exchanges. A stream sends a comment after `keep_alive` seconds of silence."""
        self._keep_alive = keep_alive
        self._ring: deque[Exchange] = deque(maxlen=kept)
        self._revision = 0
        self._count = 0
        self._closed = False
        self._changed = threading.Condition()
        # Distinguishes this run from an earlier one: a reader that reconnects may still have a number from that run.
        self._run = secrets.token_hex(4)

    def observe(self, request: Request, call: Callable[[], Answer]) -> Answer:
        """Record `request`, handle it with `call`, and record the answer."""
        with self._changed:
            self._count += 1
            exchange = Exchange(self._count, shortened(request))
            self._ring.append(exchange)
            self._publish(exchange)
        start = time.perf_counter()
        answer, error = None, ""
        try:
            answer = call()
        except Exception as failure:
            error = f"{type(failure).__name__}: {failure}"
            raise
        else:
            return answer
        finally:
            with self._changed:
                exchange.answer = answer and answer._replace(body=answer.body[: MAX_BODY_BYTES + 1])
                exchange.error = error
                exchange.milliseconds = round((time.perf_counter() - start) * 1000, 1)
                self._publish(exchange)

    def observed(self, call: Callable[[str, str, bytes], Answer]) -> Callable[[str, str, bytes], Answer]:
        """Return a function that calls `call` and records the exchange."""

        def recorded(method: str, url: str, body: bytes) -> Answer:
            headers = {"Content-Type": "application/json"} if body else {}
            return self.observe(Request("gateway", method, url, headers, body), lambda: call(method, url, body))

        return recorded

    def stream(self, after: str = "") -> Iterator[str]:
        """Yield Server-Sent Events until `close`: first the recorded exchanges, then each change.

        An event is a list of new or changed exchanges, oldest first. `after`: the id of the last event that the reader
        has seen, if any.
        """
        run, _, revision = after.partition(".")
        seen = int(revision) if run == self._run and revision.isdecimal() else 0
        while True:
            with self._changed:
                self._wait_for_change(seen)
                # Under the lock, as an exchange changes when its answer arrives.
                news = [exchange.as_dict() for exchange in self._ring if exchange.revision > seen]
                seen = self._revision
            if self._closed:
                return
            yield f"id: {self._run}.{seen}\ndata: {json.dumps(news)}\n\n" if news else ": still here\n\n"

    def close(self) -> None:
        """End all streams."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _wait_for_change(self, seen: int) -> None:
        self._changed.wait_for(lambda: self._closed or self._revision > seen, self._keep_alive)

    def _publish(self, exchange: Exchange) -> None:
        self._revision += 1
        exchange.revision = self._revision
        self._changed.notify_all()


def shortened(request: Request) -> Request:
    """Return a copy of a request. Its body has at most one byte more than is shown, to tell that it was cut."""
    body = request.body[: MAX_BODY_BYTES + 1]
    return Request(request.to, request.method, request.url, dict(request.headers), body, request.ws_uri)


def printable(body: bytes) -> str:
    """Return a body as text for the page."""
    text = as_text(body)
    if text is None:
        return f"(binary) {body[:64].hex(' ')}{'…' if body[64:] else ''}"
    return text[:MAX_BODY_BYTES] + "…" if len(body) > MAX_BODY_BYTES else text


def as_text(body: bytes) -> str | None:
    """Decode a body; return None if it is not text, or cannot be an argument of a command."""
    try:
        # A long body may have been cut in the middle of a character.
        text = UTF8().decode(body, final=len(body) <= MAX_BODY_BYTES)
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def curl(request: Request) -> str | None:
    """Return a shell command that repeats a request; None if its body is too long."""
    if len(request.body) > MAX_BODY_BYTES:
        return None
    words = ["curl", "-i", "-X", request.method]
    for name, value in request.shown_headers().items():
        words += ["-H", f"{name}: {value}"]
    prefix = ""
    text = as_text(request.body)
    has_body = request.method != "GET"
    if has_body and "content-type" not in {name.lower() for name in request.headers}:
        words += ["-H", "Content-Type:"]  # otherwise curl adds one
    if text is None:
        prefix = f"echo {base64.b64encode(request.body).decode()} | base64 -d | "
        words += ["--data-binary", "@-"]
    elif has_body:
        words += ["--data-raw", text]  # --data reads a file if it starts with @
    # Without --globoff, braces and brackets in a URL are patterns for curl.
    words += ["--globoff", request.url] if set("[]{}") & set(request.url) else [request.url]
    return prefix + shlex.join(words)
