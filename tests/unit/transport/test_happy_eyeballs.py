import asyncio
import errno
import socket
from typing import cast

import pytest

from wsaas.transport.happy_eyeballs import DEMOTION_S, MAX_ADDRESSES, Attempts, HappyEyeballs, interleave
from wsaas.transport.socket_address import format_address


def info(host, port=80):
    """Return the result of `getaddrinfo` for an address."""
    if ":" in host:
        return socket.AF_INET6, socket.SOCK_STREAM, 0, "", (host, port, 0, 0)
    return socket.AF_INET, socket.SOCK_STREAM, 0, "", (host, port)


class FakeLoop:
    """A loop without a network: the test decides whether each host answers."""

    def __init__(self, **outcomes):
        self.now = 1000.0
        self.outcomes = outcomes
        self.tried = []

    def time(self):
        return self.now

    async def sock_connect(self, _sock, address):
        host = address[0]
        self.tried.append(host)
        outcome = self.outcomes.get(host)
        if outcome == "silent":
            await asyncio.Event().wait()
        elif outcome is not None:
            raise outcome


class Rig:
    """Connects with Happy Eyeballs to the hosts of a test."""

    def __init__(self):
        self.loop = FakeLoop()
        self._as_loop = cast(asyncio.AbstractEventLoop, self.loop)
        self.happy_eyeballs = HappyEyeballs(self._as_loop)

    def connect(self, *hosts, timeout=5.0, **outcomes):
        """Return the connected host, and all hosts in the order in which they were tried."""
        self.loop.outcomes = {host.replace("_", "."): outcome for host, outcome in outcomes.items()}
        return self.run([info(host) for host in hosts], timeout)

    def run(self, infos, timeout=5.0):
        self.loop.tried.clear()
        self.attempts = Attempts(self._as_loop)

        async def connect():
            sock = await asyncio.wait_for(self.happy_eyeballs.connect(infos, self.attempts), timeout)
            sock.close()

        asyncio.run(connect())
        assert self.attempts.winner is not None
        return self.attempts.winner[0], self.loop.tried


REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('1.1.1.1', 80)")
UNREACHABLE = OSError(errno.ENETUNREACH, "Network is unreachable")


@pytest.fixture
def rig():
    return Rig()


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        (["1.1.1.1"], ["1.1.1.1"]),
        (["::1", "::2", "1.1.1.1"], ["::1", "1.1.1.1", "::2"]),
        (["1.1.1.1", "1.1.1.2", "1.1.1.3", "::1"], ["1.1.1.1", "::1", "1.1.1.2", "1.1.1.3"]),
        (["::1", "1.1.1.1", "::2", "1.1.1.2"], ["::1", "1.1.1.1", "::2", "1.1.1.2"]),
    ],
)
def test_families_alternate(hosts, expected):
    assert list(interleave([info(host) for host in hosts])) == [info(host) for host in expected]


def test_the_first_address_is_used_when_it_answers(rig):
    assert rig.connect("::1", "1.1.1.1") == ("::1", ["::1"])


def test_after_a_refusal_the_next_address_is_tried_at_once_and_the_first_one_last(rig):
    assert rig.connect("1.1.1.1", "1.1.1.2", **{"1_1_1_1": REFUSED}) == ("1.1.1.2", ["1.1.1.1", "1.1.1.2"])
    assert rig.connect("1.1.1.1", "1.1.1.2") == ("1.1.1.2", ["1.1.1.2"])


def test_a_silent_address_is_tried_last_the_next_time(rig):
    assert rig.connect("::1", "1.1.1.1", **{"::1": "silent"}) == ("1.1.1.1", ["::1", "1.1.1.1"])
    assert rig.connect("::1", "1.1.1.1") == ("1.1.1.1", ["1.1.1.1"])


def test_an_address_that_answers_late_keeps_its_place(rig):
    # The other address was tried in the meantime, and did not answer either.
    async def answer_late(_sock, address):
        rig.loop.tried.append(address[0])
        await asyncio.sleep(0.3 if address[0] == "::1" else 60)

    rig.loop.sock_connect = answer_late
    assert rig.connect("::1", "1.1.1.1") == ("::1", ["::1", "1.1.1.1"])
    del rig.loop.sock_connect
    assert rig.connect("1.1.1.1", "::1") == ("1.1.1.1", ["1.1.1.1"])


def test_the_demotion_of_an_address_ends_after_a_while(rig):
    rig.connect("1.1.1.1", "1.1.1.2", **{"1_1_1_1": REFUSED})
    rig.loop.now += DEMOTION_S
    assert rig.connect("1.1.1.1", "1.1.1.2") == ("1.1.1.1", ["1.1.1.1"])


def test_the_demotion_of_an_address_ends_when_it_answers(rig):
    rig.connect("1.1.1.1", "1.1.1.2", **{"1_1_1_1": REFUSED})
    outcomes = {"1_1_1_2": REFUSED}
    assert rig.connect("1.1.1.1", "1.1.1.2", **outcomes) == ("1.1.1.1", ["1.1.1.2", "1.1.1.1"])
    assert rig.connect("1.1.1.1", "1.1.1.2") == ("1.1.1.1", ["1.1.1.1"])


def test_working_addresses_keep_the_order_of_the_resolver(rig):
    assert rig.connect("1.1.1.1", "1.1.1.2", "1.1.1.3")[0] == "1.1.1.1"
    assert rig.connect("1.1.1.2", "1.1.1.3", "1.1.1.1")[0] == "1.1.1.2"
    assert rig.connect("1.1.1.3", "1.1.1.1", "1.1.1.2")[0] == "1.1.1.3"


def test_addresses_that_the_resolver_no_longer_returns_are_forgotten(rig):
    rig.connect("1.1.1.1", "1.1.1.2", **{"1_1_1_1": REFUSED})
    assert rig.connect("2.2.2.2") == ("2.2.2.2", ["2.2.2.2"])
    assert rig.connect("1.1.1.1", "1.1.1.2") == ("1.1.1.1", ["1.1.1.1"])


def test_a_limited_number_of_addresses_is_tried_and_others_the_next_time(rig):
    hosts = [f"1.1.1.{number}" for number in range(12)]
    rig.loop.outcomes = dict.fromkeys(hosts[:10], REFUSED)
    with pytest.raises(ConnectionRefusedError):
        rig.run([info(host) for host in hosts])
    assert rig.loop.tried == hosts[:MAX_ADDRESSES]
    assert rig.run([info(host) for host in hosts]) == (hosts[10], hosts[MAX_ADDRESSES:11])


def test_one_error_names_each_address_with_its_cause(rig):
    with pytest.raises(OSError, match="refused") as raised:
        rig.connect("1.1.1.1", "::1", **{"1_1_1_1": REFUSED, "::1": UNREACHABLE})
    assert str(raised.value) == "connection refused (1.1.1.1:80), network is unreachable ([::1]:80)"
    assert type(raised.value) is OSError


def test_an_error_of_all_addresses_keeps_its_type(rig):
    with pytest.raises(ConnectionRefusedError) as raised:
        rig.connect("1.1.1.1", "1.1.1.2", **{"1_1_1_1": REFUSED, "1_1_1_2": REFUSED})
    assert str(raised.value) == "connection refused (1.1.1.1:80), connection refused (1.1.1.2:80)"


def test_an_error_without_a_number_is_shown_unchanged(rig):
    with pytest.raises(OSError, match=r"^out of luck \(1\.1\.1\.1:80\)$"):
        rig.connect("1.1.1.1", **{"1_1_1_1": OSError("Out of luck")})


def test_an_address_without_a_socket_is_skipped(rig):
    missing = 9999, socket.SOCK_STREAM, 0, "", ("1.1.1.1", 80)
    assert rig.run([missing, info("1.1.1.2")]) == ("1.1.1.2", ["1.1.1.2"])
    with pytest.raises(OSError, match=r"^address family not supported by protocol \(1\.1\.1\.1:80\)$"):
        rig.run([missing])


def test_the_attempts_are_known_after_a_timeout(rig):
    with pytest.raises(asyncio.TimeoutError):
        rig.connect("1.1.1.1", "::1", timeout=0.05, **{"1_1_1_1": REFUSED, "::1": "silent"})
    assert str(rig.attempts) == "connection refused (1.1.1.1:80), no answer ([::1]:80)"
    assert rig.attempts.winner is None


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (("1.1.1.1", 80), "1.1.1.1:80"),
        (("::1", 80, 0, 0), "[::1]:80"),
        (("fe80::1", 80, 0, 3), "[fe80::1%3]:80"),
        (("fe80::1%eth0", 80, 0, 3), "[fe80::1%eth0]:80"),
    ],
)
def test_an_address_is_formatted_as_in_a_url(address, text):
    assert format_address(address) == text
