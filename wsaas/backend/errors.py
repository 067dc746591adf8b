"""What can go wrong with a request to the gateway.

The names are those of the codes in its answers. Two of them say whether a request may be sent again:

- `Unavailable`: it was not carried out.
- `Unknown`: it may have been carried out, or may still be.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

HEAD: Final = "HEAD"
READING: Final = frozenset({"GET", HEAD})
"""Methods that change nothing, so that a request can be repeated although it may have arrived."""


class GatewayError(Exception):
    """The gateway has refused a request, or was not reached.

    `status`: of the answer, None if there was none. `code`: such as "GONE", empty if it was no answer of a gateway.
    `retry_after`: seconds, if the answer says so.
    """

    def __init__(
        self, message: str, *, status: int | None = None, code: str = "", retry_after: float | None = None
    ) -> None:
        """Describe the error by the `message` of the answer, or by one sentence."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after = retry_after


class BadRequest(GatewayError):
    """The request is not valid. The text says why."""


class Unauthorized(GatewayError):
    """The token is missing, or is not the `CONTROL_TOKEN` of the gateway."""


class Forbidden(GatewayError):
    """Without a token, the gateway serves only requests to its own host names."""


class NotFound(GatewayError):
    """There is no such path: the `base_url` may be wrong."""


class TooManyGroups(GatewayError):
    """The client is in `MAX_GROUPS` groups already."""


class Gone(GatewayError):
    """The client has disconnected. Its `ws_uri` will never be used again."""


class TooLarge(GatewayError):
    """The message is larger than `MAX_MESSAGE_SIZE`, the batch larger than `MAX_BATCH_SIZE`, or `exclude` too long."""


class SlowClient(GatewayError):
    """The client does not read: `SEND_BUFFER` bytes wait for it already. The message was not sent."""


class TooManyRequests(GatewayError):
    """The gateway has no memory or no place for the request. It was not carried out; try again later."""


class Unavailable(GatewayError):
    """The gateway cannot be reached, or cannot reach the client. The request was not carried out; try again."""


class Unknown(GatewayError):
    """No answer of the gateway came: the request may have been carried out, and may still be.

    It is never sent again by itself, as the client could get a message twice.
    """


class Incomplete(GatewayError):
    """Some processes did not answer: their connections are not in the list. `missing`: the names of the processes."""

    def __init__(self, missing: Sequence[str]) -> None:
        """Name the processes."""
        super().__init__(f"the list is not complete: no answer from {', '.join(missing)}", status=200, code="PARTIAL")
        self.missing = tuple(missing)


_BY_CODE: Final[dict[str, type[GatewayError]]] = {"SLOW_CLIENT": SlowClient, "GATEWAY_TIMEOUT": Unknown}
_BY_STATUS: Final[dict[int, type[GatewayError]]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: TooManyGroups,
    410: Gone,
    413: TooLarge,
    414: TooLarge,
    429: TooManyRequests,
    431: TooLarge,
    503: Unavailable,
}
_FIRST_SERVER_ERROR: Final = 500
_NOT_CARRIED_OUT: Final = frozenset({501, 505})
"""Errors of a server that did not begin with the request, whichever server it is."""

_UNAVAILABLE: Final = 503, "UNAVAILABLE"
"""Status and code by which a gateway says so. A 503 of a proxy says nothing of the gateway behind it."""

_TO_HEAD: Final = {
    401: "the token is missing, or is not the CONTROL_TOKEN of the gateway",
    403: "without a token, the gateway serves only requests to its own host names",
    404: "there is no such path; the base_url may be wrong",
    410: "the client has disconnected",
}
"""What a status means if the answer has no body that says it."""


def from_answer(method: str, status: int, headers: Mapping[str, str], content: Any) -> GatewayError:
    """Return the error in an answer. `content`: the decoded JSON, None if there is none."""
    members = content if isinstance(content, dict) else {}
    code, message = (str(members.get(name, "")) for name in ("code", "message"))
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status, GatewayError)
    reads_only = method in READING
    is_refused = status in _NOT_CARRIED_OUT or (status, code) == _UNAVAILABLE or (reads_only and kind is Unavailable)
    if status >= _FIRST_SERVER_ERROR and not is_refused:
        # Also a 502, 503 or 504 of a proxy in front of the gateway.
        kind = Unknown
    if method == HEAD:
        message = f"the answer is {status}: {_TO_HEAD.get(status, 'an answer to HEAD says no more')}"
    return kind(
        message or f"the answer is {status}, not from a gateway",
        status=status,
        code=code,
        retry_after=_seconds(headers.get("retry-after", "")),
    )


def _seconds(text: str) -> float | None:
    return float(text) if text.isascii() and text.isdigit() else None
