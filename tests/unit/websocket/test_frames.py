import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol, Opcode

from tests.support.frames import BINARY, PING, PONG, TEXT
from tests.support.strategies import examples, spoilt_text
from wsaas.websocket import frames
from wsaas.websocket.frames import Close, Violation, read_close

MAX_REASON = 123


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 65537])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_an_encoded_message_is_one_frame_that_a_client_reads(opcode, size):
    client = FrameProtocol(client=True, extensions=[])
    data = frames.encode(opcode, b"x" * size)
    client.receive_bytes(data)
    (got,) = client.received_frames()
    expected = "x" * size if opcode == TEXT else b"x" * size
    assert (got.opcode, got.payload, got.message_finished) == (opcode, expected, True)
    assert len(data) - size == (2 if size < 126 else 4 if size < 65536 else 10)


@pytest.mark.parametrize("opcode", [PING, PONG])
def test_an_encoded_control_frame_is_one_that_a_client_reads(opcode):
    client = FrameProtocol(client=True, extensions=[])
    client.receive_bytes(frames.encode(opcode, b"x" * 125))
    assert [(got.opcode, got.payload) for got in client.received_frames()] == [(opcode, b"x" * 125)]


def close_read_by_a_client(data: bytes) -> tuple[int, str]:
    client = FrameProtocol(client=True, extensions=[])
    client.receive_bytes(data)
    (got,) = client.received_frames()
    assert got.opcode is Opcode.CLOSE
    assert isinstance(got.payload, tuple)
    return got.payload


@examples(200)
@given(st.sampled_from([1000, 1001, 1011, 3000, 4999]), st.text(max_size=200))
def test_a_close_reason_is_cut_between_characters(code, reason):
    read_code, read_reason = close_read_by_a_client(frames.encode_close(code, reason))
    assert read_code == code
    clean = reason.encode("utf-8", "replace").decode()
    assert clean.startswith(read_reason)
    size = len(read_reason.encode())
    assert size <= MAX_REASON
    if read_reason != clean:
        assert size + len(clean[len(read_reason)].encode()) > MAX_REASON


def test_a_close_reason_of_characters_of_two_bytes_is_cut_before_the_last_half():
    assert close_read_by_a_client(frames.encode_close(1000, "é" * 62)) == (1000, "é" * 61)
    assert close_read_by_a_client(frames.encode_close(1000, "x" + "é" * 62)) == (1000, "x" + "é" * 61)


def test_a_reason_that_no_utf8_can_hold_is_sent_all_the_same():
    assert close_read_by_a_client(frames.encode_close(1000, "a\udcffb")) == (1000, "a?b")


def test_a_close_without_a_code_is_empty():
    assert frames.encode_close(1005, "never sent") == b"\x88\x00"
    assert close_read_by_a_client(frames.encode_close(1000)) == (1000, "")


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"", Close(1005, "")),
        (b"\x03\xe8", Close(1000, "")),
        (b"\x03\xe8" + "añ".encode(), Close(1000, "añ")),
        (b"\x03", Violation(1002, "a Close with a code that may not be sent")),
        (b"\x03\xed", Violation(1002, "a Close with a code that may not be sent")),
        (b"\x03\xe8\xff", Violation(1007, "a reason that is not UTF-8")),
    ],
)
def test_a_close_says_a_code_and_a_reason_or_breaks_the_protocol(payload, expected):
    assert read_close(payload) == expected


@examples(300)
@given(st.one_of(st.binary(max_size=12), st.text().map(str.encode), spoilt_text))
def test_text_is_valid_when_it_decodes(data):
    try:
        data.decode("utf-8", "strict")
        decodes = True
    except UnicodeDecodeError:
        decodes = False
    assert frames.valid_text(data) is decodes
