"""Which `Host` and `Origin` the page may be used with."""

import pytest
from hypothesis import given
from hypothesis.strategies import integers, ip_addresses

from wsaas.demo.hosts import Hosts, host_name, is_own_origin

ELSEWHERE = ["", "example.com", "localhost.example.com", "notlocalhost", "[", "::1:x"]


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:8000", "demo.localhost:1", "127.0.0.1", "127.8.8.8:80", "[::1]:8000", "[::1]"],
)
def test_a_loopback_name_is_always_allowed(host: str) -> None:
    assert Hosts().allow(host)
    assert Hosts(["demo.example"]).allow(host)


@pytest.mark.parametrize("host", [*ELSEWHERE, "192.168.0.1:80", "[2001:db8::1]", "demo.example"])
def test_no_other_name_is_allowed_on_this_machine_only(host: str) -> None:
    assert not Hosts().allow(host)


@pytest.mark.parametrize("host", ["demo.example", "Demo.Example.:8000", "192.168.0.1:80", "[2001:db8::1]:80"])
def test_the_given_names_and_any_address_are_allowed_for_other_machines(host: str) -> None:
    assert Hosts(["DEMO.example"]).allow(host)


@pytest.mark.parametrize("host", [*ELSEWHERE, "evil.example", "demo.example.evil.example", "192.168.0.1.evil.example"])
def test_a_name_that_is_not_given_is_not_allowed_for_other_machines(host: str) -> None:
    assert not Hosts(["demo.example"]).allow(host)


@pytest.mark.hypothesis
@given(ip_addresses(), integers(0, 65535))
def test_the_address_in_a_host_header_is_found(address: object, port: int) -> None:
    text = f"[{address}]" if ":" in str(address) else str(address)
    assert host_name(text) == host_name(f"{text}:{port}") == str(address)
    assert Hosts(["demo.example"]).allow(f"{text}:{port}")


@pytest.mark.parametrize("origin", [None, "http://demo:8000", "HTTP://Demo:8000", "https://demo:8000"])
def test_a_request_of_the_page_itself_or_of_no_page_is_known(origin: str | None) -> None:
    assert is_own_origin(origin, "demo:8000")


@pytest.mark.parametrize("origin", ["", "null", "http://demo", "http://demo:8001", "http://evil.example", "http://[x"])
def test_a_request_of_another_page_is_known(origin: str) -> None:
    assert not is_own_origin(origin, "demo:8000")
