"""Which requests of browsers the demo serves: those of its own page, opened at a name or address of this machine."""

import ipaddress
from collections.abc import Iterable


class Hosts:
    """Checks the `Host` and `Origin` of requests against other web pages. The demo knows no users.

    A web site can let its own name resolve to this machine (DNS rebinding). A browser then takes the demo for a part of
    that site, and its pages could read the traffic. But `Host` still has the name of the site, which is not known here.
    An IP address in `Host` is no such name, so it is safe to allow any: the demo may be behind a forwarded port.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        """Allow loopback hosts only; with `names`, also these and any IP address, as other machines use them."""
        self._names = frozenset(name.lower() for name in names)

    @property
    def has_others(self) -> bool:
        """Return whether other machines may use the demo."""
        return bool(self._names)

    def allow(self, host: str) -> bool:
        """Return whether a browser may use this `Host`, with or without a port."""
        name = host_name(host)
        if name == "localhost" or name.endswith(".localhost"):
            return True
        try:
            return ipaddress.ip_address(name).is_loopback or self.has_others
        except ValueError:
            return name.removesuffix(".") in self._names


def host_name(host: str) -> str:
    """Return the name or IP address in a `Host` header, in lower case."""
    name, _, port = host.lower().rpartition(":")
    return (name if port.isdecimal() else host.lower()).strip("[]")


def is_own_origin(origin: str | None, host: str) -> bool:
    """Return whether a request is from a page of this server, or from no page. A proxy in front may add TLS."""
    if origin is None:
        return True
    # Browsers send no path and no user in `Origin`.
    _, separator, authority = origin.lower().partition("://")
    return bool(separator) and authority == host.lower()
