"""The types of settings: which text of a user is accepted, and the value that it becomes."""

import ipaddress
import re
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar
from unicodedata import ucd_3_2_0
from urllib.parse import urlsplit

from wsaas.access import UNIX, Origins, Proxies, is_loopback_host
from wsaas.grammar import TOKEN
from wsaas.memory.limit import MIN_LIMIT

_TARGET = re.compile(r"[!$&-;=?-Z_a-z~%\[\]]*(?:\{id\}[!$&-;=?-Z_a-z~%\[\]]*)*")
_AUTHORITY = re.compile(r"(\[[^\[\]]+\]|[^\[\]:]+)(?::([0-9]{1,5}))?")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")
_ENCODED_ZONE = re.compile(r"%25(?=.)")
_VISIBLE = re.compile(r"[!-~]+")
_TOKEN = re.compile(TOKEN)
_SEPARATOR = re.compile(r"[ \t]*(?:,|\r?\n)\s*")
_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<wild>\*\.)?(?P<host>[^/\s:*@]+|\[[0-9a-f:]+\])(?P<port>:[0-9]{1,5})?"
)
_HOSTLESS_ORIGIN = re.compile(r"(?!https?:|wss?:)[a-z][a-z0-9+.-]*://")
_DEVIATIONS = frozenset("ß\u03c2\u200c\u200d")
"""Sharp s, final sigma and two joiners (UTS 46 section 2.3), in lower case."""
_SECRET_PREFIX = "whsec_"  # noqa: S105 - no secret itself
_SECRET_SIZES = range(24, 65)
_PORTS = {"http": 80, "https": 443}
MAX_PORT = 65535

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
        """Return the type of a number for which 0, which it accepts, has the `meaning`."""
        return replace(self, accepts=f"{self.accepts}, or 0 for {meaning}")


def accepting(accepts: str) -> Callable[[Callable[[str], Value_co]], SettingType[Value_co]]:
    """Return a decorator that makes a type of the function that converts its texts."""
    return lambda convert: SettingType(convert, accepts)


@dataclass(frozen=True, slots=True)
class Backend:
    """Where the backend is. `target`: path and query of its requests, `{id}` in it still to be replaced."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """The `Host` header: without the port where it is the scheme's own.

        So is the zone of an IPv6 address, which means something to this machine only (RFC 6874 section 1).
        """
        host = f"[{self.host.partition('%')[0]}]" if ":" in self.host else self.host
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
        return bool(self.path) or is_loopback_host(self.host)


@dataclass(frozen=True, slots=True)
class PublicName:
    """What `ws_uri` starts with: `text` as it was set, and the `host`, `port` and path `prefix` in it."""

    text: str
    host: str
    port: int
    prefix: str


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
    """Parse a number of milliseconds that is not negative; return seconds."""
    return _integer(text) / 1000


@accepting("a number of milliseconds above 0")
def positive_milliseconds(text: str) -> float:
    """Parse a number of milliseconds above 0; return seconds."""
    return _positive_integer(text) / 1000


@accepting(f"a number of bytes from {MIN_LIMIT}")
def memory(text: str) -> int:
    """Parse a number of bytes from `MIN_LIMIT` on, or 0."""
    number = _integer(text)
    if 0 < number < MIN_LIMIT:
        raise ValueError
    return number


@accepting("an octal number from 0 to 777")
def file_mode(text: str) -> int:
    """Parse the permissions of a file: octal, at most 777."""
    if not re.fullmatch(r"0?[0-7]{1,3}", text):
        raise ValueError
    return int(text, 8)


def one_of(*choices: str) -> SettingType[str]:
    """Return the type of a choice. It is written in any case of letters, and becomes what `choices` has."""
    spelled = {choice.lower(): choice for choice in choices}

    def parse(text: str) -> str:
        if text.lower() not in spelled:
            raise ValueError
        return spelled[text.lower()]

    return SettingType(parse, f"{', '.join(choices[:-1])} or {choices[-1]}")


@accepting("on or off")
def switch(text: str) -> bool:
    """Parse `on` or `off`, in any case of letters."""
    return one_of("on", "off").parse(text) == "on"


@accepting("host:port/path, or an http:// or https:// URL, without credentials or fragment")
def backend(text: str) -> Backend:
    """Parse the URL of the backend, `http` without a scheme."""
    scheme, host, port, target = _split(text)
    return Backend(scheme, host, port, target if target.startswith("/") else f"/{target}")


@accepting("host:port, optionally with http:// or https:// in front and a path that does not end with /")
def public_name(text: str) -> PublicName:
    """Parse what `ws_uri` starts with."""
    _, host, port, prefix = _split(text)
    if prefix.endswith("/") or "?" in text or "{" in prefix:
        raise ValueError
    return PublicName(text, host, port, prefix)


@accepting("host:port or unix:/path")
def address(text: str) -> Address:
    """Parse `host:port` or `unix:/path`; an empty host, or `*`, is every interface."""
    if text.startswith(UNIX):
        if not text.startswith(f"{UNIX}/"):
            raise ValueError
        return Address(path=text[len(UNIX) :])
    host, _, port = text.rpartition(":")
    number = _integer(port)
    if number > MAX_PORT:
        raise ValueError
    return Address("" if host in {"", "*"} else _host(host), number)


def _path(text: str) -> Path:
    if not text.isprintable() or text.endswith("/"):
        raise ValueError
    return Path(text)


any_path = SettingType(Path, "the path of a file")
pem_path = SettingType(_path, "the path of a PEM file")
writable_path = SettingType(_path, "the path of a file that can be created or written")


@accepting("tokens of visible ASCII characters, separated by commas")
def tokens(text: str) -> tuple[bytes, ...]:
    """Parse bearer tokens (RFC 6750 section 2.1): visible ASCII, with commas or line ends between them."""
    found = _SEPARATOR.split(text)
    if not all(map(_VISIBLE.fullmatch, found)):
        raise ValueError
    return tuple(token.encode() for token in found)


@accepting("whsec_ and 24 to 64 random bytes in base64; several separated by commas")
def signing_secrets(text: str) -> tuple[bytes, ...]:
    """Parse secrets of Standard Webhooks, `whsec_` and 24 to 64 bytes in base64, separated like tokens."""
    return tuple(_signing_secret(secret) for secret in _SEPARATOR.split(text))


def _signing_secret(text: str) -> bytes:
    if not text.startswith(_SECRET_PREFIX):
        raise ValueError
    # A wrong character raises binascii.Error, which is a ValueError.
    secret = b64decode(text[len(_SECRET_PREFIX) :], validate=True)
    if len(secret) not in _SECRET_SIZES:
        raise ValueError
    return secret


@accepting(
    "*, or origins such as https://example.com, https://*.example.com, file:// or null, separated by commas; if an "
    "international name is not accepted, write it as browsers send it (xn--...)"
)
def origins(text: str) -> Origins:
    """Parse web origins; `*` for all, `*.` before a host for all of its subdomains.

    A scheme of its own may stand without a host, as in `file://`, which Android's WebView sends for its files.
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
    """Return a host as a browser writes it in `Origin`: in ASCII, each label with other letters as `xn--...`.

    Browsers follow UTS 46, Python's codec IDNA 2003. They differ in the four letters that IDNA 2003 maps to others, and
    in what came after Unicode 3.2. Names with those are refused, as a wrong translation could be another name.
    """
    if host.isascii():
        return host
    if any(letter in _DEVIATIONS or ucd_3_2_0.category(letter) == "Cn" for letter in host):
        raise ValueError
    # UnicodeError is a ValueError.
    name = host.encode("idna").decode().lower()
    if not _NAME.fullmatch(name):
        raise ValueError
    return name


def _non_default_port(origin: re.Match[str]) -> str:
    """Return the port as a browser writes it in `Origin`: not at all where it is the scheme's own."""
    port: str = origin["port"] or ""
    return "" if port == f":{_PORTS.get(origin['scheme'])}" else port


@accepting("addresses or networks such as 10.0.0.0/8, separated by commas")
def proxies(text: str) -> Proxies:
    """Parse addresses and networks, and `unix:` for peers on Unix sockets."""
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


def _host(text: str) -> str:
    """Return the host that `text` names: a name that the resolver takes, or an IPv6 address in brackets.

    Its zone may follow `%`, as programs show it, or `%25`, as a URL spells it (RFC 6874 section 2).
    """
    if text.startswith("["):
        return str(ipaddress.IPv6Address(_ENCODED_ZONE.sub("%", text[1:-1])))
    if not _NAME.fullmatch(text):
        raise ValueError
    return text.lower()


def _split(text: str) -> tuple[str, str, int, str]:
    """Return the scheme, host, port and target of a URL, whose scheme is optional."""
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
