"""All that systemd has passed to this process."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from wsaas.systemd.activation import Activation, activation
from wsaas.systemd.notifier import Notifier
from wsaas.systemd.service import Limits, Node, Service
from wsaas.systemd.variables import NOTIFY_SOCKET, take
from wsaas.systemd.watchdog import watchdog_timeout

START_TIMEOUT_S: Final = 60.0
"""Seconds that a start may take, apart from the time for which it waits for an earlier process to drain."""

STOP_MARGIN_S: Final = 10.0
"""Seconds that systemd waits for longer than a stop may take, as a supervisor that kills workers then still has to end,
and a single process may be exporting its traces."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Its sockets, the path of the socket to report to (empty if there is none), and the time-out of the watchdog."""

    activation: Activation = field(default_factory=Activation)
    path: str = ""
    watchdog: float | None = None

    def service(self, node: Node, drain: float) -> Service:
        """Return `node` as a service. `drain`: the seconds that its stop may take."""
        return Service(node, Notifier(self.path), Limits(drain + START_TIMEOUT_S, drain + STOP_MARGIN_S, self.watchdog))


NO_UNIT: Final = Unit()
"""That of a process which systemd has not started."""


def take_unit(flags: Mapping[str, str | None], environment: Mapping[str, str]) -> Unit:
    """Return what systemd has passed in `environment`, and remove it there. Raises `SettingError`.

    `flags`: with `environment`, the settings.
    """
    variables = take(environment)
    sockets = activation(variables, flags, environment)
    return Unit(sockets, variables.get(NOTIFY_SOCKET, ""), watchdog_timeout(variables))
