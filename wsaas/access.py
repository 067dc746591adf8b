"""Access rules: web origins, tokens of browsers, client addresses behind proxies, and allowed `Host` headers."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

_HOST: Final = re.compile(r"[^/@?#\\]+")

_AUTHORITY: Final = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^:\[\]]+))(?::[0-9]*)?")

MAX_KNOWN_HOSTS: Final = 256
MAX_KNOWN_HOST: Final = 256
"""Maximum number of allowed `Host` values that `HostCheck` remembers, and of bytes in each."""

MAX_KNOWN_ADDRESSES: Final = 256
MAX_KNOWN_ADDRESS: Final = 64
"""How many parsed addresses are cached: those of the proxies, of which there are few, and of their latest clients. And
the number of characters in the longest: a zone may follow the 45 of an address."""

Network = IPv4Network | IPv6Network

UNIX: Final = "unix:"
"""Entry in a list of addresses that stands for all peers on Unix sockets. The address of such a peer is empty."""

IPV6_BLOCK_BITS: Final = 64
"""Length of the IPv6 prefix that one customer of a provider usually has, with 2^64 addresses to choose from."""


@dataclass(frozen=True, slots=True)
class Origins:
    """The web origins (RFC 6454) that may connect, in lower case.

    `exact`: complete origins.
    `domains`: scheme and host suffix such as `.example.com`.
    `everyone`: whether any origin may connect.
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


ANY_ORIGIN: Final = Origins(everyone=True)

QUERY: Final = "query"
SUBPROTOCOL: Final = "subprotocol"
COOKIE: Final = "cookie"


@dataclass(frozen=True, slots=True)
class TokenPlace:
    """Where the token of a browser may be in its handshake.

    `kind`: `QUERY`, `SUBPROTOCOL` or `COOKIE`. `name`: of the parameter or cookie, or the prefix of the subprotocol.
    """

    kind: str
    name: str

    @property
    def description(self) -> str:
        """The place, for error messages."""
        if self.kind == QUERY:
            return f"query parameter {self.name}"
        return f"subprotocol {self.name}..." if self.kind == SUBPROTOCOL else f"cookie {self.name}"


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxies whose `X-Forwarded-For` is trusted. `unix`: whether all peers on Unix sockets are such proxies."""

    networks: tuple[Network, ...] = ()
    unix: bool = False

    def client(self, peer: str, forwarded: Sequence[str]) -> str:
        """Return the address of the client behind `peer`.

        `peer`: the address of the peer, empty for a Unix socket; `forwarded`: the entries of `X-Forwarded-For`. Each
        proxy appends the address of its own peer. So the client is the last address that is not a trusted proxy;
        earlier entries may be forged.
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
        if not self.networks:
            return False
        known = _parsed(address)
        return any(known in network for network in self.networks)


def _parsed(text: str) -> IPv4Address | IPv6Address:
    """Return the IP address in `text`. Raises `ValueError`."""
    return ip_address(text) if len(text) > MAX_KNOWN_ADDRESS else _known_addresses(text)


_known_addresses: Final = lru_cache(MAX_KNOWN_ADDRESSES)(ip_address)


def _forwarded_address(entry: str) -> str | None:
    """Return the address in an entry of `X-Forwarded-For`, without a port; None if there is no address."""
    if entry.startswith("["):
        entry = entry[1:].partition("]")[0]
    elif entry.count(":") == 1:
        entry = entry.partition(":")[0]
    if "%" in entry:
        # The sender may put any text into a zone.
        return None
    return _canonical_address(entry)


def _canonical_address(text: str) -> str | None:
    """Return an IP address in its canonical form; None if `text` is no address. IPv4-mapped addresses become IPv4."""
    try:
        address = _parsed(text)
    except ValueError:
        return None
    return canonical_form(address)


def canonical_form(address: IPv4Address | IPv6Address) -> str:
    """Return the text of an address in its canonical form. An IPv4-mapped address becomes the IPv4 one."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def address_block(address: str) -> str:
    """Return the block that `address` is counted in: an IPv4 address itself, or the /64 network of an IPv6 address."""
    if ":" not in address:
        return address
    return str(IPv6Network((address.partition("%")[0], IPV6_BLOCK_BITS), strict=False))


def is_loopback_host(host: str) -> bool:
    """Return whether `host`, a name in lower case or an IP address, is a loopback host."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


class HostCheck:
    """Checks the `Host` header of requests to a REST API without authentication, against DNS rebinding.

    A web page can let its own host name resolve to 127.0.0.1. Its requests to the gateway are then same-origin, so the
    page may read the responses. But their `Host` is still the name of the page's host.
    """

    __slots__ = ("_any", "_names", "known")

    def __init__(self, names: Iterable[str], *, any_host: bool = False) -> None:
        """Allow loopback hosts and `names`.

        Empty names and unspecified addresses such as 0.0.0.0 are ignored, as they stand for all interfaces. `any_host`:
        allow all hosts, for a Unix socket, which browsers cannot reach.
        """
        self._any = any_host
        self._names = frozenset(_normalize(name) for name in names if name and not is_unspecified_host(name))
        self.known: set[bytes] = set()
        """Allowed values, up to `MAX_KNOWN_HOSTS`. A look-up here is faster than `allow`."""

    def allow(self, host: bytes | None) -> bool:
        """Return whether a request with this `Host` header (RFC 9110 section 7.2) is allowed. The port is ignored.

        A request without `Host`, as HTTP/1.0 permits, is not allowed.
        """
        if host in self.known:
            return True
        if host is None or not (self._any or self._is_allowed(host.decode("latin-1").lower())):
            return False
        if len(host) <= MAX_KNOWN_HOST:
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
    """Return `name` in lower case without a final dot, or the canonical form of an IP address."""
    name = name.lower().removesuffix(".")
    return _canonical_address(name) or name


def is_unspecified_host(host: str) -> bool:
    """Return whether `host` is an IP address that stands for all interfaces, such as 0.0.0.0."""
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def from_own_page(headers: Mapping[bytes, bytes], *, has_tls: bool) -> bool:
    """Return whether a browser sent this request for a page of this gateway, or no browser sent it.

    The page has the origin of the request's `Host` then, with https if the gateway, or a proxy in front of it, has TLS.
    """
    origin, host = headers.get(b"origin"), headers.get(b"host", b"").lower()
    schemes = (b"https://",) if has_tls else (b"https://", b"http://")
    if origin is not None and origin.lower() not in [scheme + host for scheme in schemes]:
        return False
    return not from_other_page(headers)


def from_other_page(headers: Mapping[bytes, bytes]) -> bool:
    """Return whether a browser says that it sent this request for a page of another origin (Fetch Metadata)."""
    return headers.get(b"sec-fetch-site", b"none").lower() not in {b"same-origin", b"none"}


def from_web_page(headers: Mapping[bytes, bytes]) -> bool:
    """Return whether a browser sent this request for a page of another site (RFC 6454, Fetch Metadata)."""
    return b"origin" in headers or headers.get(b"sec-fetch-site", b"").lower() == b"cross-site"
