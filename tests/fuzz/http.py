"""Helpers of the HTTP targets: a strict reading of HTTP/1.1 (RFC 9112) without the gateway's parsers."""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from types import ModuleType
from typing import Any

TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
NAME = re.compile(TOKEN)
VALUE = re.compile(rb"[^\x00\r\n]*")
LINE = re.compile(rb"(%b): ([^\x00\r\n]*)" % TOKEN)

Headers = Sequence[tuple[bytes, bytes]]


def pairs(headers: Headers | Mapping[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """Return headers as pairs."""
    return list(headers.items() if isinstance(headers, Mapping) else headers)


def joined(headers: Headers) -> dict[bytes, bytes]:
    """Return headers with the values of repeated names joined (RFC 9110 section 5.3)."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        found[name] = found[name] + b", " + value if name in found else value
    return found


@lru_cache
def places(names: tuple[str, ...]) -> tuple[list[tuple[ModuleType, str, object]], list[Any]]:
    """Return the definitions of the limits `names` in the gateway, and all caches, which may depend on them."""
    modules = [module for name, module in sys.modules.items() if name.startswith("wsaas.")]
    found = [(module, name, getattr(module, name)) for module in modules for name in names if hasattr(module, name)]
    return found, [value for module in modules for value in vars(module).values() if hasattr(value, "cache_clear")]


@contextmanager
def limits(**values: object) -> Iterator[None]:
    """Set limits, and values that were computed from them at import, so that short inputs reach them."""
    found, caches = places(tuple(values))
    assert {name for _, name, _ in found} == set(values)
    try:
        for module, name, _ in found:
            setattr(module, name, values[name])
        for cache in caches:
            cache.cache_clear()
        yield
    finally:
        for module, name, value in found:
            setattr(module, name, value)
        for cache in caches:
            cache.cache_clear()


def head_of(message: bytes) -> tuple[bytes, Headers, bytes]:
    """Return start line, headers and body of a message of the gateway, which has to be strictly valid."""
    head, end, rest = message.partition(b"\r\n\r\n")
    assert end
    start, *lines = head.split(b"\r\n")
    assert VALUE.fullmatch(start)
    headers = []
    for line in lines:
        found = LINE.fullmatch(line)
        assert found, line
        headers.append((found[1].lower(), found[2]))
    return start, headers, rest


def written(start: bytes, headers: Headers, body: bytes) -> bytes:
    """Return the bytes of a message, chunked if its headers say so."""
    lines = [start, *(name + b": " + value for name, value in headers)]
    if any(name == b"transfer-encoding" for name, _ in headers):
        body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
    return b"\r\n".join([*lines, b"", body])


def check_headers(headers: Headers) -> None:
    """Check accepted headers, which are normalized."""
    for name, value in headers:
        assert NAME.fullmatch(name), name
        assert name == name.lower()
        assert VALUE.fullmatch(value), value
        assert value == value.strip(b" \t"), value
