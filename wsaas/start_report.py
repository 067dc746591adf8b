"""What the log says once a node listens: what it is, where, for which backend, and what looks wrong."""

from collections.abc import Callable, Sequence
from ipaddress import ip_address

from wsaas import __version__
from wsaas.setting_types import Address, Backend
from wsaas.settings import Settings


def start_line(settings: Settings, addresses: Sequence[Address]) -> str:
    """Return the line about a node that listens at `addresses`: for clients, and for REST requests if elsewhere."""
    tls = " with TLS" if settings.tls_cert else ""
    roles = ("clients and REST requests",) if len(addresses) == 1 else ("clients", "REST requests")
    places = [f"listening on {_place(at)}{tls} for {role}" for at, role in zip(addresses, roles, strict=True)]
    uris = f"API_URI={_shown(settings.api_uri)} WS_HOSTNAME={settings.ws_hostname.text}"
    return f"wsaas {__version__} {', '.join(places)}; {uris}"


def start_warnings(settings: Settings, rest: Address, is_own: Callable[[str], bool]) -> list[str]:
    """Return what should be changed. `rest`: where REST requests are taken; `is_own`: whether a host is this machine.

    `WS_HOSTNAME` may be the name of a proxy or of a host whose port is mapped to this one, and only the backend may be
    able to resolve it. What certainly leads elsewhere is told of; what may, with the reason why it may be right.
    """
    found = []
    if not (rest.is_loopback or settings.control_token or settings.control_tls_ca):
        found.append(f"anybody who reaches {_place(rest)} can push to clients: set CONTROL_TOKEN, or CONTROL_LISTEN")
    name = settings.ws_hostname
    if _is_unspecified(name.host):
        found.append(
            f"WS_HOSTNAME={name.text} starts each ws_uri, but {name.host} is no address to connect to: set WS_HOSTNAME "
            "to the name or address, and the port, at which the backend reaches this node"
        )
    elif not rest.path and name.port != rest.port and is_own(name.host):
        found.append(
            f"WS_HOSTNAME={name.text} starts each ws_uri, but this node takes REST requests on {_place(rest)}: set the "
            f"port of WS_HOSTNAME to {rest.port}, unless a proxy or a port mapping leads from {name.port} to it"
        )
    elif settings.tls_cert and not name.text.startswith("https://") and is_own(name.host):
        found.append(
            f"WS_HOSTNAME={name.text} starts each ws_uri, but this node takes REST requests by TLS only: write "
            f"https:// before {name.host}"
        )
    backend = settings.api_uri
    if not rest.path and backend.port == rest.port and is_own(backend.host):
        found.append(f"API_URI={_shown(backend)} leads to this node itself: it has to lead to your backend")
    return found


def _place(address: Address) -> str:
    """Return `address` with a star for every address of this machine, as `LISTEN` takes it."""
    return str(address) if address.host or address.path else f"*{address}"


def _shown(backend: Backend) -> str:
    """Return the URL of the backend; its query, which may hold a key, is hidden."""
    path, mark, _ = backend.target.partition("?")
    return f"{backend.scheme}://{backend.authority}{path}{'?(hidden)' if mark else ''}"


def _is_unspecified(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False
