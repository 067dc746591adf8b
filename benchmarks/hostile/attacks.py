"""What hostile clients do: each kind of them by name, as data.

All bytes of an attack are made before it starts. How the backend treats a hostile client is written in that client's
`Authorization`, which the gateway passes on and `benchmarks.hostile.backend` reads.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.wire import HANDSHAKE, PING, PONG, compressed_text, frame, request

CHUNK = 64 * 1024
"""Bytes that a flooding client writes at a time, about."""

PARKED_BODY = (1 << 20) - 1
"""Bytes of a parked body: one less than `MAX_MESSAGE_SIZE`."""

FLOODING, FAILING, FULL, HOLDING = "flooding", "failing", "full table", "memory"
"""Groups of kinds. Each has a table of its own."""


@dataclass(frozen=True)
class Attack:
    """What each hostile connection does, in this order.

    It writes `opening` and waits for a 101 (`shakes_hands`); writes `once`; writes `flood` again and again, as fast as
    the socket takes it. It connects again when it is closed.
    """

    opening: bytes = b""
    once: bytes = b""
    flood: bytes = b""
    shakes_hands: bool = True
    resets: bool = False
    """Whether it resets the connection: when the socket takes no more of the flood, or when all is written."""
    together: bool = False
    """Whether all connections begin at the same moment."""
    rate: int = 0
    """Connections a second in all; 0: a fixed number of connections."""


@dataclass(frozen=True)
class Kind:
    """A kind of hostile client, and the gateway that it meets."""

    group: str
    attack: Attack
    clients: int = 50
    settings: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of the gateway."""
    descriptors: int = 0
    """Hard limit of the gateway's open files; 0: none of its own."""
    separate_control: bool = False
    """Whether the REST API listens on a port of its own."""


def handshake(treatment: str = "", headers: str = "") -> bytes:
    """Return a handshake. `treatment`: a method and how the backend answers it, such as `PUT 500`."""
    more = (f"Authorization: {treatment}\r\n" if treatment else "") + headers
    return HANDSHAKE[:-2] + more.encode() + b"\r\n"


def repeated(pattern: bytes) -> bytes:
    """Return `pattern` repeated to about `CHUNK` bytes."""
    return pattern * max(1, CHUNK // len(pattern))


TINY = frame(b"x")
EMPTY_TWO = frame(flags=0) + frame(opcode=0)
"""An empty message of two fragments."""

EMPTY_THOUSAND = frame(flags=0) + frame(opcode=0, flags=0) * 998 + frame(opcode=0)
"""An empty message of 1,000 fragments."""

OFFER = "Sec-WebSocket-Extensions: permessage-deflate\r\n"
TARGET = "/{sink}"
"""Stands for the path of a live client's `ws_uri`."""

CHUNKED = "Transfer-Encoding: chunked\r\n"
CHUNKED_BODY = b"1\r\nx\r\n" * 60_000 + b"0\r\n\r\n"
QUICK_CLOSE = {"HANDSHAKE_TIMEOUT": "2000"}
"""A client that is being closed is dropped after this: several times within one measurement."""

SHORT_TIMEOUT = {"API_TIMEOUT": "2000"}
TREATMENTS = ("500", "reset", "garbage", "silence")


def flooding(flood: bytes, treatment: str = "", headers: str = "") -> Attack:
    """Return an attack by WebSocket clients that flood."""
    return Attack(handshake(treatment, headers), flood=repeated(flood))


def http_flood(flood: bytes) -> Attack:
    """Return an attack by HTTP clients that flood."""
    return Attack(flood=flood, shakes_hands=False)


def parked(path: str) -> Attack:
    """Return an attack by PUTs whose body lacks its last byte."""
    headers = f"Content-Length: {PARKED_BODY}\r\nContent-Type: text/plain\r\n"
    return Attack(once=request("PUT", path, headers, b"x" * (PARKED_BODY - 1)), shakes_hands=False)


def failing(attack: Attack) -> Kind:
    """Return clients whose requests the backend fails."""
    return Kind(FAILING, attack, 60, SHORT_TIMEOUT)


SILENT = Attack(shakes_hands=False)
STAYING = Attack(handshake())

KINDS: dict[str, Kind] = {
    "pings": Kind(FLOODING, flooding(frame(opcode=PING))),
    "pongs": Kind(FLOODING, flooding(frame(opcode=PONG))),
    "fragments": Kind(FLOODING, flooding(EMPTY_TWO)),
    "fragments-many": Kind(FLOODING, flooding(EMPTY_THOUSAND)),
    "messages": Kind(FLOODING, flooding(TINY)),
    "compressed": Kind(FLOODING, flooding(compressed_text(b"x"), headers=OFFER), settings={"COMPRESSION": "on"}),
    "dropped": Kind(FLOODING, flooding(TINY, "PUT 400"), settings=QUICK_CLOSE),
    "closing": Kind(FLOODING, flooding(TINY, "PUT close"), settings=QUICK_CLOSE),
    "dropped-fragments": Kind(FLOODING, flooding(TINY + EMPTY_TWO * 500, "PUT 400"), settings=QUICK_CLOSE),
    "abrupt": Kind(
        FLOODING, Attack(handshake("PUT reply"), flood=repeated(frame(opcode=PING) + TINY * 63), resets=True)
    ),
    "gets-healthz": Kind(FLOODING, http_flood(repeated(request("GET", "/healthz")))),
    "gets-unknown": Kind(FLOODING, http_flood(repeated(request("GET", "/no/such/path")))),
    "chunks": Kind(FLOODING, http_flood(request("PUT", TARGET, CHUNKED, CHUNKED_BODY))),
    "chunks-unknown": Kind(FLOODING, http_flood(request("PUT", "/no/such/path", CHUNKED, CHUNKED_BODY))),
    **{f"message-{each}": failing(Attack(handshake(f"PUT {each}"), TINY, together=True)) for each in TREATMENTS},
    **{f"post-{each}": failing(Attack(handshake(f"POST {each}"))) for each in TREATMENTS},
    "full-clients": Kind(FULL, STAYING, 1000, descriptors=512, separate_control=True),
    "full-clients-shared": Kind(FULL, STAYING, 1000, descriptors=512),
    "full-silent": Kind(FULL, SILENT, 1000, descriptors=512, separate_control=True),
    "full-silent-shared": Kind(FULL, SILENT, 1000, descriptors=512),
    "parked-unknown": Kind(HOLDING, parked("/no/such/path"), 1000),
    "parked-unauthorized": Kind(HOLDING, parked(TARGET), 1000, {"CONTROL_TOKEN": "secret"}),
    "parked-live": Kind(HOLDING, parked(TARGET), 1000),
    "ended-500": Kind(HOLDING, Attack(handshake("DELETE 500"), resets=True, rate=1000)),
    "ended-502": Kind(HOLDING, Attack(handshake("POST 502 DELETE 502"), resets=True, rate=1000)),
}
