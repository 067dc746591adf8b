"""AWS Signature Version 4 of requests: what a signature says about itself, and what it has to be.

The canonical request is that of all services of AWS but S3: the path is encoded once more than it is in the request
line.
"""

import re
from datetime import datetime, timezone
from hashlib import sha256
from hmac import digest
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from wsaas.grammar import TOKEN_BYTES
from wsaas.http.headers import Headers
from wsaas.http.request import Request

ALGORITHM: Final = b"AWS4-HMAC-SHA256"
SERVICE: Final = b"execute-api"
"""The service in the scope of signatures for APIs of API Gateway."""

DATE_HEADER: Final = b"x-amz-date"

_SCOPE_END: Final = b"aws4_request"
_UNRESERVED: Final = "~"
"""The character that `quote` has to leave alone besides letters, digits, `.`, `-` and `_`."""

_WITHIN_SCOPE: Final = rb"[^\s/,]+"
_NAMES: Final = rb"%b(?:;%b)*" % (TOKEN_BYTES, TOKEN_BYTES)
_FORM: Final = re.compile(
    rb"%b[ \t]+Credential=(%b)/([0-9]{8})/(%b)/(%b)/%b[ \t]*,[ \t]*SignedHeaders=(%b)[ \t]*,[ \t]*"
    rb"Signature=([0-9a-f]{64})" % (ALGORITHM, _WITHIN_SCOPE, _WITHIN_SCOPE, _WITHIN_SCOPE, _SCOPE_END, _NAMES)
)
_TIME: Final = re.compile(rb"[0-9]{8}T[0-9]{6}Z")


class Signature:
    """A signature, as an `Authorization` header has it.

    `key_id`: of the access key. `day`, `region`, `service`: its scope. `names`: of the headers that are signed, in
    lower case, in their order. `value`: in hexadecimal.
    """

    __slots__ = ("day", "key_id", "names", "region", "service", "value")

    def __init__(self, found: re.Match[bytes]) -> None:
        """Take the values from a header that `_FORM` matches."""
        self.key_id = found[1]
        self.day = found[2]
        self.region = found[3]
        self.service = found[4]
        self.names = found[5].split(b";")
        self.value = found[6]

    def expected(self, secret: bytes, at: bytes, canonical: bytes) -> bytes:
        """Return the value that `secret` makes for the request that was signed at `at`, in its `canonical` form."""
        key = b"AWS4" + secret
        parts = (self.day, self.region, self.service, _SCOPE_END)
        for part in parts:
            key = digest(key, part, "sha256")
        to_sign = b"\n".join((ALGORITHM, at, b"/".join(parts), _hash(canonical)))
        return digest(key, to_sign, "sha256").hex().encode()


def is_signed(headers: Headers) -> bool:
    """Return whether a request claims to be signed."""
    return headers.get(b"authorization", b"").startswith(ALGORITHM)


def read_signature(headers: Headers) -> Signature | None:
    """Return the signature in the `Authorization` of a request, or None if it is malformed."""
    found = _FORM.fullmatch(headers.get(b"authorization", b""))
    return None if found is None else Signature(found)


def read_time(text: bytes) -> float | None:
    """Return the seconds since the epoch of a time such as `20260131T120000Z`, or None if it is malformed."""
    if not _TIME.fullmatch(text):
        return None
    try:
        return datetime.strptime(text.decode(), "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc).timestamp()
    except ValueError:
        # There is no such day, or no such time of the day.
        return None


def canonical_requests(request: Request, names: list[bytes]) -> list[bytes]:
    """Return what may be signed of a complete `request`: as AWS specifies it, and as curl 7.88 does.

    curl signs the path as it is in the request line. That opens no other resource: no path is that of another one in
    the other form, unless it becomes the same when it is decoded.
    `names`: of the signed headers; the request has all of them.
    """
    path, _, query = request.target.partition(b"?")
    return [_canonical(request, names, each, query) for each in (_canonical_path(path), path)]


def _canonical(request: Request, names: list[bytes], path: bytes, query: bytes) -> bytes:
    headers = [b"%b:%b" % (name, b" ".join(request.headers[name].split())) for name in names]
    return b"\n".join(
        (
            request.method,
            path,
            _canonical_query(query),
            *headers,
            b"",
            b";".join(names),
            _hash(request.body),
        )
    )


def _canonical_path(path: bytes) -> bytes:
    """Return `path`, as it is in the request line, without dot segments and repeated slashes, and encoded again."""
    kept: list[bytes] = []
    for segment in path.split(b"/"):
        if segment == b"..":
            del kept[-1:]
        elif segment not in (b"", b"."):
            kept.append(segment)
    end = b"/" if kept and path.endswith(b"/") else b""
    return quote(b"/%b%b" % (b"/".join(kept), end), safe=f"/{_UNRESERVED}").encode()


def _canonical_query(query: bytes) -> bytes:
    """Return the parameters of `query` in the order of their encoded names and values."""
    pairs = [each.partition(b"=") for each in query.split(b"&") if each]
    encoded = sorted((_encode_again(name), _encode_again(value)) for name, _, value in pairs)
    return "&".join(f"{name}={value}" for name, value in encoded).encode()


def _encode_again(text: bytes) -> str:
    """Return a part of a query encoded as AWS does, whatever else its sender has encoded."""
    return quote(unquote_to_bytes(text), safe=_UNRESERVED)


def _hash(data: bytes) -> bytes:
    return sha256(data).hexdigest().encode()
