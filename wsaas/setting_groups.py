"""The declaration of each setting, in groups that `settings.Settings` combines.

To add a setting, add a field here and its row in `docs/settings.md`. The names of the environment variable and the
flag follow from the name of the field. The type of the setting (see `setting_types`) determines which texts are valid.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar, overload

from wsaas import backend_setting_type, message_setting_types, setting_types
from wsaas.access import Origins, Proxies, TokenPlace
from wsaas.backend_setting_type import Backend
from wsaas.log.formats import LEVELS
from wsaas.message_setting_types import Heartbeat
from wsaas.setting_types import Address, PublicName, SettingType

_Value = TypeVar("_Value")
_Unset = TypeVar("_Unset")

REQUIRED: Final = ""
"""The `default` of a setting without which the gateway does not start."""


@overload
def setting(kind: SettingType[_Value], default: str, meaning: str, *, secret: bool = False) -> _Value: ...


@overload
def setting(
    kind: SettingType[_Value], default: None, meaning: str, *, unset: _Unset, secret: bool = False
) -> _Value | _Unset: ...


def setting(
    kind: SettingType[Any], default: str | None, meaning: str, *, unset: object = None, secret: bool = False
) -> Any:
    """Declare a field. The type checker compares its annotation with the values that `kind` returns.

    `default`: text as a user would write it, `REQUIRED`, or None for a setting whose value is `unset` until it is set.
    `meaning`: Markdown for the help and the docs. A `secret` is never shown. It may also be in a file, whose path is in
    the setting with the suffix `_FILE`.
    """
    metadata = {"kind": kind, "default": default, "meaning": meaning, "unset": unset, "secret": secret}
    return field(metadata=metadata, repr=not secret)


@dataclass(frozen=True, kw_only=True)
class GeneralSettings:
    """The backend, the public address, the log, and the time-out of clients."""

    api_uri: Backend = setting(
        backend_setting_type.backend,
        REQUIRED,
        "URL of the backend; the scheme is `http://` if none is given. `unix:/run/app.sock:/websocket` reaches it at a "
        "Unix socket. `{id}` is replaced with the connection's id",
    )
    ws_hostname: PublicName = setting(
        setting_types.public_name,
        "localhost:8080",
        "Where the backend reaches this node: every `ws_uri` starts with it. May have a scheme and a path prefix. "
        "`{port}` in it is replaced with the port of the REST API",
    )
    log_level: str = setting(setting_types.one_of(*LEVELS), "INFO", "Lowest level that is logged")
    log_format: str = setting(setting_types.one_of("text", "json"), "text", "`json` logs one JSON object per line")
    access_log: bool = setting(
        setting_types.switch,
        "on",
        "`on` logs a line at INFO when a connection has ended, and for each handshake that was refused",
    )
    ws_timeout: float = setting(
        setting_types.milliseconds.or_zero("no time-out"),
        "30000",
        "Close a client from which nothing arrived for this long (ms); ping it after half of that. `0`: never",
    )
    heartbeat: Heartbeat | None = setting(
        message_setting_types.heartbeat,
        None,
        "`ping=pong`: the gateway itself answers a text message that is exactly `ping` with `pong`, as browsers cannot "
        "send protocol pings",
        unset=None,
    )
    workers: int = setting(
        setting_types.workers,
        "1",
        "Processes that share the listeners, for more than one CPU core. `auto`: one for each CPU that the gateway may "
        "use",
    )


@dataclass(frozen=True, kw_only=True)
class ListenerSettings:
    """The addresses to listen on, and access to the REST API."""

    listen: Address | None = setting(
        setting_types.address,
        None,
        "Address for clients. Default: the port of `WS_HOSTNAME`, on loopback if its host is a loopback name or "
        "address, otherwise on all interfaces",
        unset=None,
    )
    control_listen: Address | None = setting(
        setting_types.addresses,
        None,
        "Address for the REST API. Default: the same as `LISTEN`. With `{port}` in `WS_HOSTNAME` it may be a range of "
        "ports such as `10.0.0.5:8081-8084`: each worker has one of them",
        unset=None,
    )
    listen_mode: int = setting(
        setting_types.file_mode,
        "666",
        "File mode (octal) of a Unix socket that the gateway listens on. Any user who may write to it may connect",
    )
    control_token: tuple[bytes, ...] = setting(
        setting_types.tokens,
        None,
        "Bearer token for the REST API: every request except `/healthz` and `/readyz` needs `Authorization: Bearer "
        "<token>`. Several tokens may be given, separated by commas",
        unset=(),
        secret=True,
    )
    control_token_file: Path | None = setting(
        setting_types.any_path,
        None,
        "File with the value of `CONTROL_TOKEN`, one token per line. Reloaded on SIGHUP",
        unset=None,
    )
    console: bool = setting(
        setting_types.switch,
        "on",
        "`off` removes the page `/console` of the REST API, the [console](console.md). Without `CONTROL_TOKEN` or "
        "`CONTROL_TLS_CA`, it is only for this machine",
    )


@dataclass(frozen=True, kw_only=True)
class BackendSettings:
    """Requests to the backend."""

    api_timeout: float = setting(
        setting_types.positive_milliseconds, "10000", "Time limit (ms) for one attempt of a request to the backend"
    )
    api_retry: float = setting(
        setting_types.milliseconds, "30000", "How long (ms) a message is retried. A DELETE is retried ten times as long"
    )
    api_connections: int = setting(
        setting_types.positive_integer, "128", "Maximum number of connections to the backend"
    )
    api_connection_age: float = setting(
        setting_types.milliseconds.or_zero("no limit"),
        "300000",
        "How long (ms) a connection to the backend is used. The next one resolves the host name again, and so follows "
        "changes in DNS. `0`: no limit",
    )
    text_content_type: str = setting(
        message_setting_types.text_content_type,
        "text/plain; charset=utf-8",
        "`Content-Type` of text messages to the backend. With `application/json`, frameworks parse their JSON",
    )
    api_secret: tuple[bytes, ...] = setting(
        setting_types.signing_secrets,
        None,
        "Secret that signs every request to the backend ([Standard Webhooks](https://www.standardwebhooks.com)). With "
        "several, separated by commas, a request carries one signature for each",
        unset=(),
        secret=True,
    )
    api_secret_file: Path | None = setting(
        setting_types.any_path,
        None,
        "File with the value of `API_SECRET`, one secret per line. Reloaded on SIGHUP",
        unset=None,
    )


@dataclass(frozen=True, kw_only=True)
class LimitSettings:
    """Limits for one client and for all clients: memory, connections, messages."""

    max_message_size: int = setting(
        setting_types.positive_size, "1048576", "Maximum size (bytes) of a message in either direction"
    )
    max_memory: int | None = setting(
        setting_types.memory.or_zero("no limit"),
        None,
        "Memory (bytes) that the process may use. Above it, the gateway stops reading from the clients that use the "
        "most, and pushes to them get 429; then handshakes get 503. Default: half of the memory of the machine or "
        "cgroup. `0`: no limit",
        unset=None,
    )
    max_connections: int = setting(
        setting_types.integer.or_zero("as many as the limit of open files allows"),
        "0",
        "Maximum number of clients; further handshakes get 503. `0`: as many as the limit of open files allows",
    )
    max_connections_per_address: int = setting(
        setting_types.integer.or_zero("no limit"),
        "0",
        "Maximum number of connections from one address (for IPv6: from one /64 network); further ones get 429. "
        "Connections that have made an authorized REST request do not count. `0`: no limit",
    )
    max_owed_disconnects: int = setting(
        setting_types.positive_integer,
        "100000",
        "Maximum number of ended connections whose DELETE is not acknowledged yet; beyond it, handshakes get 503",
    )
    max_groups: int = setting(
        setting_types.positive_integer, "64", "Maximum number of groups that one client may be in"
    )
    max_publishes: int = setting(
        setting_types.positive_integer,
        "100",
        "Maximum number of publishes to large groups, and of large `POST /send` requests, that are under way; further "
        "ones get 429",
    )
    max_batch_size: int = setting(
        setting_types.positive_size, "1048576", "Maximum size (bytes) of the body of a `POST /send`"
    )
    max_message_rate: int = setting(
        setting_types.integer.or_zero("no limit"),
        "0",
        "Messages per second that are read from one client. A faster client is slowed down. `0`: no limit",
    )
    send_buffer: int = setting(
        setting_types.positive_size,
        "1048576",
        "Bytes that may be queued for one client that reads slowly. One message always fits",
    )
    inbox: int = setting(
        setting_types.positive_size,
        "262144",
        "Bytes of one client's messages that may be queued for the backend. Beyond it, the gateway stops reading from "
        "the client",
    )


@dataclass(frozen=True, kw_only=True)
class TimeoutSettings:
    """Time limits for connections and for a stop."""

    handshake_timeout: float = setting(
        setting_types.positive_milliseconds,
        "10000",
        "Time limit (ms) for receiving a request head (the first from the accept on, later ones from their first "
        "byte), and for the closing handshake",
    )
    keep_alive_timeout: float = setting(
        setting_types.positive_milliseconds,
        "75000",
        "How long (ms) an idle HTTP connection is kept open, and the time limit for the body of a request",
    )
    drain_timeout: float = setting(
        setting_types.milliseconds, "30000", "Time limit (ms) for a stop by SIGTERM or SIGINT"
    )


@dataclass(frozen=True, kw_only=True)
class HandshakeSettings:
    """The opening handshake: origins, subprotocols and compression."""

    allowed_origins: Origins = setting(
        setting_types.origins,
        "*",
        "Origins that may connect, separated by commas. `https://*.example.com` matches all subdomains; `null` and "
        "`file://` match pages without a host. A handshake without `Origin` is always allowed",
    )
    subprotocols: tuple[str, ...] = setting(
        setting_types.subprotocols,
        None,
        "Subprotocols in order of preference, separated by commas. Used if the backend does not choose one",
        unset=(),
    )
    browser_authorization: tuple[TokenPlace, ...] = setting(
        setting_types.token_places,
        None,
        "Where browsers, which cannot set headers, put a token: `query:access_token`, `subprotocol:bearer.`, "
        "`cookie:session`; several, separated by commas, are tried in order. Without an `Authorization` header, the "
        "token becomes `Authorization: Bearer <token>`, and is taken out of its place ([more](operations.md#tokens-"
        "of-browsers))",
        unset=(),
    )
    compression: bool = setting(
        setting_types.switch, "off", "`on` compresses messages (permessage-deflate) for clients that offer it"
    )


@dataclass(frozen=True, kw_only=True)
class JournalSettings:
    """The journal, which survives a crash."""

    journal: Path | None = setting(
        setting_types.writable_path,
        None,
        "File that records live connections, so that after a crash the next start sends the DELETE of each",
        unset=None,
    )
    journal_sync: str = setting(
        setting_types.one_of("normal", "full"),
        "normal",
        "`full` makes the journal survive a power failure too, at the speed of the disk",
    )


@dataclass(frozen=True, kw_only=True)
class TrustSettings:
    """TLS certificates, trusted certificate authorities and trusted proxies."""

    tls_cert: Path | None = setting(
        setting_types.pem_path,
        None,
        "PEM file with the certificate, followed by its chain. Both listeners then use TLS. Reloaded on SIGHUP",
        unset=None,
    )
    tls_key: Path | None = setting(
        setting_types.pem_path, None, "PEM file with the private key of `TLS_CERT`", unset=None
    )
    control_tls_ca: Path | None = setting(
        setting_types.pem_path,
        None,
        "PEM file with certificate authorities. Callers of the REST API need a client certificate from one of them. "
        "Requires `CONTROL_LISTEN`",
        unset=None,
    )
    api_tls_ca: Path | None = setting(
        setting_types.pem_path,
        None,
        "PEM file with the certificate authorities for an `https://` backend, instead of those of the system",
        unset=None,
    )
    trusted_proxies: Proxies = setting(
        setting_types.proxies,
        None,
        "Addresses and networks of proxies whose `X-Forwarded-For` is trusted, separated by commas. `unix:` stands for "
        "proxies that connect by a Unix socket",
        unset=Proxies(),
    )
    proxy_protocol: bool = setting(
        setting_types.switch,
        "off",
        "`on`: each connection to `LISTEN` begins with a header of the PROXY protocol (version 1 or 2), which tells "
        "the address of the client, and only `TRUSTED_PROXIES` may connect ([more](operations.md#behind-a-load-"
        "balancer-for-tcp)). Does not apply to `CONTROL_LISTEN`",
    )


@dataclass(frozen=True, kw_only=True)
class TraceSettings:
    """Traces for OpenTelemetry."""

    traces: bool = setting(
        setting_types.switch,
        "off",
        "`on` exports spans of the clients whose `traceparent` is sampled to OpenTelemetry, as the `OTEL_*` variables "
        "say (see [traces](operations.md#traces)). Needs `pip install 'wsaas[otel]'`",
    )
