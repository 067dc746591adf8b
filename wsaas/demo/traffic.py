"""Watches the HTTP between the gateway and the chat, for the page to show.

The chat knows nothing of this: `Traffic.observe` stands around the call that answers the gateway, and
`Traffic.watched` around the function that pushes.
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

from wsaas.demo.chat import Answer

UTF8 = codecs.getincrementaldecoder("utf-8")
KEPT = 200  # exchanges
LONGEST_BODY = 16 * 1024  # bytes kept of one body, which bounds what all of them take
HEARTBEAT = 15.0  # seconds of silence after which a stream sends something, to find out if anybody reads
# What every HTTP request has and nobody wants to read.
BORING = frozenset({"accept", "accept-encoding", "connection", "content-length", "host", "user-agent"})


@dataclass(frozen=True)
class Request:
    """An HTTP request as it was made."""

    to: str  # "backend" or "gateway"
    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    ws_uri: str = ""  # of the client that it is about

    def shown_headers(self) -> dict[str, str]:
        """Leaves out the headers that tell nothing."""
        return {name: value for name, value in self.headers.items() if name.lower() not in BORING}


@dataclass
class Exchange:
    """A request, and its answer as soon as there is one."""

    number: int
    request: Request
    at: float = field(default_factory=time.time)
    revision: int = 0  # counts the changes to all exchanges: what is new to a watcher has a higher one
    answer: Answer | None = None
    milliseconds: float | None = None
    error: str = ""

    def as_dict(self) -> dict[str, object]:
        """What the page is told."""
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
    """The last exchanges, and a live view of them for any number of watchers.

    Watchers share the one bounded ring, and each only remembers how far it has read. So nobody ever waits for
    a watcher: one that reads too slowly misses what has left the ring in the meantime.
    """

    def __init__(self, kept: int = KEPT, heartbeat: float = HEARTBEAT) -> None:
        """Keeps that many exchanges; a stream gives a sign of life after `heartbeat` seconds of silence."""
        self._heartbeat = heartbeat
        self._ring: deque[Exchange] = deque(maxlen=kept)
        self._revision = 0
        self._count = 0
        self._closed = False
        self._changed = threading.Condition()
        # Tells this run from an earlier one, whose numbers a watcher that reconnects may still have.
        self._run = secrets.token_hex(4)

    def observe(self, request: Request, call: Callable[[], Answer]) -> Answer:
        """Makes a call that answers a request, and records both."""
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
                exchange.answer = answer and answer._replace(body=answer.body[: LONGEST_BODY + 1])
                exchange.error = error
                exchange.milliseconds = round((time.perf_counter() - start) * 1000, 1)
                self._publish(exchange)

    def watched(self, push: Callable[[str, bytes], Answer]) -> Callable[[str, bytes], Answer]:
        """Makes the same push, but observed."""

        def observed(ws_uri: str, text: bytes) -> Answer:
            url = ws_uri if "://" in ws_uri else f"http://{ws_uri}"
            request = Request("gateway", "PUT", url, {"Content-Type": "application/json"}, text, ws_uri)
            return self.observe(request, lambda: push(ws_uri, text))

        return observed

    def stream(self, after: str = "") -> Iterator[str]:
        """Yields Server-Sent Events until `close`: first what is kept, then what happens.

        Each holds a list of the exchanges that are new or changed, oldest first. `after` is the id of the
        last event that the watcher has seen, if any.
        """
        run, _, revision = after.partition(".")
        seen = int(revision) if run == self._run and revision.isdecimal() else 0
        while True:
            with self._changed:
                self._wait_for_change(seen)
                # Taken under the lock: an exchange may be answered, and so change, at any time.
                news = [exchange.as_dict() for exchange in self._ring if exchange.revision > seen]
                seen = self._revision
            if self._closed:
                return
            yield f"id: {self._run}.{seen}\ndata: {json.dumps(news)}\n\n" if news else ": still here\n\n"

    def close(self) -> None:
        """Ends all streams."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _wait_for_change(self, seen: int) -> None:
        self._changed.wait_for(lambda: self._closed or self._revision > seen, self._heartbeat)

    def _publish(self, exchange: Exchange) -> None:
        self._revision += 1
        exchange.revision = self._revision
        self._changed.notify_all()


def shortened(request: Request) -> Request:
    """Copies a request without the rest of a long body; one byte more than is shown tells of it."""
    body = request.body[: LONGEST_BODY + 1]
    return Request(request.to, request.method, request.url, dict(request.headers), body, request.ws_uri)


def printable(body: bytes) -> str:
    """Turns a body into text for people."""
    text = as_text(body)
    if text is None:
        return f"(binary) {body[:64].hex(' ')}{'…' if body[64:] else ''}"
    return text[:LONGEST_BODY] + "…" if len(body) > LONGEST_BODY else text


def as_text(body: bytes) -> str | None:
    """Decodes a body, or not if it is none that a person or a command line can hold."""
    try:
        # A long body may have been cut within a character: that is no fault.
        text = UTF8().decode(body, final=len(body) <= LONGEST_BODY)
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def curl(request: Request) -> str | None:
    """Writes the shell command that repeats a request, unless its body is too long for that."""
    if len(request.body) > LONGEST_BODY:
        return None
    words = ["curl", "-i", "-X", request.method]
    for name, value in request.shown_headers().items():
        words += ["-H", f"{name}: {value}"]
    if "content-type" not in {name.lower() for name in request.headers}:
        words += ["-H", "Content-Type:"]  # else curl invents one
    prefix = ""
    text = as_text(request.body)
    if text is None:
        prefix = f"echo {base64.b64encode(request.body).decode()} | base64 -d | "
        words += ["--data-binary", "@-"]
    else:
        words += ["--data-raw", text]  # --data would read a file if it starts with @
    # curl takes braces and brackets in a URL for patterns, unless told not to.
    words += ["--globoff", request.url] if set("[]{}") & set(request.url) else [request.url]
    return prefix + shlex.join(words)
