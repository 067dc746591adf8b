"""The message in the body of a request: text or binary, by its `Content-Type`."""

import math

from wsaas.errors import RETRY_AFTER, BadText, TooManyRequests, UnsupportedMediaType
from wsaas.http import media_type
from wsaas.http.headers import content_coding
from wsaas.http.media_type import BINARY, EITHER, TEXT
from wsaas.http.request import Request
from wsaas.memory.limit import MemoryLimit
from wsaas.websocket import frames


def read_message(request: Request, max_size: int) -> tuple[int, bytes]:
    """Return the opcode and the payload of the message in the body of `request`.

    Raises `BadText`, `TooLarge` for text that has more than `max_size` bytes in UTF-8, `UnsupportedMediaType`.
    """
    headers = request.headers
    if b"content-encoding" in headers:
        refuse_content_coding(request)
    kind = media_type.interpret(headers.get(b"content-type"))
    body = request.body
    if kind is BINARY:
        return frames.BINARY, body
    if kind is not TEXT and kind is not EITHER:
        return frames.TEXT, media_type.to_utf8(body, kind, max_size)
    if frames.valid_text(body):
        return frames.TEXT, body
    if kind is EITHER:
        return frames.BINARY, body
    raise BadText("A text message must be UTF-8; send other data with another Content-Type.")


def refuse_content_coding(request: Request) -> None:
    """Raise `UnsupportedMediaType` for a body in a content coding (RFC 9110 section 15.5.16)."""
    if coding := content_coding(request.headers):
        raise UnsupportedMediaType(
            f"The body has Content-Encoding {coding}: send it uncompressed.", ("Accept-Encoding", "identity")
        )


def check_memory(request: Request, memory: MemoryLimit, max_size: int) -> None:
    """Raise `TooManyRequests` where the body of `request`, at most `max_size` bytes, is more than memory allows."""
    if memory.allowance < min(max_size, declared_size(request)):
        raise TooManyRequests("This node is short of memory: send the message again later.", RETRY_AFTER)


def declared_size(request: Request) -> float:
    """Return the size of the body that the head of `request` declares, infinity for a chunked body."""
    headers = request.headers
    return math.inf if b"transfer-encoding" in headers else int(headers.get(b"content-length", b"0"))
