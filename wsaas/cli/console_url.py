"""Where the console of a gateway is, for those who have just started it on their machine."""

from wsaas.access import is_unspecified_host
from wsaas.settings import Settings, control_address, has_console


def console_url(chosen: Settings) -> str:
    """Return the URL of the console; empty if there is none, or if it is served on a Unix socket only."""
    address = control_address(chosen)
    if not has_console(chosen) or address.path:
        return ""
    host = "localhost" if not address.host or is_unspecified_host(address.host) else address.host
    authority = f"[{host}]:{address.port}" if ":" in host else f"{host}:{address.port}"
    return f"{'https' if chosen.tls_cert else 'http'}://{authority}/console"
