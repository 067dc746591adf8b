"""A watched connection behaves on the wire exactly as any other: tests of clients, with every connection watched."""

from types import FunctionType, ModuleType
from typing import Any

import pytest

from tests.integration import test_closing, test_compression, test_messages, test_order
from tests.support.stage import Stage
from wsaas import gateway
from wsaas.api.console.console import Console
from wsaas.watching import watcher
from wsaas.watching.watcher import HandshakeFollower, Watch

MODULES = (test_closing, test_compression, test_messages, test_order)


class Everything(HandshakeFollower):
    """Follows all connections, and reads nothing."""

    def __init__(self) -> None:
        self.path = None
        self.wanted = 10**9
        self.positions: dict[Watch, int] = {}

    def begin(self, watch: Watch) -> None:
        self.positions[watch] = 0

    def advance(self) -> None:
        for watch, position in self.positions.items():
            for index in range(max(position, watch.ring.first), watch.ring.count):
                watch.ring.get(index).to_json()
            self.positions[watch] = watch.ring.count

    def check(self, now: float) -> None:
        pass


class WatchingConsole(Console):
    """A console that watches every connection."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        everything = Everything()
        self.watcher.add(everything)
        self.watcher.await_handshakes(everything)


@pytest.fixture(autouse=True)
def _all_are_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "Console", WatchingConsole)
    monkeypatch.setattr(watcher, "MAX_WATCHED", 10**6)


def quick_tests(module: ModuleType) -> dict[str, FunctionType]:
    """Return the tests of a module that are not slow."""
    found = {name: each for name, each in vars(module).items() if name.startswith("test_")}
    return {
        f"{name}_of_{module.__name__.rpartition('.')[2].removeprefix('test_')}": each
        for name, each in found.items()
        if isinstance(each, FunctionType) and not any(mark.name == "slow" for mark in getattr(each, "pytestmark", ()))
    }


for _module in MODULES:
    globals().update(quick_tests(_module))


async def test_every_client_is_watched(stage: Stage) -> None:
    node = await stage.node()
    _, name = await node.admit()
    assert name in node.gateway.sessions.push_recorders
