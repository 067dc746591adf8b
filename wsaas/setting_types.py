"""The types of settings: which texts are valid, and how they become values."""

import ipaddress
import os
import re
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Generic, TypeVar
from unicodedata import ucd_3_2_0
from urllib.parse import urlsplit

from wsaas.access import COOKIE, QUERY, SUBPROTOCOL, UNIX, Origins, Proxies, TokenPlace, is_loopback_host
from wsaas.grammar import TOKEN
from wsaas.memory.limit import MIN_LIMIT

TARGET: Final = re.compile(r"[!$&-;=?-Z_a-z~%\[\]]*(?:\{id\}[!$&-;=?-Z_a-z~%\[\]]*)*")
_AUTHORITY: Final = re.compile(r"(\[[^\[\]]+\]|[^\[\]:]+)(?::([0-9]{1,5}))?")
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")
_ENCODED_ZONE: Final = re.compile(r"%25(?=.)")
_VISIBLE: Final = re.compile(r"[!-~]+")
_TOKEN: Final = re.compile(TOKEN)
_SEPARATOR: Final = re.compile(r"[ \t]*(?:,|\r?\n)\s*")
_ORIGIN: Final = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<wild>\*\.)?(?P<host>[^/\s:*@]+|\[[0-9a-f:]+\])(?P<port>:[0-9]{1,5})?"
)
_HOSTLESS_ORIGIN: Final = re.compile(r"(?!https?:|wss?:)[a-z][a-z0-9+.-]*://")
_DEVIATIONS: Final = frozenset("ß\u03c2\u200c\u200d")
"""Sharp s, final sigma and two joiners (UTS 46 section 2.3), in lower case."""
_SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - no secret itself
_SECRET_SIZES: Final = range(24, 65)
DEFAULT_PORTS: Final = {"http": 80, "https": 443}
MAX_PORT: Final = 65535
MAX_WORKERS: Final = 128
PORT_PLACEHOLDER: Final = "{port}"
ABSTRACT: Final = "@"
"""What the name of an abstract Unix socket begins with."""

Value_co = TypeVar("Value_co", covariant=True)


@dataclass(frozen=True, slots=True)
class SettingType(Generic[Value_co]):
    """A kind of value.

    `convert` returns the value of a text, or raises `ValueError`. `accepts` describes valid texts, to complete the
    message "expected ...".
    """

    convert: Callable[[str], Value_co]
    accepts: str

    def parse(self, text: str) -> Value_co:
        """Return the value of `text`. Raises `ValueError` if it is not valid; an empty text never is."""
        if not text:
            raise ValueError
        return self.convert(text)

    def or_zero(self, meaning: str) -> "SettingType[Value_co]":
        """Return this type with the `meaning` of 0 in its description. The type has to accept 0 already."""
        return replace(self, accepts=f"{self.accepts}, or 0 for {meaning}")


def accepting(accepts: str) -> Callable[[Callable[[str], Value_co]], SettingType[Value_co]]:
    """Return a decorator that makes a type of the function that converts its texts."""
    return lambda convert: SettingType(convert, accepts)


@dataclass(frozen=True, slots=True)
class Address:
    """An address to listen on: `host` (empty for all interfaces) and `port`, or the `path` of a Unix socket.

    A path that begins with `ABSTRACT` is the name of an abstract socket, which has no file.

    `ports`: the number of consecutive ports from `port` on. With several, each worker has one of them.
    """

    host: str = ""
    port: int = 0
    path: str = ""
    ports: int = 1

    def __str__(self) -> str:
        """Return the address in the format of the setting."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        last = f"-{self.port + self.ports - 1}" if self.ports > 1 else ""
        return f"unix:{self.path}" if self.path else f"{host}:{self.port}{last}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the address."""
        return bool(self.path) or is_loopback_host(self.host)


@dataclass(frozen=True, slots=True)
class PublicName:
    """The start of every `ws_uri`: `text` as it was set, and the `host`, `port` and path `prefix` in it.

    If `needs_port`, use the name that `with_port` returns.
    """

    text: str
    host: str
    port: int
    prefix: str

    @property
    def needs_port(self) -> bool:
        """Whether the text has a placeholder for the port of the REST API."""
        return PORT_PLACEHOLDER in self.text

    @property
    def url(self) -> str:
        """The text with a scheme."""
        return self.text if "://" in self.text else f"http://{self.text}"

    def with_port(self, port: int) -> "PublicName":
        """Return the name with `port` in place of the placeholder."""
        return public_name.parse(self.text.replace(PORT_PLACEHOLDER, str(port)))


def _integer(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise ValueError
    return int(text)


def _positive_integer(text: str) -> int:
    if not (number := _integer(text)):
        raise ValueError
    return number


integer = SettingType(_integer, "a number")
positive_integer = SettingType(_positive_integer, "a number above 0")
positive_size = SettingType(_positive_integer, "a number of bytes above 0")


@accepting("a number of milliseconds")
def milliseconds(text: str) -> float:
    """Convert milliseconds to seconds."""
    return _integer(text) / 1000


@accepting("a number of milliseconds above 0")
def positive_milliseconds(text: str) -> float:
    """Convert milliseconds, except 0, to seconds."""
    return _positive_integer(text) / 1000


@accepting(f"a number of bytes from {MIN_LIMIT}")
def memory(text: str) -> int:
    """Parse a number of bytes that is at least `MIN_LIMIT`, or 0."""
    number = _integer(text)
    if 0 < number < MIN_LIMIT:
        raise ValueError
    return number


@accepting(f"a number from 1 to {MAX_WORKERS}, or auto")
def workers(text: str) -> int:
    """Parse a number of processes. `auto` is the number of CPUs that this process may use, and 1 without Linux."""
    if text.lower() == "auto":
        usable = getattr(os, "sched_getaffinity", None)
        return min(MAX_WORKERS, len(usable(0))) if usable else 1
    number = _positive_integer(text)
    if number > MAX_WORKERS:
        raise ValueError
    return number


@accepting("an octal number from 0 to 777")
def file_mode(text: str) -> int:
    """Parse the permissions of a file, an octal number up to 777."""
    if not re.fullmatch(r"0?[0-7]{1,3}", text):
        raise ValueError
    return int(text, 8)


def one_of(*choices: str) -> SettingType[str]:
    """Return the type of a choice. Upper and lower case are equal; the value is spelled as in `choices`."""
    spelled = {choice.lower(): choice for choice in choices}

    def parse(text: str) -> str:
        if text.lower() not in spelled:
            raise ValueError
        return spelled[text.lower()]

    return SettingType(parse, f"{', '.join(choices[:-1])} or {choices[-1]}")


@accepting("on or off")
def switch(text: str) -> bool:
    """Parse `on` or `off`, in upper or lower case."""
    return one_of("on", "off").parse(text) == "on"


@accepting("host:port, optionally with http:// or https:// in front and a path that does not end with /")
def public_name(text: str) -> PublicName:
    """Parse the start of every `ws_uri`, which may have placeholders for a port."""
    _, host, port, prefix = split_url(text.replace(PORT_PLACEHOLDER, str(MAX_PORT)))
    if prefix.endswith("/") or "?" in text or "{" in prefix:
        raise ValueError
    return PublicName(text, host, port, prefix)


@accepting("host:port, unix:/path or unix:@name")
def address(text: str) -> Address:
    """Parse `host:port`, `unix:/path` or `unix:@name`. An empty host and `*` mean all interfaces."""
    if text.startswith(UNIX):
        path = text[len(UNIX) :]
        if not path.startswith(("/", ABSTRACT)) or path == ABSTRACT:
            raise ValueError
        return Address(path=path)
    host, _, port = text.rpartition(":")
    number = _integer(port)
    if number > MAX_PORT:
        raise ValueError
    return Address("" if host in {"", "*"} else host_name(host), number)


@accepting("host:port, host:first-last for a range of ports, unix:/path or unix:@name")
def addresses(text: str) -> Address:
    """Parse an address that may have a range of ports."""
    before, dash, last = text.rpartition("-")
    if text.startswith(UNIX) or not dash or not last.isdecimal():
        return address.parse(text)
    start = address.parse(before)
    ports = _integer(last) - start.port + 1
    if not start.port or ports < 1 or start.port + ports - 1 > MAX_PORT:
        raise ValueError
    return replace(start, ports=ports)


def _path(text: str) -> Path:
    if not text.isprintable() or text.endswith("/"):
        raise ValueError
    return Path(text)


any_path = SettingType(Path, "the path of a file")
pem_path = SettingType(_path, "the path of a PEM file")
writable_path = SettingType(_path, "the path of a file that can be created or written")


@accepting("tokens of visible ASCII characters, separated by commas")
def tokens(text: str) -> tuple[bytes, ...]:
    """Parse bearer tokens (RFC 6750 section 2.1) of visible ASCII, separated by commas or line ends."""
    found = _SEPARATOR.split(text)
    if not all(map(_VISIBLE.fullmatch, found)):
        raise ValueError
    return tuple(token.encode() for token in found)


@accepting("whsec_ and 24 to 64 random bytes in base64; several separated by commas")
def signing_secrets(text: str) -> tuple[bytes, ...]:
    """Parse Standard Webhooks secrets, each `whsec_` and 24 to 64 bytes in base64, separated like `tokens`."""
    return tuple(_signing_secret(secret) for secret in _SEPARATOR.split(text))


def _signing_secret(text: str) -> bytes:
    if not text.startswith(_SECRET_PREFIX):
        raise ValueError
    # An invalid character raises binascii.Error, which is a ValueError.
    secret = b64decode(text[len(_SECRET_PREFIX) :], validate=True)
    if len(secret) not in _SECRET_SIZES:
        raise ValueError
    return secret


@accepting(
    "*, or origins such as https://example.com, https://*.example.com, file:// or null, separated by commas; if an "
    "international name is not accepted, write it as browsers send it (xn--...)"
)
def origins(text: str) -> Origins:
    """Parse web origins. `*` allows all origins, and `*.` before a host allows all its subdomains.

    A scheme other than HTTP may come without a host: Android's WebView sends `file://` for local files.
    """
    exact: set[str] = set()
    domains: list[tuple[str, str]] = []
    for origin in (part.strip().lower() for part in text.split(",")):
        parts = _ORIGIN.fullmatch(origin)
        if parts is None:
            if origin not in {"*", "null"} and not _HOSTLESS_ORIGIN.fullmatch(origin):
                raise ValueError
            exact.add(origin)
        elif parts["wild"]:
            domains.append((parts["scheme"], f".{_ascii(parts['host'])}{_non_default_port(parts)}"))
        else:
            exact.add(f"{parts['scheme']}://{_ascii(parts['host'])}{_non_default_port(parts)}")
    return Origins(frozenset(exact - {"*"}), tuple(domains), everyone="*" in exact)


def _ascii(host: str) -> str:
    """Return a host as browsers write it in `Origin`: in ASCII, with international labels as `xn--...`.

    Browsers follow UTS 46, while Python's codec follows IDNA 2003. They differ in four letters that IDNA 2003 maps to
    others, and in letters added after Unicode 3.2. Names with such letters are refused, as a wrong conversion could
    yield the name of another host.
    """
    if host.isascii():
        return host
    if any(letter in _DEVIATIONS or ucd_3_2_0.category(letter) == "Cn" for letter in host):
        raise ValueError
    # A name that cannot be encoded raises UnicodeError, which is a ValueError.
    name = host.encode("idna").decode().lower()
    if not _NAME.fullmatch(name):
        raise ValueError
    return name


def _non_default_port(origin: re.Match[str]) -> str:
    """Return the port as browsers write it in `Origin`: empty for the default port of the scheme."""
    port: str = origin["port"] or ""
    return "" if port == f":{DEFAULT_PORTS.get(origin['scheme'])}" else port


@accepting("addresses or networks such as 10.0.0.0/8, separated by commas")
def proxies(text: str) -> Proxies:
    """Parse IP addresses and networks, and `unix:` for all peers on Unix sockets."""
    entries = _SEPARATOR.split(text)
    networks = tuple(ipaddress.ip_network(entry, strict=False) for entry in entries if entry != UNIX)
    return Proxies(networks, unix=UNIX in entries)


@accepting("subprotocol names separated by commas")
def subprotocols(text: str) -> tuple[str, ...]:
    """Parse subprotocol names, separated by commas."""
    names = tuple(part.strip() for part in text.split(","))
    if not all(map(_TOKEN.fullmatch, names)):
        raise ValueError
    return names


@accepting("query:NAME, subprotocol:PREFIX or cookie:NAME; several separated by commas")
def token_places(text: str) -> tuple[TokenPlace, ...]:
    """Parse the places of a token in a handshake, in order, separated like `tokens`."""
    return tuple(_token_place(part) for part in _SEPARATOR.split(text))


def _token_place(text: str) -> TokenPlace:
    kind, _, name = text.partition(":")
    if kind not in {QUERY, SUBPROTOCOL, COOKIE} or not _TOKEN.fullmatch(name):
        raise ValueError
    return TokenPlace(kind, name)


def host_name(text: str) -> str:
    """Parse a host name, or an IPv6 address in brackets.

    A zone may follow the address after `%`, or after `%25` as in a URL (RFC 6874 section 2).
    """
    if text.startswith("["):
        return str(ipaddress.IPv6Address(_ENCODED_ZONE.sub("%", text[1:-1])))
    if not _NAME.fullmatch(text):
        raise ValueError
    return text.lower()


def split_url(text: str) -> tuple[str, str, int, str]:
    """Return the scheme, host, port and target of a URL. The default scheme is `http`."""
    scheme = text.split("://", 1)[0] if "://" in text else "http"
    if scheme not in DEFAULT_PORTS or "#" in text or not _VISIBLE.fullmatch(text):
        raise ValueError
    parts = urlsplit(text if "://" in text else f"http://{text}")
    authority = _AUTHORITY.fullmatch(parts.netloc)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    if not authority or not TARGET.fullmatch(target):
        raise ValueError
    port = int(authority[2] or DEFAULT_PORTS[scheme])
    if not 0 < port <= MAX_PORT:
        raise ValueError
    return scheme, host_name(authority[1]), port, target
