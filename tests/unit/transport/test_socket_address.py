"""Addresses in the form of the `socket` module."""

import asyncio

import pytest

from wsaas.transport.socket_address import peer_address


class TransportDouble(asyncio.BaseTransport):
    def __init__(self, peer):
        super().__init__({"peername": peer})


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        (("192.0.2.7", 80), "192.0.2.7"),
        (("2001:db8::7", 80, 0, 0), "2001:db8::7"),
        # A socket for both families has such addresses.
        (("::ffff:192.0.2.7", 80, 0, 0), "192.0.2.7"),
        (("::ffff:0:7", 80, 0, 0), "::ffff:0:7"),
        ("", ""),
        (None, ""),
    ],
)
def test_the_address_of_a_peer(peer, address):
    assert peer_address(TransportDouble(peer)) == address
