"""The fixtures of the tests of `wsaas check`."""

import pytest

from wsaas.check import pushes


@pytest.fixture(autouse=True)
def _short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait long for a push that does not come."""
    monkeypatch.setattr(pushes, "PUSH_WAIT_S", 0.05)
