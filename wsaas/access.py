"""Who may come in, and who it is: origins, addresses behind proxies, and hosts under which the REST surface answers."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

_HOST = re.compile(r"[^/@?#\\]+")

_AUTHORITY = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^:\[\]]+))(?::[0-9]*)?")

MAX_KNOWN_HOSTS = 256
"""`Host` values that `HostCheck` remembers to be allowed."""

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
            if not self.trusts(address) or (further := _address(entry)) is None:
                break
            address = further
        return address

    def trusts(self, address: str) -> bool:
        """Return whether `address`, empty for a Unix socket, is that of one of these proxies."""
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


def names_loopback(host: str) -> bool:
    """Return whether only this machine is reached by `host`: a name in lower case, or an address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


class HostCheck:
    """The hosts under which a REST surface that asks for no proof answers.

    A web page can let its own name resolve to 127.0.0.1 (DNS rebinding). Its requests are then same-origin for the
    browser, which shows it the answers, but their `Host` is still that name.
    """

    __slots__ = ("_any", "_names", "known")

    def __init__(self, names: Iterable[str], *, any_host: bool = False) -> None:
        """Allow loopback names and addresses and `names`; with `any_host` all, for a socket that no browser reaches.

        An empty name and an unspecified address such as 0.0.0.0 stand for every interface and name no host.
        """
        self._any = any_host
        self._names = frozenset(_plain(name) for name in names if name and not _is_unspecified(name))
        self.known: set[bytes] = set()
        """Values that are allowed: a look-up instead of `allow`. There are `MAX_KNOWN_HOSTS` at most."""

    def allow(self, host: bytes | None) -> bool:
        """Return whether a request with this `Host` header (RFC 9110 section 7.2) is answered, on whatever port.

        Without a `Host`, which only HTTP/1.0 allows, it is not.
        """
        if host is None or not (self._any or self._is_allowed(host.decode("latin-1").lower())):
            return False
        if len(self.known) >= MAX_KNOWN_HOSTS:
            self.known.clear()
        self.known.add(host)
        return True

    def _is_allowed(self, host: str) -> bool:
        authority = _AUTHORITY.fullmatch(host)
        if authority is None:
            return False
        name = _plain(authority[1] or authority[2])
        return name in self._names or names_loopback(name)


def _plain(name: str) -> str:
    """Return a host in one spelling: lower case, without the dot of the root, an IPv6 address at its shortest."""
    name = name.lower()
    name = name.removesuffix(".")
    try:
        address = ip_address(name)
    except ValueError:
        return name
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def _is_unspecified(name: str) -> bool:
    try:
        return ip_address(name).is_unspecified
    except ValueError:
        return False


def from_web_page(headers: Mapping[bytes, bytes]) -> bool:
    """Return whether a web page of another site made a browser send this request (RFC 6454, Fetch Metadata)."""
    return b"origin" in headers or headers.get(b"sec-fetch-site", b"").lower() == b"cross-site"
