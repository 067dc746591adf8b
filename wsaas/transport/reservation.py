"""Reserves the addresses of a node for its workers.

Several processes can listen on a TCP port if all of them set SO_REUSEPORT. Then the kernel does not tell them when
another gateway of the same user does that, too. So the supervisor first listens without it for a moment, which fails if
any other process uses the port. From then on it keeps a socket that is bound but does not listen: no process can take
the port while all workers are down, and a port that the kernel chose stays the same.

Unix sockets cannot be shared like this. The supervisor listens, and all workers accept from the one socket. The same
goes for sockets that systemd has opened: a second one on their port would take connections that nobody accepts.
"""

import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from types import MappingProxyType
from typing import Final

from wsaas.setting_types import Address
from wsaas.transport.listener import bind, listen_unix, remove_unix

NOTHING: Final[Mapping[str, Sequence[int]]] = MappingProxyType({})


class Reservation:
    """The addresses that `reserve` has reserved, until `close`.

    `sockets`: the descriptors of sockets that listen already, by their address: Unix sockets, and those of `given`.
    """

    def __init__(self, given: Mapping[str, Sequence[int]] = NOTHING) -> None:
        """Reserve nothing yet. `given`: what systemd has opened."""
        self._given = given
        self._stack = ExitStack()
        self.sockets: dict[str, Sequence[int]] = {}

    async def reserve(self, address: Address, mode: int) -> Address:
        """Reserve `address`, and return it with the port that was bound.

        `mode`: permissions of the file of a Unix socket. Raises `OSError`, whose `filename` is the address.
        """
        if str(address) in self._given:
            self.sockets[str(address)] = self._given[str(address)]
            return address
        try:
            if address.path:
                await self._listen(address.path, mode)
                return address
            return self._bind(address)
        except OSError as error:
            raise OSError(error.errno, error.strerror or str(error), str(address)) from error

    def close(self) -> None:
        """Release all addresses, and remove the files of Unix sockets. May be called again."""
        self._stack.close()

    async def _listen(self, path: str, mode: int) -> None:
        sock, identity = await listen_unix(path, mode)
        self._stack.callback(sock.close)
        self._stack.callback(partial(remove_unix, path, identity))
        self.sockets[str(Address(path=path))] = [sock.fileno()]

    def _bind(self, address: Address) -> Address:
        probes = bind(address)
        with ExitStack() as stack:
            _close_at_exit(stack, probes)
            for each in probes:
                each.listen()
                # From here on, only processes of this user that share the port can bind it.
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            found = Address(address.host, probes[0].getsockname()[1])
            reserved = bind(found, shared=True)
        _close_at_exit(self._stack, reserved)
        for each in reserved:
            # Set while binding, because of connections of an earlier run. Kept, it would let others listen.
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        return found


def _close_at_exit(stack: ExitStack, sockets: Iterable[socket.socket]) -> None:
    for each in sockets:
        stack.callback(each.close)
