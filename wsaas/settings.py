"""Every setting, written once.

Each field of `Settings` defines an environment variable, a flag, its help text, its row in `docs/reference.md` and the
error message for a bad value. No other module reads the environment, or the files that hold secrets.
"""

import os
import re
from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from wsaas import setting_types
from wsaas.access import ANY_ORIGIN, Origins, Proxies, is_loopback_host
from wsaas.errors import SettingError
from wsaas.log.output import LEVELS
from wsaas.memory.limit import MIN_LIMIT
from wsaas.setting_types import Address, Backend, PublicName

_MILLISECONDS = "a number of milliseconds"
_BYTES = "a number of bytes"
_DEFAULT_METADATA = {"empty": None, "secret": False}
_FILE_SUFFIX = "_file"
_LINK = re.compile(r"\[([^\]]+)\]\(([^)]+)\)")
_CREDENTIALS = re.compile(r"\A(.*?//)?.*@", re.DOTALL)
DELETE_RETRY_FACTOR = 10
"""A DELETE is retried this many times as long as a PUT."""

MAX_SECRET_FILE_SIZE = 64 * 1024
"""Bytes that a file of secrets may have."""


def _setting(parse: Callable[[str], Any], default: str, meaning: str, accepts: str, **more: Any) -> Any:
    """Define a field. `default`: as a user would write it, empty for none; `accepts`: for the error message.

    `more`: what an `empty` text means (else None), and whether the setting is `secret`. A secret is never shown, and
    may be in a file, which the setting with `_FILE` behind its name gives.
    """
    metadata = {"parse": parse, "default": default, "meaning": meaning, "accepts": accepts, **_DEFAULT_METADATA, **more}
    return field(metadata=metadata, repr=not metadata["secret"])


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every setting, parsed. Times are seconds here (milliseconds outside), sizes bytes."""

    api_uri: Backend = _setting(
        setting_types.backend,
        "",
        "URL of the backend; the scheme is `http://` if none is given. `{id}` is replaced with the connection's id",
        "host:port/path, or an http:// or https:// URL, without credentials or fragment",
    )
    ws_hostname: PublicName = _setting(
        setting_types.public_name,
        "localhost:8080",
        "Where the backend reaches this node: every `ws_uri` starts with it. May have a scheme and a path prefix",
        "host:port, optionally with http:// or https:// in front and a path that does not end with /",
    )
    log_level: str = _setting(
        setting_types.one_of(*LEVELS), "INFO", "Lowest level that is logged", "ERROR, WARN, INFO or DEBUG"
    )
    log_format: str = _setting(
        setting_types.one_of("text", "json"), "text", "`json` logs one JSON object per line", "text or json"
    )
    ws_timeout: float = _setting(
        setting_types.milliseconds,
        "30000",
        "Close a client from which nothing arrived for this long (ms); ping it after half of that. `0`: never",
        f"{_MILLISECONDS}, or 0 for no time-out",
    )
    listen: Address | None = _setting(
        setting_types.address,
        "",
        "Address for clients. Default: the port of `WS_HOSTNAME`, on loopback if its host is, else on all interfaces",
        "host:port or unix:/path",
    )
    control_listen: Address | None = _setting(
        setting_types.address,
        "",
        "Address for the REST API. Default: the same as `LISTEN`",
        "host:port or unix:/path",
    )
    listen_mode: int = _setting(
        setting_types.file_mode,
        "666",
        "File mode (octal) of a Unix socket that the gateway listens on. Any user who may write to it may connect",
        "an octal number from 0 to 777",
    )
    control_token: tuple[bytes, ...] = _setting(
        setting_types.tokens,
        "",
        "Bearer token for the REST API: every request except `/healthz` and `/readyz` needs `Authorization: Bearer "
        "<token>`. Several tokens may be given, separated by commas",
        "tokens of visible ASCII characters, separated by commas",
        empty=(),
        secret=True,
    )
    control_token_file: Path | None = _setting(
        Path,
        "",
        "File with the value of `CONTROL_TOKEN`, one token per line. Reloaded on SIGHUP",
        "the path of a file",
    )
    api_timeout: float = _setting(
        setting_types.positive_milliseconds,
        "10000",
        "Time limit (ms) for one attempt of a request to the backend",
        f"{_MILLISECONDS} above 0",
    )
    api_retry: float = _setting(
        setting_types.milliseconds,
        "30000",
        "How long (ms) a message is retried. A DELETE is retried ten times as long",
        _MILLISECONDS,
    )
    api_connections: int = _setting(
        setting_types.positive_integer, "128", "Maximum number of connections to the backend", "a number above 0"
    )
    api_connection_age: float = _setting(
        setting_types.milliseconds,
        "300000",
        "How long (ms) a connection to the backend is used. The next one resolves the host name again, and so follows "
        "changes in DNS. `0`: no limit",
        f"{_MILLISECONDS}, or 0 for no limit",
    )
    api_secret: tuple[bytes, ...] = _setting(
        setting_types.signing_secrets,
        "",
        "Secret that signs every request to the backend ([Standard Webhooks](https://www.standardwebhooks.com)). With "
        "several, separated by commas, a request carries one signature for each",
        "whsec_ and 24 to 64 random bytes in base64; several separated by commas",
        empty=(),
        secret=True,
    )
    api_secret_file: Path | None = _setting(
        Path,
        "",
        "File with the value of `API_SECRET`, one secret per line. Reloaded on SIGHUP",
        "the path of a file",
    )
    max_message_size: int = _setting(
        setting_types.positive_integer,
        "1048576",
        "Maximum size (bytes) of a message in either direction",
        f"{_BYTES} above 0",
    )
    max_memory: int | None = _setting(
        setting_types.memory,
        "",
        "Memory (bytes) that the process may use. Above it, the clients that hold the most are not read and pushes to "
        "them get 429; then handshakes get 503. Default: half of the memory of the machine or cgroup. `0`: no limit",
        f"{_BYTES} from {MIN_LIMIT}, or 0 for no limit",
    )
    max_connections: int = _setting(
        setting_types.integer,
        "0",
        "Maximum number of clients; further handshakes get 503. `0`: as many as the limit of open files allows",
        "a number, or 0 for as many as the limit of open files allows",
    )
    max_connections_per_address: int = _setting(
        setting_types.integer,
        "0",
        "Maximum number of connections from one address (for IPv6: from one /64 network); further ones get 429. "
        "Connections that have made an authorized REST request do not count. `0`: no limit",
        "a number, or 0 for no limit",
    )
    max_owed_disconnects: int = _setting(
        setting_types.positive_integer,
        "100000",
        "Maximum number of ended connections whose DELETE is not acknowledged yet; beyond it, handshakes get 503",
        "a number above 0",
    )
    max_message_rate: int = _setting(
        setting_types.integer,
        "0",
        "Messages per second that are read from one client. A faster client is slowed down. `0`: no limit",
        "a number, or 0 for no limit",
    )
    send_buffer: int = _setting(
        setting_types.positive_integer,
        "1048576",
        "Bytes that may be queued for one client that reads slowly. One message always fits",
        f"{_BYTES} above 0",
    )
    inbox: int = _setting(
        setting_types.positive_integer,
        "262144",
        "Bytes of one client's messages that may be queued for the backend. Beyond it, its socket is not read",
        f"{_BYTES} above 0",
    )
    handshake_timeout: float = _setting(
        setting_types.positive_milliseconds,
        "10000",
        "Time limit (ms) for a request head, from accept or from the first byte of a later request, and for the "
        "closing handshake",
        f"{_MILLISECONDS} above 0",
    )
    keep_alive_timeout: float = _setting(
        setting_types.positive_milliseconds,
        "75000",
        "How long (ms) an idle HTTP connection is kept open, and the time limit for the body of a request",
        f"{_MILLISECONDS} above 0",
    )
    drain_timeout: float = _setting(
        setting_types.milliseconds, "30000", "Time limit (ms) for a stop by SIGTERM or SIGINT", _MILLISECONDS
    )
    allowed_origins: Origins = _setting(
        setting_types.origins,
        "*",
        "Origins that may connect, separated by commas. `https://*.example.com` matches all subdomains; `null` and "
        "`file://` match pages without a host. A handshake without `Origin` is always allowed",
        "*, or origins such as https://example.com, https://*.example.com, file:// or null, separated by commas; if an "
        "international name is not accepted, write it as browsers send it (xn--...)",
        empty=ANY_ORIGIN,
    )
    subprotocols: tuple[str, ...] = _setting(
        setting_types.subprotocols,
        "",
        "Subprotocols in order of preference, separated by commas. Used if the backend does not choose one",
        "subprotocol names separated by commas",
        empty=(),
    )
    compression: bool = _setting(
        setting_types.switch,
        "off",
        "`on` compresses messages (permessage-deflate) for clients that offer it",
        "on or off",
    )
    journal: Path | None = _setting(
        setting_types.path,
        "",
        "File that records live connections, so that after a crash the next start sends the DELETE of each",
        "the path of a file that can be created or written",
    )
    journal_sync: str = _setting(
        setting_types.one_of("normal", "full"),
        "normal",
        "`full` makes the journal survive a power failure too, at the speed of the disk",
        "normal or full",
    )
    tls_cert: Path | None = _setting(
        setting_types.path,
        "",
        "PEM file with the certificate, followed by its chain. Both listeners then use TLS. Reloaded on SIGHUP",
        "the path of a PEM file",
    )
    tls_key: Path | None = _setting(
        setting_types.path, "", "PEM file with the private key of `TLS_CERT`", "the path of a PEM file"
    )
    control_tls_ca: Path | None = _setting(
        setting_types.path,
        "",
        "PEM file with certificate authorities. Callers of the REST API need a client certificate from one of them. "
        "Requires `CONTROL_LISTEN`",
        "the path of a PEM file",
    )
    api_tls_ca: Path | None = _setting(
        setting_types.path,
        "",
        "PEM file with the certificate authorities for an `https://` backend, instead of those of the system",
        "the path of a PEM file",
    )
    trusted_proxies: Proxies = _setting(
        setting_types.proxies,
        "",
        "Addresses and networks of proxies whose `X-Forwarded-For` is trusted, separated by commas. `unix:` stands for "
        "proxies that connect by a Unix socket",
        "addresses or networks such as 10.0.0.0/8, separated by commas",
        empty=Proxies(),
    )

    @property
    def delete_retry(self) -> float:
        """Seconds for which a DELETE is retried: longer than a message, as the backend's books depend on it."""
        return DELETE_RETRY_FACTOR * self.api_retry


def variable(setting: "Field[Any]") -> str:
    """Return the environment variable of a field of `Settings`."""
    return setting.name.upper()


def flag(name: str) -> str:
    """Return the flag of the field `name` of `Settings`."""
    return f"--{name.replace('_', '-')}"


def add_flags(parser: ArgumentParser) -> None:
    """Add a flag for each setting (`--api-uri`) to `parser`. The values stay text: `load` parses them."""
    group = parser.add_argument_group("settings", "each is also an environment variable: API_URI, ...; a flag wins")
    for setting in fields(Settings):
        text = setting.metadata["default"]
        default = f" (default: {text})" if text else " (required)" if setting.name == "api_uri" else ""
        # The docs show it as Markdown, a terminal as plain text.
        meaning = _LINK.sub(r"\1, \2", setting.metadata["meaning"]).replace("`", "").replace("%", "%%")
        group.add_argument(flag(setting.name), metavar="VALUE", help=meaning + default)


def load(flags: Mapping[str, str | None], environment: Mapping[str, str]) -> Settings:
    """Return the settings, each from `flags` (field name to text or None), else `environment`, else its default.

    An empty variable counts as not set. Raises `SettingError` for the first value that is not accepted.
    """
    found: dict[str, Any] = {}
    for setting in fields(Settings):
        if setting.metadata["secret"]:
            text, file = _secret(setting, flags, environment)
            found[setting.name + _FILE_SUFFIX] = None if file is None else Path(file)
            found[setting.name] = _parse(setting, text) if file is None else _read_file(setting, file)
        elif setting.name not in found:
            found[setting.name] = _parse(setting, _given(setting.name, flags, environment))
    return Settings(**found)


def read_secret(name: str, path: Path) -> tuple[bytes, ...]:
    """Return the values in the file of a secret. `name`: the field that has the `path`.

    Raises `SettingError`. Where the file is a pipe, it does not wait for a writer.
    """
    setting = next(each for each in fields(Settings) if each.name + _FILE_SUFFIX == name)
    secrets: tuple[bytes, ...] = _read_file(setting, str(path), flags=os.O_NONBLOCK)
    return secrets


def _given(name: str, flags: Mapping[str, str | None], environment: Mapping[str, str]) -> str | None:
    """Return the text of the flag, else that of the variable, None where neither is set."""
    flag = flags.get(name)
    return flag if flag is not None else environment.get(name.upper()) or None


def _secret(
    setting: "Field[Any]", flags: Mapping[str, str | None], environment: Mapping[str, str]
) -> tuple[str | None, str | None]:
    """Return the text of a secret, or else the path of its file. A flag for either wins over variables."""
    name, file_name = setting.name, setting.name + _FILE_SUFFIX
    for source in (flags, {each: environment.get(each.upper()) or None for each in (name, file_name)}):
        text, file = source.get(name), source.get(file_name)
        if text is not None and file is not None:
            raise SettingError(f"{variable(setting)} and {file_name.upper()} are both set: set only one")
        if text is not None or file is not None:
            return text, file
    return None, None


def _read_file(setting: "Field[Any]", path: str, *, flags: int = 0) -> Any:
    """Return the parsed content of the file of a secret. `flags`: more flags to open it with."""
    name = f"{variable(setting)}{_FILE_SUFFIX.upper()}"
    try:
        with open(path, "rb", opener=lambda path, usual: os.open(path, usual | flags)) as file:
            # A pipe without a writer gives None.
            data = file.read(MAX_SECRET_FILE_SIZE + 1) or b""
        text = data.decode().strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingError(f"{name}={path!r}: cannot be read: {reason}") from None
    if len(data) > MAX_SECRET_FILE_SIZE:
        # The part that was read may end within a token.
        raise SettingError(f"{name}={path!r}: the file has more than {MAX_SECRET_FILE_SIZE} bytes")
    if not text:
        raise SettingError(f"{name}={path!r}: the file is empty")
    try:
        return setting.metadata["parse"](text)
    except ValueError:
        raise SettingError(f"{name}={path!r}: expected {setting.metadata['accepts']}") from None


def _parse(setting: "Field[Any]", text: str | None) -> Any:
    """Return the value for `text`, or for none where it is None. Raises `SettingError`."""
    name = variable(setting)
    if text is None:
        text = setting.metadata["default"]
        if not text and name != "API_URI":
            return setting.metadata["empty"]
    if not text and name == "API_URI":
        raise SettingError(
            "API_URI is not set: give the backend's host and path, such as API_URI=localhost:8000/websocket "
            "(or try 'wsaas demo', which brings its own)"
        )
    try:
        return setting.metadata["parse"](text)
    except ValueError:
        shown = "(hidden)" if setting.metadata["secret"] else repr(_CREDENTIALS.sub(r"\1(hidden)@", text))
        raise SettingError(f"{name}={shown}: expected {setting.metadata['accepts']}") from None


def listen_address(settings: Settings) -> Address:
    """Return the client-facing address: `LISTEN`, or the one that follows from `WS_HOSTNAME`."""
    name = settings.ws_hostname
    return settings.listen or Address(name.host if is_loopback_host(name.host) else "", name.port)


def control_address(settings: Settings) -> Address:
    """Return the address of the REST surface: `CONTROL_LISTEN`, or that of the clients."""
    return settings.control_listen or listen_address(settings)
