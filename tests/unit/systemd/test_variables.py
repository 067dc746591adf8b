"""The variables of systemd in the environment."""

import os
from types import MappingProxyType

from wsaas.systemd.variables import is_for_this_process, take


def test_the_variables_are_removed_so_that_no_child_gets_them():
    environment = {"NOTIFY_SOCKET": "/run/x", "LISTEN_FDS": "1", "WATCHDOG_USEC": "1", "PATH": "/bin"}
    assert take(environment) == {"NOTIFY_SOCKET": "/run/x", "LISTEN_FDS": "1", "WATCHDOG_USEC": "1"}
    assert environment == {"PATH": "/bin"}
    assert take(environment) == {}


def test_an_environment_that_cannot_be_changed_is_only_read():
    environment = MappingProxyType({"LISTEN_PID": "1"})
    assert take(environment) == {"LISTEN_PID": "1"} == environment


def test_a_variable_may_be_for_another_process():
    assert is_for_this_process(None)
    assert is_for_this_process(str(os.getpid()))
    assert not is_for_this_process(str(os.getpid() + 1))
