"""Headers of the PROXY protocol: bytes in, the address of the client out."""

from ipaddress import IPv4Address, IPv6Address, ip_address
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.proxy_headers import SIGNATURE, v1, v2, v2_unix
from tests.support.strategies import examples
from wsaas.proxy_protocol import MAX_V1, MAX_V2, read_header

REST = b"GET / HTTP/1.1\r\n\r\n"


def read(data):
    """Return the size of the header, and the address of the client."""
    header = read_header(data)
    assert header is not None
    return header.size, header.address


def why(data):
    """Return why `data` is refused."""
    with pytest.raises(ValueError, match="it") as refused:
        read_header(data)
    return str(refused.value)


# Version 1


@pytest.mark.parametrize(
    ("line", "address"),
    [
        (b"PROXY TCP4 203.0.113.9 192.0.2.1 50000 443", "203.0.113.9"),
        (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535", "255.255.255.255"),
        (b"PROXY TCP4 203.0.113.9 192.0.2.1 0 0", "203.0.113.9"),
        (b"PROXY TCP6 2001:DB8::1 2001:db8::2 50000 443", "2001:db8::1"),
        (b"PROXY TCP6 ::ffff:203.0.113.9 ::1 50000 443", "203.0.113.9"),
        (b"PROXY TCP6 " + b":".join([b"ffff"] * 8) + b" " + b":".join([b"ffff"] * 8) + b" 65535 65535",
         "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        (b"PROXY UNKNOWN", None),
        (b"PROXY UNKNOWN ", None),
        (b"PROXY UNKNOWN whatever \x00\xff 1 2 3 4 5", None),
        # The longest line that the specification allows.
        (b"PROXY UNKNOWN " + b":".join([b"ffff"] * 8) + b" " + b":".join([b"ffff"] * 8) + b" 65535 65535", None),
    ],
)  # fmt: skip
def test_a_line_of_version_1_has_the_address_of_the_client(line, address):
    assert read(line + b"\r\n" + REST) == (len(line) + 2, address)


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY ",
        b"PROXY TCP4",
        b"PROXY TCP4 203.0.113.9 192.0.2.1 50000",
        b"PROXY TCP4 203.0.113.9 192.0.2.1 50000 443 ",
        b"PROXY TCP4 203.0.113.9 192.0.2.1 50000 443 1",
        b"PROXY TCP4  203.0.113.9 192.0.2.1 50000 443",
        b"PROXY TCP4\t203.0.113.9 192.0.2.1 50000 443",
        b"PROXY tcp4 203.0.113.9 192.0.2.1 50000 443",
        b"PROXY UDP4 203.0.113.9 192.0.2.1 50000 443",
        b"PROXY UNKNOWNS",
        b"PROXY TCP4 203.0.113.9 192.0.2.1 65536 443",
        b"PROXY TCP4 203.0.113.9 192.0.2.1 50000 99999",
        b"PROXY TCP4 203.0.113.9 192.0.2.1 050000 443",
        b"PROXY TCP4 203.0.113.9 192.0.2.1 00 443",
        b"PROXY TCP4 203.0.113.9 192.0.2.1 -1 443",
        b"PROXY TCP4 203.0.113.9 192.0.2.1 \xb2 443",
        b"PROXY TCP4 203.0.113.9 192.0.2.1 50000 443\r",
        b"PROXY TCP4 203.0.113.9 192.0.2.1 50000 443\n",
    ],
)
def test_a_line_with_other_words_is_refused(line):
    assert why(line + b"\r\n") == "its header of version 1 is malformed"


@pytest.mark.parametrize(
    ("family", "source", "destination"),
    [
        (b"TCP4", b"203.0.113", b"192.0.2.1"),
        (b"TCP4", b"203.0.113.09", b"192.0.2.1"),
        (b"TCP4", b"203.0.113.256", b"192.0.2.1"),
        (b"TCP4", b"2001:db8::1", b"192.0.2.1"),
        (b"TCP4", b"203.0.113.9", b"2001:db8::1"),
        (b"TCP4", b"localhost", b"192.0.2.1"),
        (b"TCP4", b"", b"192.0.2.1"),
        (b"TCP4", b"203.0.113.\xb2", b"192.0.2.1"),
        (b"TCP6", b"203.0.113.9", b"2001:db8::1"),
        (b"TCP6", b"2001:db8::1", b"nowhere"),
        (b"TCP6", b"fe80::1%eth0", b"2001:db8::1"),
        (b"TCP6", b"[2001:db8::1]", b"2001:db8::1"),
        (b"TCP6", b"2001:db8::1::", b"2001:db8::1"),
    ],
)
def test_a_line_with_another_address_is_refused(family, source, destination):
    line = b"PROXY %b %b %b 50000 443\r\n" % (family, source, destination)
    assert why(line) == "its header of version 1 contains an invalid address"


def test_a_line_that_does_not_end_is_refused():
    line = b"PROXY UNKNOWN ".ljust(MAX_V1 - 2, b"x")
    assert read(line + b"\r\n") == (MAX_V1, None)
    assert read_header(line + b"\r") is None
    for longer in (line + b"xx", line + b"x\r\n", line + b"\n\n", b"PROXY TCP4 ".ljust(4000, b"1")):
        assert why(longer) == "its header has no line end within 107 bytes"


# Version 2


@pytest.mark.parametrize("more", [b"", b"\x04\x00\x03abc", b"x" * 3000])
@pytest.mark.parametrize(
    ("source", "address"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("0.0.0.0", "0.0.0.0"),
        ("2001:db8::1", "2001:db8::1"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("fe80::1", "fe80::1"),
    ],
)
def test_a_binary_header_has_the_address_of_the_client_and_extensions_are_skipped(source, address, more):
    header = v2(source, more=more)
    assert read(header + REST) == (len(header), address)


def test_a_client_on_a_unix_socket_has_no_address():
    header = v2_unix(b"/run/client.sock")
    assert read(header + REST) == (16 + 216, "")


@pytest.mark.parametrize(
    ("command", "family", "body"),
    [
        # LOCAL: whatever follows is to be ignored.
        (0x20, 0x00, b""),
        (0x20, 0x11, IPv4Address("203.0.113.9").packed + bytes(8)),
        (0x20, 0x11, b""),
        (0x20, 0xFF, b"abc"),
        # PROXY for a client that is unknown, or of a protocol that is not served here.
        (0x21, 0x00, b""),
        (0x21, 0x00, b"\x04\x00\x03abc"),
        (0x21, 0x01, b""),
        (0x21, 0x10, b""),
        (0x21, 0x12, IPv4Address("203.0.113.9").packed + bytes(8)),
        (0x21, 0x22, IPv6Address("2001:db8::1").packed + bytes(20)),
        (0x21, 0x32, bytes(216)),
    ],
)
def test_a_connection_of_the_proxy_itself_keeps_its_address(command, family, body):
    header = SIGNATURE + bytes([command, family]) + pack("!H", len(body)) + body
    assert read(header + REST) == (len(header), None)


@pytest.mark.parametrize("command", [0x00, 0x01, 0x11, 0x22, 0x2F, 0x31, 0xFF])
def test_another_version_or_command_is_refused(command):
    header = SIGNATURE + bytes([command, 0x11]) + pack("!H", 12) + bytes(12)
    assert why(header) == f"its header has an unknown version and command, 0x{command:02x}"


@pytest.mark.parametrize("family", [0x03, 0x13, 0x1F, 0x41, 0xF1])
def test_another_address_family_is_refused(family):
    header = SIGNATURE + bytes([0x21, family]) + pack("!H", 12) + bytes(12)
    assert why(header) == f"its header has an unknown address family and transport, 0x{family:02x}"


@pytest.mark.parametrize(("family", "needed"), [(0x11, 12), (0x21, 36), (0x31, 216)])
def test_a_header_without_all_addresses_is_refused(family, needed):
    for size in (0, 4, needed - 1):
        header = SIGNATURE + bytes([0x21, family]) + pack("!H", size) + bytes(size)
        assert why(header + REST) == "its header of version 2 has incomplete addresses"


def test_a_long_header_is_refused_before_it_is_there():
    longest = v2("203.0.113.9", more=bytes(MAX_V2 - 28))
    assert read(longest) == (MAX_V2, "203.0.113.9")
    for length in (MAX_V2 - 15, 65535):
        header = SIGNATURE + b"\x21\x11" + pack("!H", length)
        assert why(header) == f"its header has {length + 16} bytes, more than 4096"


# Both


@pytest.mark.parametrize(
    "data",
    [
        REST,
        b"\x16\x03\x01\x02\x00",
        b"\x00",
        b"proxy TCP4 ",
        b"PROXX",
        b"PROX\r\n",
        b"\r\n\r\n\x00\r\nquit\n",
        b"\r\nG",
    ],
)
def test_anything_else_is_refused_at_its_first_wrong_byte(data):
    assert why(data) == "it does not begin with a header of the PROXY protocol"


addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
headers = st.one_of(
    st.builds(lambda source: (v1(source), source), addresses),
    st.builds(lambda source, more: (v2(source, more=more), source), addresses, st.binary(max_size=40)),
)


def expected(source):
    """Return how an address is shown."""
    address = ip_address(source)
    return str(getattr(address, "ipv4_mapped", None) or address)


@examples(500)
@given(headers, st.binary(max_size=40))
def test_a_header_is_complete_with_its_last_byte_and_what_follows_does_not_matter(header, rest):
    data, source = header
    for end in range(len(data)):
        assert read_header(data[:end]) is None
    assert read(data + rest) == (len(data), expected(source))


nearly = st.one_of(
    st.binary(max_size=120),
    st.binary(max_size=260).map(lambda rest: SIGNATURE + b"\x21" + rest),
    st.builds(
        lambda words: b"PROXY " + b" ".join(words) + b"\r\n",
        st.lists(st.sampled_from([b"TCP4", b"TCP6", b"UNKNOWN", b"1.2.3.4", b"::1", b"80", b"", b"\xff", b"0"])),
    ),
    st.builds(
        lambda header, place, byte: header[0][:place] + bytes([byte]) + header[0][place + 1 :],
        headers, st.integers(0, 60), st.integers(0, 255),
    ),
)  # fmt: skip


def outcome(data):
    """Return what becomes of `data`, as a value that can be compared."""
    try:
        header = read_header(data)
    except ValueError as error:
        return str(error)
    return None if header is None else (header.size, header.address)


@examples(2000)
@given(nearly)
def test_any_bytes_are_read_refused_or_incomplete_and_more_bytes_do_not_change_that(data):
    decided = None
    for end in range(len(data) + 1):
        found = outcome(data[:end])
        if decided is None:
            decided = found
            assert end < MAX_V2 or found is not None
        elif isinstance(decided, tuple):
            assert found == decided
            size, address = decided
            assert size <= end
            assert address is None or address == "" or expected(address) == address
        else:
            # It stays refused, although a later byte may be another reason.
            assert isinstance(found, str)
            assert found.isprintable()
