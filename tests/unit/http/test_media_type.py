import codecs
from encodings import aliases

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from tests.support.strategies import examples
from wsaas import errors
from wsaas.http import media_type
from wsaas.http.media_type import BINARY, CODECS, EITHER, TEXT, interpret, to_utf8

LIMIT = 10_000
NO_CHARSETS = {
    "base64_codec", "bz2_codec", "hex_codec", "quopri_codec", "rot_13", "uu_codec", "zlib_codec", "mbcs", "utf_7",
    "ascii", "utf_8",
}  # fmt: skip


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (None, EITHER),
        (b"application/x-www-form-urlencoded", EITHER),
        (b"Application/X-WWW-Form-URLencoded ; x=y", EITHER),
        (b"application/x-www-form-urlencoded; charset=latin1", "latin_1"),
        (b"", BINARY),
        (b" text/plain ", TEXT),
        (b"TEXT/HTML", TEXT),
        (b"application/json", TEXT),
        (b"application/problem+json;x=y", TEXT),
        (b"application/jsonx", BINARY),
        (b"image/json", BINARY),
        (b"textual/plain", BINARY),
        (b"image/svg; text/plain", BINARY),
        (b"application/octet-stream; charset=latin1", BINARY),
        (b"multipart/form-data; boundary=x", BINARY),
        (b"\xff", BINARY),
        (b"text/plain; charset=utf-8", TEXT),
        (b"text/plain;charset=UTF8", TEXT),
        (b'text/plain; Charset="Utf-8"', TEXT),
        (b"text/plain; charset=us-ascii", TEXT),
        (b"text/plain; charset=", TEXT),
        (b'text/plain; charset=""', TEXT),
        (b"text/plain; charset", TEXT),
        (b"text/plain; charset = latin1", TEXT),
        (b"text/plain; xcharset=latin1", TEXT),
        (b'text/plain; title="; charset=x"', TEXT),
        (b'text/plain; title="; charset=x";  charset=ISO-8859-1 ; y=z', "latin_1"),
        (b"text/plain; charset=koi8-r; charset=utf-8", "koi8_r"),
        (b"text/plain; charset=windows-1252", "cp1252"),
        (b'application/json; charset="Shift_JIS"', "shift_jis"),
        (b"text/csv; charset=UTF-16", "utf_16"),
        (b"text/csv; charset=utf-16LE", "utf_16_le"),
        (b"text/csv; charset=ks_c_5601-1987", "euc_kr"),
    ],
)
def test_the_content_type_decides_how_a_body_is_sent(content_type, expected):
    assert interpret(content_type) == expected


@pytest.mark.parametrize(
    "charset",
    [
        "utf-7", "UTF7", "unicode-1-1-utf-7", "idna", "punycode", "unicode_escape", "raw-unicode-escape", "undefined",
        "charmap", "mbcs", "oem", "base64", "rot13", "hex", "zlib", "bz2", "quopri", "uu", "aliases", "nonsense", "x",
        "..os", "-", "utf-8.x", "utf-8" + "-" * 40, "utf-16" + "x" * 30_000,
    ],
)  # fmt: skip
def test_a_codec_that_is_slow_or_no_charset_is_refused(charset):
    with pytest.raises(errors.UnsupportedMediaType, match="is not supported") as raised:
        interpret(f"text/plain; charset={charset}".encode())
    assert len(raised.value.message) < 120
    with pytest.raises(errors.UnsupportedMediaType):
        interpret(f'text/plain; charset="{charset}\xff"'.encode("latin-1"))


def test_python_is_not_asked_for_a_name_that_is_not_in_the_list(monkeypatch):
    def lookup(name: str) -> None:
        raise AssertionError(name)

    monkeypatch.setattr(codecs, "lookup", lookup)
    for number in range(300):
        with pytest.raises(errors.UnsupportedMediaType):
            interpret(b"text/plain; charset=x-%d" % number)


def test_all_charsets_that_python_has_names_for_are_known():
    assert {*aliases.aliases.values()} - NO_CHARSETS <= CODECS
    for codec in CODECS:
        assert "x".encode(codec).decode(codec) == "x"
        assert codecs.lookup(codec).name


@pytest.mark.parametrize("codec", sorted(CODECS))
@examples(20)
@given(st.text(max_size=20))
@example("\ufeffx")
def test_text_is_the_same_in_utf8(codec, text):
    data = text.encode(codec, "ignore")
    # An escape character in the text cannot be told from the start of an escape sequence of ISO 2022.
    assume("\x1b" not in text)
    expected = data.decode(codec)
    if codec.endswith(("_le", "_be")):
        # Other codecs drop one byte order mark themselves, if they have one. A second one is text.
        expected = expected.removeprefix("\ufeff")
    assert to_utf8(data, codec, LIMIT) == expected.encode()


@pytest.mark.parametrize("codec", sorted(CODECS))
@examples(20)
@given(st.binary(max_size=20))
def test_any_bytes_are_text_or_bad_text(codec, data):
    try:
        converted = to_utf8(data, codec, LIMIT)
    except errors.BadText:
        with pytest.raises(UnicodeError):
            data.decode(codec)
    else:
        assert converted.decode().encode() == converted


@pytest.mark.parametrize(
    ("codec", "data", "text"),
    [
        ("utf_16", b"\xff\xfea\0", "a"),
        ("utf_16", b"\xfe\xff\0a", "a"),
        ("utf_16", b"a\0", "a"),
        ("utf_16", b"", ""),
        ("utf_16", b"\xff\xfe\xff\xfea\0", "\ufeffa"),
        ("utf_16_le", b"\xff\xfea\0", "a"),
        ("utf_16_be", b"\xfe\xff\0a", "a"),
        ("utf_16_be", b"\0a", "a"),
        ("utf_32", b"\xff\xfe\0\0a\0\0\0", "a"),
        ("utf_32", b"\0\0\xfe\xff\0\0\0a", "a"),
        ("utf_32", b"a\0\0\0", "a"),
        ("utf_8_sig", b"\xef\xbb\xbf\xc3\xa9", "é"),
        ("utf_8_sig", b"\xc3\xa9", "é"),
    ],
)
def test_a_byte_order_mark_is_no_text(codec, data, text):
    assert to_utf8(data, codec, LIMIT) == text.encode()


@pytest.mark.parametrize(
    ("codec", "data"),
    [("utf_16", b"a"), ("utf_16", b"\xff\xfe\0\xd8"), ("cp1252", b"\x81"), ("shift_jis", b"\x81"), ("euc_kr", b"\xff")],
)
def test_bytes_that_are_invalid_in_their_charset_are_bad_text(codec, data):
    with pytest.raises(errors.BadText, match="charset"):
        to_utf8(data, codec, LIMIT)


def test_the_limit_applies_to_the_converted_text():
    assert to_utf8(b"\xe9" * 5, "latin_1", 10) == "é".encode() * 5
    with pytest.raises(errors.TooLarge, match="12 bytes; the limit is 10"):
        to_utf8(b"\xe9" * 6, "latin_1", 10)


def test_a_content_type_is_interpreted_once():
    before = media_type.interpret.cache_info().hits
    for _ in range(2):
        interpret(b"text/plain; charset=iso-8859-2; once=1")
    assert media_type.interpret.cache_info().hits == before + 1
