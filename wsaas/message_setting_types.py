"""The types of the settings about messages of clients."""

import re
from dataclasses import dataclass
from typing import Final

from wsaas.grammar import TOKEN
from wsaas.setting_types import accepting

MAX_CONTENT_TYPE: Final = 200
MAX_HEARTBEAT: Final = 125
_PARAMETER: Final = rf'[ \t]*;[ \t]*({TOKEN})=({TOKEN}|"[ !#-\[\]-~]*")'
_MEDIA_TYPE: Final = re.compile(rf"{TOKEN}/{TOKEN}(?:{_PARAMETER})*")
_ROUTE_SELECTION: Final = re.compile(r"\$({)?request\.body((?:\.[A-Za-z0-9_-]+)+)(?(1)})")
_BINARY_TYPE: Final = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A text message of clients, and the gateway's answer to it."""

    ping: bytes
    pong: bytes

    def __str__(self) -> str:
        """Return both in the format of the setting."""
        return f"{self.ping.decode()}={self.pong.decode()}"


@accepting(
    "a media type such as application/json, of at most 200 characters, other than application/octet-stream, and with "
    "at most one charset, utf-8"
)
def text_content_type(text: str) -> str:
    """Parse the media type of text messages (RFC 9110 section 8.3.1)."""
    if len(text) > MAX_CONTENT_TYPE or not _MEDIA_TYPE.fullmatch(text):
        raise ValueError
    charsets = [value.strip('"').lower() for name, value in re.findall(_PARAMETER, text) if name.lower() == "charset"]
    if charsets not in ([], ["utf-8"]):
        raise ValueError
    if text.partition(";")[0].strip().lower() == _BINARY_TYPE:
        raise ValueError
    return text


@accepting(
    f"a text and its answer, such as ping=pong, each of 1 to {MAX_HEARTBEAT} bytes without control characters; the "
    "first = separates them"
)
def heartbeat(text: str) -> Heartbeat:
    """Parse a heartbeat and its answer."""
    ping, _, pong = text.partition("=")
    if not text.isprintable():
        raise ValueError
    found = Heartbeat(ping.encode(), pong.encode())
    if not all(0 < len(part) <= MAX_HEARTBEAT for part in (found.ping, found.pong)):
        raise ValueError
    return found


@accepting(
    "$request.body. and the name of a member, such as $request.body.action or ${request.body.action}; names of nested "
    "ones follow a dot"
)
def route_selection(text: str) -> tuple[str, ...]:
    """Parse a route selection expression of AWS API Gateway to the names of members, the outermost first."""
    found = _ROUTE_SELECTION.fullmatch(text)
    if found is None:
        raise ValueError
    return tuple(found[2].split(".")[1:])
