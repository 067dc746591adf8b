"""The reference decoder accepts the examples of RFC 6455, and rejects violations."""

import zlib

import pytest

from tests.fuzz.reference import Decoder, Meaning, inflated, sent

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
MASKED_HELLO = "81 85 37fa213d 7f9f4d5158"


def meaning(data: bytes | str, limit: int = 1000, *, deflated: bool = False) -> Meaning:
    stream = bytes.fromhex(data) if isinstance(data, str) else data
    return Decoder(stream, limit, deflated=deflated).read()


@pytest.mark.parametrize(
    ("data", "received"),
    [
        ("", []),
        (MASKED_HELLO, [(TEXT, b"Hello")]),
        (MASKED_HELLO * 2, [(TEXT, b"Hello")] * 2),
        (MASKED_HELLO[:-2], []),
        ("01 83 00000000 48656c 80 82 00000000 6c6f", [(TEXT, b"Hello")]),
        ("01 83 00000000 48656c 89 81 00000000 21 80 82 00000000 6c6f", [(PING, b"!"), (TEXT, b"Hello")]),
        ("8a 85 37fa213d 7f9f4d5158", [(PONG,)]),
        ("88 80 00000000", [(CLOSE, 1005, "")]),
        ("88 84 00000000 03e8 6869 81 80 00000000", [(CLOSE, 1000, "hi")]),
        ("82 fe 0100 00000000" + "00" * 256, [(BINARY, bytes(256))]),
        ("01 81 00000000 e2 80 82 00000000 82ac", [(TEXT, "€".encode())]),
    ],
)
def test_the_reference_reads_valid_frames(data, received):
    assert meaning(data) == Meaning(received)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ("81 05 48656c6c6f", 1002),
        ("c1 80 00000000", 1002),
        ("91 80", 1002),
        ("83 80", 1002),
        ("8b 80", 1002),
        ("09 80", 1002),
        ("89 fe", 1002),
        ("82 fe 007d", 1002),
        ("82 ff 000000000000ffff", 1002),
        ("82 ff 8000000000000000", 1002),
        ("80 80 00000000", 1002),
        ("01 80 00000000 81 80 00000000", 1002),
        ("88 81 00000000 03", 1002),
        ("88 82 00000000 03ed", 1002),
        ("88 83 00000000 03e8ff", 1007),
        ("81 82 00000000 ff", 1007),
        ("81 81 00000000 e2", 1007),
        ("01 81 00000000 e2 80 81 00000000 e2", 1007),
        ("82 fe 03e9 00000000", 1009),
        ("02 fe 03e8 00000000" + "00" * 1000 + "80 81 00000000", 1009),
    ],
)
def test_the_reference_rejects_invalid_frames(data, code):
    assert meaning(MASKED_HELLO + data) == Meaning([(TEXT, b"Hello")], {code})


def deflated(data: bytes, *, last: bool = False) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    end = compressor.compress(data) + compressor.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)
    return end if last else end[:-4]


def test_the_reference_inflates_deflated_messages():
    hello = deflated(b"Hello")
    frame = bytes([0xC1, 0x80 | len(hello)]) + bytes(4) + hello
    assert meaning(frame, 5, deflated=True) == Meaning([(TEXT, b"Hello")])
    assert meaning(frame, 4, deflated=True) == Meaning([], {1009})
    assert meaning(frame) == Meaning([], {1002})


@pytest.mark.parametrize(
    ("data", "wrong"),
    [
        (deflated(b"Hello"), set()),
        (deflated(b"Hello", last=True), set()),
        (deflated(b"Hello", last=True) + b"\0", set()),
        (deflated(b"Hello", last=True) + b"\1", {1007}),
        (b"\xff" * 9, {1007}),
        (deflated(b"x" * 6), {1009}),
    ],
)
def test_the_reference_rejects_invalid_deflate_data(data, wrong):
    message, found = inflated(data, 5, final=True)
    assert found == wrong
    assert wrong or message == b"Hello"


def test_the_reference_reads_frames_of_a_server():
    assert sent(bytes.fromhex("8105 48656c6c6f")) == (TEXT, b"Hello")
    assert sent(bytes.fromhex("827e 0100") + bytes(256)) == (BINARY, bytes(256))
    assert sent(bytes([0xC2, len(deflated(b"Hello"))]) + deflated(b"Hello")) == (BINARY, b"Hello")


@pytest.mark.parametrize(
    "data", ["0105 48656c6c6f", "8185 00000000 48656c6c6f", "827e 0005" + "00" * 5, "a100", "8104 48656c6c6f"]
)
def test_the_reference_rejects_invalid_frames_of_a_server(data):
    with pytest.raises((AssertionError, KeyError)):
        sent(bytes.fromhex(data))
