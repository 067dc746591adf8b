"""Every setting, written once.

A field of `Settings` is the variable, the flag, its help, the README's row and the message when it is wrong. This
module is the only reader of the environment, and of the files that it names for secrets.
"""

import os
import re
from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from wsaas import setting_types as values
from wsaas.access import ANY_ORIGIN, Origins, Proxies, names_loopback
from wsaas.errors import SettingError
from wsaas.log.output import LEVELS
from wsaas.memory.limit import MIN_LIMIT
from wsaas.setting_types import Address, Backend, PublicName

_MILLISECONDS = "a number of milliseconds"
_BYTES = "a number of bytes"
_USUAL = {"empty": None, "secret": False}
_FILE = "_file"
_LINK = re.compile(r"\[([^\]]+)\]\(([^)]+)\)")
_CREDENTIALS = re.compile(r"\A(.*?//)?.*@", re.DOTALL)
MAX_SECRETS = 64 * 1024
"""Bytes that a file of secrets may have."""


def _setting(parse: Callable[[str], Any], default: str, meaning: str, accepts: str, **more: Any) -> Any:
    """Make a field. `default`: as a user would write it, empty for none; `accepts`: what a wrong value is told.

    `more`: the value of an `empty` text (else None), and whether it is `secret`: then it is shown nowhere, and may be
    in a file, whose name is the setting's with `_FILE` behind it.
    """
    metadata = {"parse": parse, "default": default, "meaning": meaning, "accepts": accepts, **_USUAL, **more}
    return field(metadata=metadata, repr=not metadata["secret"])


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every setting, parsed. Times are seconds here (milliseconds outside), sizes bytes."""

    api_uri: Backend = _setting(
        values.backend,
        "",
        "Host and path of the backend; `http://` without a scheme. `{id}` in it becomes the connection's id",
        "host:port/path, or an http:// or https:// URL, without credentials or fragment",
    )
    ws_hostname: PublicName = _setting(
        values.public_name,
        "localhost:8080",
        "What `ws_uri` starts with: where the backend reaches this node. May carry a scheme and a path prefix",
        "host:port, optionally with http:// or https:// before and a path without a final / behind",
    )
    log_level: str = _setting(
        values.one_of(*LEVELS), "INFO", "Least severe messages that are logged", "ERROR, WARN, INFO or DEBUG"
    )
    log_format: str = _setting(values.one_of("text", "json"), "text", "`json` logs one object a line", "text or json")
    ws_timeout: float = _setting(
        values.milliseconds,
        "30000",
        "A client from which nothing came for this long (ms) is gone; a quiet one is pinged at half of it. `0`: never",
        f"{_MILLISECONDS}, or 0 for never",
    )
    listen: Address | None = _setting(
        values.address,
        "",
        "Address for clients. Without it: the port of `WS_HOSTNAME`, on loopback when its host is, else everywhere",
        "host:port or unix:/path",
    )
    control_listen: Address | None = _setting(
        values.address,
        "",
        "Address of the REST surface. Without it: the same as `LISTEN`",
        "host:port or unix:/path",
    )
    listen_mode: int = _setting(
        values.file_mode,
        "666",
        "Mode (octal) of the file of a Unix socket that is listened on: who may write to it may connect",
        "an octal number from 0 to 777",
    )
    control_token: tuple[bytes, ...] = _setting(
        values.tokens,
        "",
        "When set, REST requests (but `/healthz` and `/readyz`) need `Authorization: Bearer <token>`. Several, "
        "separated by commas, are all good",
        "tokens of visible ASCII characters, separated by commas",
        empty=(),
        secret=True,
    )
    control_token_file: Path | None = _setting(
        Path,
        "",
        "File that holds the value of `CONTROL_TOKEN`, one token a line. Read again on SIGHUP",
        "the path of a file",
    )
    api_timeout: float = _setting(
        values.positive_milliseconds,
        "10000",
        "For one attempt of one request to the backend (ms)",
        f"{_MILLISECONDS} above 0",
    )
    api_retry: float = _setting(
        values.milliseconds,
        "30000",
        "How long (ms) a message is retried; the end of a connection is retried ten times as long",
        _MILLISECONDS,
    )
    api_connections: int = _setting(
        values.positive, "128", "Most keep-alive connections to the backend", "a number above 0"
    )
    api_connection_age: float = _setting(
        values.milliseconds,
        "300000",
        "How long (ms) a connection to the backend takes requests; then its name is resolved anew, so that one that "
        "moves is followed. `0`: for ever",
        f"{_MILLISECONDS}, or 0 for ever",
    )
    api_secret: tuple[bytes, ...] = _setting(
        values.signing_secrets,
        "",
        "Signs each request to the backend ([Standard Webhooks](https://www.standardwebhooks.com)). With several, "
        "separated by commas, it carries a signature by each",
        "whsec_ and 24 to 64 random bytes in base64; several separated by commas",
        empty=(),
        secret=True,
    )
    api_secret_file: Path | None = _setting(
        Path,
        "",
        "File that holds the value of `API_SECRET`, one secret a line. Read again on SIGHUP",
        "the path of a file",
    )
    max_message_size: int = _setting(
        values.positive, "1048576", "Largest message, either way (bytes)", f"{_BYTES} above 0"
    )
    max_memory: int | None = _setting(
        values.memory,
        "",
        "Bytes of memory that the process may take; past it the clients that hold the most are not read and pushes to "
        "them are answered 429, then handshakes are answered 503. Without it: half of what the machine or the cgroup "
        "has. `0`: any number",
        f"{_BYTES} from {MIN_LIMIT}, or 0 for any number",
    )
    max_connections: int = _setting(
        values.whole,
        "0",
        "Most clients; past it, handshakes are answered 503. `0`: as many as file descriptors allow",
        "a number, or 0 for as many as file descriptors allow",
    )
    max_connections_per_address: int = _setting(
        values.whole,
        "0",
        "Most connections of one remote address (of one /64 network for IPv6), counted from accept on, but for those "
        "that made an authorized REST request; past it, they are answered 429. `0`: any number",
        "a number, or 0 for any number",
    )
    max_owed_disconnects: int = _setting(
        values.positive,
        "100000",
        "Most ended connections whose DELETE the backend did not take yet; past it, handshakes are answered 503",
        "a number above 0",
    )
    max_message_rate: int = _setting(
        values.whole,
        "0",
        "Messages a second that are taken from one client; one that sends more is read more slowly. `0`: any number",
        "a number, or 0 for any number",
    )
    send_buffer: int = _setting(
        values.positive,
        "1048576",
        "Bytes that may wait for one slow client; one message always fits",
        f"{_BYTES} above 0",
    )
    inbox: int = _setting(
        values.positive,
        "262144",
        "Bytes of one client's messages that may wait for the backend; past it the client's socket is not read",
        f"{_BYTES} above 0",
    )
    handshake_timeout: float = _setting(
        values.positive_milliseconds,
        "10000",
        "From accept, or the first byte of a further request, to a complete request head; also for the closing "
        "handshake (ms)",
        f"{_MILLISECONDS} above 0",
    )
    keep_alive_timeout: float = _setting(
        values.positive_milliseconds,
        "75000",
        "How long an idle HTTP connection is kept, and how long a request's body may take (ms)",
        f"{_MILLISECONDS} above 0",
    )
    drain_timeout: float = _setting(
        values.milliseconds, "30000", "How long a stop (SIGTERM, SIGINT) may take (ms)", _MILLISECONDS
    )
    allowed_origins: Origins = _setting(
        values.origins,
        "*",
        "Comma-separated origins that may connect, `https://*.example.com` for all subdomains, `null` or `file://` for "
        "pages without a host; a handshake without `Origin` passes",
        "*, or origins such as https://example.com, https://*.example.com, file:// or null, separated by commas; some "
        "names have to be written as browsers send them (xn--...)",
        empty=ANY_ORIGIN,
    )
    subprotocols: tuple[str, ...] = _setting(
        values.subprotocols,
        "",
        "Comma-separated subprotocols in order of preference, for when the backend names none",
        "subprotocol names separated by commas",
        empty=(),
    )
    compression: bool = _setting(
        values.switch,
        "off",
        "`on`: messages are compressed (permessage-deflate) for clients that offer it",
        "on or off",
    )
    journal: Path | None = _setting(
        values.path,
        "",
        "File that remembers live connections, so that those which a crash ended get their DELETE at the next start",
        "the path of a file that may be made or written",
    )
    journal_sync: str = _setting(
        values.one_of("normal", "full"),
        "normal",
        "`full`: the journal survives a power failure too, at the disk's pace",
        "normal or full",
    )
    tls_cert: Path | None = _setting(
        values.path,
        "",
        "PEM file of the certificate, its chain behind it: both listeners speak TLS. Read again on SIGHUP",
        "the path of a PEM file",
    )
    tls_key: Path | None = _setting(
        values.path, "", "PEM file of the private key of `TLS_CERT`", "the path of a PEM file"
    )
    control_tls_ca: Path | None = _setting(
        values.path,
        "",
        "PEM file of the authorities, one of which has to have signed the certificate of whoever uses the REST "
        "surface; needs `CONTROL_LISTEN`",
        "the path of a PEM file",
    )
    api_tls_ca: Path | None = _setting(
        values.path,
        "",
        "PEM file of the authorities that an `https://` backend's certificate is checked against, instead of the "
        "system's",
        "the path of a PEM file",
    )
    trusted_proxies: Proxies = _setting(
        values.proxies,
        "",
        "Addresses and networks of proxies whose `X-Forwarded-For` is believed, separated by commas; `unix:` for those "
        "that come by a Unix socket",
        "addresses or networks such as 10.0.0.0/8, separated by commas",
        empty=Proxies(),
    )


def variable(setting: "Field[Any]") -> str:
    """Return the environment variable of a field of `Settings`."""
    return setting.name.upper()


def flag(name: str) -> str:
    """Return the flag of the field `name` of `Settings`."""
    return f"--{name.replace('_', '-')}"


def add_flags(parser: ArgumentParser) -> None:
    """Give `parser` a flag for each setting (`--api-uri`), whose value stays text until `load` reads it."""
    group = parser.add_argument_group("settings", "each is also an environment variable: API_URI, ...; a flag wins")
    for setting in fields(Settings):
        text = setting.metadata["default"]
        default = f" (default: {text})" if text else " (required)" if setting.name == "api_uri" else ""
        # The README has it in Markdown, a terminal as plain text.
        meaning = _LINK.sub(r"\1, \2", setting.metadata["meaning"]).replace("`", "").replace("%", "%%")
        group.add_argument(flag(setting.name), metavar="VALUE", help=meaning + default)


def load(flags: Mapping[str, str | None], environment: Mapping[str, str]) -> Settings:
    """Read every setting from `flags` (field name to text or None), else `environment`, else its default.

    An empty variable counts as not set. Raises `SettingError` for the first value that cannot be used.
    """
    found: dict[str, Any] = {}
    for setting in fields(Settings):
        if setting.metadata["secret"]:
            text, file = _secret(setting, flags, environment)
            found[setting.name + _FILE] = None if file is None else Path(file)
            found[setting.name] = _parse(setting, text) if file is None else _load(setting, file)
        elif setting.name not in found:
            found[setting.name] = _parse(setting, _given(setting.name, flags, environment))
    return Settings(**found)


def read_secret(name: str, path: Path) -> tuple[bytes, ...]:
    """Return the values that the file of a secret holds now. `name`: of the field that has the `path`.

    Raises `SettingError`. It does not wait for somebody to write, should the file be a pipe.
    """
    setting = next(each for each in fields(Settings) if each.name + _FILE == name)
    values: tuple[bytes, ...] = _load(setting, str(path), flags=os.O_NONBLOCK)
    return values


def _given(name: str, flags: Mapping[str, str | None], environment: Mapping[str, str]) -> str | None:
    """Return the text of a flag, else that of a variable, None where neither is set."""
    flag = flags.get(name)
    return flag if flag is not None else environment.get(name.upper()) or None


def _secret(
    setting: "Field[Any]", flags: Mapping[str, str | None], environment: Mapping[str, str]
) -> tuple[str | None, str | None]:
    """Return the text of a secret, or else the path of its file; of either, a flag wins over a variable."""
    name, file_name = setting.name, setting.name + _FILE
    for source in (flags, {each: environment.get(each.upper()) or None for each in (name, file_name)}):
        text, file = source.get(name), source.get(file_name)
        if text is not None and file is not None:
            raise SettingError(f"{variable(setting)} and {file_name.upper()} are both set: set only one")
        if text is not None or file is not None:
            return text, file
    return None, None


def _load(setting: "Field[Any]", path: str, *, flags: int = 0) -> Any:
    """Return the value of a secret out of its file. `flags`: to open it with, besides those for reading."""
    name = f"{variable(setting)}{_FILE.upper()}"
    try:
        with open(path, "rb", opener=lambda path, usual: os.open(path, usual | flags)) as file:
            # None is what a pipe gives that nobody has written to yet.
            data = file.read(MAX_SECRETS + 1) or b""
        text = data.decode().strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingError(f"{name}={path!r}: cannot be read: {reason}") from None
    if len(data) > MAX_SECRETS:
        # Its beginning may end within a token: that would be another one.
        raise SettingError(f"{name}={path!r}: the file has more than {MAX_SECRETS} bytes")
    if not text:
        raise SettingError(f"{name}={path!r}: the file is empty")
    try:
        return setting.metadata["parse"](text)
    except ValueError:
        raise SettingError(f"{name}={path!r}: expected {setting.metadata['accepts']}") from None


def _parse(setting: "Field[Any]", text: str | None) -> Any:
    """Return the value of a setting, or what it is without a `text`."""
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
    return settings.listen or Address(name.host if names_loopback(name.host) else "", name.port)


def control_address(settings: Settings) -> Address:
    """Return the address of the REST surface: `CONTROL_LISTEN`, or that of the clients."""
    return settings.control_listen or listen_address(settings)
