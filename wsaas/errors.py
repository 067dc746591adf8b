"""The errors of the gateway. An `HTTPError` becomes an HTTP response with a status, a code and a message.

An `HTTPError` may be raised, returned or stored as a value. `http.serialize` turns it into bytes.
"""

from typing import Final

RETRY_AFTER: Final = ("Retry-After", "1")
"""The header that tells a client to try again after one second."""


TLS_NEEDED: Final = "This port speaks TLS: use https:// or wss://."
"""The message of the error for a request without TLS to a port with TLS."""


class HTTPError(Exception):
    """A request that cannot be served.

    `headers`: pairs of name and value for the response. `content`: its JSON object.
    """

    status = 400
    code = "BAD_REQUEST"

    def __init__(self, message: str, *headers: tuple[str, str]) -> None:
        """Describe the error. `message`: one sentence that says what is wrong and, if possible, what to do."""
        super().__init__(message)
        self.message = message
        self.content = {"code": self.code, "message": message}
        self.headers = headers

    @property
    def answer(self) -> str:
        """What a client gets, for a message: the status."""
        return str(self.status)


class BadRequest(HTTPError):
    """Malformed HTTP, or an invalid handshake (RFC 6455 section 4.2.1)."""


class BadText(HTTPError):
    """A push of a text message that is not UTF-8."""

    code = "BAD_TEXT"


class BadClose(HTTPError):
    """A close code or reason that may not be sent (RFC 6455 sections 5.5.1 and 7.4)."""

    code = "BAD_CLOSE"


class Unauthorized(HTTPError):
    """No bearer token, or the wrong one."""

    status = 401
    code = "UNAUTHORIZED"


class Forbidden(HTTPError):
    """The client or caller is not allowed to do this."""

    status = 403
    code = "FORBIDDEN"


class RefusedWithClose(Forbidden):
    """The backend refuses a client with a Close, which a script in a browser can read.

    The client gets a 101, so that it can be sent the Close, but the refusal counts as the 403 that others get.
    `close_code`, `close_reason`: of the Close. `subprotocol`: what the backend chose for the 101, if anything.
    """

    def __init__(self, close_code: int, close_reason: str, subprotocol: str | None = None) -> None:
        """Keep the values."""
        super().__init__("The backend refused the connection.")
        self.close_code = close_code
        self.close_reason = close_reason
        self.subprotocol = subprotocol

    @property
    def answer(self) -> str:
        """What the client gets, for a message: the close code."""
        return f"the close {self.close_code}"


class NotFound(HTTPError):
    """An unknown path."""

    status = 404
    code = "NOT_FOUND"


class MethodNotAllowed(HTTPError):
    """A method that the resource does not support; sent with `Allow`."""

    status = 405
    code = "METHOD_NOT_ALLOWED"


class RequestTimeout(HTTPError):
    """A request that was not received completely in time."""

    status = 408
    code = "REQUEST_TIMEOUT"


class TooManyGroups(HTTPError):
    """A client is in as many groups as `MAX_GROUPS` allows."""

    status = 409
    code = "TOO_MANY_GROUPS"


class Gone(HTTPError):
    """A WebSocket connection that ended or never existed. Its id is not used again."""

    status = 410
    code = "GONE"


class TooLarge(HTTPError):
    """A body over `MAX_MESSAGE_SIZE`."""

    status = 413
    code = "TOO_LARGE"


class UriTooLong(HTTPError):
    """A request target over the limit."""

    status = 414
    code = "URI_TOO_LONG"


class UnsupportedMediaType(HTTPError):
    """A body in an unsupported content coding or charset."""

    status = 415
    code = "UNSUPPORTED_MEDIA_TYPE"


class ExpectationFailed(HTTPError):
    """An `Expect` that is not `100-continue`."""

    status = 417
    code = "EXPECTATION_FAILED"


class Misdirected(HTTPError):
    """A request for another node (RFC 9110 section 15.5.20). It was not carried out."""

    status = 421
    code = "MISDIRECTED"


class UpgradeRequired(HTTPError):
    """A WebSocket version other than 13 (RFC 6455 section 4.2.2)."""

    status = 426
    code = "UPGRADE_REQUIRED"


class SlowClient(HTTPError):
    """The send buffer of the client is full; the message was not sent."""

    status = 429
    code = "SLOW_CLIENT"


class TooManyRequests(HTTPError):
    """Too many connections from one address, too many clients for the backend, or too little memory for a message."""

    status = 429
    code = "TOO_MANY_REQUESTS"


class TooManyViewers(HTTPError):
    """As many viewers of the console follow connections as there may be."""

    status = 429
    code = "TOO_MANY_VIEWERS"


class HeadTooLarge(HTTPError):
    """A request head over the limit."""

    status = 431
    code = "HEAD_TOO_LARGE"


class Unsupported(HTTPError):
    """An unknown method or transfer coding."""

    status = 501
    code = "NOT_IMPLEMENTED"


class BadGateway(HTTPError):
    """The response of the backend cannot be used."""

    status = 502
    code = "BAD_GATEWAY"


class Unavailable(HTTPError):
    """The node is draining or full, or the backend cannot be reached; sent with `Retry-After`."""

    status = 503
    code = "UNAVAILABLE"


class GatewayTimeout(HTTPError):
    """The backend did not respond in time."""

    status = 504
    code = "GATEWAY_TIMEOUT"


class Unknown(HTTPError):
    """A request that another process has received, and may or may not have carried out."""

    status = 504
    code = "UNKNOWN"


class VersionNotSupported(HTTPError):
    """An HTTP version other than 1.0 and 1.1."""

    status = 505
    code = "VERSION_NOT_SUPPORTED"


class Malformed(Exception):
    """A message that is not valid HTTP/1.1, or is ambiguous. The text says why, as a phrase to put after a colon."""


class LimitExceeded(Malformed):
    """An HTTP message whose start line or headers exceed a limit."""


class UnknownCoding(Malformed):
    """A body in a transfer coding other than `chunked`."""


class SettingError(Exception):
    """A setting that cannot be used. The text names the variable, its value and what was expected."""
