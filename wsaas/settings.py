"""Every setting, written once.

A field of `Settings` is the variable, the flag, its help, the README's row and the message when it is wrong. This
module is the only reader of the environment.
"""

import ipaddress
import re
from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from wsaas.errors import SettingError
from wsaas.log import LEVELS

LATER = ("API_SECRET", "COMPRESSION", "TLS_CERT", "TLS_KEY", "TRUSTED_PROXIES")
"""Settings that a later version will have. One that is set is refused: who asks for a signature or for TLS must
not believe that it is there."""

_HARMLESS = {("COMPRESSION", "off")}
"""Of those, what this version does anyway."""

_TARGET = re.compile(r"[!$&-;=?-Z_a-z~%\[\]]*(?:\{id\}[!$&-;=?-Z_a-z~%\[\]]*)*")
_AUTHORITY = re.compile(r"(\[[^\[\]]+\]|[^\[\]:]+)(?::([0-9]{1,5}))?")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")
_VISIBLE = re.compile(r"[!-~]+")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PORTS = {"http": 80, "https": 443}
MAX_PORT = 65535


@dataclass(frozen=True, slots=True)
class Backend:
    """Where the backend is. `target`: path and query of its requests, `{id}` in it still to be replaced."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """The `Host` header: the port is left out where it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Address:
    """A listener's address: `host` (empty: every interface) and `port`, or the `path` of a Unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        """Return the address as the setting spells it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"unix:{self.path}" if self.path else f"{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return bool(self.path) or _is_loopback(self.host)


@dataclass(frozen=True, slots=True)
class PublicName:
    """What `ws_uri` starts with: `text` as it was set, and the `host`, `port` and path `prefix` in it."""

    text: str
    host: str
    port: int
    prefix: str


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise ValueError
    return int(text)


def _positive(text: str) -> int:
    if not (number := _number(text)):
        raise ValueError
    return number


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError
        return text

    return parse


def _host(text: str) -> str:
    """Return the host that `text` names: a name that the resolver takes, or an IPv6 address in brackets."""
    if text.startswith("["):
        return str(ipaddress.IPv6Address(text[1:-1]))
    if not _NAME.fullmatch(text):
        raise ValueError
    return text.lower()


def _split(text: str) -> tuple[str, str, int, str]:
    scheme = text.split("://", 1)[0] if "://" in text else "http"
    if scheme not in _PORTS or "#" in text or not _VISIBLE.fullmatch(text):
        raise ValueError
    parts = urlsplit(text if "://" in text else f"http://{text}")
    authority = _AUTHORITY.fullmatch(parts.netloc)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    if not authority or not _TARGET.fullmatch(target):
        raise ValueError
    port = int(authority[2] or _PORTS[scheme])
    if not 0 < port <= MAX_PORT:
        raise ValueError
    return scheme, _host(authority[1]), port, target


def _backend(text: str) -> Backend:
    scheme, host, port, target = _split(text)
    return Backend(scheme, host, port, target if target.startswith("/") else f"/{target}")


def _public_name(text: str) -> PublicName:
    _, host, port, prefix = _split(text)
    if prefix.endswith("/") or "?" in text or "{" in prefix:
        raise ValueError
    return PublicName(text, host, port, prefix)


def _address(text: str) -> Address:
    if text.startswith("unix:"):
        if not text.startswith("unix:/"):
            raise ValueError
        return Address(path=text[5:])
    host, _, port = text.rpartition(":")
    number = _number(port)
    if number > MAX_PORT:
        raise ValueError
    return Address("" if host in {"", "*"} else _host(host), number)


def _secret(text: str) -> bytes:
    if not _VISIBLE.fullmatch(text):
        raise ValueError
    return text.encode()


def _origins(text: str) -> frozenset[str]:
    origins = [part.strip().lower() for part in text.split(",")]
    if not all(re.fullmatch(r"\*|null|[a-z][a-z0-9+.-]*://[^/\s]+", origin) for origin in origins):
        raise ValueError
    return frozenset(origins)


def _tokens(text: str) -> tuple[str, ...]:
    tokens = tuple(part.strip() for part in text.split(","))
    if not all(_TOKEN.fullmatch(token) for token in tokens):
        raise ValueError
    return tokens


def _path(text: str) -> Path:
    if not text or not text.isprintable() or text.endswith("/"):
        raise ValueError
    return Path(text)


_MILLISECONDS = "a number of milliseconds"
_BYTES = "a number of bytes"


def _setting(parse: Callable[[str], Any], default: str, meaning: str, accepts: str) -> Any:
    """Make a field. `default`: as a user would write it, empty for none; `accepts`: what a wrong value is told."""
    metadata = {"parse": parse, "default": default, "meaning": meaning, "accepts": accepts}
    return field(metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every setting, parsed. Times are seconds here (milliseconds outside), sizes bytes."""

    api_uri: Backend = _setting(
        _backend,
        "",
        "Host and path of the backend; `http://` without a scheme. `{id}` in it becomes the connection's id",
        "host:port/path, or an http:// or https:// URL, without credentials or fragment",
    )
    ws_hostname: PublicName = _setting(
        _public_name,
        "localhost:8080",
        "What `ws_uri` starts with: where the backend reaches this node. May carry a scheme and a path prefix",
        "host:port, optionally with http:// or https:// before and a path without a final / behind",
    )
    log_level: str = _setting(
        _one_of(*LEVELS), "INFO", "Least severe messages that are logged", "ERROR, WARN, INFO or DEBUG"
    )
    log_format: str = _setting(_one_of("text", "json"), "text", "`json` logs one object a line", "text or json")
    ws_timeout: int = _setting(
        _number,
        "30000",
        "A client from which nothing came for this long (ms) is gone; a quiet one is pinged at half of it. `0`: never",
        f"{_MILLISECONDS}, or 0 for never",
    )
    listen: Address | None = _setting(
        _address,
        "",
        "Address for clients. Without it: the port of `WS_HOSTNAME`, on loopback when its host is, else everywhere",
        "host:port or unix:/path",
    )
    control_listen: Address | None = _setting(
        _address,
        "",
        "Address of the REST surface. Without it: the same as `LISTEN`",
        "host:port or unix:/path",
    )
    control_token: bytes | None = _setting(
        _secret,
        "",
        "When set, REST requests (but `/healthz` and `/readyz`) need `Authorization: Bearer <token>`",
        "visible ASCII characters without spaces",
    )
    api_timeout: int = _setting(
        _positive,
        "10000",
        "For one attempt of one request to the backend (ms)",
        f"{_MILLISECONDS} above 0",
    )
    api_retry: int = _setting(
        _number,
        "30000",
        "How long (ms) a message is retried; the end of a connection is retried ten times as long",
        _MILLISECONDS,
    )
    api_connections: int = _setting(_positive, "128", "Most keep-alive connections to the backend", "a number above 0")
    max_message_size: int = _setting(_positive, "1048576", "Largest message, either way (bytes)", f"{_BYTES} above 0")
    max_connections: int = _setting(
        _number,
        "0",
        "Most clients; past it, handshakes are answered 503. `0`: as many as file descriptors allow",
        "a number, or 0 for as many as file descriptors allow",
    )
    send_buffer: int = _setting(
        _positive,
        "1048576",
        "Bytes that may wait for one slow client; one message always fits",
        f"{_BYTES} above 0",
    )
    inbox: int = _setting(
        _positive,
        "262144",
        "Bytes of one client's messages that may wait for the backend; past it the client's socket is not read",
        f"{_BYTES} above 0",
    )
    handshake_timeout: int = _setting(
        _positive,
        "10000",
        "From accept, or the first byte of a further request, to a complete request head; also for the closing "
        "handshake (ms)",
        f"{_MILLISECONDS} above 0",
    )
    keep_alive_timeout: int = _setting(
        _positive,
        "75000",
        "How long an idle HTTP connection is kept, and how long a request's body may take (ms)",
        f"{_MILLISECONDS} above 0",
    )
    drain_timeout: int = _setting(_number, "30000", "How long a stop (SIGTERM, SIGINT) may take (ms)", _MILLISECONDS)
    allowed_origins: frozenset[str] = _setting(
        _origins,
        "*",
        "Comma-separated origins that may connect; a handshake without `Origin` passes",
        "*, or origins such as https://example.com, separated by commas",
    )
    subprotocols: tuple[str, ...] = _setting(
        _tokens,
        "",
        "Comma-separated subprotocols in order of preference, for when the backend names none",
        "subprotocol names separated by commas",
    )
    journal: Path | None = _setting(
        _path,
        "",
        "File that remembers live connections, so that those which a crash ended get their DELETE at the next start",
        "the path of a file that may be made or written",
    )
    journal_sync: str = _setting(
        _one_of("normal", "full"),
        "normal",
        "`full`: the journal survives a power failure too, at the disk's pace",
        "normal or full",
    )


def variable(setting: "Field[Any]") -> str:
    """Return the environment variable of a field of `Settings`."""
    return setting.name.upper()


def add_flags(parser: ArgumentParser) -> None:
    """Give `parser` a flag for each setting (`--api-uri`), whose value stays text until `load` reads it."""
    group = parser.add_argument_group("settings", "each is also an environment variable: API_URI, ...; a flag wins")
    for setting in fields(Settings):
        text = setting.metadata["default"]
        default = f" (default: {text})" if text else " (required)" if setting.name == "api_uri" else ""
        meaning = setting.metadata["meaning"].replace("`", "").replace("%", "%%")
        group.add_argument(f"--{setting.name.replace('_', '-')}", metavar="VALUE", help=meaning + default)


def load(flags: Mapping[str, str | None], environment: Mapping[str, str]) -> Settings:
    """Read every setting from `flags` (field name to text or None), else `environment`, else its default.

    An empty variable counts as not set. Raises `SettingError` for the first value that cannot be used.
    """
    for name in LATER:
        if environment.get(name) and (name, environment[name]) not in _HARMLESS:
            raise SettingError(f"{name}={_shown(name, environment[name])}: not supported by this version; unset it")
    values: dict[str, Any] = {}
    for setting in fields(Settings):
        flag = flags.get(setting.name)
        text = flag if flag is not None else environment.get(variable(setting)) or setting.metadata["default"]
        values[setting.name] = _parse(setting, text, given=flag is not None)
    return Settings(**values)


def _shown(name: str, text: str) -> str:
    """Return a value as an error shows it."""
    return "(hidden)" if name in {"CONTROL_TOKEN", "API_SECRET"} else repr(text)


def _parse(setting: "Field[Any]", text: str, *, given: bool) -> Any:
    name = variable(setting)
    if not text and not given and name != "API_URI":
        return () if name == "SUBPROTOCOLS" else None
    if not text and name == "API_URI":
        raise SettingError(
            "API_URI is not set: give the backend's host and path, such as API_URI=localhost:8000/websocket "
            "(or try `wsaas demo`, which brings its own)"
        )
    try:
        return setting.metadata["parse"](text)
    except ValueError:
        raise SettingError(f"{name}={_shown(name, text)}: expected {setting.metadata['accepts']}") from None


def listen_address(settings: Settings) -> Address:
    """Return the client-facing address: `LISTEN`, or the one that follows from `WS_HOSTNAME`."""
    name = settings.ws_hostname
    return settings.listen or Address(name.host if _is_loopback(name.host) else "", name.port)


def control_address(settings: Settings) -> Address:
    """Return the address of the REST surface: `CONTROL_LISTEN`, or that of the clients."""
    return settings.control_listen or listen_address(settings)
