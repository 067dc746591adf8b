"""Asks the backend whether it wants events, before the first client connects (CloudEvents, HTTP 1.1 Web Hooks, 4.1)."""

from typing import Final

from wsaas.delivery.failure_report import FAILED
from wsaas.delivery.pool import Exchange, Outcome, Pool
from wsaas.http.headers import members
from wsaas.http.response import Response
from wsaas.log.redaction import hide_secrets
from wsaas.log.throttle import throttle

_ALLOWED: Final = b"webhook-allowed-origin"
_SUCCESS: Final = 2
_MAX_SHOWN: Final = 100
"""Characters of a header that are logged."""


class PreflightExchange(Exchange):
    """The request that asks."""

    __slots__ = ("_preflight",)

    def __init__(self, preflight: "PreflightPool", request: bytes, timeout: float) -> None:
        """Pass the answer to `preflight`."""
        super().__init__(request, timeout, retried=False)
        self._preflight = preflight

    @property
    def refuses_client(self) -> bool:
        """Return True: without an answer, no client is accepted."""
        return True

    def answered(self, outcome: Outcome) -> None:
        """Pass it on."""
        self._preflight.answered(outcome)


class PreflightPool(Pool):
    """Sends exchanges by another pool. Those that decide about clients wait until the backend has allowed events.

    It is asked when the first of them comes. If it does not allow events, they get its answer as if it were theirs, and
    the next one asks again. How many wait is bounded as the clients are, and how long by `API_TIMEOUT`.
    """

    def __init__(self, pool: Pool, request: bytes, origin: str, timeout: float) -> None:
        """Send by `pool`. `request`: asks whether `origin` may send events. `timeout`: how long it waits (seconds)."""
        # Not the constructor, which would make a pool. Nothing but `send` is used.
        self._asked = request
        self._origin = origin
        self._pool = pool
        self._timeout = timeout
        self._undecided: list[Exchange] = []
        self.clock = pool.clock
        self.is_allowed = False

    def send(self, exchange: Exchange) -> None:
        """Send `exchange` now, or when the backend has allowed events."""
        if self.is_allowed or not exchange.refuses_client:
            self._pool.send(exchange)
            return
        self._undecided.append(exchange)
        if len(self._undecided) == 1:
            self._pool.send(PreflightExchange(self, self._asked, self._timeout))

    def answered(self, outcome: Outcome) -> None:
        """Send what waits if the backend allows events; otherwise, pass the outcome on."""
        undecided, self._undecided = self._undecided, []
        self.is_allowed = isinstance(outcome, Response) and is_allowed(outcome, self._origin)
        if self.is_allowed:
            for exchange in undecided:
                self._pool.send(exchange)
            return
        if isinstance(outcome, Response):
            self._log(outcome)
        for exchange in undecided:
            exchange.answered(outcome)

    def _log(self, response: Response) -> None:
        found = response.headers.get(_ALLOWED)
        shown = "no WebHook-Allowed-Origin"
        if found is not None:
            shown = f"WebHook-Allowed-Origin: {hide_secrets(found.decode('latin-1'))[:_MAX_SHOWN]}"
        fields = {
            "request": self._asked.partition(b" HTTP/")[0].decode("latin-1").partition("?")[0],
            "why": f"the backend answered {response.status} with {shown}",
            "effect": (
                "clients are refused with 502; it has to answer OPTIONS with WebHook-Allowed-Origin: * or "
                f"{self._origin}, as the middleware of Azure's SDK does: check the path in API_URI"
            ),
        }
        throttle.warning(("preflight", response.status), FAILED, fields)


def is_allowed(response: Response, origin: str) -> bool:
    """Return whether `origin`, a host and port, may send events. The port need not be named."""
    if response.status // 100 != _SUCCESS:
        return False
    allowed = [each.decode("latin-1").lower() for each in members(response.headers, _ALLOWED)]
    return not {"*", origin.lower(), origin.lower().rpartition(":")[0] or origin.lower()}.isdisjoint(allowed)
