"""Who may come in, and who it is: origins, and addresses behind proxies."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

_HOST = re.compile(r"[^/@?#\\]+")

Network = IPv4Network | IPv6Network

UNIX = "unix:"
"""What stands for every peer on a Unix socket where addresses are listed. Such a peer's own address is empty."""

IPV6_CUSTOMER = 64
"""Bits of an IPv6 address that tell one customer of a provider from another; who has one such network has 2^64
addresses in it."""


@dataclass(frozen=True, slots=True)
class Origins:
    """The web origins (RFC 6454) that may connect, in lower case.

    `exact`: whole ones; `domains`: scheme and the end of the host, from its dot on; `everyone`: all of them.
    """

    exact: frozenset[str] = frozenset()
    domains: tuple[tuple[str, str], ...] = ()
    everyone: bool = False

    def allow(self, origin: str) -> bool:
        """Return whether a page of `origin` may connect."""
        if self.everyone:
            return True
        origin = origin.lower()
        if origin in self.exact:
            return True
        scheme, _, host = origin.partition("://")
        return _HOST.fullmatch(host) is not None and any(
            scheme == known and host.endswith(end) and len(host) > len(end) for known, end in self.domains
        )


ANY_ORIGIN = Origins(everyone=True)


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxies whose word is believed: those in `networks` and, with `unix`, those that come by a Unix socket."""

    networks: tuple[Network, ...] = ()
    unix: bool = False

    def client(self, peer: str, forwarded: Sequence[str]) -> str:
        """Return the address of the client behind `peer`.

        `peer`: the other end of the connection, empty for a Unix socket; `forwarded`: the addresses of its
        `X-Forwarded-For`, of which each proxy adds the one that it sees at the end. What stands before the last one
        that is not a trusted proxy, anybody may have written.
        """
        address = peer
        for entry in reversed(forwarded):
            if not self._trust(address) or (further := _address(entry)) is None:
                break
            address = further
        return address

    def _trust(self, address: str) -> bool:
        if not address:
            return self.unix
        known = ip_address(address)
        return any(known in network for network in self.networks)


def _address(entry: str) -> str | None:
    """Return the address in an entry of `X-Forwarded-For`, which may carry a port; None where it is none."""
    if entry.startswith("["):
        entry = entry[1:].partition("]")[0]
    elif entry.count(":") == 1:
        entry = entry.partition(":")[0]
    if "%" in entry:
        # A zone is a name of the sender's own, and may hold anything.
        return None
    try:
        address = ip_address(entry)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def customer(address: str) -> str:
    """Return what stands for all the addresses that the owner of `address` is sure to have: its own, or its /64."""
    if ":" not in address:
        return address
    return str(IPv6Network((address.partition("%")[0], IPV6_CUSTOMER), strict=False))
