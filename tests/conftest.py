"""An `async` test is run by the stage that it asks for."""

from inspect import iscoroutinefunction

import pytest
from sockets.harness import Stage


@pytest.fixture
def stage() -> Stage:
    """Everything that a test works with."""
    return Stage()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an `async` test on a loop of its own."""
    if not iscoroutinefunction(pyfuncitem.function):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    arguments["stage"].run(pyfuncitem.function, arguments)
    return True
