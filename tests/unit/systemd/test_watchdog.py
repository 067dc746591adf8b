"""How often systemd expects to hear from the service."""

import os

import pytest

from wsaas.errors import SettingError
from wsaas.systemd.watchdog import watchdog_timeout


def test_a_time_in_microseconds_becomes_seconds():
    assert watchdog_timeout({"WATCHDOG_USEC": "30000000"}) == 30.0
    assert watchdog_timeout({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(os.getpid())}) == 1.5


def test_there_is_no_watchdog_without_a_time_or_for_another_process():
    assert watchdog_timeout({}) is None
    assert watchdog_timeout({"WATCHDOG_PID": str(os.getpid())}) is None
    assert watchdog_timeout({"WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}) is None


@pytest.mark.parametrize("text", ["", "0", "-1", "soon", "1.5", "\u0663"])
def test_a_time_that_is_none_is_refused(text):
    with pytest.raises(SettingError, match="expected a number of microseconds above 0"):
        watchdog_timeout({"WATCHDOG_USEC": text})
