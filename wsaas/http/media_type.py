"""Decides by the `Content-Type` of a push whether it is text, and in which charset (RFC 9110 section 8.3)."""

import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE, BOM_UTF32_BE, BOM_UTF32_LE
from encodings import normalize_encoding
from encodings.aliases import aliases
from enum import Enum
from functools import lru_cache
from typing import Final

from wsaas.errors import BadText, TooLarge, UnsupportedMediaType
from wsaas.grammar import TOKEN_BYTES

MAX_CHARSET: Final = 40
"""Maximum length of the name of a charset, in characters."""

CODECS: Final = frozenset(
    """
    big5 big5hkscs cp037 cp1006 cp1026 cp1125 cp1140 cp1250 cp1251 cp1252 cp1253 cp1254 cp1255 cp1256 cp1257 cp1258
    cp273 cp424 cp437 cp500 cp720 cp737 cp775 cp850 cp852 cp855 cp856 cp857 cp858 cp860 cp861 cp862 cp863 cp864 cp865
    cp866 cp869 cp874 cp875 cp932 cp949 cp950 euc_jis_2004 euc_jisx0213 euc_jp euc_kr gb18030 gb2312 gbk hp_roman8 hz
    iso2022_jp iso2022_jp_1 iso2022_jp_2 iso2022_jp_2004 iso2022_jp_3 iso2022_jp_ext iso2022_kr iso8859_10 iso8859_11
    iso8859_13 iso8859_14 iso8859_15 iso8859_16 iso8859_2 iso8859_3 iso8859_4 iso8859_5 iso8859_6 iso8859_7 iso8859_8
    iso8859_9 johab koi8_r koi8_t koi8_u kz1048 latin_1 mac_cyrillic mac_greek mac_iceland mac_latin2 mac_roman
    mac_turkish ptcp154 shift_jis shift_jis_2004 shift_jisx0213 tis_620 utf_16 utf_16_be utf_16_le utf_32 utf_32_be
    utf_32_le utf_8_sig
    """.split()  # noqa: SIM905 - a list of a hundred strings is harder to read
)
"""Python's names of the supported charsets besides UTF-8. Each decodes 1 MiB within a few milliseconds.

The list is fixed for two reasons. Some of Python's codecs are not charsets, or take minutes for a megabyte
(`punycode`). And Python caches every unknown name that it looks up, without a limit.
"""

_PARAMETER: Final = re.compile(rb';[ \t]*(%b)=(?:(%b)|"([^"\\]*)")' % (TOKEN_BYTES, TOKEN_BYTES))
_MARKS: Final = {"utf_16": (BOM_UTF16_LE, BOM_UTF16_BE), "utf_32": (BOM_UTF32_LE, BOM_UTF32_BE)}
_IN_UTF8: Final = {"utf_8", "ascii"}


class Kind(Enum):
    """The type of message that a body becomes. EITHER: text if the body is valid UTF-8, otherwise binary."""

    TEXT = "text"
    BINARY = "binary"
    EITHER = "either"


TEXT: Final = Kind.TEXT
BINARY: Final = Kind.BINARY
EITHER: Final = Kind.EITHER


@lru_cache(maxsize=256)
def interpret(content_type: bytes | None) -> Kind | str:
    """Return the type of message that a body of `content_type` becomes; for text in another charset, its codec.

    `text/*` and JSON types are text. A body without a type, or of type `application/x-www-form-urlencoded` (the default
    of curl), may be either. Raises `UnsupportedMediaType` for a charset that is not in `CODECS`.
    """
    if content_type is None:
        return EITHER
    media_type = content_type.partition(b";")[0].strip().lower()
    is_form = media_type == b"application/x-www-form-urlencoded"
    if not (
        is_form or media_type.startswith(b"text/") or media_type == b"application/json" or media_type.endswith(b"+json")
    ):
        return BINARY
    for found in _PARAMETER.finditer(content_type):
        if found[1].lower() == b"charset" and (charset := found[2] or found[3]):
            codec = _codec(charset.decode("latin-1"))
            return TEXT if codec in _IN_UTF8 else codec
    return EITHER if is_form else TEXT


def to_utf8(data: bytes, codec: str, limit: int) -> bytes:
    """Convert text from `codec` to UTF-8, and drop a byte order mark.

    UTF-16 and UTF-32 without a mark are little-endian, as in browsers. Raises `BadText` if `data` cannot be decoded,
    `TooLarge` if the result has more than `limit` bytes.
    """
    if codec in _MARKS and not data.startswith(_MARKS[codec]):
        codec += "_le"
    try:
        text = data.decode(codec)
        if codec.endswith(("_le", "_be")):
            text = text.removeprefix("\ufeff")
        converted = text.encode()
    except UnicodeError:
        raise BadText("The body is not text in the charset of its Content-Type.") from None
    if len(converted) > limit:
        raise TooLarge(f"Converted to UTF-8, the body has {len(converted)} bytes; the limit is {limit}.")
    return converted


def _codec(charset: str) -> str:
    """Return Python's name of a charset. Raises `UnsupportedMediaType`."""
    if len(charset) <= MAX_CHARSET and charset.isascii():
        name = normalize_encoding(charset.lower())
        codec = aliases.get(name, name)
        if codec in CODECS or codec in _IN_UTF8:
            return codec
    raise UnsupportedMediaType(f"The charset {charset[:MAX_CHARSET]} is not supported: send text in UTF-8.")
