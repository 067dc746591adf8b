"""The types of the settings for a cluster."""

import math
import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

from wsaas.setting_types import MAX_PORT, PublicName, accepting, host_name, public_name

NATS_PORT: Final = 4222

MIN_LEASE_S: Final = 1
"""Minimum of `CLUSTER_LEASE`, in seconds. NATS counts the life of an entry in whole seconds."""

MIN_SECRET_LENGTH: Final = 16

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,32}")
_SECRET: Final = re.compile(rf"[!-~]{{{MIN_SECRET_LENGTH},}}")
_SEPARATOR: Final = re.compile(r"[ \t]*(?:,|\r?\n)\s*")
_AUTHORITY: Final = re.compile(r"(?:(?P<user>[^@\s]*)@)?(?P<host>\[[^\[\]]+\]|[^\[\]:@/]+)(?::(?P<port>[0-9]{1,5}))?")
_SCHEMES: Final = ("nats", "tls")


@dataclass(frozen=True, slots=True)
class NatsServer:
    """One NATS server. With a `user` but no `password`, the user is a token. `is_tls`: TLS is required."""

    host: str
    port: int
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    is_tls: bool = False

    def __str__(self) -> str:
        """Return the URL without user and password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'tls' if self.is_tls else 'nats'}://{host}:{self.port}"


@accepting("nats://host:port or tls://host:port, optionally with user:password@ or token@; several separated by commas")
def nats_servers(text: str) -> tuple[NatsServer, ...]:
    """Parse the URLs of NATS servers, separated by commas."""
    return tuple(_nats_server(part) for part in _SEPARATOR.split(text))


def _nats_server(text: str) -> NatsServer:
    scheme, separator, _ = text.partition("://")
    if not separator or scheme not in _SCHEMES or not text.isascii() or not text.isprintable():
        raise ValueError
    parts = urlsplit(text)
    if parts.path not in {"", "/"} or parts.query or parts.fragment or "?" in text or "#" in text:
        raise ValueError
    authority = _AUTHORITY.fullmatch(parts.netloc)
    if authority is None:
        raise ValueError
    port = int(authority["port"] or NATS_PORT)
    if not 0 < port <= MAX_PORT:
        raise ValueError
    user, colon, password = (authority["user"] or "").partition(":")
    if authority["user"] is not None and (not user or (colon and not password)):
        raise ValueError
    return NatsServer(
        host_name(authority["host"]),
        port,
        unquote(user) or None,
        unquote(password) if colon else None,
        is_tls=scheme == "tls",
    )


@accepting("1 to 32 letters, digits, - or _")
def cluster_name(text: str) -> str:
    """Parse the name of a cluster, which becomes a part of the names of buckets and subjects."""
    if not _NAME.fullmatch(text):
        raise ValueError
    return text


@accepting(f"secrets of at least {MIN_SECRET_LENGTH} visible ASCII characters, separated by commas")
def cluster_secrets(text: str) -> tuple[bytes, ...]:
    """Parse secrets, separated by commas or line ends."""
    found = _SEPARATOR.split(text)
    if not all(map(_SECRET.fullmatch, found)):
        raise ValueError
    return tuple(secret.encode() for secret in found)


@accepting(f"a number of milliseconds from {MIN_LEASE_S * 1000}")
def lease(text: str) -> float:
    """Convert milliseconds to whole seconds, rounded up."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < MIN_LEASE_S * 1000:
        raise ValueError
    return float(math.ceil(int(text) / 1000))


@accepting("host:port, optionally with http:// or https:// in front, without a path")
def node_address(text: str) -> PublicName:
    """Parse the address of a REST listener, which may have a placeholder for a port."""
    name = public_name.parse(text)
    if name.prefix:
        raise ValueError
    return name
