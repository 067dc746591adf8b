"""The parts of the two paths by themselves: parsers and serializers, found in whichever checkout is measured.

This is the only place that knows the names inside another checkout. `_find` takes the first that exists, so that a
checkout from before a move of modules can be measured beside one from after it. A part that is not found, or whose
interface differs, is left out of the tables. The two paths need no such names: see `benchmarks.in_process.gateway`.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from benchmarks.report import progress
from benchmarks.wire import NO_CONTENT, push, text

LIMIT = 1 << 20
"""Bytes that a message or a body may have."""

Step = Callable[[], object]

DECODER = ("wsaas.websocket.decoder:FrameDecoder", "wsaas.framing:FrameStream")
FRAMES = ("wsaas.websocket.frames:encode", "wsaas.frames:encode")
REQUEST_PARSER = ("wsaas.http.request:RequestParser", "wsaas.http1:RequestReader")
RESPONSE_PARSER = ("wsaas.http.response:ResponseParser", "wsaas.responses:ResponseReader")
BINARY = 2
"""The opcode (RFC 6455 section 5.2)."""


def decode(size: int) -> Step:
    """Return a step that decodes a frame of `size` bytes."""
    decoder, data = _find(DECODER)(LIMIT), text(size)

    def step() -> object:
        decoder.receive(data)
        message = decoder.next()
        decoder.next()
        return message

    return step


def encode(size: int) -> Step:
    """Return a step that encodes a frame of `size` bytes."""
    encode_frame, payload = _find(FRAMES), b"x" * size
    return lambda: encode_frame(BINARY, payload)


def parse_request(size: int) -> Step:
    """Return a step that parses the request that pushes `size` bytes."""
    parser, data = _find(REQUEST_PARSER)(LIMIT), push("/" + "i" * 30, size)

    def step() -> object:
        parser.receive(data)
        return parser.next()

    return step


def parse_response(_size: int) -> Step:
    """Return a step that parses the backend's response to a message."""
    parser = _find(RESPONSE_PARSER)(LIMIT)

    def step() -> object:
        parser.feed(NO_CONTENT)
        return parser

    return step


PARTS: dict[str, Callable[[int], Step]] = {
    "a frame decoded": decode,
    "a frame encoded": encode,
    "a request parsed": parse_request,
    "a response parsed": parse_response,
}


def usable(name: str, size: int) -> Step | None:
    """Return a step of the part `name`, or say on stderr why this checkout has none."""
    try:
        step = PARTS[name](size)
        result = step()
    except (LookupError, AttributeError, TypeError) as error:
        progress(f"{name}: left out: {error}")
        return None
    if result is None:
        progress(f"{name}: left out: its first step returned nothing")
    return step if result is not None else None


def _find(names: tuple[str, ...]) -> Any:
    """Return the first of `names` that exists, each a module and an attribute of it. Raises `LookupError`."""
    for name in names:
        module, _, attribute = name.partition(":")
        try:
            return getattr(import_module(module), attribute)
        except (ImportError, AttributeError):
            continue
    raise LookupError(f"none of {', '.join(names)} exists")
