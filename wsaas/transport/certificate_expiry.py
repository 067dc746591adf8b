"""Reads when a certificate expires (RFC 5280 section 4.1.2.5), which the `ssl` module does not tell of its own one."""

import ssl
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Final

_CERTIFICATE: Final = "-----BEGIN CERTIFICATE-----"
_END: Final = "-----END CERTIFICATE-----"
_LONG: Final = 0x80
_LENGTH: Final = 0x7F
"""In the first byte of a length: whether it gives the number of bytes that follow with the length, and this number."""
_UTC_TIME: Final = 0x17
_VERSION: Final = 0xA0
"""The tag of the version, which the first version of certificates did not have."""


def expiry(pem: str) -> float | None:
    """Return when the first certificate in `pem` expires, in seconds since the epoch; None if it cannot be read."""
    start = pem.find(_CERTIFICATE)
    end = pem.find(_END, start)
    try:
        return _not_after(ssl.PEM_cert_to_DER_cert(pem[start : end + len(_END)]))
    except (ValueError, IndexError, StopIteration):
        return None


def _not_after(der: bytes) -> float:
    ((_, certificate),) = _elements(der)
    _, signed = next(_elements(certificate))
    parts = [(tag, content) for tag, content in _elements(signed) if tag != _VERSION]
    # Serial number, algorithm, issuer, validity.
    _, validity = parts[3]
    _, (tag, content) = _elements(validity)
    form = "%y%m%d%H%M%SZ" if tag == _UTC_TIME else "%Y%m%d%H%M%SZ"
    return datetime.strptime(content.decode("ascii"), form).replace(tzinfo=timezone.utc).timestamp()


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Return tag and content of each element of a sequence in DER."""
    at = 0
    while at < len(data):
        tag, size = data[at], data[at + 1]
        at += 2
        if size & _LONG:
            count = size & _LENGTH
            size = int.from_bytes(data[at : at + count], "big")
            at += count
        yield tag, data[at : at + size]
        at += size
