"""The bus with real NATS servers."""

import asyncio
import contextlib
import json
from typing import Any

import pytest

from tests.support.certificate_authority import CertificateAuthority
from tests.support.nats import nats, nats_bus, nats_credentials, nats_options
from tests.support.waiting import wait_until
from wsaas.clock import Clock
from wsaas.cluster_setting_types import nats_servers
from wsaas.membership import bus as bus_module
from wsaas.membership import nats_connection
from wsaas.membership.bus import Ack, Bus
from wsaas.membership.nats_connection import NatsConnection, NatsError

pytestmark = pytest.mark.usefixtures("stage")

STREAM = json.dumps({"name": "S", "subjects": ["s.>"], "storage": "memory", "max_msgs_per_subject": 1}).encode()


def make_folder(path):
    path.mkdir()
    return path


async def make_stream(bus):
    answer = await bus.request("$JS.API.STREAM.CREATE.S", STREAM)
    assert answer is not None
    assert b'"error"' not in answer.data


async def published(bus, subject, data=b"", **options):
    acks = asyncio.Queue[Any]()
    bus.publish(subject, data, acks.put_nowait, **options)
    return await asyncio.wait_for(acks.get(), 10)


def unconnected(url="nats://127.0.0.1:1"):
    return Bus(nats_servers.parse(url), nats_options(), Clock(asyncio.get_running_loop()))


async def test_a_publish_is_acknowledged_with_its_sequence(tmp_path):
    async with nats(tmp_path) as server, nats_bus(server.url) as bus:
        await make_stream(bus)
        assert await published(bus, "s.a", b"1") == Ack(1)
        assert await published(bus, "s.b", b"2" * 100_000) == Ack(2)
        assert len(bus) == 0


async def test_many_publishes_are_acknowledged_in_order(tmp_path):
    async with nats(tmp_path) as server, nats_bus(server.url) as bus:
        await make_stream(bus)
        acks = list[Any]()
        for number in range(2000):
            bus.publish(f"s.{number}", b"x" * 200, acks.append)
        await wait_until(lambda: len(acks) == 2000)
        assert acks == [Ack(number) for number in range(1, 2001)]


async def test_a_publish_may_expect_the_last_sequence_of_its_subject(tmp_path):
    async with nats(tmp_path) as server, nats_bus(server.url) as bus:
        await make_stream(bus)
        expected = {"Nats-Expected-Last-Subject-Sequence": "0"}
        assert (await published(bus, "s.a", headers=expected)).is_stored
        again = await published(bus, "s.a", headers=expected)
        assert again.is_conflict
        assert not again.is_stored
        assert (await bus.store("s.a", b"", {"Nats-Expected-Last-Subject-Sequence": "1"})) == Ack(2)


async def test_a_publish_that_no_stream_takes_is_refused_at_once(tmp_path):
    async with nats(tmp_path) as server, nats_bus(server.url) as bus:
        ack = await published(bus, "nobody")
        assert ack == Ack(0, "JetStream does not answer", 503)
        assert not ack.is_stored
        assert await bus.request("nobody") is None


async def test_without_a_connection_nothing_is_acknowledged():
    bus = unconnected()
    acks = list[Any]()
    bus.publish("s.a", b"", acks.append)
    assert acks == [None]
    assert await bus.request("s.a") is None
    assert await bus.store("s.a", b"", {}) is None
    bus.send("s.a", b"")
    await bus.close()


async def test_a_publish_without_an_acknowledgement_is_reported_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr(bus_module, "ACK_TIMEOUT_S", 0.6)
    async with nats(tmp_path) as server, nats_bus(server.url) as bus, nats_bus(server.url) as silent:
        await silent.subscribe("quiet", lambda _message: None)
        acks = list[Any]()
        bus.publish("quiet", b"", lambda ack: acks.append((1, ack)))
        await asyncio.sleep(0.05)
        bus.publish("quiet", b"", lambda ack: acks.append((2, ack)))
        assert len(bus) == 2
        await wait_until(lambda: acks == [(1, None), (2, None)])
        assert await bus.request("quiet", timeout=0.05) is None


async def test_an_answer_that_arrives_when_the_time_is_over_is_dropped(tmp_path):
    async with nats(tmp_path) as server, nats_bus(server.url) as bus:
        for _ in range(200):
            await bus.request("$JS.API.INFO", timeout=0.0002)
        assert await bus.request("$JS.API.INFO") is not None


async def test_publishes_that_wait_are_reported_when_the_connection_is_lost(tmp_path):
    async with nats(tmp_path) as server, nats_bus(server.url) as bus, nats_bus(server.url) as silent:
        await silent.subscribe("quiet", lambda _message: None)
        acks, states = list[Any](), list[bool]()
        bus.on_state(states.append)
        bus.publish("quiet", b"", acks.append)
        request = asyncio.ensure_future(bus.request("quiet", timeout=10))
        await asyncio.sleep(0)
        server.kill()
        assert await request is None
        await wait_until(lambda: acks == [None])
        assert states == [False]
        assert not bus.is_connected


async def test_the_bus_connects_again_and_keeps_its_subscriptions(tmp_path):
    async with nats(tmp_path) as server, nats_bus(server.url) as bus:
        received = list[Any]()
        await bus.subscribe("news", received.append)
        states = list[bool]()
        bus.on_state(states.append)
        server.kill()
        await wait_until(lambda: states == [False])
        await server.start()
        await wait_until(lambda: states == [False, True])
        bus.send("news", b"hello")
        await wait_until(lambda: received)
        assert (received[0].subject, received[0].data) == ("news", b"hello")
        await bus.unsubscribe("news")
        bus.send("news", b"again")
        assert await bus.request("$JS.API.INFO") is not None
        assert len(received) == 1


async def test_a_subscriber_may_answer_a_request(tmp_path):
    async with nats(tmp_path) as server, nats_bus(server.url) as asks, nats_bus(server.url) as answers:
        await answers.subscribe("hello.*", lambda message: answers.send(message.reply, message.subject.encode()))
        answer = await asks.request("hello.you")
        assert answer is not None
        assert answer.data == b"hello.you"


async def test_a_subscription_lasts_until_it_is_ended(tmp_path):
    async with nats(tmp_path) as server, nats_bus(server.url) as bus:
        received = list[Any]()
        inbox = bus.new_inbox()
        assert bus.new_inbox() != inbox
        await bus.subscribe(inbox, received.append)
        bus.send(inbox, b"one")
        await wait_until(lambda: received)
        await bus.unsubscribe(inbox)
        await bus.unsubscribe(inbox)
        bus.send(inbox, b"two")
        assert await bus.request("$JS.API.INFO") is not None
        assert [message.data for message in received] == [b"one"]


async def test_what_is_subscribed_to_when_the_connection_is_lost_is_kept_for_the_next_one(tmp_path):
    async with nats(tmp_path) as server, nats_bus(server.url) as bus:
        received = list[Any]()
        server.kill()
        # The bus has not noticed it yet.
        assert bus.is_connected
        await bus.subscribe("news", received.append)
        await wait_until(lambda: not bus.is_connected)
        await server.start()
        await wait_until(lambda: bus.is_connected)
        bus.send("news", b"1")
        await wait_until(lambda: received)


async def test_a_closed_connection_takes_no_subscription(tmp_path):
    async with nats(tmp_path) as server:
        connection = NatsConnection(nats_servers.parse(server.url)[0], nats_options(), print)
        await connection.open()
        await connection.close()
        with pytest.raises(NatsError):
            await connection.subscribe("news", print)


async def test_a_subscription_that_a_hanging_server_does_not_confirm_counts_later(tmp_path, monkeypatch):
    monkeypatch.setattr(bus_module, "PING_TIMEOUT_S", 0.3)
    async with nats(tmp_path) as server, nats_bus(server.url) as bus:
        received = list[Any]()
        server.freeze()
        await bus.subscribe("late", received.append)
        await wait_until(lambda: not bus.is_connected)
        server.thaw()
        await wait_until(lambda: bus.is_connected)
        bus.send("late", b"one")
        await wait_until(lambda: received)


async def test_an_error_in_a_handler_does_not_end_the_connection(stage, tmp_path, caplog):
    async with nats(tmp_path) as server, nats_bus(server.url) as bus:
        stage.expected_errors.append("cannot handle a message of NATS")
        await bus.subscribe("bad", lambda _message: 1 / 0)
        bus.send("bad", b"")
        assert await bus.request("$JS.API.INFO") is not None
        assert "cannot handle a message of NATS on bad: ZeroDivisionError" in caplog.text
        assert bus.is_connected


async def test_another_server_is_used_when_one_is_down(tmp_path):
    async with nats(tmp_path / "a") as one, nats(tmp_path / "b") as two, nats_bus(f"{one.url},{two.url}") as bus:
        first = bus.server
        (one if one.url == first else two).kill()
        await wait_until(lambda: bus.is_connected and bus.server != first)


async def test_a_frozen_server_is_left_for_another_one(tmp_path, monkeypatch):
    monkeypatch.setattr(bus_module, "PING_INTERVAL_S", 0.1)
    monkeypatch.setattr(bus_module, "PING_TIMEOUT_S", 0.3)
    async with nats(tmp_path / "a") as one, nats(tmp_path / "b") as two, nats_bus(f"{one.url},{two.url}") as bus:
        first = bus.server
        frozen = one if one.url == first else two
        acks = list[Any]()
        frozen.freeze()
        # Once the buffers of the sockets are full, nothing more waits to be written.
        while None not in acks:
            bus.publish("s.a", b"x" * 100_000, acks.append)
            await asyncio.sleep(0)
        await wait_until(lambda: bus.is_connected and bus.server != first)
        assert len(bus) == 0


async def test_a_message_larger_than_nats_takes_is_not_acknowledged(tmp_path):
    async with nats(tmp_path) as server, nats_bus(server.url) as bus:
        acks = list[Any]()
        bus.publish("s.a", b"x" * (1 << 20 | 1), acks.append)
        assert acks == [Ack(0, "it is larger than max_payload of NATS, 1048576 bytes", 10054)]
        assert bus.is_connected


# What is wrong with NATS is logged


async def complaint(caplog, url, options=None):
    """Return the log line about a server that cannot be used."""
    bus = Bus(nats_servers.parse(url), options or nats_options(), Clock(asyncio.get_running_loop()))
    await bus.open()
    await wait_until(lambda: "cannot use NATS" in caplog.text)
    assert not bus.is_connected
    await bus.close()
    text = next(record.getMessage() for record in caplog.records if "cannot use" in record.getMessage())
    assert "Traceback" not in caplog.text
    assert {record.name for record in caplog.records} == {"wsaas"}
    return text.partition(": ")[2]


async def test_a_server_that_is_down(caplog):
    assert await complaint(caplog, "nats://127.0.0.1:1") in {"Connection refused", "Connect call failed"}


@pytest.mark.parametrize("user", ["", "me:wrong@", "token@"])
async def test_wrong_credentials_are_not_shown(tmp_path, caplog, user):
    async with nats(tmp_path, ["authorization { user: me, password: right }"]) as server:
        url = server.url.replace("nats://", f"nats://{user}")
        assert await complaint(caplog, url) == "Authorization Violation"
        assert "wrong" not in caplog.text
        assert "token" not in caplog.text


@pytest.mark.parametrize(
    ("line", "user"), [('user: me, password: "a:b/c"', "me:a%3Ab%2Fc@"), ("token: t0ken", "t0ken@")]
)
async def test_right_credentials_are_taken_from_the_url(tmp_path, line, user):
    async with nats(tmp_path, [f"authorization {{ {line} }}"]) as server:
        url = server.url.replace("nats://", f"nats://{user}")
        async with nats_bus(url) as bus:
            assert bus.is_connected


async def test_tls_to_nats_is_verified(tmp_path, caplog):
    authority, other = CertificateAuthority(tmp_path), CertificateAuthority(make_folder(tmp_path / "other"))
    files = authority.issue("127.0.0.1")
    lines = [f'tls {{ cert_file: "{files["tls_cert"]}", key_file: "{files["tls_key"]}" }}']
    async with nats(tmp_path / "nats", lines) as server:
        url = server.url.replace("nats://", "tls://")
        async with nats_bus(url, nats_options(tls=authority.client())) as bus:
            assert (await bus.request("$JS.API.INFO")) is not None
        why = await complaint(caplog, url, nats_options(tls=other.client()))
        assert why.startswith("TLS failed: ")


async def test_credentials_are_not_sent_without_tls_to_a_tls_url(tmp_path, caplog):
    async with nats(tmp_path, ["authorization { token: t0ken }", "trace: true", "debug: true"]) as server:
        url = server.url.replace("nats://", "tls://t0ken@")
        why = await complaint(caplog, url, nats_options(tls=CertificateAuthority(tmp_path).client()))
        assert why == "it does not offer TLS, but its URL starts with tls://"
        assert "CONNECT {" not in server.log.read_text()


@pytest.mark.parametrize("content", [None, b"", b"no credentials", b"-----BEGIN NATS USER JWT-----\nabc\n"])
async def test_a_credentials_file_that_cannot_be_used_is_named(tmp_path, caplog, content):
    path = tmp_path / "user.creds"
    if content is not None:
        path.write_bytes(content)
    async with nats(tmp_path / "nats") as server:
        why = await complaint(caplog, server.url, nats_options(credentials=path))
        assert why.startswith(f"CLUSTER_CREDENTIALS={str(path)!r} ")


async def test_a_credentials_file_is_used(tmp_path):
    credentials, lines = nats_credentials(tmp_path)
    options = nats_options(credentials=credentials)
    async with nats(tmp_path / "nats", lines) as server, nats_bus(server.url, options) as bus:
        assert await bus.request("$JS.API.INFO") is not None


# A server that is not as it should be


@contextlib.asynccontextmanager
async def impostor(version="2.11.0", answer=b"PONG\r\n"):
    """Run a server that says what a test wants; yield its URL."""

    async def serve(reader, writer):
        writer.write(f'INFO {{"version": "{version}", "max_payload": 1000, "headers": true}}\r\n'.encode())
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                if line.startswith(b"PING"):
                    writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_an_old_server_is_refused(caplog):
    async with impostor(version="2.10.29") as url:
        assert await complaint(caplog, url) == "it is version 2.10, but a cluster needs 2.11 or later"


async def test_a_server_without_a_usable_version_is_refused(caplog):
    async with impostor(version="x") as url:
        assert await complaint(caplog, url) == "it is version 0, but a cluster needs 2.11 or later"


async def test_a_server_that_does_not_answer_is_refused(caplog, monkeypatch):
    monkeypatch.setattr(nats_connection, "CONNECT_TIMEOUT_S", 0.1)
    async with impostor(answer=b"") as url:
        assert await complaint(caplog, url) == "it does not answer"


async def test_a_bus_can_be_closed_while_it_connects():
    async with impostor(answer=b"") as url:
        bus = unconnected(url)
        await bus.open()
        await asyncio.sleep(0.05)
        await bus.close()
        assert not bus.is_connected


async def test_what_was_not_written_before_the_end_is_dropped(tmp_path):
    async with nats(tmp_path) as server, nats_bus(server.url) as bus:
        received, lost = list[Any](), list[str]()
        await bus.subscribe("news", received.append)
        connection = NatsConnection(nats_servers.parse(server.url)[0], nats_options(), lost.append)
        await connection.open()
        connection.publish("news", b"")
        await connection.close()
        assert await bus.request("$JS.API.INFO") is not None
        assert (received, lost) == ([], [])
