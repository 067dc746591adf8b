"""Answers to the gateway. Each is checked as the gateway will check it, before it is sent."""

import json
import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final, NamedTuple

MAX_CONTEXT: Final = 4096
MAX_GROUP_NAME: Final = 128
MAX_REASON: Final = 123
NORMAL_CLOSURE: Final = 1000
PRIVATE_CODES: Final = range(3000, 5000)
"""Close codes for libraries and applications (RFC 6455 section 7.4.2)."""

REFUSALS: Final = frozenset({200, 401, 403, 404, 429, 503})
"""The statuses that refuse a client. It gets a 403 for 200, and the same status for each of the others."""

BAD_REQUEST: Final = 400
UNAVAILABLE: Final = 503

Data = str | bytes | bytearray | memoryview
"""A message: text, or anything that holds bytes."""

_GROUP_NAME: Final = re.compile(rf"[A-Za-z0-9._~:@!-]{{1,{MAX_GROUP_NAME}}}")
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_VALUE: Final = re.compile(r"[\t -~\x80-\xff]*")
_JSON: Final = "application/json"
_TEXT: Final = "text/plain; charset=utf-8"
_BINARY: Final = "application/octet-stream"


class InvalidAnswer(ValueError):
    """The gateway could not do what the answer asks for. The text says why."""


class Answer(NamedTuple):
    """A response to the gateway.

    Flask takes it as it is. In Starlette and FastAPI it is `Response(*answer)`, in Django
    `HttpResponse(answer.body, status=answer.status, headers=answer.headers)`.
    """

    body: bytes
    status: int
    headers: dict[str, str]


def accept(*, subprotocol: str | None = None, context: str | None = None, groups: Iterable[str] = ()) -> Answer:
    """Let a client connect.

    `subprotocol`: one of those that it offers. `context`: printable ASCII that comes with each later event of the
    client. `groups`: it joins them before it can send anything.
    """
    content: dict[str, Any] = {"code": "OK"}
    if subprotocol is not None:
        if not _TOKEN.fullmatch(subprotocol):
            raise InvalidAnswer(f"the subprotocol is {subprotocol!r}: expected one that the client offers")
        content["subprotocol"] = subprotocol
    if context is not None:
        content["context"] = check_context(context)
    if names := check_groups(groups):
        content["groups"] = names
    return _json(content)


def reject(
    code: str = "REJECTED",
    *,
    status: int = 200,
    headers: Iterable[tuple[str, str]] = (),
    close: int | tuple[int, str] | None = None,
) -> Answer:
    """Refuse a client. No `Disconnect` follows.

    `code`: anything but "OK"; it is for logs, the client does not see it. `status`: 401, 403, 404, 429 or 503 are
    passed on to the client, with `WWW-Authenticate` and `Retry-After` of `headers`. Otherwise it gets a 403.
    `close`: a close code from 3000 to 4999, or a code and a reason. The client is connected and closed with it at once,
    which is the only refusal that a script in a browser can read. It needs the status 200.
    A request that cannot be read is no client to refuse: it gets a `bad_request()`.
    """
    if not code or code == "OK":
        raise InvalidAnswer(f'the code is {code!r}: expected anything but "OK", which would accept the client')
    if status not in REFUSALS:
        raise InvalidAnswer(f"the status is {status}: expected one of {', '.join(map(str, sorted(REFUSALS)))}")
    content: dict[str, Any] = {"code": code}
    if close is not None:
        if status != HTTPStatus.OK:
            raise InvalidAnswer(f"the status is {status}: expected 200, as the client is refused with a close")
        content["close"] = _refusing_close(*((close, "") if isinstance(close, int) else close))
    return _json(content, status, _checked(headers))


def bad_request(message: str = "") -> Answer:
    """Answer a request that cannot be read (`InvalidEvent`). `message`: says why, in the log of the gateway.

    A client that connects gets 502, one that sent a message is closed with 1011, and a disconnect is sent again.
    """
    return _json({"code": "BAD_REQUEST", "message": message}, BAD_REQUEST)


def ok(
    reply: Data | None = None,
    *,
    join: Iterable[str] = (),
    leave: Iterable[str] = (),
    context: str | None = None,
    close: int | tuple[int, str] | None = None,
) -> Answer:
    """Acknowledge a message or a disconnect. The rest is for messages, and is done in the order of the parameters.

    `reply`: a message for the client, text or binary. `join`, `leave`: names of groups; they come before the reply.
    `context`: replaces that of the connection; an empty one removes it. `close`: closes the client with this code
    (1000 or 3000 to 4999), or with a code and a reason.
    """
    headers = {}
    if names := check_groups(join):
        headers["Ws-Join"] = ", ".join(names)
    if names := check_groups(leave):
        headers["Ws-Leave"] = ", ".join(names)
    if reply is not None:
        headers["Ws-Reply"] = "text" if isinstance(reply, str) else "binary"
    if context is not None:
        headers["Ws-Context"] = check_context(context)
    if close is not None:
        headers["Ws-Close"] = _close(*((close, "") if isinstance(close, int) else close))
    if reply is None:
        return _json({"code": "OK"}, headers=headers)
    return Answer(encode_data(reply), 200, {"Content-Type": _TEXT if isinstance(reply, str) else _BINARY, **headers})


def retry_later(seconds: int = 1) -> Answer:
    """Ask the gateway to send a message or a disconnect again, after at least this time.

    A message is sent again for `API_RETRY`, a disconnect ten times as long. A client that connects is refused with 503.
    """
    if not isinstance(seconds, int) or seconds < 0:
        raise InvalidAnswer(f"the seconds are {seconds!r}: expected a whole number that is not negative")
    return _json({"code": "UNAVAILABLE"}, UNAVAILABLE, {"Retry-After": str(int(seconds))})


def check_context(context: str) -> str:
    """Return `context` if it can be stored. Raises `InvalidAnswer`."""
    if len(context) > MAX_CONTEXT or not (context.isascii() and context.isprintable() and context == context.strip()):
        raise InvalidAnswer(
            f"the context is {context[:40]!r}: expected at most {MAX_CONTEXT} printable ASCII characters, without a "
            "space at either end; encode others, with urllib.parse.quote for example"
        )
    return context


def check_groups(names: Iterable[str]) -> list[str]:
    """Return `names` if all can be names of groups. Raises `InvalidAnswer`."""
    if isinstance(names, str):
        raise InvalidAnswer(f"the groups are the string {names!r}: expected a list of names")
    found = list(names)
    for name in found:
        check_group(name)
    return found


def check_group(name: str) -> str:
    """Return `name` if it can be that of a group. Raises `InvalidAnswer`."""
    if not _GROUP_NAME.fullmatch(name):
        raise InvalidAnswer(
            f"a group is named {name[:40]!r}: expected 1 to {MAX_GROUP_NAME} characters of A-Z a-z 0-9 . _ ~ : @ ! -"
        )
    return name


def check_close(code: int, reason: str = "") -> None:
    """Raise `InvalidAnswer` unless a client can be closed with `code` and `reason`."""
    if code != NORMAL_CLOSURE and code not in PRIVATE_CODES:
        raise InvalidAnswer(f"the close code is {code}: expected 1000, or 3000 to 4999")
    if len(encode_text(reason)) > MAX_REASON:
        raise InvalidAnswer(f"the reason has {len(encode_text(reason))} bytes in UTF-8: expected at most {MAX_REASON}")


def encode_data(data: Data) -> bytes:
    """Return the bytes of a message. Raises `InvalidAnswer`, and `TypeError` if it is no message."""
    if isinstance(data, str):
        return encode_text(data)
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    raise TypeError(f"the message is of type {type(data).__name__}: expected str or bytes")


def encode_text(text: str) -> bytes:
    """Return `text` in UTF-8. Raises `InvalidAnswer`."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidAnswer(f"the text cannot be encoded in UTF-8: {error.reason} at {error.start}") from None


def _checked(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return `headers` if each is one header. Raises `InvalidAnswer`."""
    found = dict(headers)
    for name, value in found.items():
        if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            raise InvalidAnswer(f"a header is {name[:40]!r}: {value[:40]!r}: expected a name, and Latin-1 in one line")
    return found


def _refusing_close(code: int, reason: str) -> dict[str, Any]:
    """Return the `close` of a refusal."""
    if code not in PRIVATE_CODES:
        raise InvalidAnswer(f"the close code is {code}: expected 3000 to 4999")
    check_close(code, reason)
    return {"code": code, "reason": reason} if reason else {"code": code}


def _close(code: int, reason: str) -> str:
    """Return the value of `Ws-Close`. It is UTF-8, as the characters of Latin-1 that every framework can send."""
    check_close(code, reason)
    if _CONTROL.search(reason) or reason != reason.strip(" "):
        raise InvalidAnswer(
            f"the reason is {reason!r}: a header has no control characters, and no space at either end; "
            "`Client.disconnect` can send any reason"
        )
    return f"{code} {encode_text(reason).decode('latin-1')}".rstrip(" ")


def _json(content: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    return Answer(json.dumps(content).encode(), status, {"Content-Type": _JSON, **(headers or {})})
