"""A network namespace for a test, with its own addresses, routes and DNS server."""

import asyncio
import ctypes
import ipaddress
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import cast

import pytest

CLONE_NEWNET = 0x40000000
LINK = "wsaas0"
LINK_LOCAL = "fe80::1"
DEAD_IPV6 = "fd00::dead"
"""An address behind `LINK` that never answers."""

A, AAAA = 1, 28
NAME_ERROR = 3

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@contextmanager
def namespace() -> Iterator[None]:
    """Put this thread and its processes into a new network with loopback and `LINK`, which leads nowhere."""
    if sys.platform != "linux" or shutil.which("ip") is None or shutil.which("unshare") is None:
        pytest.skip("needs network namespaces: Linux, and its commands ip and unshare")
    original = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        try:
            _check(_libc.unshare(CLONE_NEWNET))
        except OSError as error:
            pytest.skip(f"needs the permission to make a network namespace: {error}")
        try:
            for command in (
                "ip link set lo up",
                f"ip link add {LINK} type veth peer name {LINK}p",
                f"ip link set {LINK} addrgenmode none",
                f"ip link set {LINK} up",
                f"ip link set {LINK}p up",
                f"ip addr add {LINK_LOCAL}/64 dev {LINK} nodad",
                f"ip addr add fd00::1/64 dev {LINK} nodad",
                # Packets to an address with a permanent neighbour entry are sent, but never answered.
                f"ip neigh add {DEAD_IPV6} lladdr 02:00:00:00:00:01 dev {LINK} nud permanent",
            ):
                subprocess.run(command.split(), check=True)
            yield
        finally:
            _check(_libc.setns(original, CLONE_NEWNET))
    finally:
        os.close(original)


@asynccontextmanager
async def full_backlog(host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[int]:
    """Yield a port whose backlog is full, so that it answers no further connection."""
    with closing(socket.socket()) as listener:
        listener.bind((host, port))
        listener.listen(0)
        place = listener.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        try:
            for each in waiting:
                each.setblocking(False)
                each.connect_ex(place)
            # Once the kernel has filled the backlog, it drops further connections.
            await asyncio.sleep(0.05)
            yield place[1]
        finally:
            for each in waiting:
                each.close()


def resolving(folder: Path, *options: str) -> list[str]:
    """Return a prefix for a command, with which it uses the DNS server of the test on 127.0.0.1."""
    conf, hosts = folder / "resolv.conf", folder / "hosts"
    conf.write_text("\n".join(["nameserver 127.0.0.1", *(f"options {option}" for option in options), ""]))
    hosts.write_text("127.0.0.1 localhost\n::1 localhost\n")
    mounts = f"mount --bind {conf} /etc/resolv.conf && mount --bind {hosts} /etc/hosts"
    return ["unshare", "--mount", "sh", "-c", f'{mounts} && exec "$@"', "sh"]


class NameServer(asyncio.DatagramProtocol):
    """A DNS server. `addresses`: by name; `silent`: it does not answer."""

    def __init__(self) -> None:
        self.addresses: dict[str, list[str]] = {}
        self.silent = False
        self.asked = 0
        self.first_question = asyncio.Event()

    async def start(self) -> "NameServer":
        """Answer on 127.0.0.1."""
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 53))
        return self

    def stop(self) -> None:
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, peer: tuple[str, int]) -> None:
        self.asked += 1
        self.first_question.set()
        if not self.silent:
            self._transport.sendto(self._answer(data), peer)

    def _answer(self, query: bytes) -> bytes:
        """Answer the one question of `query` (RFC 1035 section 4)."""
        labels, at = [], 12
        while size := query[at]:
            labels.append(query[at + 1 : at + 1 + size].decode())
            at += 1 + size
        question = query[12 : at + 5]
        (kind,) = struct.unpack_from("!H", query, at + 1)
        found = self.addresses.get(".".join(labels).lower())
        records = b""
        count = 0
        for address in map(ipaddress.ip_address, found or []):
            if kind == (A if address.version == 4 else AAAA):
                packed = address.packed
                records += b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 0, len(packed)) + packed
                count += 1
        flags = 0x8180 | (NAME_ERROR if found is None else 0)
        return query[:2] + struct.pack("!HHHHH", flags, 1, count, 0, 0) + question + records
