"""A WebSocket client with its own TLS, which can do what no library does."""

import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tests.support.clients import RawClient, upgrade
from tests.support.waiting import with_timeout


class TlsClient:
    """A TLS client that can close its sending side alone."""

    def __init__(self, raw: RawClient, context: ssl.SSLContext) -> None:
        self._raw = raw
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._session = context.wrap_bio(self._incoming, self._outgoing, server_hostname="127.0.0.1")

    async def attempt(self, step: Callable[[], Any]) -> Any:
        """Perform a step of TLS; read what it needs first."""
        while True:
            with suppress(ssl.SSLWantReadError):
                result = step()
                self._raw.send(self._outgoing.read())
                return result
            self._raw.send(self._outgoing.read())
            self._incoming.write(await with_timeout(self._raw.reader.read(1 << 16)))

    async def upgrade(self) -> None:
        """Perform the TLS handshake and the WebSocket handshake; return after the 101."""
        await self.attempt(self._session.do_handshake)
        await self.attempt(lambda: self._session.write(upgrade()))
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += await self.read(1)
        assert answer.startswith(b"HTTP/1.1 101 ")

    async def read(self, size: int) -> bytes:
        """Return up to `size` bytes, or nothing after the gateway's close_notify."""
        try:
            data: bytes = await self.attempt(lambda: self._session.read(size))
        except ssl.SSLZeroReturnError:
            return b""
        return data

    def end_writing(self) -> None:
        """Send a close_notify without waiting for the gateway's."""
        with suppress(ssl.SSLWantReadError):
            self._session.unwrap()
        self._raw.send(self._outgoing.read())
