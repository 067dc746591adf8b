"""One connection to one NATS server. No other module imports nats-py.

It never connects again by itself: `bus.Bus` makes a new object for each connection. What arrives is handled in a plain
call, without the queue and the task that nats-py has for each subscription.
"""

import asyncio
import logging
import re
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import nats.errors
from nats.aio.client import Client, RawCredentials
from nats.aio.subscription import Subscription

from wsaas.cluster_setting_types import NatsServer
from wsaas.log.throttle import throttle
from wsaas.membership.tasks import wait_for

Headers = Mapping[str, str]
Handler = Callable[[str, str, bytes, Headers], None]
"""Called with the subject, the subject for a reply, the data and the headers of a message."""

CONNECT_TIMEOUT_S: Final = 3.0
CLOSE_TIMEOUT_S: Final = 1.0

MAX_UNSENT: Final = 1 << 20
"""Bytes that may wait to be written."""

_CREDENTIALS: Final = re.compile(
    rb"-----BEGIN NATS USER JWT-----\r?\n[\w.-]+\r?\n.*-----BEGIN USER NKEY SEED-----\r?\n[A-Z2-7]+\r?\n", re.DOTALL
)
_NO_HEADERS: Final[Headers] = {}


class NatsError(Exception):
    """NATS cannot be used. The text says why, for people."""


@dataclass(frozen=True, slots=True)
class NatsOptions:
    """How to connect. `credentials`: a `.creds` file; `tls`: returns the context; `name`: shown in NATS' monitoring."""

    credentials: Path | None
    tls: Callable[[], ssl.SSLContext | None]
    name: str


class _Client(Client):
    """nats-py's client, for one connection to one server."""

    def __init__(self, *, needs_tls: bool) -> None:
        super().__init__()
        self._needs_tls = needs_tls
        self.handlers: dict[int, Handler] = {}
        self.version = ""

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        """Require TLS before credentials are sent, and ignore the addresses of other servers."""
        self.version = str(info.get("version", self.version))
        if self._needs_tls and initial_connection:
            if not (info.get("tls_required") or info.get("tls_available")):
                raise NatsError("it does not offer TLS, but its URL starts with tls://")
            info["tls_required"] = True

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        """Call the handler of the subscription `sid`."""
        found = (await self._process_headers(headers) or _NO_HEADERS) if headers else _NO_HEADERS
        handler = self.handlers.get(sid)
        if handler is None:
            # The subscription has just ended.
            return
        try:
            handler(subject.decode(), reply.decode(), bytes(data), found)
        except Exception as error:  # noqa: BLE001 - an error must not end the connection
            throttle.error("NATS message", "cannot handle a message of NATS on %s: %r", subject.decode(), error)

    @property
    def socket(self) -> asyncio.WriteTransport | None:
        """The transport of the connection. nats-py has no public name for it."""
        writer: asyncio.StreamWriter | None = getattr(self._transport, "_io_writer", None)
        return None if writer is None else writer.transport


class NatsConnection:
    """An open connection to `server`. `on_lost` is called once with the reason, unless `close` was called before."""

    def __init__(self, server: NatsServer, options: NatsOptions, on_lost: Callable[[str], None]) -> None:
        """Open nothing yet."""
        self._client = _Client(needs_tls=server.is_tls)
        self._error: BaseException | None = None
        self._is_open = False
        self._messages: list[bytes] = []
        self._on_lost = on_lost
        self._options = options
        self._server = server
        self._subscriptions: dict[str, Subscription] = {}
        self._unsent = 0

    @property
    def version(self) -> str:
        """The version of the server."""
        return self._client.version

    @property
    def max_payload(self) -> int:
        """Maximum size (bytes) of the data of a message."""
        return self._client.max_payload

    @property
    def is_writable(self) -> bool:
        """Whether the connection is open, and the server reads what was written."""
        transport = self._client.socket
        if self._unsent >= MAX_UNSENT and not self._messages and transport is not None:
            self._unsent = transport.get_write_buffer_size()
        return self._is_open and self._client.is_connected and self._unsent < MAX_UNSENT

    async def open(self) -> None:
        """Connect. Raises `NatsError`."""
        _silence_nats_py()
        try:
            await wait_for(self._connect(), CONNECT_TIMEOUT_S)
        except (NatsError, asyncio.CancelledError):
            await self.close()
            raise
        except Exception as error:  # noqa: BLE001 - nats-py does not document what it raises
            await self.close()
            raise NatsError(reason(error)) from None
        self._is_open = True

    async def _connect(self) -> None:
        server, options = self._server, self._options
        host = f"[{server.host}]" if ":" in server.host else server.host
        is_token = server.password is None
        await self._client.connect(
            servers=[f"nats://{host}:{server.port}"],
            name=options.name,
            allow_reconnect=False,
            connect_timeout=int(CONNECT_TIMEOUT_S),
            # `Bus` sends its own pings.
            ping_interval=1 << 20,
            error_cb=self._failed,
            disconnected_cb=self._disconnected,
            tls=options.tls(),
            user=None if is_token else server.user,
            password=server.password,
            token=server.user if is_token else None,
            user_credentials=_read_credentials(options.credentials),
        )

    def publish(self, subject: str, data: bytes, reply: str = "", headers: Headers | None = None) -> None:
        """Send a message at the end of this turn of the loop. Call it only if `is_writable`.

        All messages of a turn are written at once. nats-py's `publish` wakes a task for each.
        """
        if headers is None:
            message = b"PUB %b %b %d\r\n%b\r\n" % (subject.encode(), reply.encode(), len(data), data)
        else:
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            head = f"NATS/1.0\r\n{lines}\r\n".encode()
            sizes = len(head), len(head) + len(data)
            message = b"HPUB %b %b %d %d\r\n%b%b\r\n" % (subject.encode(), reply.encode(), *sizes, head, data)
        if not self._messages:
            asyncio.get_running_loop().call_soon(self._write)
        self._messages.append(message)
        self._unsent += len(message)

    def _write(self) -> None:
        messages, self._messages = self._messages, []
        transport = self._client.socket
        # After an error, a transport of uvloop raises for a write. The loss is reported soon.
        if self._is_open and transport is not None and not transport.is_closing():
            transport.write(b"".join(messages))
            self._unsent = transport.get_write_buffer_size()

    async def subscribe(self, subject: str, handler: Handler) -> None:
        """Call `handler` for each message on `subject`. Raises `NatsError`."""
        try:
            subscription = await self._client.subscribe(subject)
        except Exception as error:  # noqa: BLE001 - nats-py does not document what it raises
            raise NatsError(reason(error)) from None
        self._client.handlers[subscription._id] = handler  # noqa: SLF001 - nats-py has no other name for it
        self._subscriptions[subject] = subscription

    async def unsubscribe(self, subject: str) -> None:
        """End the subscription to `subject`."""
        subscription = self._subscriptions.pop(subject, None)
        if subscription is not None:
            # Before anything is waited for: nothing is handled any more.
            self._client.handlers.pop(subscription._id, None)  # noqa: SLF001 - as above
            with suppress(nats.errors.Error):
                await subscription.unsubscribe()

    async def ping(self, timeout: float) -> None:
        """Wait for the answer to a ping. Raises `NatsError` without one within `timeout` seconds."""
        try:
            # nats-py's own time limit is for one of the two things that it waits for.
            await wait_for(self._client.flush(timeout=1 << 20), timeout)
        except Exception as error:  # noqa: BLE001 - nats-py does not document what it raises
            raise NatsError(reason(error)) from None

    async def close(self) -> None:
        """Close the connection, also if the server does not read any more."""
        self._is_open = False
        try:
            with suppress(Exception):
                await wait_for(self._client.close(), CLOSE_TIMEOUT_S)
        finally:
            if self._client.socket is not None:
                self._client.socket.abort()

    async def _failed(self, error: Exception) -> None:
        """Remember why the connection will end. While connecting, this ends the attempt."""
        if "permissions violation" in str(error).lower():
            # The connection stays.
            throttle.warning(("NATS", "permissions"), "NATS at %s: %s", self._server, reason(error))
            return
        self._error = error
        if not self._is_open and not self._client.is_closed:
            raise error

    async def _disconnected(self) -> None:
        if self._is_open:
            self._is_open = False
            self._on_lost("it closed the connection" if self._error is None else reason(self._error))


def reason(error: BaseException) -> str:
    """Return why a connection failed, for people, without secrets."""
    if isinstance(error, asyncio.TimeoutError):
        return "it does not answer"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {getattr(error, 'verify_message', '') or error.reason or 'no reason given'}"
    if isinstance(error, OSError):
        # asyncio joins the errors of several addresses into one text without a number.
        return error.strerror or str(error) or type(error).__name__
    text = str(error).removeprefix("nats: ").strip("' \r\n") or type(error).__name__
    return "it closed the connection" if "unexpected EOF" in text else text


def _read_credentials(path: Path | None) -> RawCredentials | None:
    """Return the content of a `.creds` file. Raises `NatsError`.

    It is checked here, as nats-py would read on for ever behind the end of a file without a JWT.
    """
    if path is None:
        return None
    try:
        content = path.read_bytes()
    except OSError as error:
        raise NatsError(f"CLUSTER_CREDENTIALS={str(path)!r} cannot be read: {error.strerror}") from None
    if not _CREDENTIALS.search(content):
        raise NatsError(f"CLUSTER_CREDENTIALS={str(path)!r} is not a .creds file with a JWT and a seed")
    return RawCredentials(content.decode("ascii", "ignore"))


def _silence_nats_py() -> None:
    """Keep nats-py from logging tracebacks, and asyncio from complaining about how nats-py uses TLS.

    Everything that matters is reported by `NatsError` and `on_lost`.
    """
    logging.getLogger("nats").setLevel(logging.CRITICAL + 1)
    logging.getLogger("asyncio").addFilter(_is_no_complaint)


def _is_no_complaint(record: logging.LogRecord) -> bool:
    return "eof_received" not in record.getMessage()
