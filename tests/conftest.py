"""The fixture `stage` runs `async` tests. Property tests try the same examples each time.

So a failure is caused by the tested change. `--hypothesis-profile search` tries new examples each time.
"""

from inspect import iscoroutinefunction, signature

import pytest
from hypothesis import settings

from tests.support.expected_build import check_build
from tests.support.stage import Stage
from tests.support.watched import ALL, WatchingConsole
from wsaas import gateway
from wsaas.delivery import retries
from wsaas.log.throttle import throttle
from wsaas.watching import watcher

check_build()

settings.register_profile("repeatable", derandomize=True, database=None)
settings.register_profile("search", print_blob=True)
settings.load_profile("repeatable")


@pytest.fixture
def stage() -> Stage:
    """The backend, the gateways and the clients of a test."""
    return Stage()


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the back-off of gateways in this process."""
    monkeypatch.setattr(retries, "FIRST_RETRY_DELAY_S", 0.02)


@pytest.fixture(autouse=True)
def fresh_throttle() -> None:
    """Do not count log lines as repetitions of those of an earlier test."""
    throttle.flush()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--watched", action="store_true", help="watch every connection of the gateways in this process")


@pytest.fixture(autouse=True)
def _watch_all(pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `--watched`, hold watched connections against the tests of all others."""
    if pytestconfig.getoption("--watched"):
        monkeypatch.setattr(gateway, "Console", WatchingConsole)
        monkeypatch.setattr(watcher, "MAX_WATCHED", ALL)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an `async` test on a loop of its own."""
    if not iscoroutinefunction(pyfuncitem.function):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in signature(pyfuncitem.function).parameters}
    stage = pyfuncitem.funcargs["stage"]
    assert isinstance(stage, Stage)
    stage.run(pyfuncitem.function, arguments)
    return True
