"""The backend of the hostile clients, which treats each of them as its `Authorization` says."""

import asyncio
import socket
import struct

from benchmarks.rig import EchoBackend, Rig
from benchmarks.wire import HOST, OK, header, path_of, request, response

RESET = struct.pack("ii", 1, 0)
"""The value of SO_LINGER with which closing a socket resets the connection."""

REPLY = response(200, "Ws-Reply: text\r\n", b"x" * 16)
ERRORS = {status: response(int(status)) for status in ("400", "500", "502")}


def reset(transport: asyncio.Transport) -> None:
    """Reset the connection of `transport`, unless it is closed already."""
    sock = transport.get_extra_info("socket")
    if sock is not None and not transport.is_closing():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        transport.abort()


class TreatingBackend(EchoBackend):
    """Echoes the messages of a client without `Authorization`, and treats others as theirs says.

    It holds pairs of a method and a treatment: `reset`, `garbage`, `silence`, a status; `reply`: a message back;
    `close`: the message is accepted and the client closed by a DELETE. Other methods are answered 200.
    """

    def respond(self, method: str) -> None:
        """Answer a request."""
        authorization = header(self.head, "Authorization")
        if not authorization:
            super().respond(method)
            return
        words = authorization.split()
        self._treat(dict(zip(words[::2], words[1::2], strict=True)).get(method, "ok"))

    def _treat(self, treatment: str) -> None:
        if treatment == "reset":
            reset(self.transport)
        elif treatment == "garbage":
            self.transport.write(b"\x00garbage\r\n\r\n")
            self.transport.close()
        elif treatment == "reply":
            self.transport.write(REPLY)
        elif treatment in ERRORS:
            self.transport.write(ERRORS[treatment])
        elif treatment != "silence":
            self.transport.write(OK)
            if treatment == "close":
                self.state.on_close(self.ws_uri)


class Discarding(asyncio.Protocol):
    """Ignores everything that arrives."""


class Closer:
    """The backend's connection on which it closes clients. It is opened again when the gateway closes it."""

    def __init__(self, rig: Rig) -> None:
        """Close clients of the gateway of `rig`."""
        self._closed: set[str] = set()
        self._rig = rig
        self._task: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._requests: list[bytes] = []

    def close(self, ws_uri: str) -> None:
        """Close a client by `DELETE ws_uri`, unless that was done before."""
        if ws_uri in self._closed:
            return
        self._closed.add(ws_uri)
        self._requests.append(request("DELETE", path_of(ws_uri)))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._send())

    def stop(self) -> None:
        """Close no more clients."""
        if self._task is not None:
            self._task.cancel()
        if self._transport is not None:
            self._transport.abort()

    async def _send(self) -> None:
        if self._transport is None or self._transport.is_closing():
            loop = asyncio.get_running_loop()
            self._transport, _ = await loop.create_connection(Discarding, HOST, self._rig.control_port)
        requests, self._requests = self._requests, []
        self._transport.write(b"".join(requests))
