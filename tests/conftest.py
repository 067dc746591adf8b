"""An `async` test is run by its fixture `stage`. Tests by properties try the same examples each time.

A run that fails then blames the change that it judges. `--hypothesis-profile search` tries other examples each time.
"""

from inspect import iscoroutinefunction, signature

import pytest
from hypothesis import settings

from tests.support.stage import Stage
from wsaas.log.throttle import throttle

settings.register_profile("repeatable", derandomize=True, database=None)
settings.register_profile("search", print_blob=True)
settings.load_profile("repeatable")


@pytest.fixture
def stage() -> Stage:
    """The backend, the gateways and the clients of a test."""
    return Stage()


@pytest.fixture(autouse=True)
def fresh_throttle() -> None:
    """Let no test's log lines count as repetitions of those of another."""
    throttle.flush()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an `async` test on a loop of its own."""
    if not iscoroutinefunction(pyfuncitem.function):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in signature(pyfuncitem.function).parameters}
    stage = arguments["stage"]
    assert isinstance(stage, Stage)
    stage.run(pyfuncitem.function, arguments)
    return True
