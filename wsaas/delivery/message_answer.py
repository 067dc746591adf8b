"""Reads the backend's answer to a message: what its `Ws-` headers ask for."""

import re
from typing import Final

from wsaas.delivery.verdicts import Actions
from wsaas.events import Message
from wsaas.grammar import GROUP_NAME_FORM, is_group_name
from wsaas.http.headers import content_coding
from wsaas.http.response import Response
from wsaas.log.redaction import hide_secrets
from wsaas.websocket.frames import MAX_REASON, Close, valid_text

MAX_CONTEXT: Final = 4096
"""Maximum length of a context, in characters."""

MAX_SHOWN: Final = 40
"""Bytes of an invalid header that are logged."""

_CLOSE: Final = re.compile(rb"(1000|[34][0-9]{3})(?: +(.*))?")
"""The close codes that an application may send (RFC 6455 section 7.4.2), and a reason."""


class InvalidAnswer(Exception):
    """The answer asks for something that cannot be done. The text says why, and begins with "the backend's"."""


def read_actions(response: Response) -> Actions:
    """Return what a 2xx answer asks for. Raises `InvalidAnswer`."""
    headers = response.headers
    return Actions(
        _names(response, b"ws-join", "Ws-Join"),
        _names(response, b"ws-leave", "Ws-Leave"),
        _reply(response) if b"ws-reply" in headers else None,
        _context(headers[b"ws-context"]) if b"ws-context" in headers else None,
        _close(headers[b"ws-close"]) if b"ws-close" in headers else None,
    )


def valid_context(context: object) -> bool:
    """Return whether `context` can be the value of a header, which has no spaces at its ends."""
    return (
        isinstance(context, str)
        and len(context) <= MAX_CONTEXT
        and context.isascii()
        and context.isprintable()
        and context == context.strip(" ")
    )


def _names(response: Response, header: bytes, shown: str) -> tuple[str, ...]:
    """Return the group names in a list header."""
    members = [member.strip(b" \t").decode("latin-1") for member in response.headers.get(header, b"").split(b",")]
    # An empty member counts as none (RFC 9110 section 5.6.1).
    names = tuple(filter(None, members))
    for name in names:
        if not is_group_name(name):
            raise InvalidAnswer(
                f"the backend's {shown} names {hide_secrets(name)[:MAX_SHOWN]!r}, but a name is {GROUP_NAME_FORM}"
            )
    return names


def _reply(response: Response) -> Message:
    kind = response.headers[b"ws-reply"].lower()
    if kind not in {b"text", b"binary"}:
        raise InvalidAnswer(f"the backend's Ws-Reply is {_show(kind)}, neither text nor binary")
    if response.is_too_large:
        raise InvalidAnswer("the backend's reply is over MAX_MESSAGE_SIZE")
    if coding := content_coding(response.headers):
        raise InvalidAnswer(f"the backend's reply is in Content-Encoding {coding}")
    if kind == b"text" and not valid_text(response.body):
        raise InvalidAnswer("the backend's text reply is not UTF-8")
    return Message(kind == b"text", response.body)


def _context(value: bytes) -> str:
    context = value.decode("latin-1")
    if not valid_context(context):
        raise InvalidAnswer(f"the backend's Ws-Context is not at most {MAX_CONTEXT} printable ASCII characters")
    return context


def _close(value: bytes) -> Close:
    found = _CLOSE.fullmatch(value)
    if found is None:
        raise InvalidAnswer(f"the backend's Ws-Close is {_show(value)}, not a code (1000 or 3000 to 4999) and a reason")
    reason = found[2] or b""
    if len(reason) > MAX_REASON or not valid_text(reason):
        raise InvalidAnswer(f"the backend's Ws-Close has a reason that is not UTF-8 of at most {MAX_REASON} bytes")
    return Close(int(found[1]), reason.decode())


def _show(value: bytes) -> str:
    return repr(hide_secrets(value.decode("latin-1"))[:MAX_SHOWN])
