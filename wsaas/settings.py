"""The settings of the node, read from flags, environment variables and secret files.

Each field of `Settings` is an environment variable and a flag. No other module reads settings from the environment, or
reads secret files.
"""

import os
import re
from argparse import SUPPRESS, ArgumentParser
from collections.abc import Collection, Mapping
from dataclasses import Field, dataclass, fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from wsaas.access import QUERY, Proxies, TokenPlace, is_loopback_host
from wsaas.cluster_setting_group import ClusterSettings
from wsaas.compatibility_setting_group import CompatibilitySettings
from wsaas.errors import SettingError
from wsaas.memory.limit import MIN_LIMIT
from wsaas.setting_groups import (
    REQUIRED,
    BackendSettings,
    GeneralSettings,
    HandshakeSettings,
    JournalSettings,
    LimitSettings,
    ListenerSettings,
    TimeoutSettings,
    TraceSettings,
    TrustSettings,
)
from wsaas.setting_types import MAX_PORT, PORT_PLACEHOLDER, Address

_FILE_SUFFIX: Final = "_file"
_LINK: Final = re.compile(r"\[([^\]]+)\]\(([^)]+)\)")
_ASIDE: Final = re.compile(r" \((?:\[more\]|see \[[^\]]+\])\([^)]+\)\)")
"""Parentheses that contain only a link."""
_GROUP: Final = """\
each is also an environment variable: API_URI, ...; a flag wins
docs/... is a page of https://github.com/wsaas/wsaas/tree/main/docs"""
_CREDENTIALS: Final = re.compile(r"\A(.*?//)?.*@", re.DOTALL)
DELETE_RETRY_FACTOR: Final = 10
"""A DELETE is retried this many times as long as a PUT."""

CLUSTER_PACKAGES: Final = ("nats", "nkeys", "cryptography")
"""The packages of the extra `cluster`."""

TRACES_PACKAGES: Final = ("opentelemetry", "opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
"""The packages of the extra `otel`."""

GROUPS_OF_AZURE: Final = 2
"""Groups that a client is in with `EVENT_FORMAT=azure`, besides those of the backend."""

NO_DEFAULTS: Final[Mapping[str, str]] = {}

MAX_SECRET_FILE_SIZE: Final = 64 * 1024
"""Maximum size (bytes) of a secret file."""


@dataclass(frozen=True, kw_only=True)
class Settings(
    TraceSettings,
    ClusterSettings,
    TrustSettings,
    JournalSettings,
    HandshakeSettings,
    TimeoutSettings,
    LimitSettings,
    CompatibilitySettings,
    BackendSettings,
    ListenerSettings,
    GeneralSettings,
):
    """All settings, parsed. Times are in seconds (in milliseconds outside), sizes in bytes.

    `fields` begins with the last base class. This is the order of the help and of the docs.
    """

    @property
    def delete_retry(self) -> float:
        """Seconds for which a DELETE is retried: longer than a message, as the backend's records depend on it."""
        return DELETE_RETRY_FACTOR * self.api_retry


def variable(setting: "Field[Any]") -> str:
    """Return the name of the environment variable for a field of `Settings`."""
    return setting.name.upper()


def flag(name: str) -> str:
    """Return the flag for the field `name` of `Settings`."""
    return f"--{name.replace('_', '-')}"


def add_flags(parser: ArgumentParser, defaults: Mapping[str, str] = NO_DEFAULTS, hidden: Collection[str] = ()) -> None:
    """Add a flag such as `--api-uri` for each setting to `parser`. The values are not parsed before `load`.

    `defaults`: the defaults of a command that has others, by the names of their fields; `hidden`: those that the help
    leaves out.
    """
    group = parser.add_argument_group("settings", _GROUP)
    for setting in fields(Settings):
        text = defaults.get(setting.name, setting.metadata["default"])
        note = " (required)" if text == REQUIRED else f" (default: {text})" if text else ""
        meaning = _plain(setting.metadata["meaning"]).replace("%", "%%")
        shown = SUPPRESS if setting.name in hidden else meaning + note
        group.add_argument(flag(setting.name), metavar="VALUE", help=shown)


def _plain(meaning: str) -> str:
    """Return the meaning of a setting, which the docs show as Markdown, as plain text. Links follow at its end."""
    targets = [target if "//" in target else f"docs/{target}" for _, target in _LINK.findall(meaning)]
    text = _LINK.sub(r"\1", _ASIDE.sub("", meaning)).replace("`", "")
    return f"{text}. See {' and '.join(targets)}" if targets else text


def load(flags: Mapping[str, str | None], environment: Mapping[str, str]) -> Settings:
    """Return the settings. Each comes from `flags` (field name to text or None), else `environment`, else its default.

    An empty variable counts as not set; an empty flag is invalid. Raises `SettingError` for the first invalid value.
    With several workers, the settings of each are those that `of_worker` returns.
    """
    found: dict[str, Any] = {}
    for setting in fields(Settings):
        if setting.metadata["secret"]:
            text, file = _secret(setting, flags, environment)
            found[setting.name + _FILE_SUFFIX] = None if file is None else Path(file)
            found[setting.name] = _parse(setting, text) if file is None else _read_file(setting, file)
        elif setting.name not in found:
            found[setting.name] = _parse(setting, _given(setting.name, flags, environment))
    settings = _with_implied(Settings(**found))
    _check_ports(settings)
    _check_workers(settings)
    _check_cluster(settings)
    _check_traces(settings)
    _check_proxy_protocol(settings)
    _check_azure(settings)
    return settings if settings.workers > 1 else of_worker(settings, 0)


def of_worker(settings: Settings, index: int) -> Settings:
    """Return the settings of one worker (`index` from 0 on): its port, and its share of the limits.

    `max_connections` and `max_connections_per_address` are not divided: the workers count their clients together.
    """
    control, name, node = settings.control_listen, settings.ws_hostname, settings.node_address
    if control is not None and control.ports > 1:
        control = Address(control.host, control.port + index)
    if name.needs_port:
        name = name.with_port((control or listen_address(settings)).port)
    if node is not None and node.needs_port:
        node = node.with_port((control or listen_address(settings)).port)
    count = settings.workers
    return replace(
        settings,
        api_connections=settings.api_connections // count,
        control_listen=control,
        max_memory=settings.max_memory and settings.max_memory // count,
        max_owed_disconnects=settings.max_owed_disconnects // count,
        node_address=node,
        ws_hostname=name,
    )


def read_secret(name: str, path: Path) -> tuple[bytes, ...]:
    """Return the values in the secret file at `path`. `name`: the field with this path, such as `api_secret_file`.

    Raises `SettingError`. Does not block if the file is a pipe without a writer.
    """
    setting = next(each for each in fields(Settings) if each.name + _FILE_SUFFIX == name)
    secrets: tuple[bytes, ...] = _read_file(setting, str(path), flags=os.O_NONBLOCK)
    return secrets


def _given(name: str, flags: Mapping[str, str | None], environment: Mapping[str, str]) -> str | None:
    """Return the text of the flag or else of the variable; None if neither is set."""
    flag = flags.get(name)
    return flag if flag is not None else environment.get(name.upper()) or None


def _secret(
    setting: "Field[Any]", flags: Mapping[str, str | None], environment: Mapping[str, str]
) -> tuple[str | None, str | None]:
    """Return the text of a secret and the path of its file, at most one of them. Flags win over variables."""
    name, file_name = setting.name, setting.name + _FILE_SUFFIX
    for source in (flags, {each: environment.get(each.upper()) or None for each in (name, file_name)}):
        text, file = source.get(name), source.get(file_name)
        if text is not None and file is not None:
            raise SettingError(f"{variable(setting)} and {file_name.upper()} are both set: set only one")
        if text is not None or file is not None:
            return text, file
    return None, None


def _read_file(setting: "Field[Any]", path: str, *, flags: int = 0) -> Any:
    """Return the parsed content of a secret file. `flags`: additional flags for `os.open`."""
    name = f"{variable(setting)}{_FILE_SUFFIX.upper()}"
    try:
        with open(path, "rb", opener=lambda path, usual: os.open(path, usual | flags)) as file:
            # Reading from a pipe without data returns None.
            data = file.read(MAX_SECRET_FILE_SIZE + 1) or b""
        text = data.decode().strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingError(f"{name}={path!r}: cannot be read: {reason}") from None
    if len(data) > MAX_SECRET_FILE_SIZE:
        # The part that was read may end in the middle of a token.
        raise SettingError(f"{name}={path!r}: the file has more than {MAX_SECRET_FILE_SIZE} bytes")
    if not text:
        raise SettingError(f"{name}={path!r}: the file is empty")
    try:
        return setting.metadata["kind"].parse(text)
    except ValueError:
        raise SettingError(f"{name}={path!r}: expected {setting.metadata['kind'].accepts}") from None


def _parse(setting: "Field[Any]", text: str | None) -> Any:
    """Return the value for `text`, or the default if it is None. Raises `SettingError`."""
    name = variable(setting)
    if text is None:
        text = setting.metadata["default"]
        if text is None:
            return setting.metadata["unset"]
    if not text and setting.metadata["default"] == REQUIRED:
        raise SettingError(
            "API_URI is not set: give the backend's host and path, such as API_URI=localhost:8000/websocket "
            "(or try 'wsaas demo', which brings its own)"
        )
    try:
        return setting.metadata["kind"].parse(text)
    except ValueError:
        shown = "(hidden)" if setting.metadata["secret"] else repr(_CREDENTIALS.sub(r"\1(hidden)@", text))
        raise SettingError(f"{name}={shown}: expected {setting.metadata['kind'].accepts}") from None


def _check_ports(settings: Settings) -> None:
    """Raise `SettingError` if the ports of the REST API, `WS_HOSTNAME` and `NODE_ADDRESS` do not fit together."""
    control = settings.control_listen
    names = {"WS_HOSTNAME": settings.ws_hostname, "NODE_ADDRESS": settings.node_address}
    needing = {variable: name for variable, name in names.items() if name is not None and name.needs_port}
    if not needing and control is not None and control.ports > 1:
        raise SettingError(
            f"CONTROL_LISTEN={str(control)!r}: each worker has one port of a range, so WS_HOSTNAME has to contain "
            f"{PORT_PLACEHOLDER}"
        )
    for name, value in needing.items():
        _check_placeholder(settings, f"{name}={value.text!r}")


def _check_placeholder(settings: Settings, shown: str) -> None:
    """Raise `SettingError` if there are no ports for the placeholder in a setting. `shown`: the setting, for people."""
    if settings.listen is None and settings.ws_hostname.needs_port:
        raise SettingError(f"{shown}: {PORT_PLACEHOLDER} is no address for clients: set LISTEN")
    control, clients = settings.control_listen, listen_address(settings)
    rest = control or clients
    if not rest.port:
        raise SettingError(f"{shown}: {PORT_PLACEHOLDER} needs a CONTROL_LISTEN with a port that is not 0")
    if rest.ports < settings.workers:
        raise SettingError(
            f"{shown}: {PORT_PLACEHOLDER} needs a port for each of {settings.workers} workers: set CONTROL_LISTEN to a "
            f"range of at least {settings.workers} ports, such as {_example(rest, settings.workers)}"
        )
    if rest.ports > 1 and rest.port <= clients.port < rest.port + rest.ports:
        raise SettingError(f"CONTROL_LISTEN={str(control)!r}: the range contains the port of LISTEN={str(clients)!r}")


def _check_cluster(settings: Settings) -> None:
    """Raise `SettingError` if `CLUSTER` lacks a setting or a package that it needs."""
    if settings.cluster and settings.control_aws_keys and not (settings.control_token or settings.control_tls_ca):
        raise SettingError(
            "CONTROL_TOKEN is not set: with CLUSTER and CONTROL_AWS_KEYS, it is what a node forwards a request with, "
            "as the signature is for another address"
        )
    if settings.cluster and settings.node_address is None:
        raise SettingError(
            "NODE_ADDRESS is not set: CLUSTER needs the host and port at which the other nodes reach the REST API of "
            "this node, such as NODE_ADDRESS=10.0.0.5:8081"
        )
    if settings.cluster and (missing := [name for name in CLUSTER_PACKAGES if find_spec(name) is None]):
        raise SettingError(
            f"CLUSTER needs packages that are not installed ({', '.join(missing)}): run pip install 'wsaas[cluster]'"
        )


def _with_implied(settings: Settings) -> Settings:
    """Return `settings` with what a format implies: clients of Azure send their token as `access_token`."""
    place = TokenPlace(QUERY, "access_token")
    if settings.event_format != "azure" or place in settings.browser_authorization:
        return settings
    return replace(settings, browser_authorization=(*settings.browser_authorization, place))


def _check_azure(settings: Settings) -> None:
    """Raise `SettingError` if there are keys that guard nothing, or no room for the groups of hubs and users."""
    if settings.event_format == "azure" and settings.max_groups < GROUPS_OF_AZURE:
        raise SettingError(
            f"MAX_GROUPS='{settings.max_groups}': EVENT_FORMAT=azure needs at least {GROUPS_OF_AZURE}, as each client "
            "is in a group of its hub and one of its user"
        )
    if settings.control_azure_keys and settings.event_format != "azure":
        raise SettingError("CONTROL_AZURE_KEYS is set, but EVENT_FORMAT is not azure: set both")


def _check_traces(settings: Settings) -> None:
    """Raise `SettingError` if `TRACES` lacks a package that it needs."""
    if settings.traces and (missing := [name for name in TRACES_PACKAGES if not _is_installed(name)]):
        raise SettingError(
            f"TRACES needs packages that are not installed ({', '.join(missing)}): run pip install 'wsaas[otel]'"
        )


def _check_proxy_protocol(settings: Settings) -> None:
    """Raise `SettingError` if `PROXY_PROTOCOL` would keep out every client, or the other nodes."""
    if settings.proxy_protocol and settings.trusted_proxies == Proxies():
        raise SettingError(
            "PROXY_PROTOCOL='on': it is accepted from proxies alone, as anybody could forge it: set TRUSTED_PROXIES to "
            "the addresses of your load balancer"
        )
    if settings.proxy_protocol and settings.cluster and control_address(settings) == listen_address(settings):
        raise SettingError(
            "PROXY_PROTOCOL='on': the other nodes of CLUSTER connect without a proxy: set CONTROL_LISTEN"
        )


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        # The package above it is not installed.
        return False


def _check_workers(settings: Settings) -> None:
    """Raise `SettingError` if there cannot be so many workers."""
    if settings.workers > 1 and not hasattr(os, "memfd_create"):
        raise SettingError(f"WORKERS='{settings.workers}': only Linux distributes clients among processes: set it to 1")
    for name in ("api_connections", "max_owed_disconnects"):
        if getattr(settings, name) < settings.workers:
            raise SettingError(
                f"{name.upper()}='{getattr(settings, name)}': expected at least 1 for each worker (WORKERS="
                f"{settings.workers})"
            )
    needed = settings.workers * MIN_LIMIT
    if settings.max_memory and settings.max_memory < needed:
        raise SettingError(
            f"MAX_MEMORY='{settings.max_memory}': expected at least {needed} for WORKERS={settings.workers}"
        )


def _example(address: Address, ports: int) -> Address:
    """Return a range of `ports` ports that begins beside `address`."""
    first = address.port if address.ports > 1 else min(address.port + 1, MAX_PORT + 1 - ports)
    return replace(address, port=first, ports=ports)


def listen_address(settings: Settings) -> Address:
    """Return the address for clients: `LISTEN`, or by default the port of `WS_HOSTNAME`."""
    name = settings.ws_hostname
    return settings.listen or Address(name.host if is_loopback_host(name.host) else "", name.port)


def control_address(settings: Settings) -> Address:
    """Return the address for the REST API: `CONTROL_LISTEN`, or by default the address for clients."""
    return settings.control_listen or listen_address(settings)


def has_console(settings: Settings) -> bool:
    """Return whether there is a console. It shows all messages, so without credentials it needs a loopback address.

    It has no use for access keys of AWS and Azure.
    """
    is_guarded = bool(settings.control_token or settings.control_tls_ca)
    has_keys = bool(settings.control_aws_keys or settings.control_azure_keys)
    is_for_anyone = control_address(settings).is_loopback and not has_keys
    return settings.console and (is_guarded or is_for_anyone)
