"""Each fault with the answer that it gives: an HTTP status, a code for programs and a sentence for people.

Faults are plain values until they are raised or returned; `answers.fault_answer` is the one place that turns
them into bytes.
"""

RETRY_AFTER = ("Retry-After", "1")
"""The header of a refusal that is likely to be over in a second."""


class HTTPError(Exception):
    """A request that cannot be served. `headers`: name and value pairs that the answer carries."""

    status = 400
    code = "BAD_REQUEST"

    def __init__(self, message: str, *headers: tuple[str, str]) -> None:
        """Explain the fault in one sentence that a person can act on."""
        super().__init__(message)
        self.message = message
        self.headers = headers


class BadRequest(HTTPError):
    """Malformed HTTP, or a handshake that RFC 6455 section 4.2.1 does not allow."""


class BadText(HTTPError):
    """A text message that is not UTF-8."""

    code = "BAD_TEXT"


class BadClose(HTTPError):
    """A close code or reason that may not be sent (RFC 6455 sections 5.5.1 and 7.4)."""

    code = "BAD_CLOSE"


class Unauthorized(HTTPError):
    """No bearer token, or the wrong one."""

    status = 401
    code = "UNAUTHORIZED"


class Forbidden(HTTPError):
    """The client may not connect."""

    status = 403
    code = "FORBIDDEN"


class NotFound(HTTPError):
    """No such thing here, and there never was."""

    status = 404
    code = "NOT_FOUND"


class MethodNotAllowed(HTTPError):
    """The thing is here but does not do that; carries `Allow`."""

    status = 405
    code = "METHOD_NOT_ALLOWED"


class RequestTimeout(HTTPError):
    """A request did not arrive whole in time."""

    status = 408
    code = "REQUEST_TIMEOUT"


class Gone(HTTPError):
    """The connection ended, or never was; its id will not come back."""

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
    """A body in a content coding or a charset that is not read here."""

    status = 415
    code = "UNSUPPORTED_MEDIA_TYPE"


class ExpectationFailed(HTTPError):
    """An `Expect` that is not `100-continue`."""

    status = 417
    code = "EXPECTATION_FAILED"


class UpgradeRequired(HTTPError):
    """A WebSocket version other than 13 (RFC 6455 section 4.2.2)."""

    status = 426
    code = "UPGRADE_REQUIRED"


class SlowClient(HTTPError):
    """The client does not take what waits for it already; nothing was sent."""

    status = 429
    code = "SLOW_CLIENT"


class TooManyRequests(HTTPError):
    """The backend has too many clients, or this address has; carries `Retry-After`."""

    status = 429
    code = "TOO_MANY_REQUESTS"


class HeadTooLarge(HTTPError):
    """A request head over the limit."""

    status = 431
    code = "HEAD_TOO_LARGE"


class Unsupported(HTTPError):
    """A method or a transfer coding that nothing here knows."""

    status = 501
    code = "NOT_IMPLEMENTED"


class BadGateway(HTTPError):
    """The backend's answer cannot be used."""

    status = 502
    code = "BAD_GATEWAY"


class Unavailable(HTTPError):
    """Not now: draining, full, or the backend cannot be reached; carries `Retry-After`."""

    status = 503
    code = "UNAVAILABLE"


class GatewayTimeout(HTTPError):
    """The backend did not answer in time."""

    status = 504
    code = "GATEWAY_TIMEOUT"


class VersionNotSupported(HTTPError):
    """An HTTP version other than 1.0 and 1.1."""

    status = 505
    code = "VERSION_NOT_SUPPORTED"


class Malformed(Exception):
    """Bytes that are not HTTP/1.1, or can be read in two ways: the text says why, after a colon."""


class LimitExceeded(Malformed):
    """A message that is well formed so far, but too long in what is not its body."""


class UnknownCoding(Malformed):
    """A body in a transfer coding other than `chunked` alone."""


class SettingError(Exception):
    """A setting that cannot be used: the text names the variable, the value and what is accepted."""
