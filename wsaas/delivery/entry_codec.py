"""Turns journal entries into the values that NATS keeps, and back. `Authorization` values are encrypted there."""

import os
from base64 import b64decode, b64encode
from contextlib import suppress
from typing import Any, Final

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from wsaas.delivery.journal_file import Entry
from wsaas.http.trace_context import from_text
from wsaas.log.throttle import throttle

NONCE_SIZE: Final = 12
"""Bytes of a nonce of AES-GCM. It is random: with 96 random bits, one key is good for 2**32 values (NIST SP 800-38D
section 8.3). So each process has its own key, derived from the secret and the prefix of its ids."""

KEY_SIZE: Final = 32
"""Bytes of a key: AES-256."""

MAX_PROCESSES: Final = 64
"""Processes whose keys are kept: this one, and dead ones whose connections are being adopted."""


class UnreadableEntry(Exception):
    """A value that is not a journal entry."""


class EntryCodec:
    """Encodes and decodes entries.

    `secrets`: the values of `CLUSTER_SECRET`. The first one encrypts, any of them decrypts. Without a secret, no
    `Authorization` value leaves the process. `prefix_length`: how many characters of an id name its process.
    """

    def __init__(self, secrets: tuple[bytes, ...], prefix_length: int) -> None:
        """Derive no key yet."""
        self._ciphers: dict[str, list[AESGCM]] = {}
        self._prefix_length = prefix_length
        self._secrets = secrets

    def prefix_of(self, connection_id: str) -> str:
        """Return the prefix of the process that holds, or held, a connection."""
        return connection_id[: self._prefix_length]

    def replace(self, secrets: tuple[bytes, ...]) -> None:
        """Use other secrets from now on."""
        self._secrets = secrets
        self._ciphers.clear()

    def encode(self, entry: Entry) -> bytes:
        """Return the value for `entry`."""
        authorization = entry.authorization
        fields: dict[str, Any] = {"ws_uri": entry.ws_uri, "connected_at": entry.connected_at}
        if authorization is not None and self._secrets:
            nonce = os.urandom(NONCE_SIZE)
            sealed = nonce + self._ciphers_of(entry.id)[0].encrypt(nonce, authorization, entry.id.encode())
            fields["authorization"] = b64encode(sealed).decode()
        if entry.context is not None:
            fields["context"] = entry.context
        if entry.disconnect_body is not None:
            fields["ended_at"] = entry.ended_at
            fields["disconnect"] = entry.disconnect_body.decode()
        if entry.trace is not None:
            fields["trace"] = entry.trace.text
        return orjson.dumps(fields)

    def decode(self, connection_id: str, value: bytes) -> Entry:
        """Return the entry of a connection. Raises `UnreadableEntry`."""
        try:
            fields = orjson.loads(value)
            disconnect, trace = fields.get("disconnect"), fields.get("trace")
            return Entry(
                connection_id,
                fields["ws_uri"],
                self._open(connection_id, fields.get("authorization")),
                fields.get("context"),
                fields["connected_at"],
                fields.get("ended_at"),
                None if disconnect is None else disconnect.encode(),
                is_replicated=True,
                trace=None if trace is None else from_text(trace),
            )
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise UnreadableEntry(str(error)) from error

    def _open(self, connection_id: str, sealed: str | None) -> bytes | None:
        """Return the `Authorization` value, None if there is none, or none that this process can decrypt."""
        if sealed is None:
            return None
        data = b64decode(sealed)
        for cipher in self._ciphers_of(connection_id):
            with suppress(InvalidTag):
                return cipher.decrypt(data[:NONCE_SIZE], data[NONCE_SIZE:], connection_id.encode())
        why = "it was encrypted with another CLUSTER_SECRET" if self._secrets else "CLUSTER_SECRET is not set"
        throttle.warning("cluster secret", "the DELETE of an adopted connection goes without Authorization: %s", why)
        return None

    def _ciphers_of(self, connection_id: str) -> list[AESGCM]:
        """Return the ciphers of the process that holds a connection, one for each secret."""
        prefix = self.prefix_of(connection_id)
        ciphers = self._ciphers.get(prefix)
        if ciphers is None:
            if len(self._ciphers) >= MAX_PROCESSES:
                self._ciphers.clear()
            ciphers = self._ciphers[prefix] = [_cipher(secret, prefix) for secret in self._secrets]
        return ciphers


def _cipher(secret: bytes, prefix: str) -> AESGCM:
    derivation = HKDF(SHA256(), KEY_SIZE, salt=None, info=b"wsaas authorization " + prefix.encode())
    return AESGCM(derivation.derive(secret))
