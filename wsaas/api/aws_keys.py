"""The access keys by which requests are signed for AWS, and the verification of their signatures."""

from collections.abc import Callable, Sequence
from hmac import compare_digest
from typing import Final

from wsaas.api.sigv4 import DATE_HEADER, SERVICE, Signature, canonical_requests, read_signature, read_time
from wsaas.errors import Forbidden
from wsaas.http.headers import Headers
from wsaas.http.request import Request

MAX_SKEW_S: Final = 300.0
"""Seconds that the time of a signature may be off, in both directions. It is the tolerance of API Gateway, and that
beyond which AWS's SDK for JavaScript corrects its clock."""


class AwsKeys:
    """The access keys, each as `id:secret`. They may be replaced at any time, which takes effect with the next request.

    A signature also covers the body of a request. `check` decides by the head, before the body is stored; `verify`
    makes the same checks on the complete request, and compares the signature.
    """

    __slots__ = ("_secrets", "_wall")

    def __init__(self, keys: Sequence[bytes], wall: Callable[[], float]) -> None:
        """Accept signatures by `keys`. `wall`: returns the time in seconds since the epoch."""
        self._secrets = _by_id(keys)
        self._wall = wall

    def __len__(self) -> int:
        """Return the number of keys."""
        return len(self._secrets)

    def replace(self, keys: Sequence[bytes]) -> None:
        """Accept only signatures by `keys` from now on."""
        self._secrets = _by_id(keys)

    def check(self, request: Request) -> None:
        """Raise `Forbidden` if no body can make the signature of `request` a valid one."""
        self._read(request.headers)

    def verify(self, request: Request) -> None:
        """Raise `Forbidden` unless the signature of a complete `request` is valid."""
        headers = request.headers
        signature = self._read(headers)
        secret, at = self._secrets[signature.key_id], headers[DATE_HEADER]
        expected = [signature.expected(secret, at, form) for form in canonical_requests(request, signature.names)]
        # Compare all forms: constant time.
        if not sum([compare_digest(each, signature.value) for each in expected]):
            raise Forbidden(
                "The signature does not match the request: check the secret access key, and that no proxy changes the "
                "path or a signed header, such as Host."
            )

    def _read(self, headers: Headers) -> Signature:
        """Return the signature of a request, if it may be valid."""
        signature = read_signature(headers)
        if signature is None:
            raise Forbidden("The Authorization header is not a well-formed AWS4-HMAC-SHA256 signature.")
        if signature.key_id not in self._secrets:
            raise Forbidden("The signature is by an access key that is not in CONTROL_AWS_KEYS.")
        if signature.service != SERVICE:
            raise Forbidden(f"The signature is not for the service {SERVICE.decode()}.")
        self._check_time(headers.get(DATE_HEADER, b""), signature.day)
        if b"host" not in signature.names or not all(name in headers for name in signature.names):
            raise Forbidden("The signature does not cover the Host header, or covers a header that is missing.")
        return signature

    def _check_time(self, text: bytes, day: bytes) -> None:
        """Raise `Forbidden` unless `text` is about now, and on the `day` of the signature's scope."""
        at, now = read_time(text), self._wall()
        if at is None or text[: len(day)] != day:
            raise Forbidden("The header X-Amz-Date is missing or malformed, or its day is not that of the signature.")
        if abs(at - now) > MAX_SKEW_S:
            raise Forbidden(
                f"The signature has expired, or is not valid yet: its time is {abs(at - now):.0f} s "
                f"{'before' if at < now else 'after'} that of this gateway, and {MAX_SKEW_S:.0f} s are accepted."
            )


def _by_id(keys: Sequence[bytes]) -> dict[bytes, bytes]:
    """Return the secret of each key by its id."""
    return {key_id: secret for key_id, _, secret in (key.partition(b":") for key in keys)}
