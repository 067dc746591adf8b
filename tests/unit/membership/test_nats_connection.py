"""What a connection to NATS writes, without a server."""

import asyncio
from typing import Any

import nats.errors
import pytest

from tests.support.nats import nats_options
from wsaas.cluster_setting_types import NatsServer
from wsaas.membership.nats_connection import MAX_UNSENT, NatsConnection, NatsError, _Client


class FakeClient:
    """The client of nats-py. `unsent`: bytes that the server has not read."""

    is_connected = True

    def __init__(self) -> None:
        self.closing = False
        self.unsent = 0
        self.written = list[bytes]()
        self.socket = self

    def write(self, data: bytes) -> None:
        self.written.append(data)

    async def subscribe(self, _subject: str) -> None:
        raise nats.errors.ConnectionClosedError

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return self.unsent


def connection_with(client: Any) -> NatsConnection:
    connection = NatsConnection(NatsServer("localhost", 4222), nats_options(), lambda _why: None)
    connection._client = client
    connection._is_open = True
    return connection


def test_the_messages_of_a_turn_are_written_at_once():
    client = FakeClient()

    async def test() -> None:
        connection = connection_with(client)
        connection.publish("a", b"1", "r")
        connection.publish("b", b"", headers={"X": "y", "Z": "1"})
        assert client.written == []
        await asyncio.sleep(0)

    asyncio.run(test())
    head = b"NATS/1.0\r\nX: y\r\nZ: 1\r\n\r\n"
    assert client.written == [b"PUB a r 1\r\n1\r\n" + b"HPUB b  %d %d\r\n%b\r\n" % (len(head), len(head), head)]


def test_nothing_is_written_to_a_connection_that_has_failed():
    client = FakeClient()

    async def test() -> None:
        connection = connection_with(client)
        connection.publish("a", b"1")
        client.closing = True
        await asyncio.sleep(0)

    asyncio.run(test())
    assert client.written == []


def test_a_subscription_on_a_closed_connection_fails():
    with pytest.raises(NatsError, match="connection closed"):
        asyncio.run(connection_with(FakeClient()).subscribe("a", lambda *_message: None))


def test_nothing_more_is_taken_while_the_server_does_not_read():
    client = FakeClient()

    async def test() -> None:
        connection = connection_with(client)
        connection.publish("a", b"x" * MAX_UNSENT)
        assert not connection.is_writable
        client.unsent = MAX_UNSENT
        await asyncio.sleep(0)
        assert not connection.is_writable
        client.unsent = 0
        assert connection.is_writable

    asyncio.run(test())


def test_a_message_of_a_subscription_that_has_just_ended_is_dropped():
    client = _Client(needs_tls=False)
    handled = list[tuple[Any, ...]]()
    client.handlers[1] = lambda *message: handled.append(message)

    async def test() -> None:
        await client._process_msg(1, b"a", b"", b"first", b"")
        del client.handlers[1]
        await client._process_msg(1, b"a", b"", b"second", b"")

    asyncio.run(test())
    assert [message[2] for message in handled] == [b"first"]
