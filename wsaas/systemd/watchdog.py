"""How often systemd expects to hear from the service (sd_watchdog_enabled(3))."""

from collections.abc import Mapping
from typing import Final

from wsaas.errors import SettingError
from wsaas.systemd.variables import WATCHDOG_PID, WATCHDOG_USEC, is_for_this_process

_MICROSECONDS: Final = 1_000_000


def watchdog_timeout(variables: Mapping[str, str]) -> float | None:
    """Return after how many seconds of silence systemd kills the service; None if it does not.

    Raises `SettingError` for a time that is none.
    """
    text = variables.get(WATCHDOG_USEC)
    if text is None or not is_for_this_process(variables.get(WATCHDOG_PID)):
        return None
    if not text.isascii() or not text.isdecimal() or not int(text):
        raise SettingError(f"{WATCHDOG_USEC}={text!r}: expected a number of microseconds above 0")
    return int(text) / _MICROSECONDS
