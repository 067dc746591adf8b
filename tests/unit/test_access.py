from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.strategies import examples
from wsaas import access
from wsaas.access import (
    ANY_ORIGIN,
    MAX_KNOWN_HOST,
    MAX_KNOWN_HOSTS,
    HostCheck,
    Origins,
    Proxies,
    address_block,
    from_web_page,
)

# Origins

SOME = Origins(
    frozenset({"https://a.com", "null", "http://localhost:3000", "file://", "https://xn--bcher-kva.example"}),
    (("https", ".b.com"), ("http", ".b.com:8080")),
)


@pytest.mark.parametrize(
    "origin",
    [
        "https://a.com", "HTTPS://A.com", "null", "http://localhost:3000",
        "https://x.b.com", "https://x.y.b.com", "http://x.b.com:8080", "file://", "https://xn--bcher-kva.example",
    ],
)  # fmt: skip
def test_a_listed_origin_may_connect(origin):
    assert SOME.allow(origin)


@pytest.mark.parametrize(
    "origin",
    [
        "http://a.com", "https://a.com:8443", "https://x.a.com", "https://a.com.evil.com", "https://evila.com",
        "https://b.com", "http://x.b.com", "https://x.b.com:8080", "https://xb.com", "https://.b.com",
        "https://b.com.evil.com", "https://evil.com/x.b.com", "https://evil.com?.b.com",
        "https://evil.com@x.b.com", "x.b.com", "", "*",
        "http://localhost", "file:///", "file:", "file", "https://b\xfccher.example",
    ],
)  # fmt: skip
def test_other_origins_may_not_connect(origin):
    assert not SOME.allow(origin)


@pytest.mark.parametrize("origin", ["https://a.com", "null", "", "anything"])
def test_any_origin_may_connect_with_everyone(origin):
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
def test_the_client_is_the_last_address_that_is_not_a_trusted_proxy(peer, forwarded, client):
    assert PROXIES.client(peer, forwarded) == client


def test_proxies_on_unix_sockets_are_trusted_only_by_unix():
    assert Proxies(unix=True).client("", ["203.0.113.9", "198.51.100.1"]) == "198.51.100.1"
    assert Proxies(unix=True).client("192.0.2.7", ["198.51.100.1"]) == "192.0.2.7"


@examples(300)
@given(st.lists(st.one_of(st.ip_addresses().map(str), st.text(max_size=40)), max_size=6), st.ip_addresses().map(str))
def test_a_client_cannot_forge_its_address(forwarded, stranger):
    ip_address(PROXIES.client("10.0.0.1", forwarded))
    if not any(ip_address(stranger) in network for network in PROXIES.networks):
        assert PROXIES.client("10.0.0.1", [*forwarded, stranger]) == PROXIES.client("10.0.0.1", [stranger])
        assert PROXIES.client(stranger, forwarded) == stranger


# Address blocks


def test_a_long_address_is_not_remembered():
    address = "fe80::1%" + "x" * 1000
    before = access._known_addresses.cache_info().currsize
    assert not Proxies((ip_network("10.0.0.0/8"),)).trusts(address)
    assert access._known_addresses.cache_info().currsize == before


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
def test_an_ipv6_address_is_counted_with_its_64_network(address, expected):
    assert address_block(address) == expected


# Hosts

LOCAL = HostCheck(["gateway.example", "192.0.2.7", "2001:db8::7"])


@pytest.mark.parametrize(
    "host",
    [
        b"localhost", b"localhost:8080", b"LocalHost:1", b"localhost:", b"localhost.", b"localhost.:8080",
        b"app.localhost:3000", b"a.b.localhost", b"127.0.0.1", b"127.0.0.1:8080", b"127.255.0.9", b"127.0.0.1.:80",
        b"[::1]", b"[::1]:8080", b"[0:0:0:0:0:0:0:1]", b"[::ffff:127.0.0.1]",
        b"gateway.example", b"Gateway.Example.:443", b"192.0.2.7:80", b"[2001:DB8:0::7]:80", b"[::ffff:192.0.2.7]",
    ],
)  # fmt: skip
def test_loopback_hosts_and_configured_hosts_are_allowed(host):
    for _ in range(2):
        assert LOCAL.allow(host)
        assert host in LOCAL.known


@pytest.mark.parametrize(
    "host",
    [
        None, b"", b":8080", b"evil.example", b"evil.example:8080", b"localhost.evil.example", b"notlocalhost",
        b"127.0.0.1.evil.example", b"127.1", b"2130706433", b"0x7f.0.0.1", b"0.0.0.0", b"0.0.0.0:8080", b"[::]",
        b"10.0.0.1", b"[::1%eth0]", b"[::1%25lo]", b"[localhost]", b"::1", b"localhost:80:80", b"localhost..",
        b"x.gateway.example", b"gateway.example.evil", b"user@localhost", b"localhost/", b"localhost ", b"\xff",
        b"localhost:http",
    ],
)  # fmt: skip
def test_other_hosts_are_refused(host):
    assert not LOCAL.allow(host)
    assert host not in LOCAL.known


@pytest.mark.parametrize("name", ["", "0.0.0.0", "::"])
def test_an_unspecified_address_is_not_an_allowed_host(name):
    for host in (b"", b"0.0.0.0", b"[::]", b"evil.example"):
        assert not HostCheck([name]).allow(host)


def test_any_host_is_allowed_on_a_unix_socket():
    check = HostCheck([], any_host=True)
    assert check.allow(b"gateway.test")
    assert check.allow(b"")
    assert not check.allow(None)


def test_the_number_of_remembered_hosts_is_limited():
    check = HostCheck([])
    for port in range(3 * MAX_KNOWN_HOSTS):
        assert check.allow(b"localhost:%d" % port)
        assert len(check.known) <= MAX_KNOWN_HOSTS


def test_a_long_host_is_not_remembered():
    check = HostCheck([])
    assert check.allow(b"localhost:" + b"0" * MAX_KNOWN_HOST)
    assert not check.known


@examples(300)
@given(st.binary(max_size=30))
def test_any_host_header_is_accepted_or_refused_without_an_exception(host):
    check = HostCheck([])
    assert check.allow(host) is (host in check.known)


# Web pages


@pytest.mark.parametrize(
    ("headers", "page"),
    [
        ({}, False),
        ({b"origin": b"http://localhost:8080"}, True),
        ({b"origin": b"null"}, True),
        ({b"origin": b""}, True),
        ({b"sec-fetch-site": b"cross-site"}, True),
        ({b"sec-fetch-site": b"Cross-Site"}, True),
        ({b"sec-fetch-site": b"none"}, False),
        ({b"sec-fetch-site": b"same-origin"}, False),
    ],
)
def test_a_request_from_a_web_page_is_recognized(headers, page):
    assert from_web_page(headers) is page
