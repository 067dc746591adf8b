"""What both clients do in the same way: options, retries, and walks over the pages of a list."""

import random
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypedDict

import httpx2

from wsaas.backend.calls import Call, Calls
from wsaas.backend.errors import GatewayError, Incomplete, Unavailable, Unknown
from wsaas.backend.results import ConnectionInfo, Page

TIMEOUT_S: Final = 15.0
"""Longer than the 8 s in which a node of a cluster has to answer another one."""

LIMITS: Final = httpx2.Limits(max_connections=100, max_keepalive_connections=100, keepalive_expiry=20.0)
"""Idle connections are closed long before `KEEP_ALIVE_TIMEOUT`, so that no request meets one that is just closing."""

FIRST_DELAY_S: Final = 0.1
MAX_DELAY_S: Final = 10.0
"""Seconds before a request is sent again: at most the first, doubled each time up to the last, with full jitter."""

_NOT_SENT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError)


class Options(TypedDict, total=False):
    """Options of HTTPX: what both clients take beside their own parameters.

    `timeout`: seconds for each step of a request, or an `httpx2.Timeout`. `limits`: of the pool.
    `verify`: an SSL context, with a client certificate if the gateway has `CONTROL_TLS_CA`.
    `uds`: the path of a Unix socket, to which all requests go. `transport`: replaces the last three.
    """

    timeout: float | httpx2.Timeout | None
    limits: httpx2.Limits
    verify: ssl.SSLContext | bool
    uds: str
    transport: Any


class Walk:
    """A walk over the pages of a list. `after`: the next page; `has_more`: whether there is one."""

    def __init__(self) -> None:
        """Begin before the first page."""
        self.after: str | None = None
        self.has_more = True
        self._missing: dict[str, None] = {}

    def add(self, page: Page) -> Iterator[ConnectionInfo]:
        """Iterate over the next page. Raises `Incomplete` behind the last one."""
        yield from page.connections
        self._missing |= dict.fromkeys(page.missing)
        self.after, self.has_more = page.next, page.next is not None
        if self._missing and not self.has_more:
            raise Incomplete([*self._missing])


def make_calls(base_url: str | None, token: str | None, nodes: Iterable[str], options: Options) -> Calls:
    """Return what makes the requests of a client. Raises `TypeError` for an option that there is not."""
    for name in options.keys() - Options.__annotations__.keys():
        raise TypeError(f"there is no option {name!r}: expected one of {', '.join(Options.__annotations__)}")
    by_socket = options.get("uds") is not None
    base_url = "http://localhost" if by_socket and base_url is None else base_url
    return Calls(base_url, token, nodes, by_id=by_socket)


def transport_options(options: Options) -> dict[str, Any]:
    """Return the parameters of the transport of HTTPX."""
    given: dict[str, Any] = {name: options[name] for name in ("verify", "uds") if name in options}
    # The gateway is no site on the Internet: a proxy of the environment does not lead to it.
    return {"trust_env": False, "limits": options.get("limits", LIMITS), **given}


def client_options(options: Options) -> dict[str, Any]:
    """Return the parameters of the client of HTTPX, beside its transport."""
    timeout = options.get("timeout", TIMEOUT_S)
    return {"timeout": timeout, "trust_env": False, "headers": {"User-Agent": "wsaas-backend"}}


@contextmanager
def translated(call: Call[Any]) -> Iterator[None]:
    """Turn errors of HTTPX into `Unavailable`, if nothing was sent, or `Unknown`."""
    try:
        yield
    except _NOT_SENT as error:
        raise Unavailable(f"{call.method} {call.url} was not sent: {_shown(error)}") from error
    # OSError: anyio lets errors of TLS through, such as a client certificate that the gateway refuses.
    except (httpx2.RequestError, OSError) as error:
        text = f"{call.method} {call.url} may have been carried out, but was not answered: {_shown(error)}"
        raise Unknown(text) from error


def _shown(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def may_repeat(call: Call[Any], error: GatewayError) -> bool:
    """Return whether the client cannot get anything twice, and whether that could help soon."""
    is_safe = isinstance(error, Unavailable) or (call.reads_only and isinstance(error, Unknown))
    return is_safe and (error.retry_after or 0) <= MAX_DELAY_S


def retry_delay(failures: int, error: GatewayError) -> float:
    """Return the seconds to wait after so many failures."""
    longest = min(MAX_DELAY_S, FIRST_DELAY_S * 2 ** (failures - 1))
    return max(error.retry_after or 0.0, random.uniform(0, longest))  # noqa: S311 - no secret
