from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples

from wsaas.access import ANY_ORIGIN, Origins, Proxies, customer

# Origins

SOME = Origins(
    frozenset({"https://a.com", "null", "http://localhost:3000"}), (("https", ".b.com"), ("http", ".b.com:8080"))
)


@pytest.mark.parametrize(
    "origin",
    [
        "https://a.com", "HTTPS://A.com", "null", "http://localhost:3000",
        "https://x.b.com", "https://x.y.b.com", "http://x.b.com:8080",
    ],
)  # fmt: skip
def test_an_origin_that_is_listed_may_connect(origin):
    assert SOME.allow(origin)


@pytest.mark.parametrize(
    "origin",
    [
        "http://a.com", "https://a.com:8443", "https://x.a.com", "https://a.com.evil.com", "https://evila.com",
        "https://b.com", "http://x.b.com", "https://x.b.com:8080", "https://xb.com", "https://.b.com",
        "https://b.com.evil.com", "https://evil.com/x.b.com", "https://evil.com?.b.com",
        "https://evil.com@x.b.com", "x.b.com", "", "*",
        "http://localhost",
    ],
)  # fmt: skip
def test_no_other_origin_may(origin):
    assert not SOME.allow(origin)


@pytest.mark.parametrize("origin", ["https://a.com", "null", "", "anything"])
def test_everyone_is_everyone(origin):
    assert ANY_ORIGIN.allow(origin)


# Proxies

PROXIES = Proxies((ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")))


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.7", [], "192.0.2.7"),
        ("192.0.2.7", ["198.51.100.1"], "192.0.2.7"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["203.0.113.9", "198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1", "10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", ["10.0.0.3", "10.0.0.2"], "10.0.0.3"),
        ("2001:db8::1", ["2001:db9::1"], "2001:db9::1"),
        ("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.0.0.1", ["[2001:db9::1]:4711"], "2001:db9::1"),
        ("10.0.0.1", ["[2001:db9::1]"], "2001:db9::1"),
        ("10.0.0.1", ["::ffff:198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["unknown"], "10.0.0.1"),
        ("10.0.0.1", ["fe80::1%<b>\x7f"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1", "_hidden"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1", ""], "10.0.0.1"),
        ("", ["198.51.100.1"], ""),
    ],
)
def test_the_client_is_the_last_one_that_no_trusted_proxy_is(peer, forwarded, client):
    assert PROXIES.client(peer, forwarded) == client


def test_a_proxy_on_a_unix_socket_has_to_be_trusted_as_such():
    assert Proxies(unix=True).client("", ["203.0.113.9", "198.51.100.1"]) == "198.51.100.1"
    assert Proxies(unix=True).client("192.0.2.7", ["198.51.100.1"]) == "192.0.2.7"


@examples(300)
@given(st.lists(st.one_of(st.ip_addresses().map(str), st.text(max_size=40)), max_size=6), st.ip_addresses().map(str))
def test_whatever_is_forwarded_the_client_has_an_address_and_a_stranger_cannot_choose_it(forwarded, stranger):
    ip_address(PROXIES.client("10.0.0.1", forwarded))
    if not any(ip_address(stranger) in network for network in PROXIES.networks):
        assert PROXIES.client("10.0.0.1", [*forwarded, stranger]) == PROXIES.client("10.0.0.1", [stranger])
        assert PROXIES.client(stranger, forwarded) == stranger


# Customers


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("", ""),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
    ],
)
def test_an_ipv6_customer_is_a_network(address, expected):
    assert customer(address) == expected
