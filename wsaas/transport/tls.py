"""TLS between a plain transport and a protocol. It is the protocol of the one and the transport of the other.

The event loop has TLS of its own. But there a connection is not visible before its handshake is done, its context
cannot be changed, what is buffered for a slow client is not all counted, and it takes a multiple of memory and time
(`python -m benchmarks idle --tls` and `paths --tls` show what this one takes).
"""

import asyncio
import ssl
from contextlib import suppress
from enum import Enum
from typing import Any, cast

from wsaas.log import logger
from wsaas.transport.pause_reason import CONSUMER, NOT_PAUSED, TURN, PauseReasons

CHUNK_SIZE = 4096
"""Bytes that OpenSSL is given at a time. Its buffers keep the size of the most that they ever held: each client with
one large message would take that much for good."""

MAX_RECORD_SIZE = 16 * 1024
"""Most bytes in one record (RFC 8446 section 5.1)."""


class State(Enum):
    """How far a connection is."""

    NEW = "nothing was received yet"
    HANDSHAKE = "the handshake is under way"
    FAILED = "the handshake failed"
    OPEN = "both sides may send"
    ENDED = "this side has ended: what is received is dropped"
    BROKEN = "a record was invalid: nothing that follows can be read"
    CLOSED = "the plain connection is closed"


# Bound once: up to Python 3.11, reading a member from its class is a call in Python.
NEW, HANDSHAKE, FAILED, OPEN, ENDED, BROKEN, CLOSED = State

TRANSITIONS: dict[State, dict[State, str]] = {
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

_NO_PROTOCOL = asyncio.Protocol()
"""Takes the place of the protocol of a closed connection, which refers to its transport: a reference cycle."""

_NO_TRANSPORT = asyncio.Transport()
"""Is the transport below until a connection is made."""


class TransportWrapper(asyncio.Transport, asyncio.Protocol):
    """A transport for `_protocol` on top of another one, `_raw`, that does what both do alike."""

    __slots__ = ("_protocol", "_raw")

    def __init__(self, protocol: asyncio.Protocol) -> None:
        """Wait for the transport below; `protocol` is the one above."""
        self._protocol = protocol
        self._raw = _NO_TRANSPORT

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport below."""
        self._raw = cast(asyncio.Transport, transport)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Replace the protocol above."""
        self._protocol = cast(asyncio.Protocol, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol above."""
        return self._protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what the transport below knows, such as `peername`."""
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
        """Return True: TLS has a close_notify for it."""
        return True


class TLSTransport(TransportWrapper):
    """One connection. `protocol` learns of it when the handshake is done."""

    __slots__ = ("_incoming", "_outgoing", "_paused_by", "_session", "_state", "_undecrypted")

    def __init__(self, protocol: asyncio.Protocol, ssl_context: ssl.SSLContext, server_name: str | None) -> None:
        """Prepare the side of the client of `server_name`, or that of the server where it is None."""
        super().__init__(protocol)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._paused_by: PauseReasons = NOT_PAUSED
        self._session = ssl_context.wrap_bio(self._incoming, self._outgoing, server_name is None, server_name)
        self._state = NEW
        self._undecrypted = b""

    # What the plain transport reports.

    def data_received(self, data: bytes) -> None:
        """Decrypt `data`, or go on with the handshake."""
        if self._state is OPEN:
            self._feed(data)
        elif self._state is NEW or self._state is HANDSHAKE:
            self._begin(data)

    def eof_received(self) -> None:
        """Report that the other side ended without a close_notify; what is buffered for it is still sent."""
        if self._state is OPEN:
            self._deliver()
        if self._state is OPEN:
            self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Report the end to the protocol, if it learned of the connection."""
        if self._state is NEW or self._state is HANDSHAKE:
            self._fail(exc or ConnectionResetError("closed within the handshake"))
        if self._state is OPEN:
            self._deliver()
        state = self._state
        self._move(CLOSED)
        if state is OPEN:
            # Without a close_notify, what followed may have been cut off (RFC 9112 section 9.8).
            exc = exc or ssl.SSLEOFError("closed without a close_notify")
        elif state is BROKEN:
            exc = exc or ssl.SSLError("closed after an invalid record")
        protocol, self._protocol = self._protocol, _NO_PROTOCOL
        if state is not FAILED:
            protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass it on."""
        if self._state is OPEN or self._state is ENDED:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        if self._state is OPEN or self._state is ENDED:
            self._protocol.resume_writing()

    # What the protocol wants.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send `data`, or buffer it; drop it when this side has ended."""
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
        """Send what is buffered, and that this side has ended.

        What is received from now on is dropped: the other side has to end too (RFC 5246 section 7.2.1), or may (RFC
        8446 section 6.1).
        """
        self._send_close_notify()
        self._raw.write_eof()

    def close(self) -> None:
        """Send what is buffered, and close."""
        self._send_close_notify()
        self._raw.close()

    def abort(self) -> None:
        """Close at once. Of the protocol, only `connection_lost` is still called."""
        if self._state is OPEN:
            self._move(ENDED)
        self._raw.abort()

    def pause_reading(self) -> None:
        """Call `data_received` no more. At most what one read of the plain transport brought is kept."""
        self._paused_by |= {CONSUMER}
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        """Call `data_received` again, in a later turn of the loop."""
        if CONSUMER in self._paused_by:
            self._paused_by -= {CONSUMER}
            asyncio.get_running_loop().call_soon(self._read_on)

    # The handshake.

    def _begin(self, data: bytes) -> None:
        """Take what is received before the handshake is done."""
        self._feed(data)

    def _do_handshake(self) -> None:
        try:
            self._session.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLError as error:
            # With the alert that says why.
            self._flush()
            self._fail(error)
        else:
            self._flush()
            self._move(OPEN)
            self._open()

    def _open(self) -> None:
        """Report the connection to the protocol, as the handshake is done."""
        self._protocol.connection_made(self)

    def _fail(self, error: Exception) -> None:
        """Give up: the handshake failed with `error`."""
        logger.debug("TLS handshake failed: %s", error)
        self._move(FAILED)

    # Reading.

    def _feed(self, data: bytes) -> None:
        """Give `data` to OpenSSL, and what it decrypts to the protocol, until there is a reason to wait."""
        for at in range(0, len(data), CHUNK_SIZE):
            if self._paused_by:
                self._undecrypted += data[at:]
                return
            self._incoming.write(data[at : at + CHUNK_SIZE])
            if self._state is HANDSHAKE:
                self._do_handshake()
            if self._state is OPEN:
                self._read()
            elif self._state is not HANDSHAKE:
                return

    def _read(self) -> None:
        """Give the records that are complete to the protocol."""
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
                # The other side has ended. The protocol learns it now, although bytes may still be buffered for the
                # other side: nothing can be written behind them.
                self._protocol.eof_received()
                self.close()
                return
            self._protocol.data_received(data)
            if incoming.pending:
                self._check_slice()
        if self._outgoing.pending:
            # TLS itself has to answer, such as to a key update, which costs the other side next to nothing to ask for
            # (RFC 8446 section 4.6.3). One that does not read its answers is dropped.
            if self._raw.get_write_buffer_size() <= self._raw.get_write_buffer_limits()[1]:
                self._flush()
            else:
                self._raw.abort()

    def _check_slice(self) -> None:
        """PauseReason the connection for the turn of others when it has used up its slice of time."""

    def _deliver(self) -> None:
        """Give all that was received to the protocol, held or not, as the connection ends."""
        self._incoming.write(self._undecrypted)
        self._undecrypted = b""
        while self._state is OPEN and (data := _decrypt_several(self._session)):
            self._protocol.data_received(data)
        with suppress(ssl.SSLError):
            if self._state is OPEN and not self._session.read(MAX_RECORD_SIZE):
                self._protocol.eof_received()
                self.close()

    def _read_on(self) -> None:
        """Read what was received while the connection was held, and then the plain transport again."""
        if TURN in self._paused_by:
            return
        if self._state is OPEN:
            undecrypted, self._undecrypted = self._undecrypted, b""
            self._read()
            self._feed(undecrypted)
        if not (self._paused_by or self._raw.is_closing()):
            self._raw.resume_reading()

    # Everything else.

    def _move(self, state: State) -> None:
        """Change the state."""
        if state not in TRANSITIONS[self._state]:
            raise AssertionError(f"TLS: {self._state} to {state}")
        self._state = state

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._raw.write(self._outgoing.read())

    def _send_close_notify(self) -> None:
        """Tell the other side that nothing follows, if it would understand."""
        if self._state is OPEN:
            self._move(ENDED)
            # Raises as the answer is not there yet. It is not waited for.
            with suppress(ssl.SSLError):
                self._session.unwrap()
            self._flush()

    def _break(self, error: ssl.SSLError) -> None:
        """Close, as what was received is not what was sent, or no TLS at all."""
        logger.debug("TLS connection broken: %s", error)
        self._move(BROKEN)
        self._flush()
        self._raw.close()


def _encrypt_large(data: bytes | bytearray | memoryview, session: ssl.SSLObject, outgoing: ssl.MemoryBIO) -> bytes:
    """Encrypt `data` without making the buffers of OpenSSL larger than a chunk."""
    view = memoryview(data)
    chunks = []
    for at in range(0, len(view), CHUNK_SIZE):
        session.write(view[at : at + CHUNK_SIZE])
        chunks.append(outgoing.read())
    return b"".join(chunks)


def _decrypt_several(session: ssl.SSLObject) -> bytes:
    """Decrypt short records as one: the protocol reads one piece of data in slices of time, but not several."""
    data = bytearray()
    with suppress(ssl.SSLError):
        while len(data) < MAX_RECORD_SIZE and (record := session.read(MAX_RECORD_SIZE)):
            data += record
    return bytes(data)
