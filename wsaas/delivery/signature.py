"""Signatures by which the backend can verify that a request comes from the gateway (Standard Webhooks 1.0.0)."""

from base64 import b64encode
from collections.abc import Sequence
from hmac import digest


class Signer:
    """Signs with each of `secrets`, so that a secret can be replaced while the backend still knows the old one."""

    __slots__ = ("_secrets",)

    def __init__(self, secrets: Sequence[bytes]) -> None:
        """Sign with `secrets`, the decoded bytes."""
        self._secrets = tuple(secrets)

    def replace(self, secrets: Sequence[bytes]) -> None:
        """Sign with `secrets` from now on."""
        self._secrets = tuple(secrets)

    def lines(self, message_id: bytes, at: float, body: bytes) -> bytes:
        """Return the three headers for a `body` that is sent `at` (seconds since the epoch).

        That is the time of the attempt, not of the event: a verifier would take an old time for a replay.
        """
        seconds = b"%d" % at
        content = b".".join((message_id, seconds, body))
        signatures = b" ".join(b"v1," + b64encode(digest(secret, content, "sha256")) for secret in self._secrets)
        return b"webhook-id: %b\r\nwebhook-timestamp: %b\r\nwebhook-signature: %b\r\n" % (
            message_id,
            seconds,
            signatures,
        )
