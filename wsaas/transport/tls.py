"""TLS between a plain transport and a protocol. It is the protocol of the former and the transport of the latter.

The event loop has its own TLS, with these drawbacks: a connection is not visible before its handshake is done, its
context cannot be changed, the write buffer size does not include all buffered bytes, and it takes several times the
memory and time (measure with `python -m benchmarks idle --tls` and `paths --tls`).
"""

import asyncio
import ssl
from contextlib import suppress
from enum import Enum
from typing import Any, Final, cast

from wsaas.log import logger
from wsaas.transport.pause_reason import CONSUMER, NOT_PAUSED, TURN, PauseReasons

CHUNK_SIZE: Final = 4096
"""Bytes that are passed to OpenSSL at a time. Its buffers never shrink: after one large message, a client would use
that much memory until its end."""

HANDSHAKE_CHUNK_SIZE: Final = 256
"""The same until the handshake is done. The first message of a browser has up to 2 KB, and is usually the largest that
a client ever sends: the buffer for it would be most of what can be saved (`python -m benchmarks idle --tls`)."""

MAX_RECORD_SIZE: Final = 16 * 1024
"""Maximum bytes in one record (RFC 8446 section 5.1)."""


class State(Enum):
    """The state of a TLS connection."""

    NEW = "nothing was received yet"
    HANDSHAKE = "the handshake is under way"
    FAILED = "the handshake failed"
    OPEN = "both sides may send"
    ENDED = "this side has ended: received data is dropped"
    BROKEN = "a record was invalid: no later data can be read"
    CLOSED = "the plain connection is closed"


# Bound once: up to Python 3.11, reading a member from its class is a call in Python.
NEW: Final = State.NEW
HANDSHAKE: Final = State.HANDSHAKE
FAILED: Final = State.FAILED
OPEN: Final = State.OPEN
ENDED: Final = State.ENDED
BROKEN: Final = State.BROKEN
CLOSED: Final = State.CLOSED

TRANSITIONS: Final[dict[State, dict[State, str]]] = {
    NEW: {
        HANDSHAKE: "the handshake was started",
        FAILED: "the connection ended before the handshake",
    },
    HANDSHAKE: {
        OPEN: "the handshake is complete",
        FAILED: "the handshake was refused, timed out, or was cut short",
    },
    FAILED: {
        CLOSED: "the plain connection was closed",
    },
    OPEN: {
        ENDED: "this side sent its close_notify",
        BROKEN: "a record could not be decrypted",
        CLOSED: "the plain connection was closed",
    },
    ENDED: {
        CLOSED: "the plain connection was closed",
    },
    BROKEN: {
        CLOSED: "the plain connection was closed",
    },
    CLOSED: {},
}
"""The reason for each transition, by the state before and the state after."""

_NO_PROTOCOL: Final = asyncio.Protocol()
"""Replaces the protocol of a closed connection, as protocol and transport refer to each other: a reference cycle."""

_NO_TRANSPORT: Final = asyncio.Transport()
"""The transport below before `connection_made`."""


class TransportWrapper(asyncio.Transport, asyncio.Protocol):
    """A transport for the protocol `_protocol` on top of the transport `_raw`, with the methods that only delegate."""

    __slots__ = ("_protocol", "_raw")

    def __init__(self, protocol: asyncio.Protocol) -> None:
        """Use `protocol` above. The transport below follows with `connection_made`."""
        self._protocol = protocol
        self._raw = _NO_TRANSPORT

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Use `transport` below."""
        self._raw = cast(asyncio.Transport, transport)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Replace the protocol above."""
        self._protocol = cast(asyncio.Protocol, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol above."""
        return self._protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return information from the transport below, such as `peername`."""
        return self._raw.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        """Return the bytes that are buffered in the transport below."""
        return self._raw.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the high and low water marks of the transport below, in bytes."""
        self._raw.set_write_buffer_limits(high, low)

    def is_closing(self) -> bool:
        """Return whether the transport below is closing or closed."""
        return self._raw.is_closing()

    def can_write_eof(self) -> bool:
        """Return True: TLS ends a stream with a close_notify."""
        return True


class TLSTransport(TransportWrapper):
    """One TLS connection. The protocol's `connection_made` is called when the handshake is done."""

    __slots__ = ("_incoming", "_outgoing", "_paused_by", "_session", "_state", "_undecrypted")

    def __init__(self, protocol: asyncio.Protocol, ssl_context: ssl.SSLContext, server_name: str | None) -> None:
        """Prepare the client side of a connection to `server_name`, or the server side if it is None."""
        super().__init__(protocol)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._paused_by: PauseReasons = NOT_PAUSED
        self._session = ssl_context.wrap_bio(self._incoming, self._outgoing, server_name is None, server_name)
        self._state = NEW
        self._undecrypted = b""

    # Called by the plain transport.

    def data_received(self, data: bytes) -> None:
        """Decrypt `data`, or continue the handshake."""
        if self._state is OPEN:
            self._feed(data)
        elif self._state is NEW or self._state is HANDSHAKE:
            self._begin(data)

    def eof_received(self) -> None:
        """Report that the peer ended without a close_notify. Buffered data is still sent to it."""
        if self._state is OPEN:
            self._deliver()
        if self._state is OPEN:
            self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Call the protocol's `connection_lost` if its `connection_made` was called."""
        if self._state is NEW or self._state is HANDSHAKE:
            self._fail(exc or ConnectionResetError("closed within the handshake"))
        if self._state is OPEN:
            self._deliver()
        state = self._state
        self._move(CLOSED)
        if state is OPEN:
            # Without a close_notify, data may have been cut off (RFC 9112 section 9.8).
            exc = exc or ssl.SSLEOFError("closed without a close_notify")
        elif state is BROKEN:
            exc = exc or ssl.SSLError("closed after an invalid record")
        protocol, self._protocol = self._protocol, _NO_PROTOCOL
        if state is not FAILED:
            protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        """Call the protocol's `pause_writing`."""
        if self._state is OPEN or self._state is ENDED:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Call the protocol's `resume_writing`."""
        if self._state is OPEN or self._state is ENDED:
            self._protocol.resume_writing()

    # Called by the protocol.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send `data`, or buffer it. After the end of this side, `data` is dropped."""
        if self._state is not OPEN or not data:
            return
        try:
            if len(data) <= CHUNK_SIZE:
                self._session.write(data)
                encrypted = self._outgoing.read()
            else:
                encrypted = _encrypt_large(data, self._session, self._outgoing)
        except ssl.SSLError as error:
            self._break(error)
        else:
            self._raw.write(encrypted)

    def write_eof(self) -> None:
        """Send what is buffered, then a close_notify and the end of the stream.

        Data that is received later is dropped: the peer has to end too in TLS 1.2 (RFC 5246 section 7.2.1), and may do
        so in TLS 1.3 (RFC 8446 section 6.1).
        """
        self._send_close_notify()
        self._raw.write_eof()

    def close(self) -> None:
        """Send what is buffered, and close."""
        self._send_close_notify()
        self._raw.close()

    def abort(self) -> None:
        """Close at once. Only the protocol's `connection_lost` is still called."""
        if self._state is OPEN:
            self._move(ENDED)
        self._raw.abort()

    def pause_reading(self) -> None:
        """Stop calling `data_received`. Buffers at most one read of the plain transport."""
        self._paused_by |= {CONSUMER}
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        """Call `data_received` again, in a later turn of the loop."""
        if CONSUMER in self._paused_by:
            self._paused_by -= {CONSUMER}
            asyncio.get_running_loop().call_soon(self._read_on)

    # The handshake.

    def _begin(self, data: bytes) -> None:
        """Handle data that is received before the handshake is done."""
        self._feed(data)

    def _do_handshake(self) -> None:
        try:
            self._session.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLError as error:
            # Send the TLS alert.
            self._flush()
            self._fail(error)
        else:
            self._flush()
            self._move(OPEN)
            self._open()

    def _open(self) -> None:
        """Call the protocol's `connection_made`: the handshake is done."""
        self._protocol.connection_made(self)

    def _fail(self, error: Exception) -> None:
        """End the handshake, which failed with `error`."""
        logger.debug("TLS handshake failed: %s", error)
        self._move(FAILED)

    # Reading.

    def _feed(self, data: bytes) -> None:
        """Pass `data` to OpenSSL and the decrypted data to the protocol, until there is a reason to pause."""
        at = 0
        while at < len(data):
            if self._paused_by:
                self._undecrypted += data[at:]
                return
            end = at + (CHUNK_SIZE if self._state is OPEN else HANDSHAKE_CHUNK_SIZE)
            self._incoming.write(data[at:end])
            at = end
            if self._state is HANDSHAKE:
                self._do_handshake()
            if self._state is OPEN:
                self._read()
            elif self._state is not HANDSHAKE:
                return

    def _read(self) -> None:
        """Pass the complete records to the protocol."""
        incoming, session = self._incoming, self._session
        while incoming.pending and not self._paused_by and self._state is OPEN:
            try:
                data = session.read(MAX_RECORD_SIZE)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLError as error:
                self._break(error)
                self._protocol.eof_received()
                return
            if not data:
                # The peer has ended. Tell the protocol at once, even if data is still buffered for the peer: no more
                # can be written after it.
                self._protocol.eof_received()
                self.close()
                return
            self._protocol.data_received(data)
            if incoming.pending:
                self._check_slice()
        if self._outgoing.pending:
            # TLS itself has to respond, such as to a key update (RFC 8446 section 4.6.3), which costs the peer next to
            # nothing. If the peer does not read the responses, abort the connection.
            if self._raw.get_write_buffer_size() <= self._raw.get_write_buffer_limits()[1]:
                self._flush()
            else:
                self._raw.abort()

    def _check_slice(self) -> None:
        """Pause reading for other connections if the slice of time is over."""

    def _deliver(self) -> None:
        """Pass all received data to the protocol, even while reading is paused: the connection has ended."""
        self._incoming.write(self._undecrypted)
        self._undecrypted = b""
        while self._state is OPEN and (data := _decrypt_several(self._session)):
            self._protocol.data_received(data)
        with suppress(ssl.SSLError):
            if self._state is OPEN and not self._session.read(MAX_RECORD_SIZE):
                self._protocol.eof_received()
                self.close()

    def _read_on(self) -> None:
        """Pass on the data that was received while reading was paused, then resume the plain transport."""
        if TURN in self._paused_by:
            return
        if self._state is OPEN:
            undecrypted, self._undecrypted = self._undecrypted, b""
            self._read()
            self._feed(undecrypted)
        if not (self._paused_by or self._raw.is_closing()):
            self._raw.resume_reading()

    # Internals.

    def _move(self, state: State) -> None:
        """Change the state; raise `AssertionError` if `TRANSITIONS` does not allow it."""
        if state not in TRANSITIONS[self._state]:
            raise AssertionError(f"TLS: {self._state} to {state}")
        self._state = state

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._raw.write(self._outgoing.read())

    def _send_close_notify(self) -> None:
        """Send a close_notify if the handshake is done."""
        if self._state is OPEN:
            self._move(ENDED)
            # Raises because the peer's close_notify is missing. There is no need to wait for it.
            with suppress(ssl.SSLError):
                self._session.unwrap()
            self._flush()

    def _break(self, error: ssl.SSLError) -> None:
        """Close the connection: a record could not be decrypted."""
        logger.debug("TLS connection broken: %s", error)
        self._move(BROKEN)
        self._flush()
        self._raw.close()


def _encrypt_large(data: bytes | bytearray | memoryview, session: ssl.SSLObject, outgoing: ssl.MemoryBIO) -> bytes:
    """Encrypt `data` in chunks, so that the buffers of OpenSSL stay small."""
    view = memoryview(data)
    chunks = []
    for at in range(0, len(view), CHUNK_SIZE):
        session.write(view[at : at + CHUNK_SIZE])
        chunks.append(outgoing.read())
    return b"".join(chunks)


def _decrypt_several(session: ssl.SSLObject) -> bytes:
    """Decrypt several short records into one piece of data, which the protocol reads in slices of time."""
    data = bytearray()
    with suppress(ssl.SSLError):
        while len(data) < MAX_RECORD_SIZE and (record := session.read(MAX_RECORD_SIZE)):
            data += record
    return bytes(data)
