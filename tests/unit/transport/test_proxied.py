"""Connections of proxies that begin with a header of the PROXY protocol, over fake transports."""

import logging
import math
import ssl
from typing import Any

import pytest

from tests.support.fakes import FakeTransport
from tests.support.http_rig import HANDSHAKE, HEALTH, HttpRig, responses
from tests.support.proxy_headers import LOCAL, UNKNOWN, v1, v2, v2_unix
from wsaas.setting_types import proxies
from wsaas.transport.admission import MAX_REFUSED
from wsaas.transport.proxied import ProxiedConnection, ProxiedPeer, ProxyHeaderProtocol
from wsaas.transport.server_tls import ProxiedTLSTransport

PROXY = "10.0.0.1"
CLIENT = "203.0.113.9"


class Rig(HttpRig):
    """A listener for proxies in 10.0.0.0/8, and a connection of one of them."""

    def __init__(self, peername=(PROXY, 1), *, tls=None, **values):
        super().__init__(trusted_proxies="10.0.0.0/8", proxy_protocol="on", **values)
        self.transport.lose()
        self.site.gate._proxies = proxies.parse("10.0.0.0/8")
        self.tls = tls
        self.connect(peername)

    def connect(self, peername=(PROXY, 1)):
        """Open another connection."""
        protocol = ProxyHeaderProtocol(self.site, self.make)
        self.transport = FakeTransport(protocol, peername)
        protocol.connection_made(self.transport)
        return self.transport

    def make(self, peer):
        connection: Any = ProxiedConnection(self.site, peer)
        if self.tls is None:
            return connection
        return ProxiedTLSTransport(connection, self.tls, self.context, self.site.gate, peer)

    def remote_addresses(self):
        return [session.info.remote_address for session in self.registry.live()]


@pytest.mark.parametrize(
    ("header", "address"),
    [
        (v1(CLIENT), CLIENT),
        (v1("2001:db8::1"), "2001:db8::1"),
        (v2(CLIENT), CLIENT),
        (v2("2001:db8::1", b"\x04\x00\x03abc"), "2001:db8::1"),
        (v2("::ffff:203.0.113.9"), CLIENT),
        (v2_unix(b"/run/x"), ""),
        (LOCAL, PROXY),
        (UNKNOWN, PROXY),
    ],
)
def test_the_client_has_the_address_in_the_header(header, address):
    rig = Rig()
    rig.receive(header + HANDSHAKE)
    assert rig.remote_addresses() == [address]
    again = Rig()
    for byte in header + HANDSHAKE:
        again.receive(bytes([byte]))
    assert again.remote_addresses() == [address]


def test_requests_follow_the_header_at_once_or_later():
    rig = Rig()
    rig.receive(v2(CLIENT) + HEALTH + HEALTH)
    assert rig.responses() == [(200, "OK", False)] * 2
    rig.receive(HEALTH)
    assert rig.responses() == [(200, "OK", False)]
    rig.connect()
    rig.receive(v1(CLIENT))
    assert isinstance(rig.transport.protocol, ProxiedConnection)
    rig.receive(HEALTH)
    assert rig.responses() == [(200, "OK", False)]


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        # The client in the header is no trusted proxy, so it may have made the header up.
        ((CLIENT, "198.51.100.1"), CLIENT),
        # It is one.
        (("10.0.0.2", "198.51.100.1"), "198.51.100.1"),
    ],
)
def test_the_client_in_the_header_is_the_peer_of_x_forwarded_for(forwarded, address):
    rig = Rig()
    client, entry = forwarded
    rig.receive(v2(client) + HANDSHAKE[:-2] + b"X-Forwarded-For: " + entry.encode() + b"\r\n\r\n")
    assert rig.remote_addresses() == [address]


def test_the_limit_of_an_address_is_that_of_the_client():
    rig = Rig(control=False, max_connections_per_address="1")
    rig.receive(v2(CLIENT))
    rig.connect()
    rig.receive(v2("203.0.113.10"))
    assert not rig.transport.writes
    rig.connect()
    rig.receive(v2(CLIENT) + HANDSHAKE)
    assert rig.responses() == [(429, "TOO_MANY_REQUESTS", True)]


def test_silent_connections_of_the_proxy_have_no_limit():
    rig = Rig(control=False, max_connections_per_address="1")
    for _ in range(3):
        rig.connect()
        rig.receive(LOCAL)
    assert not rig.transport.closed
    rig.receive(HANDSHAKE)
    assert rig.remote_addresses() == [PROXY]


def test_a_connection_that_no_trusted_proxy_has_opened_is_closed(caplog):
    rig = Rig(("192.0.2.7", 1))
    assert rig.transport.aborted
    assert len(rig.timeouts) == 0
    rig.transport.lose()
    assert caplog.messages == [
        (
            "a connection from 192.0.2.7 was closed: with PROXY_PROTOCOL=on, only TRUSTED_PROXIES may connect: add "
            "this address if it is a proxy, otherwise connect through one. REST requests need no proxy if "
            "CONTROL_LISTEN is set"
        )
    ]
    assert caplog.records[0].levelno == logging.WARNING


def test_an_address_for_clients_alone_needs_no_advice_about_rest_requests(caplog):
    Rig("", control=False)
    assert caplog.messages == [
        (
            "a connection from a Unix socket was closed: with PROXY_PROTOCOL=on, only TRUSTED_PROXIES may connect: add "
            "this address if it is a proxy, otherwise connect through one"
        )
    ]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (HEALTH, "it does not begin with a header of the PROXY protocol"),
        (b"\x16\x03\x01\x02\x00\x01\x00", "it does not begin with a header of the PROXY protocol"),
        (b"PROXY TCP5 1 2 3 4\r\n", "its header of version 1 is malformed"),
    ],
)
def test_a_proxy_that_sends_no_valid_header_is_closed(data, why, caplog):
    rig = Rig(control=False)
    rig.receive(data)
    assert rig.transport.aborted
    assert not rig.transport.writes
    assert caplog.messages == [
        (
            f"a connection from the proxy at 10.0.0.1 was closed: {why}: with PROXY_PROTOCOL=on, the proxy has to send "
            "a header of the PROXY protocol on each connection, those of its health checks included"
        )
    ]
    rig.transport.lose()
    assert len(rig.timeouts) == 0
    assert rig.site.gate._undecided == {}


@pytest.mark.parametrize("part", [b"", b"PRO", v2(CLIENT)[:20]])
def test_the_time_for_the_header_is_limited(part, caplog):
    rig = Rig(handshake_timeout="5000")
    if part:
        rig.receive(part)
    rig.pass_time(4.9)
    assert not rig.transport.closed
    rig.pass_time(0.2)
    assert rig.transport.aborted
    (message,) = caplog.messages
    assert "was closed: its header did not arrive completely in time: with PROXY_PROTOCOL=on" in message
    rig.pass_time(1)
    assert len(caplog.messages) == 1


def test_the_time_for_the_header_counts_for_the_request():
    rig = Rig(handshake_timeout="5000")
    rig.pass_time(4)
    rig.receive(v2(CLIENT) + b"GET / HT")
    rig.pass_time(0.9)
    assert not rig.transport.writes
    rig.pass_time(0.2)
    assert rig.responses() == [(408, "REQUEST_TIMEOUT", True)]


def test_a_later_request_has_the_usual_time():
    rig = Rig(handshake_timeout="5000")
    rig.receive(v2(CLIENT) + HEALTH)
    rig.pass_time(10, beats=10)
    rig.receive(HEALTH)
    assert len(rig.responses()) == 2


def test_a_proxy_may_close_without_a_header(caplog):
    rig = Rig()
    assert not rig.transport.protocol.eof_received()
    rig.transport.lose()
    assert len(rig.timeouts) == 0
    assert caplog.messages == []


def test_a_connection_that_was_reset_before_it_was_accepted_is_closed_silently(caplog):
    rig = Rig(None)
    assert rig.transport.aborted
    assert len(rig.timeouts) == 0
    assert caplog.messages == []


def test_a_connection_without_its_header_makes_room_for_another():
    rig = Rig(control=False, room=1)
    first = rig.transport
    assert first.protocol.idle_since() == math.inf
    rig.connect()
    assert first.aborted
    assert not rig.transport.closed


def test_a_connection_for_which_there_is_no_room_is_closed():
    rig = Rig(control=False, room=1)
    rig.receive(v2(CLIENT) + HANDSHAKE)
    rig.connect()
    assert rig.transport.aborted
    assert rig.site.gate._table.counters.handshakes[503] == 1


def test_what_follows_the_header_is_not_read_if_the_connection_is_closed_at_once():
    rig = Rig(control=False, max_connections_per_address="1")
    rig.receive(v2(CLIENT))
    rig.site.gate._table.closing.update(ProxiedConnection(rig.site, ProxiedPeer("", 0.0)) for _ in range(MAX_REFUSED))
    rig.connect()
    rig.receive(v2(CLIENT) + HANDSHAKE)
    assert rig.transport.aborted
    assert not rig.transport.writes


def test_a_stop_closes_a_connection_without_its_header(caplog):
    rig = Rig()
    rig.transport.protocol.close_gracefully()
    assert rig.transport.aborted
    rig.timeouts.check(math.inf)
    assert caplog.messages == []


def test_tls_follows_the_header():
    rig = Rig(tls=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), handshake_timeout="5000")
    rig.pass_time(4)
    rig.receive(v2(CLIENT) + b"GET / HTTP/1.1\r\n")
    protocol = rig.transport.protocol
    assert isinstance(protocol, ProxiedTLSTransport)
    assert protocol.peer_address() == CLIENT
    # As without a proxy, a client without TLS gets an error that says so.
    assert [status for status, _, _ in responses(rig.transport.take())] == [400]


def test_the_time_for_the_header_counts_for_tls():
    rig = Rig(tls=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), handshake_timeout="5000")
    rig.pass_time(4)
    rig.receive(v2(CLIENT))
    rig.pass_time(0.9)
    assert not rig.transport.closed
    rig.pass_time(0.2)
    assert rig.transport.aborted
