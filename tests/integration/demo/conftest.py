"""The fixtures of the tests of the demo."""

from collections.abc import Iterator

import pytest

from tests.support.demo import DemoBackend, FakeGateway, serving
from wsaas.demo.server import DemoServer


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    """A gateway that records the pushes."""
    server = FakeGateway()
    with serving(server):
        yield server


@pytest.fixture
def server(gateway: FakeGateway) -> Iterator[DemoServer]:
    """The demo's server on a free port."""
    server = DemoServer("127.0.0.1", 0, f"127.0.0.1:{gateway.server_port}")
    with serving(server):
        yield server
        server.traffic.close()


@pytest.fixture
def backend(server: DemoServer, gateway: FakeGateway) -> DemoBackend:
    """A client of the demo's server that sends what the gateway does."""
    return DemoBackend(server.server_port, gateway)
