"""A bus, without a server."""

import asyncio
from typing import Any

import pytest

from tests.support.nats import nats_options
from wsaas.clock import Clock
from wsaas.cluster_setting_types import nats_servers
from wsaas.membership.bus import Bus
from wsaas.membership.nats_connection import NatsError


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_connection_that_does_not_confirm_a_subscription_is_lost_unless_another_one_is_used_already(
    *, is_replaced: bool
) -> None:
    async def test() -> None:
        bus = Bus(nats_servers.parse("nats://localhost:4222"), nats_options(), Clock(asyncio.get_running_loop()))

        class FakeConnection:
            async def subscribe(self, *_subscription: Any) -> None:
                pass

            async def ping(self, _timeout: float) -> None:
                if is_replaced:
                    bus._connection = None
                raise NatsError("it does not answer")

        connection: Any = FakeConnection()
        bus._connection = connection
        await bus.subscribe("a", lambda _message: None)
        assert bus._lost.is_set() is not is_replaced

    asyncio.run(test())
