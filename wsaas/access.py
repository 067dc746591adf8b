"""Access rules: web origins, client addresses behind proxies, and the hosts that the REST API answers for."""

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
"""Stands for all peers on Unix sockets in a list of addresses. The address of such a peer is empty."""

IPV6_BLOCK_BITS = 64
"""Length of the prefix that a provider gives to one customer, who may use each of the 2^64 addresses in it."""


@dataclass(frozen=True, slots=True)
class Origins:
    """The web origins (RFC 6454) that may connect, in lower case.

    `exact`: complete origins; `domains`: scheme, and the end of the host from a dot on; `everyone`: any origin.
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
    """The proxies whose `X-Forwarded-For` counts: those in `networks` and, with `unix`, those on Unix sockets."""

    networks: tuple[Network, ...] = ()
    unix: bool = False

    def client(self, peer: str, forwarded: Sequence[str]) -> str:
        """Return the address of the client behind `peer`.

        `peer`: the address of the peer, empty for a Unix socket; `forwarded`: the entries of `X-Forwarded-For`. Each
        proxy appends the address of its peer, so the client is the last one that is not a trusted proxy. The entries
        before it may be forged.
        """
        address = peer
        for entry in reversed(forwarded):
            if not self.trusts(address) or (further := _forwarded_address(entry)) is None:
                break
            address = further
        return address

    def trusts(self, address: str) -> bool:
        """Return whether `address` (empty for a Unix socket) is one of these proxies."""
        if not address:
            return self.unix
        known = ip_address(address)
        return any(known in network for network in self.networks)


def _forwarded_address(entry: str) -> str | None:
    """Return the address in an entry of `X-Forwarded-For`, which may have a port; None where it has no address."""
    if entry.startswith("["):
        entry = entry[1:].partition("]")[0]
    elif entry.count(":") == 1:
        entry = entry.partition(":")[0]
    if "%" in entry:
        # A zone is a name that the sender chose, and may hold anything.
        return None
    return _canonical_address(entry)


def _canonical_address(text: str) -> str | None:
    """Return an address in its canonical form, IPv4 for one that IPv6 only maps; None where `text` is no address."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def address_block(address: str) -> str:
    """Return the block of addresses that are counted as one: an IPv4 address itself, the /64 network of an IPv6 one."""
    if ":" not in address:
        return address
    return str(IPv6Network((address.partition("%")[0], IPV6_BLOCK_BITS), strict=False))


def is_loopback_host(host: str) -> bool:
    """Return whether `host`, a name in lower case or an address, is one of this machine's loopback interface."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


class HostCheck:
    """The hosts that the REST API answers for when it has no authentication.

    A web page can let its own name resolve to 127.0.0.1 (DNS rebinding). For the browser, its requests are then
    same-origin, and the page may read the responses. But their `Host` is still that name.
    """

    __slots__ = ("_any", "_names", "known")

    def __init__(self, names: Iterable[str], *, any_host: bool = False) -> None:
        """Allow loopback hosts and `names`; with `any_host` all, for a Unix socket, which no browser reaches.

        Empty names and unspecified addresses such as 0.0.0.0 are ignored: they stand for all interfaces.
        """
        self._any = any_host
        self._names = frozenset(_normalize(name) for name in names if name and not is_unspecified_host(name))
        self.known: set[bytes] = set()
        """Up to `MAX_KNOWN_HOSTS` values that are allowed: a look-up here is faster than `allow`."""

    def allow(self, host: bytes | None) -> bool:
        """Return whether a request with this `Host` header (RFC 9110 section 7.2) is allowed. Its port is ignored.

        A request without `Host`, which is valid in HTTP/1.0 only, is not.
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
        name = _normalize(authority[1] or authority[2])
        return name in self._names or is_loopback_host(name)


def _normalize(name: str) -> str:
    """Return `name` in lower case, without the dot of the root domain, an address in its canonical form."""
    name = name.lower().removesuffix(".")
    return _canonical_address(name) or name


def is_unspecified_host(host: str) -> bool:
    """Return whether `host` is an address that stands for all interfaces, such as 0.0.0.0."""
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def from_web_page(headers: Mapping[bytes, bytes]) -> bool:
    """Return whether a web page of another site made a browser send this request (RFC 6454, Fetch Metadata)."""
    return b"origin" in headers or headers.get(b"sec-fetch-site", b"").lower() == b"cross-site"
