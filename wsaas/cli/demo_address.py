"""Where the page of `wsaas demo` listens, and the text that says so."""

import errno
import socket
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from ipaddress import ip_address
from typing import Final, NamedTuple

from wsaas.access import is_loopback_host, is_unspecified_host
from wsaas.cli.command_options import DemoOptions
from wsaas.cli.ports import free_port
from wsaas.setting_types import Address
from wsaas.transport.listener import bind

LOOPBACK: Final = "127.0.0.1"

ELSEWHERE: Final = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
"""An address of another network for each family (RFC 5737, RFC 3849)."""

WARNING: Final = """\
  Warning: the demo has no authentication. Anyone who can reach this port can read all messages, and do on the page
  what you can do. Use it only in networks that you trust.
"""


class DemoAddress(NamedTuple):
    """The address of the page. `host`: an IP address; `names`: host names of this machine, if others may open it."""

    host: str
    port: int
    names: tuple[str, ...] = ()

    def flags(self) -> list[str]:
        """Return the flags of the example backend."""
        return ["--listen", authority(self.host, self.port), *(["--names", ",".join(self.names)] if self.names else [])]

    def greeting(self, what: str, port: int, inside: str = "") -> str:
        """Return the text that names all URLs of the page. `what`: to do there; `inside`: the URL of the console."""
        first, *others = urls(self.host, port)
        if not self.names:
            inside = f", and {inside} to look inside" if inside else ""
            return f"\n  Open {first} {what}{inside}. Ctrl-C stops everything.\n"
        lines = [f"Open {first} {what}.", *(f"From other machines: {url}" for url in others)]
        if inside:
            lines.append(f"To look inside, on this machine only: {inside}")
        return "\n" + "".join(f"  {line}\n" for line in [*lines, "Ctrl-C stops everything."]) + WARNING


def choose(options: DemoOptions, usual_port: int) -> DemoAddress:
    """Return the address for the page: that of the flags, or a free port of this machine.

    Raises `OSError`, whose `filename` is the address, if it cannot be bound.
    """
    if options.host is None:
        port = options.port or free_port(usual_port)
        return DemoAddress(*bindable(LOOPBACK, port))
    try:
        host, port = bindable(options.host, options.port or usual_port)
    except OSError as error:
        if options.port or error.errno != errno.EADDRINUSE:
            raise
        host, port = bindable(options.host, 0)
    own = socket.gethostname().lower()
    return DemoAddress(host, port, (*dict.fromkeys([options.host.lower(), own, f"{own}.local"]),))


def bindable(host: str, port: int) -> tuple[str, int]:
    """Return an IP address and a port that can be bound now. Raises `OSError`, whose `filename` is the address."""
    try:
        sockets = bind(Address(host, port))
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(error.errno, reason, authority(host, port)) from error
    place = sockets[0].getsockname()
    for each in sockets:
        each.close()
    return str(place[0]), int(place[1])


def urls(host: str, port: int) -> list[str]:
    """Return the URLs of a page that listens on `host`: the one for this machine first."""
    if is_loopback_host(host):
        return [f"http://{authority('localhost', port)}/"]
    if not is_unspecified_host(host):
        return [f"http://{authority(host, port)}/"]
    # `::` stands for the IPv4 addresses, too.
    families = [socket.AF_INET, socket.AF_INET6] if ip_address(host).version == 6 else [socket.AF_INET]  # noqa: PLR2004
    return [f"http://{authority(each, port)}/" for each in ("localhost", *own_addresses(families))]


def own_addresses(families: Iterable[socket.AddressFamily] = (socket.AF_INET,)) -> Iterator[str]:
    """Yield the addresses that this machine uses towards others."""
    for family in families:
        with suppress(OSError), closing(socket.socket(family, socket.SOCK_DGRAM)) as sock:
            # This sends nothing: it only makes the kernel choose a route.
            sock.connect((ELSEWHERE[family], 9))
            yield str(sock.getsockname()[0])


def authority(host: str, port: int) -> str:
    """Return host:port, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
