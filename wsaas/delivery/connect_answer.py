"""Reads the backend's answer to a POST: whether the client may connect."""

from codecs import BOM_UTF8
from typing import Any, Final

import orjson

from wsaas import errors
from wsaas.delivery.message_answer import MAX_CONTEXT, valid_context
from wsaas.delivery.pool import Failure, Outcome
from wsaas.delivery.verdicts import Accepted, Rejected
from wsaas.errors import RETRY_AFTER
from wsaas.grammar import GROUP_NAME_FORM, is_group_name
from wsaas.http.headers import content_coding
from wsaas.http.response import Response
from wsaas.websocket.frames import MAX_REASON

_UNKNOWN: Final = {502, 504}
"""Statuses of a proxy that do not tell whether the backend has seen the request."""

PRIVATE_CODES: Final = range(3000, 5000)
"""Close codes for libraries and applications (RFC 6455 section 7.4.2)."""

UNUSABLE_CLOSE: Final = (
    f'a close that is not such as {{"code": 4401, "reason": "token expired"}}: a code from 3000 to 4999, and a reason '
    f"of at most {MAX_REASON} bytes of UTF-8"
)
_UNUSABLE_SUBPROTOCOL: Final = "a subprotocol that is not a string"

USUAL: Final = frozenset({b'{"code":"OK"}', b'{"code": "OK"}'})
"""How nearly all backends accept a client, as JSON libraries write it. It need not be parsed."""


def judge_opened(outcome: Outcome) -> Accepted | Rejected:
    """Return the verdict on a client, from the outcome of its POST."""
    if isinstance(outcome, Failure):
        return Rejected(*_REFUSALS[outcome])
    if outcome.status // 100 == 2:  # noqa: PLR2004 - the class of success (RFC 9110 section 15)
        return _judge_code(outcome)
    if (make := PASSED_ON.get(outcome.status)) is not None:
        names = (b"www-authenticate", b"retry-after")
        headers = [
            (name.title().decode(), outcome.headers[name].decode("latin-1"))
            for name in names
            if name in outcome.headers
        ]
        return Rejected(make("The backend refused the connection.", *headers), disconnect_owed=False)
    return Rejected(
        errors.BadGateway(f"The backend answered {outcome.status}."), disconnect_owed=outcome.status in _UNKNOWN
    )


def _judge_code(response: Response) -> Accepted | Rejected:
    if response.body in USUAL and b"content-encoding" not in response.headers:
        # The lines below would return the same.
        return Accepted(None, None)
    if coding := content_coding(response.headers):
        return _unusable(f"a body in Content-Encoding {coding}")
    try:
        body = orjson.loads(response.body.removeprefix(BOM_UTF8))
    except orjson.JSONDecodeError:
        body = None
    code = body.get("code") if isinstance(body, dict) else None
    if not isinstance(code, str):
        return _unusable('a body that is not JSON such as {"code": "OK"}')
    return _read_accepted(body) if code == "OK" else _read_rejected(body)


def _read_rejected(body: dict[str, Any]) -> Rejected:
    """Return the refusal of a client. No DELETE is owed, even if its `close` is unusable: `code` was readable."""
    close, subprotocol = body.get("close"), body.get("subprotocol")
    if close is None:
        return Rejected(errors.Forbidden("The backend refused the connection."), disconnect_owed=False)
    code, reason = (close.get("code"), close.get("reason")) if isinstance(close, dict) else (None, None)
    if reason is None:
        reason = ""
    if not (
        isinstance(code, int)
        and code in PRIVATE_CODES
        and isinstance(reason, str)
        and len(reason.encode()) <= MAX_REASON
    ):
        return _unusable(UNUSABLE_CLOSE, disconnect_owed=False)
    if not isinstance(subprotocol, str | None):
        return _unusable(_UNUSABLE_SUBPROTOCOL, disconnect_owed=False)
    return Rejected(errors.RefusedWithClose(code, reason, subprotocol), disconnect_owed=False)


def _read_accepted(body: dict[str, Any]) -> Accepted | Rejected:
    subprotocol, context, groups = body.get("subprotocol"), body.get("context"), body.get("groups")
    if not isinstance(subprotocol, str | None):
        return _unusable(_UNUSABLE_SUBPROTOCOL)
    if context is not None and not valid_context(context):
        return _unusable(f"a context that is not a string of at most {MAX_CONTEXT} printable ASCII characters")
    if groups is not None and not (
        isinstance(groups, list) and all(isinstance(name, str) and is_group_name(name) for name in groups)
    ):
        return _unusable(f"groups that are not a list of names of {GROUP_NAME_FORM}")
    return Accepted(subprotocol, context, tuple(groups or ()))


def _unusable(what: str, *, disconnect_owed: bool = True) -> Rejected:
    error = errors.BadGateway(f"The backend answered with {what}.")
    return Rejected(error, disconnect_owed=disconnect_owed, unusable=what)


PASSED_ON: Final[dict[int, type[errors.HTTPError]]] = {
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
    429: errors.TooManyRequests,
    503: errors.Unavailable,
}
"""The statuses of a backend that a client gets, too."""

_REFUSALS: Final = {
    Failure.UNREACHABLE: (errors.Unavailable("The backend cannot be reached.", RETRY_AFTER), False),
    Failure.POOL_TIMEOUT: (errors.Unavailable("The backend is busy.", RETRY_AFTER), False),
    Failure.BROKEN: (errors.BadGateway("The backend closed the connection without a complete answer."), True),
    Failure.INVALID_RESPONSE: (errors.BadGateway("The backend did not answer in valid HTTP."), True),
    Failure.TIMED_OUT: (errors.GatewayTimeout("The backend did not answer in time."), True),
}
