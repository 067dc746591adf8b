"""The log lines about the start of a node: version, addresses, backend, warnings about settings, and what failed."""

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from wsaas import __version__
from wsaas.access import COOKIE, is_loopback_host, is_unspecified_host
from wsaas.backend_setting_type import Backend
from wsaas.build_kind import BUILD
from wsaas.delivery.journal_file import JournalError
from wsaas.errors import SettingError
from wsaas.log import logger
from wsaas.setting_types import Address
from wsaas.settings import Settings


def log_start(settings: Settings, addresses: Sequence[Address]) -> None:
    """Log that the node has started. `addresses`: for clients, then for REST requests if that is a different one."""
    tls = " with TLS" if settings.tls_cert else ""
    also = f"{tls}{' and' if tls else ' with'} the PROXY protocol" if settings.proxy_protocol else tls
    roles = [f"{also} for clients and REST requests"]
    if len(addresses) > 1:
        roles = [f"{also} for clients", f"{tls} for REST requests"]
    places = [f"listening on {_spelled(at)}{role}" for at, role in zip(addresses, roles, strict=True)]
    clients, rest = addresses[0], addresses[-1]
    fields = {
        "event": "started",
        "version": __version__,
        "build": BUILD,
        "listen": _spelled(clients),
        "control_listen": _spelled(rest),
        "tls": bool(settings.tls_cert),
        "api_uri": without_query(settings.api_uri),
        "ws_hostname": settings.ws_hostname.text,
        "journal": str(settings.journal or "none"),
        "cluster": ",".join(map(str, settings.cluster)) or "none",
        "workers": settings.workers,
    }
    logger.info(f"wsaas %(version)s (%(build)s) {', '.join(places).replace('%', '%%')}; {_START}", fields)


_START: Final = (
    "API_URI=%(api_uri)s WS_HOSTNAME=%(ws_hostname)s JOURNAL=%(journal)s CLUSTER=%(cluster)s WORKERS=%(workers)d"
)


def start_warnings(settings: Settings, control: Address, is_this_machine: Callable[[str], bool]) -> list[str]:
    """Return warnings about settings that do not fit together.

    `control`: the address for REST requests; `is_this_machine` returns whether a host is this machine. A warning about
    `WS_HOSTNAME` also says when the setting is correct: it may name a proxy or a port that is mapped to another one,
    and only the backend needs to resolve it.
    """
    found = [*_warn_of_cookies(settings), *_warn_of_access(settings, control)]
    name = settings.ws_hostname
    if is_unspecified_host(name.host):
        found.append(
            f"WS_HOSTNAME={name.text} is the start of every ws_uri, but nobody can connect to {name.host}: set "
            "WS_HOSTNAME to the host and port at which the backend reaches this node"
        )
    elif not control.path and name.port != control.port and is_this_machine(name.host):
        found.append(
            f"WS_HOSTNAME={name.text} is the start of every ws_uri, but this node serves REST requests on "
            f"{_spelled(control)}: set the port of WS_HOSTNAME to {control.port}, unless a proxy or a port mapping "
            f"forwards {name.port} to it"
        )
    elif settings.tls_cert and not name.text.startswith("https://") and is_this_machine(name.host):
        found.append(
            f"WS_HOSTNAME={name.text} is the start of every ws_uri, but this node serves REST requests over TLS only: "
            f"write https:// before {name.host}"
        )
    node = settings.node_address
    if settings.cluster and node is not None:
        if control.is_loopback and not is_loopback_host(node.host):
            found.append(
                f"NODE_ADDRESS={node.text} is where other nodes reach this one, but it serves REST requests on "
                f"{_spelled(control)}: set CONTROL_LISTEN, unless a proxy on this machine forwards them"
            )
        elif settings.tls_cert and not node.text.startswith("https://"):
            found.append(
                f"NODE_ADDRESS={node.text} is where other nodes reach this one, but it serves REST requests over TLS "
                f"only: write https:// before {node.host}"
            )
    backend = settings.api_uri
    if _is_at(control, backend, is_this_machine):
        found.append(f"API_URI={without_query(backend)} is the address of this node: set it to your backend")
    return found


def _is_at(control: Address, backend: Backend, is_this_machine: Callable[[str], bool]) -> bool:
    """Return whether `API_URI` is the address for REST requests."""
    if control.path or backend.socket:
        return control.path == backend.socket
    return backend.port == control.port and is_this_machine(backend.host)


def _access_keys(settings: Settings) -> str:
    """Return what the access keys are for, empty if there are none."""
    if settings.control_aws_keys:
        return "CONTROL_AWS_KEYS is only for requests with /@connections/"
    return "CONTROL_AZURE_KEYS is only for requests below /api/hubs" if settings.control_azure_keys else ""


def _warn_of_cookies(settings: Settings) -> Iterator[str]:
    """Warn if pages of any origin may use cookies as credentials: browsers send cookies from all pages."""
    is_cookie = any(place.kind == COOKIE for place in settings.browser_authorization)
    if is_cookie and settings.allowed_origins.everyone:
        yield (
            "BROWSER_AUTHORIZATION names a cookie, so a page of any web site can connect as the user who visits it: "
            "set ALLOWED_ORIGINS, unless the backend checks the origin"
        )


def _warn_of_access(settings: Settings, control: Address) -> Iterator[str]:
    """Warn if too many, or too few, may use the REST API at `control`."""
    if settings.control_token or settings.control_tls_ca:
        return
    also = ", so there is no console" if settings.console else ""
    node = settings.node_address if settings.cluster else None
    advice = "set CONTROL_TOKEN, or CONTROL_LISTEN" if node is None else "set CONTROL_TOKEN, the same for all nodes"
    if keys := _access_keys(settings):
        yield f"{keys}: all others are refused{also}: set CONTROL_TOKEN to make other requests, too"
    elif not control.is_loopback:
        yield f"anybody who reaches {_spelled(control)} can push to clients{also}: {advice}"
    elif node is not None and not is_loopback_host(node.host):
        # A proxy forwards what reaches it, of other nodes and of anybody else.
        yield f"anybody who reaches NODE_ADDRESS={node.text} can push to clients: {advice}"


def report_start_failure(error: SettingError | OSError | JournalError) -> int:
    """Print or log why the gateway cannot start; return the exit status."""
    if isinstance(error, SettingError):
        return refuse(error)
    if isinstance(error, JournalError):
        logger.error("cannot use the journal: %s", error)
    else:
        logger.error("cannot listen on %s: %s", error.filename, error.strerror)
    return 1


def refuse(error: SettingError | str) -> int:
    """Print an error about a setting; return the exit status."""
    print(f"wsaas: {error}", file=sys.stderr)
    return 2


def _spelled(address: Address) -> str:
    """Return `address` in the format of `LISTEN`, with a `*` for all interfaces."""
    return str(address) if address.host or address.path else f"*{address}"


def without_query(backend: Backend) -> str:
    """Return the URL of the backend without its query, which may contain a key."""
    path, mark, _ = backend.target.partition("?")
    return f"{backend.place}{path}{'?(hidden)' if mark else ''}"
