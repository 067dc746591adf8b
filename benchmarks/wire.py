"""The bytes that clients and backends send: HTTP requests and responses, WebSocket handshakes and frames."""

import zlib
from base64 import b64encode
from http import HTTPStatus
from random import Random

from websockets.speedups import apply_mask

HOST = "127.0.0.1"
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
SAMPLED_HANDSHAKE = HANDSHAKE.replace(
    b"Host: localhost\r\n",
    b"Host: localhost\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n",
)
"""The handshake of a client whose trace is sampled."""


def browser_handshakes(number: int) -> list[bytes]:
    """Return the handshakes of `number` clients that use Chromium behind a proxy. What a client chooses differs."""
    return [_browser_handshake(Random(seed)) for seed in range(number)]


def _browser_handshake(random: Random) -> bytes:
    key = b64encode(random.randbytes(16)).decode()
    address = f"203.0.113.{random.randrange(256)}"
    browser = f"Mozilla/5.0 (X11; Linux x86_64) Chrome/{random.randrange(120, 150)}.0.0.0 Safari/537.36"
    lines = (
        "GET /chat?room=1 HTTP/1.1",
        "Host: chat.example.com",
        "Connection: Upgrade",
        "Pragma: no-cache",
        "Cache-Control: no-cache",
        f"User-Agent: {browser}",
        "Upgrade: websocket",
        "Origin: https://chat.example.com",
        "Sec-WebSocket-Version: 13",
        "Accept-Encoding: gzip, deflate, br, zstd",
        f"Accept-Language: {random.choice(('en-US', 'de-DE', 'fr', 'pt-BR', 'ja', 'hi'))},en;q=0.9",
        f"Cookie: session={random.getrandbits(128):032x}; theme=dark",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
        f"X-Forwarded-For: {address}",
        "X-Forwarded-Proto: https",
        f"X-Real-IP: {address}",
    )
    return "\r\n".join((*lines, "", "")).encode()


TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
"""Opcodes (RFC 6455 section 5.2)."""

FIN, COMPRESSED, MASKED = 0x80, 0x40, 0x80
MASK = b"\x37\xfa\x21\x3d"
"""The example of RFC 6455 section 5.7."""


def request(method: str, path: str, headers: str = "", body: bytes = b"") -> bytes:
    """Return a request. `headers` are lines with their ends; the caller gives `Content-Length` for a body."""
    return f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\n{headers}\r\n".encode() + body


def push(path: str, size: int) -> bytes:
    """Return the request that pushes a text of `size` bytes to the client at `path`."""
    return request("PUT", path, f"Content-Type: text/plain\r\nContent-Length: {size}\r\n", b"x" * size)


def forwarded_push(path: str, size: int) -> bytes:
    """Return the request by which one worker forwards such a push to another."""
    head = f"PUT {path} HTTP/1.1\r\nHost: peer\r\nContent-Type: text/plain\r\nContent-Length: {size}\r\n\r\n"
    return head.encode() + b"x" * size


def response(status: int, headers: str = "", body: bytes = b"") -> bytes:
    """Return a response with a `Content-Length`."""
    return (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body
    )


def header(head: bytes, name: str) -> str:
    """Return the value of the header `name`, written as the sender writes it; an empty text if it is missing."""
    return head.partition(f"\r\n{name}: ".encode())[2].partition(b"\r\n")[0].decode()


def path_of(ws_uri: str) -> str:
    """Return the path of a `ws_uri`, which is a host and a path."""
    return "/" + ws_uri.partition("/")[2]


def frame(payload: bytes = b"", opcode: int = TEXT, *, flags: int = FIN, mask: bytes = MASK) -> bytes:
    """Return a masked frame of a client. `flags`: the bits above the opcode in the first byte."""
    size = len(payload)
    if size < 126:  # noqa: PLR2004 - RFC 6455 section 5.2
        length = bytes([MASKED | size])
    elif size < 1 << 16:
        length = bytes([MASKED | 126]) + size.to_bytes(2, "big")
    else:
        length = bytes([MASKED | 127]) + size.to_bytes(8, "big")
    return bytes([flags | opcode]) + length + mask + (apply_mask(payload, mask) if payload else b"")


def text(size: int) -> bytes:
    """Return the frame of a text of `size` bytes."""
    return frame(b"x" * size)


def compressed_text(payload: bytes) -> bytes:
    """Return the frame of a compressed text (RFC 7692 section 7.2.1)."""
    compressor = zlib.compressobj(wbits=-15)
    deflated = (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
    return frame(deflated, flags=FIN | COMPRESSED)


def close(code: int = 1000) -> bytes:
    """Return a Close frame of a client."""
    return frame(code.to_bytes(2, "big"), CLOSE)


JSON = "Content-Type: application/json\r\n"
OK = response(200, JSON, b'{"code":"OK"}')
"""The answer to a POST that accepts the client; it answers any other request as well."""

NO_CONTENT = b"HTTP/1.1 204 No Content\r\nDate: Sat, 31 Jan 2026 12:00:00 GMT\r\nServer: any\r\n\r\n"
"""The usual answer to a PUT or a DELETE."""
