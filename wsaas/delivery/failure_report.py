"""Log lines about requests to the backend that failed: which request, what was wrong, and what to do."""

import re
import socket
import ssl
from typing import Final

from wsaas.events import Closed, Event, Message, Opened
from wsaas.http.headers import content_coding
from wsaas.http.response import Response
from wsaas.log import about, logger
from wsaas.log.redaction import hide_secrets
from wsaas.log.throttle import throttle

EXCERPT_LENGTH: Final = 160
"""Maximum number of characters of a response that are logged."""

ELLIPSIS: Final = "..."
"""Ends a quotation that was cut off."""

EXCERPT_SOURCE: Final = 4096
"""Bytes at the start of a body from which the excerpt is taken."""

METHODS: Final[dict[type[Event], str]] = {Opened: "POST", Message: "PUT", Closed: "DELETE"}
_OTHER_METHODS: Final[dict[type[Event], str]] = dict.fromkeys(METHODS, "POST")
"""The methods in all formats but the native one."""

FAILED: Final = "%(request)s: %(why)s; %(effect)s"
"""The line about a failed request."""

NOT_RETRIED: Final = "it is not sent again, as API_RETRY is 0"
"""What happens after a failed PUT or DELETE if retries are switched off."""

_NOT_SHOWN: Final = re.compile(
    r"<(?P<hidden>head|script|style)\b.*?(?:</(?P=hidden)\s*>|\Z)|<!--.*?(?:-->|\Z)|<[^>]*(?:>|\Z)",
    re.DOTALL | re.IGNORECASE,
)
"""Tags and comments of HTML, and the content of elements that are not displayed."""
_SPACE: Final = re.compile(r"\s+")
_NEARLY_OK: Final = re.compile(rb'"code"\s*:\s*"(?-i:(?!OK"))\s*ok\s*"', re.IGNORECASE)

_ALL_METHODS: Final = "the backend has to support POST, PUT and DELETE at the path in API_URI"
_HINTS: Final = {
    400: "the backend's log should say what it expects; the Host may be one that it does not allow",
    401: "the handshake's Authorization is passed on unchanged",
    403: "if the backend checks CSRF tokens, exempt this path; the Host may be one that it does not allow",
    404: "check the path in API_URI",
    405: _ALL_METHODS,
    411: "the backend has to accept a body with Content-Length",
    415: "text messages are sent as TEXT_CONTENT_TYPE, binary ones as application/octet-stream, POST and DELETE as "
    "application/json",
    422: "the backend's log should say what it expects",
    501: _ALL_METHODS,
}
_ONE_METHOD: Final = "the backend has to support POST at the path in API_URI"
_OTHER_HINTS: Final = {
    "aws": _HINTS | {405: _ONE_METHOD, 415: "all events are sent as application/json", 501: _ONE_METHOD},
    "azure": _HINTS
    | {
        405: _ONE_METHOD,
        415: "text messages are sent as TEXT_CONTENT_TYPE, binary ones as application/octet-stream, other events as "
        "application/json",
        501: _ONE_METHOD,
    },
}
_CONNECT_ADVICE: Final = (
    (
        ssl.SSLCertVerificationError,
        "its certificate has to be valid for the host in API_URI, and signed by an authority in API_TLS_CA",
    ),
    (ssl.SSLError, "API_URI starts with https://: it has to lead to a server that speaks TLS"),
    (socket.gaierror, "correct the host in API_URI, or its DNS entry"),
    (
        PermissionError,
        (
            "the gateway needs permission to write to the Unix socket in API_URI and to enter its folders; over TCP, a "
            "firewall forbids it"
        ),
    ),
    (Exception, "start it, or correct API_URI"),
)
"""What to do about each kind of failed connect. The first that matches counts."""
_DELIBERATE: Final = {401, 429}
_SUCCESS: Final = 2
_REDIRECTION: Final = 3
_SERVER_ERROR: Final = 5
"""Classes of statuses (RFC 9110 section 15)."""


def methods_of(event_format: str) -> dict[type[Event], str]:
    """Return the method of the request for each event, by `EVENT_FORMAT`."""
    return METHODS if event_format == "native" else _OTHER_METHODS


def hints_of(event_format: str) -> dict[int, str]:
    """Return what to do about the statuses of responses, by `EVENT_FORMAT`."""
    return _OTHER_HINTS.get(event_format, _HINTS)


class Excerpt:
    """The first words of a response on one line, without the tags of HTML. Formatted only if it is logged."""

    __slots__ = ("_body", "_is_html")

    def __init__(self, response: Response) -> None:
        """Keep the start of the body of `response`, unless it is compressed."""
        self._body = b"" if content_coding(response.headers) else response.body[:EXCERPT_SOURCE]
        self._is_html = b"html" in response.headers.get(b"content-type", b"") or self._body.lstrip()[:1] == b"<"

    def __str__(self) -> str:
        """Return a colon and the quoted words; empty if there are none."""
        text = self._body.decode("utf-8", "replace")
        return f": {quoted}" if (quoted := quote(_NOT_SHOWN.sub(" ", text) if self._is_html else text)) else ""


class Quoting:
    """What was wrong with a response, and its first words. Formatted only if it is logged."""

    __slots__ = ("_excerpt", "_why")

    def __init__(self, why: str, response: Response) -> None:
        """Say `why` before the excerpt of `response`."""
        self._excerpt = Excerpt(response)
        self._why = why

    def __str__(self) -> str:
        """Return both."""
        return f"{self._why}{self._excerpt}"


def quote(text: str) -> str:
    """Return the first words of `text`, quoted, on one line and without secrets; empty if there are none."""
    text = _shorten(_SPACE.sub(" ", hide_secrets(text)).strip())
    return repr(text) if text else ""


def log_unanswered(request: bytes, why: str, what: str, detail: str = "") -> None:
    """Log that `request` got no valid response: `why`, with further `detail`, and `what` happens next."""
    method, _, target = request.partition(b" HTTP/")[0].decode("latin-1").partition(" ")
    fields = {"request": f"{method} {target.partition('?')[0]}", "why": f"the backend {why}{detail}", "effect": what}
    throttle.warning((method, why), FAILED, fields)


def connect_advice(error: Exception) -> str:
    """Return what to do about an error with which a connection could not be opened."""
    return next(text for kind, text in _CONNECT_ADVICE if isinstance(error, kind))


def log_lost_disconnect(ws_uri: str, why: str, *, is_repeated: bool = False) -> None:
    """Log that the DELETE of a connection was given up.

    There is a line for each connection, as each `ws_uri` may have to be corrected in the backend's records. Lines about
    repeated attempts (`is_repeated`) are throttled.
    """
    message = "%(ws_uri)s: the backend was not told that this connection ended: %(why)s"
    fields = about(ws_uri, why=why)
    if is_repeated:
        throttle.error("lost disconnect", message, fields)
    else:
        logger.error(message, fields)


def is_deliberate(response: Response) -> bool:
    """Return whether a response refuses a client on purpose. A 403 or 404 may be a mistake."""
    return response.status in _DELIBERATE or (response.status // 100 == _SUCCESS and not _is_nearly_ok(response))


def advice(response: Response, hints: dict[int, str] = _HINTS) -> str:
    """Return a semicolon and what to do about a response that is not a success; empty if that is unknown.

    `hints`: those of a format (see `hints_of`), by default of the native one.
    """
    status = response.status
    if status // 100 == _SUCCESS:
        hint = 'only {"code": "OK"}, in capitals, accepts a client' if _is_nearly_ok(response) else ""
    elif status // 100 == _REDIRECTION:
        location = _shorten(hide_secrets(response.headers.get(b"location", b"").decode("latin-1")))
        hint = f"redirects are not followed: exempt this path from the one to {location}"
        if not location.startswith("/"):
            hint = f"redirects are not followed: API_URI has to name {location or 'the final address'} directly"
    elif status // 100 == _SERVER_ERROR and status not in hints:
        hint = "see the log of the backend, or of a proxy in front of it"
    else:
        hint = hints.get(status, "")
    return f"; {hint}" if hint else ""


def _shorten(text: str) -> str:
    return text if len(text) <= EXCERPT_LENGTH else text[: EXCERPT_LENGTH - len(ELLIPSIS)] + ELLIPSIS


def _is_nearly_ok(response: Response) -> bool:
    return _NEARLY_OK.search(response.body, 0, EXCERPT_SOURCE) is not None
