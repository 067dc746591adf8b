"""The flags and arguments of `wsaas check`, `wsaas demo`, `wsaas dev` and `wsaas lambda` that are not settings."""

import re
from argparse import ArgumentParser, ArgumentTypeError, Namespace, _ArgumentGroup
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from wsaas.grammar import TOKEN
from wsaas.setting_types import SettingType, positive_integer, positive_milliseconds

Header = tuple[str, str]

_PATH: Final = re.compile(r"/[!-~]*")
_HEADER: Final = re.compile(rf"({TOKEN}):[ \t]*([!-~](?:[ \t!-~]*[!-~])?)?[ \t]*")

_HOST_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9])?")
_HANDLER: Final = re.compile(r"\w+(?:[./]\w+)*\.\w+")

MIN_NODES: Final = 2
MAX_NODES: Final = 9
MAX_PORT: Final = 65535
DEMO_FLAGS: Final = ("nodes", "host", "port")
"""Flags of `wsaas demo` that are not settings."""

HIDDEN_BY_DEV: Final = frozenset({"workers"})
"""Settings that `wsaas dev` refuses."""

WITHOUT_EFFECT_IN_LAMBDA: Final = (
    "text_content_type",
    "api_secret",
    "api_secret_file",
    "azure_hub",
    "control_azure_keys",
    "control_azure_keys_file",
    "api_tls_ca",
)
"""Settings for other event formats, and for what `wsaas lambda` itself receives: no TLS, no signatures."""

HIDDEN_BY_LAMBDA: Final = frozenset({"event_format", "workers", *WITHOUT_EFFECT_IN_LAMBDA})
"""Settings that `wsaas lambda` refuses. It accepts its own event format."""

MAX_HEADER_FILE_SIZE: Final = 64 * 1024
"""Maximum size (bytes) of a file with headers."""

DEFAULT_RATE: Final = 100
DEFAULT_TIMEOUT_MS: Final = 60_000
DEFAULT_MESSAGE: Final = "hello from wsaas check"


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """What the client of a check sends: path and query, and headers, which may be secret."""

    path: str
    headers: tuple[Header, ...]


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """The flags of `wsaas check`. `timeout`: seconds."""

    client: ClientOptions
    message: str
    rate: int
    timeout: float
    is_json: bool


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """The flags of `wsaas demo`. `nodes`: of a cluster; `host`, `port`: of the page. None: not given."""

    nodes: int | None = None
    host: str | None = None
    port: int | None = None


@dataclass(frozen=True, slots=True)
class DevOptions:
    """The flags of `wsaas dev`. `command`: that of the backend, with its arguments."""

    client: ClientOptions
    command: tuple[str, ...]
    has_check: bool


@dataclass(frozen=True, slots=True)
class LambdaOptions:
    """The argument of `wsaas lambda`. `handler`: the module and the name of a function, as in the settings of AWS."""

    handler: str


@dataclass(frozen=True, slots=True)
class CompletionOptions:
    """The argument of `wsaas completion`. `shell`: its name."""

    shell: str


def add_client_flags(group: _ArgumentGroup) -> None:
    """Add the flags of `ClientOptions`."""
    group.add_argument(
        "--path",
        type=_path,
        default="/",
        metavar="PATH",
        help="path and query with which the client of the check connects (default: /)",
    )
    group.add_argument(
        "--header",
        type=_headers,
        action="append",
        default=[],
        metavar="'NAME: VALUE'",
        help="header of its handshake, such as 'Authorization: Bearer ...'. @FILE reads one per line from a "
        "file, which hides them from other users of this machine. May be repeated. Never printed",
    )


def add_check_flags(parser: ArgumentParser) -> None:
    """Add the flags of `wsaas check`."""
    parser.add_argument("backend", nargs="?", metavar="API_URI", help="URL of the backend, as in --api-uri")
    group = parser.add_argument_group("check")
    group.add_argument("--json", action="store_true", help="print one JSON document when all checks are done")
    group.add_argument(
        "--timeout",
        type=_value(positive_milliseconds),
        default=DEFAULT_TIMEOUT_MS / 1000,
        metavar="MS",
        help=f"time limit (ms) for all checks together (default: {DEFAULT_TIMEOUT_MS}); that for each request is "
        "API_TIMEOUT",
    )
    group.add_argument(
        "--rate",
        type=_value(positive_integer),
        default=DEFAULT_RATE,
        metavar="N",
        help=f"messages per second of all clients, for the suggested API_CONNECTIONS (default: {DEFAULT_RATE})",
    )
    add_client_flags(group)
    group.add_argument(
        "--message",
        default=DEFAULT_MESSAGE,
        metavar="TEXT",
        help=f"text message that the client sends (default: {DEFAULT_MESSAGE})",
    )


def add_demo_flags(parser: ArgumentParser) -> None:
    """Add the flags of `wsaas demo`."""
    parser.add_argument(
        "--nodes",
        type=_node_count,
        metavar="N",
        help="demo: run N nodes (2 to 9) as a cluster; needs pip install 'wsaas[demo]'",
    )
    parser.add_argument(
        "--host",
        type=_host,
        metavar="ADDRESS",
        help="demo: address at which the page listens, such as 0.0.0.0 or :: so that other machines reach it "
        "(default: this machine only). The page has no authentication",
    )
    parser.add_argument("--port", type=_port, metavar="N", help="demo: port of the page (default: 8000, or a free one)")


def add_dev_flags(parser: ArgumentParser) -> None:
    """Add the flags of `wsaas dev`, except the command behind `--`."""
    group = parser.add_argument_group("dev")
    group.add_argument("--no-check", action="store_true", help="do not check the backend when it listens")
    add_client_flags(group)


def check_options(parsed: Namespace) -> CheckOptions:
    """Return the flags of `wsaas check`."""
    return CheckOptions(_client(parsed), parsed.message, parsed.rate, parsed.timeout, parsed.json)


def demo_options(flags: dict[str, Any]) -> DemoOptions:
    """Take the flags of `wsaas demo` out of `flags`."""
    return DemoOptions(**{name: flags.pop(name) for name in DEMO_FLAGS})


def dev_options(parsed: Namespace, command: tuple[str, ...]) -> DevOptions:
    """Return the flags of `wsaas dev`."""
    return DevOptions(_client(parsed), command, has_check=not parsed.no_check)


def handler(text: str) -> str:
    """Parse the handler of a Lambda function: `module.function`. Folders may be separated by slashes."""
    if not _HANDLER.fullmatch(text):
        raise ArgumentTypeError("expected a module and the name of a function in it, such as app.handler")
    return text


def _client(parsed: Namespace) -> ClientOptions:
    return ClientOptions(parsed.path, tuple(header for headers in parsed.header for header in headers))


def _value(kind: SettingType[Any]) -> Callable[[str], Any]:
    """Return the function that parses a flag as a setting is parsed."""

    def parse(text: str) -> Any:
        try:
            return kind.parse(text)
        except ValueError:
            raise ArgumentTypeError(f"expected {kind.accepts}") from None

    return parse


def _node_count(text: str) -> int:
    """Parse the number of nodes."""
    if not text.isdecimal() or not MIN_NODES <= int(text) <= MAX_NODES:
        raise ArgumentTypeError(f"{text!r} is not a number from {MIN_NODES} to {MAX_NODES}")
    return int(text)


def _host(text: str) -> str:
    """Parse an IP address, with or without brackets, or a host name."""
    host = text[1:-1] if text[:1] == "[" and text[-1:] == "]" else text
    try:
        return str(ip_address(host))
    except ValueError:
        if _HOST_NAME.fullmatch(text):
            return text
    raise ArgumentTypeError(f"{text!r} is not an IP address or a host name, such as 0.0.0.0 (the port is --port)")


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_PORT:
        raise ArgumentTypeError(f"{text!r} is not a number from 1 to {MAX_PORT}")
    return int(text)


def _path(text: str) -> str:
    if not _PATH.fullmatch(text):
        raise ArgumentTypeError("expected a path that starts with /, percent-encoded")
    return text


def _headers(text: str) -> list[Header]:
    """Parse one header, or the file behind an @. No error repeats the text, which may be secret."""
    if not text.startswith("@"):
        return [_header(text)]
    try:
        with Path(text[1:]).open("rb") as file:
            data = file.read(MAX_HEADER_FILE_SIZE + 1)
    except (OSError, ValueError) as error:
        raise ArgumentTypeError(f"{text[1:]} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > MAX_HEADER_FILE_SIZE:
        raise ArgumentTypeError(f"{text[1:]} has more than {MAX_HEADER_FILE_SIZE} bytes")
    return [_header(line) for line in data.decode("latin-1").splitlines() if line.strip()]


def _header(text: str) -> Header:
    found = _HEADER.fullmatch(text)
    if found is None:
        raise ArgumentTypeError("expected 'Name: value' in visible ASCII, or @FILE")
    return found[1], found[2] or ""
