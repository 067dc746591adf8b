"""TLS between a plain transport and a protocol: to the one it is the protocol, to the other the transport.

The event loop has TLS of its own, but nobody sees its connections before their handshake is done, its contexts cannot
be changed, what waits for a slow client is not all counted, and it costs a multiple of memory and time
(`python -m benchmarks idle --tls` and `paths --tls` show what this one costs).
"""

import asyncio
import ssl
from contextlib import suppress
from enum import Enum
from typing import Any, cast

from wsaas.log import logger

SLICE = 4096
"""Bytes that OpenSSL is given at a time. Its buffers keep the size of the most that they ever held, so that each client
with one large message would cost that much for good."""

RECORD = 16 * 1024
"""Most bytes in one record (RFC 8446 section 5.1)."""


class State(Enum):
    """How far a connection is."""

    SILENT = "nothing came yet"
    SHAKING = "the handshake is under way"
    FAILED = "the handshake came to nothing"
    OPEN = "both sides may speak"
    ENDED = "this side has said all: what comes is dropped"
    BROKEN = "OpenSSL failed: neither side is understood any more"


class TransportWrapper(asyncio.Transport):
    """A transport on top of another one: passes on what both do alike to `_raw`, the one below."""

    __slots__ = ("_raw",)

    _raw: asyncio.Transport

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


class TLSTransport(TransportWrapper, asyncio.Protocol):
    """One connection, of which `protocol` hears as soon as the handshake is done."""

    __slots__ = ("_incoming", "_outgoing", "_paused", "_protocol", "_queued", "_rest", "_session", "_state")

    def __init__(self, protocol: asyncio.Protocol, context: ssl.SSLContext, name: str | None) -> None:
        """Speak as `context` says. `name`: of the server that was called; None for one that is called itself."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._paused = False
        self._protocol = protocol
        self._queued = False
        self._rest = b""
        self._session = context.wrap_bio(self._incoming, self._outgoing, name is None, name)
        self._state = State.SILENT

    # What the plain transport tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._raw = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Decrypt what came."""
        if self._state is State.OPEN:
            self._feed(data)
        elif self._state in (State.SILENT, State.SHAKING):
            self._begin(data)

    def eof_received(self) -> None:
        """Report the end of the other side, without a close_notify; what waits for it is still sent."""
        if self._state is State.OPEN:
            self._deliver()
        if self._state is State.OPEN:
            self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of everything."""
        if self._state in (State.SILENT, State.SHAKING):
            self._fail(exc or ConnectionResetError("closed within the handshake"))
        elif self._state is not State.FAILED:
            if self._state is State.OPEN:
                self._deliver()
            if self._state is State.OPEN:
                # Without a goodbye, somebody on the way may have cut off what was to come (RFC 9112 section 9.8).
                exc = exc or ssl.SSLEOFError("closed without a close_notify")
            elif self._state is State.BROKEN:
                exc = exc or ssl.SSLError("closed after a failure of TLS")
            self._state = State.ENDED
            self._protocol.connection_lost(exc)
        del self._protocol, self._session, self._incoming, self._outgoing

    def pause_writing(self) -> None:
        """Pass it on."""
        if self._state in (State.OPEN, State.ENDED):
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        if self._state in (State.OPEN, State.ENDED):
            self._protocol.resume_writing()

    # What the protocol wants.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send `data`, or buffer it; after the end of this side, nothing."""
        if self._state is not State.OPEN or not data:
            return
        try:
            if len(data) <= SLICE:
                self._session.write(data)
                sealed = self._outgoing.read()
            else:
                view = memoryview(data)
                pieces = []
                for at in range(0, len(view), SLICE):
                    self._session.write(view[at : at + SLICE])
                    pieces.append(self._outgoing.read())
                sealed = b"".join(pieces)
        except ssl.SSLError as error:
            self._break(error)
        else:
            self._raw.write(sealed)

    def write_eof(self) -> None:
        """Send what is buffered, and that there is no more.

        What still comes is dropped: the other side has to end too now (RFC 5246 section 7.2.1), or may (RFC 8446
        section 6.1).
        """
        self._say_goodbye()
        self._raw.write_eof()

    def close(self) -> None:
        """Send what is buffered, and close."""
        self._say_goodbye()
        self._raw.close()

    def abort(self) -> None:
        """Close at once: whoever asks for it hears of nothing more but the end."""
        if self._state is State.OPEN:
            self._state = State.ENDED
        self._raw.abort()

    def pause_reading(self) -> None:
        """Call `data_received` no more. At most what one call of the plain transport brought is kept."""
        self._paused = True
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        """Call it again, but not before this returns."""
        if self._paused:
            self._paused = False
            asyncio.get_running_loop().call_soon(self._go_on)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Let `protocol` have everything from now on."""
        self._protocol = cast(asyncio.Protocol, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return who has it."""
        return self._protocol

    # The handshake.

    def _begin(self, data: bytes) -> None:
        """Take what comes before the handshake is done."""
        self._feed(data)

    def _shake_hands(self) -> None:
        try:
            self._session.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLError as error:
            # The alert that tells the other side why.
            self._flush()
            self._fail(error)
        else:
            self._flush()
            self._state = State.OPEN
            self._open()

    def _open(self) -> None:
        """The handshake is done."""
        self._protocol.connection_made(self)

    def _fail(self, error: Exception) -> None:
        """The handshake came to nothing."""
        logger.debug("TLS handshake failed: %s", error)
        self._state = State.FAILED

    # Everything else.

    def _feed(self, data: bytes) -> None:
        """Give `data` to OpenSSL, and to the protocol what comes of it, until it has enough."""
        for at in range(0, len(data), SLICE):
            if self._paused or self._queued:
                self._rest += data[at:]
                return
            self._incoming.write(data[at : at + SLICE])
            if self._state is State.SHAKING:
                self._shake_hands()
            if self._state is State.OPEN:
                self._read()
            elif self._state is not State.SHAKING:
                return

    def _read(self) -> None:
        """Hand on what is complete."""
        incoming, session = self._incoming, self._session
        while incoming.pending and not (self._paused or self._queued) and self._state is State.OPEN:
            try:
                data = session.read(RECORD)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLError as error:
                self._break(error)
                self._protocol.eof_received()
                return
            if not data:
                # The other side has said all. The protocol learns it now: what waits here may take its time, and
                # nothing can be written behind it.
                self._protocol.eof_received()
                self.close()
                return
            self._protocol.data_received(data)
            if incoming.pending:
                self._check_time()
        if self._outgoing.pending:
            # TLS itself has to answer, which costs the other side next to nothing to ask for (RFC 8446 section
            # 4.6.3): not for one that does not read.
            if self._raw.get_write_buffer_size() <= self._raw.get_write_buffer_limits()[1]:
                self._flush()
            else:
                self._raw.abort()

    def _check_time(self) -> None:
        """Set `_queued` when what follows has to wait for the turn of others."""

    def _deliver(self) -> None:
        """Hand on all that came: there is nobody left to make wait."""
        self._incoming.write(self._rest)
        self._rest = b""
        while self._state is State.OPEN and (data := self._gather()):
            self._protocol.data_received(data)
        with suppress(ssl.SSLError):
            if self._state is State.OPEN and not self._session.read(RECORD):
                self._protocol.eof_received()
                self.close()

    def _gather(self) -> bytes:
        """Decrypt short records as one: the protocol takes what is in it a slice of time at a time."""
        data = bytearray()
        with suppress(ssl.SSLError):
            while len(data) < RECORD and (record := self._session.read(RECORD)):
                data += record
        return bytes(data)

    def _go_on(self) -> None:
        """Take up what was left when reading stopped."""
        if self._queued:
            return
        if self._state is State.OPEN:
            rest, self._rest = self._rest, b""
            self._read()
            self._feed(rest)
        if not (self._paused or self._queued or self._raw.is_closing()):
            self._raw.resume_reading()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._raw.write(self._outgoing.read())

    def _say_goodbye(self) -> None:
        """Tell the other side that nothing follows, as long as it would understand."""
        if self._state is State.OPEN:
            self._state = State.ENDED
            # The answer is not there yet, and is not waited for.
            with suppress(ssl.SSLError):
                self._session.unwrap()
            self._flush()

    def _break(self, error: ssl.SSLError) -> None:
        """What came is not what was sent, or not TLS at all."""
        logger.debug("TLS connection broken: %s", error)
        self._state = State.BROKEN
        self._flush()
        self._raw.close()
