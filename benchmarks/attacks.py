"""What hostile clients do: every kind by its name, as data.

An attack is bytes that were made before it starts. What the backend does to a hostile client is written in that
client's `Authorization`: the gateway passes it on, and `benchmarks.victims.Judge` reads it.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.rig import HANDSHAKE

CHUNK = 64 * 1024
"""Bytes that a flooding client writes at a time, about."""

BODY = (1 << 20) - 1
"""Bytes of a parked body: one less than `MAX_MESSAGE_SIZE`."""

FLOODING, FAILING, FULL, HOLDING = "flooding", "failing", "full table", "memory"
MASK = bytes(4)


@dataclass(frozen=True)
class Attack:
    """What each hostile connection does, in this order.

    It writes `opening` and waits for a 101 (`shakes_hands`); writes `once`; writes `flood` over and over, as fast as
    the socket takes it. `then`: what it does when the socket takes no more (`flood`) or when all is written: `stay`,
    or `reset`. It comes again when it is closed. `together`: all begin at the same moment. `rate`: connections a second
    in all, instead of a fixed number.
    """

    opening: bytes = b""
    once: bytes = b""
    flood: bytes = b""
    shakes_hands: bool = True
    then: str = "stay"
    together: bool = False
    rate: int = 0


@dataclass(frozen=True)
class Kind:
    """One kind of hostile client: how many of them there are, what the gateway's settings are, what is measured."""

    group: str
    attack: Attack
    clients: int = 50
    settings: Mapping[str, str] = field(default_factory=dict)
    descriptors: int = 0
    apart: bool = False


def handshake(fate: str = "", headers: str = "") -> bytes:
    """Return a handshake. `fate`: method and what the backend does to it, such as `PUT 500`."""
    more = (f"Authorization: {fate}\r\n" if fate else "") + headers
    return HANDSHAKE[:-2] + more.encode() + b"\r\n"


def masked(first: int, payload: bytes = b"") -> bytes:
    """Return one frame of less than 126 bytes, masked with zeros."""
    return bytes([first, 0x80 | len(payload)]) + MASK + payload


def many(pattern: bytes) -> bytes:
    """Return `pattern` repeated to about `CHUNK` bytes."""
    return pattern * max(1, CHUNK // len(pattern))


def deflated(text: bytes) -> bytes:
    """Return the payload of a compressed message (RFC 7692 section 7.2.1)."""
    packer = zlib.compressobj(wbits=-15)
    return (packer.compress(text) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


def request(method: str, target: str, headers: str = "") -> bytes:
    """Return the head of a request."""
    return f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n".encode()


PING, PONG = masked(0x89), masked(0x8A)
TINY = masked(0x81, b"x")
EMPTY_PAIR = masked(0x01) + masked(0x80)
EMPTY_MANY = masked(0x01) + masked(0x00) * 998 + masked(0x80)
OFFER = "Sec-WebSocket-Extensions: permessage-deflate\r\n"
TARGET = "/{sink}"
"""Stands for the path of a live client's `ws_uri`."""

CHUNKED = b"1\r\nx\r\n" * 60_000 + b"0\r\n\r\n"
QUICK_CLOSE = {"HANDSHAKE_TIMEOUT": "2000"}
"""A client that is being closed is dropped after this: several times within one measurement."""

IMPATIENT = {"API_TIMEOUT": "2000"}
FATES = ("500", "reset", "garbage", "silence")


def flooding(flood: bytes, fate: str = "", **more: str) -> Attack:
    """Return an attack by WebSocket clients that flood."""
    return Attack(handshake(fate, **more), flood=many(flood))


def http(flood: bytes) -> Attack:
    """Return an attack by HTTP clients that flood."""
    return Attack(flood=flood, shakes_hands=False)


def parked(target: str) -> Attack:
    """Return an attack by PUTs whose body lacks its last byte."""
    head = request("PUT", target, f"Content-Length: {BODY}\r\nContent-Type: text/plain\r\n")
    return Attack(once=head + b"x" * (BODY - 1), shakes_hands=False)


def failing(attack: Attack) -> Kind:
    """Return clients that the backend fails."""
    return Kind(FAILING, attack, 60, IMPATIENT)


SILENT = Attack(shakes_hands=False)
STAYING = Attack(handshake())

KINDS: dict[str, Kind] = {
    "pings": Kind(FLOODING, flooding(PING)),
    "pongs": Kind(FLOODING, flooding(PONG)),
    "fragments": Kind(FLOODING, flooding(EMPTY_PAIR)),
    "fragments-many": Kind(FLOODING, flooding(EMPTY_MANY)),
    "messages": Kind(FLOODING, flooding(TINY)),
    "compressed": Kind(FLOODING, flooding(masked(0xC1, deflated(b"x")), headers=OFFER), settings={"COMPRESSION": "on"}),
    "dropped": Kind(FLOODING, flooding(TINY, "PUT 400"), settings=QUICK_CLOSE),
    "closing": Kind(FLOODING, flooding(TINY, "PUT close"), settings=QUICK_CLOSE),
    "dropped-fragments": Kind(FLOODING, flooding(TINY + EMPTY_PAIR * 500, "PUT 400"), settings=QUICK_CLOSE),
    "abrupt": Kind(FLOODING, Attack(handshake("PUT reply"), flood=many(PING + TINY * 63), then="reset")),
    "gets-healthz": Kind(FLOODING, http(many(request("GET", "/healthz")))),
    "gets-unknown": Kind(FLOODING, http(many(request("GET", "/no/such/path")))),
    "chunks": Kind(FLOODING, http(request("PUT", TARGET, "Transfer-Encoding: chunked\r\n") + CHUNKED)),
    "chunks-unknown": Kind(FLOODING, http(request("PUT", "/no/such/path", "Transfer-Encoding: chunked\r\n") + CHUNKED)),
    **{f"message-{fate}": failing(Attack(handshake(f"PUT {fate}"), TINY, together=True)) for fate in FATES},
    **{f"post-{fate}": failing(Attack(handshake(f"POST {fate}"))) for fate in FATES},
    "full-clients": Kind(FULL, STAYING, 1000, descriptors=512, apart=True),
    "full-clients-shared": Kind(FULL, STAYING, 1000, descriptors=512),
    "full-silent": Kind(FULL, SILENT, 1000, descriptors=512, apart=True),
    "full-silent-shared": Kind(FULL, SILENT, 1000, descriptors=512),
    "parked-unknown": Kind(HOLDING, parked("/no/such/path"), 1000),
    "parked-unauthorized": Kind(HOLDING, parked(TARGET), 1000, {"CONTROL_TOKEN": "secret"}),
    "parked-live": Kind(HOLDING, parked(TARGET), 1000),
    "ended-500": Kind(HOLDING, Attack(handshake("DELETE 500"), then="reset", rate=1000)),
    "ended-502": Kind(HOLDING, Attack(handshake("POST 502 DELETE 502"), then="reset", rate=1000)),
}
