"""Where requests about a client may go: only to gateways that are known, and at each only to a client."""

import re
from collections.abc import Iterable
from typing import Final, NamedTuple
from urllib.parse import unquote

DEFAULT_PORTS: Final = {"http": 80, "https": 443}
MAX_PORT: Final = 65_535

_SCHEME: Final = r"(?:(?P<scheme>https?)://)?"
_HOST: Final = r"(?P<host>\[[0-9A-Fa-f:.]+\]|[\w.-]+)"
_PREFIX: Final = r"(?P<prefix>(?:/(?:(?![/?#\\])[!-~])+)*)"
_ID: Final = r"[A-Za-z0-9_-]{30}"
_BASE_URL: Final = re.compile(rf"{_SCHEME}{_HOST}(?::(?P<port>[0-9]{{1,5}})(?:-(?P<last>[0-9]{{1,5}}))?)?{_PREFIX}/*")
_WS_URI: Final = re.compile(rf"{_SCHEME}{_HOST}(?::(?P<port>[0-9]{{1,5}}))?{_PREFIX}/{_ID}")
_CLIENT: Final = re.compile(rf"(?:.*/)?({_ID})", re.DOTALL)
_CLIENT_ID: Final = re.compile(_ID)


class Gateway(NamedTuple):
    """The address of a REST API. `host`: in lower case. `ports`: with more than one, each worker has one of them."""

    scheme: str
    host: str
    ports: range
    prefix: str

    def has(self, scheme: str | None, host: str, port: str | None, prefix: str) -> bool:
        """Return whether a `ws_uri` of these parts leads here. Without a scheme, it has that of the gateway."""
        number = DEFAULT_PORTS[self.scheme] if port is None else int(port)
        same_place = host.lower() == self.host and number in self.ports and prefix == self.prefix
        return same_place and scheme in (None, self.scheme)


class Gateways:
    """The gateways that a `ws_uri` may lead to. Without any, it may lead anywhere."""

    def __init__(self, known: Iterable[str]) -> None:
        """Read the addresses. Raises `ValueError`."""
        self._known = [_gateway(each) for each in known]

    def __bool__(self) -> bool:
        """Return whether any gateway is known."""
        return bool(self._known)

    def url(self, ws_uri: str) -> str:
        """Return the URL of a client. Raises `ValueError` unless its `ws_uri` leads to a gateway that is known."""
        found = _WS_URI.fullmatch(ws_uri)
        if found is None or _has_dots(found["prefix"]):
            raise ValueError(f"the ws_uri is {ws_uri[:80]!r}: expected an address such as localhost:8080/<id>")
        scheme = found["scheme"]
        if self._known:
            expected = self._scheme_of(ws_uri, found)
        elif found["prefix"].endswith("/groups"):
            raise ValueError(f"the ws_uri {ws_uri[:80]!r} may be that of a group: with such a path, pass a base_url")
        else:
            expected = "http"
        return ws_uri if scheme else f"{expected}://{ws_uri}"

    def _scheme_of(self, ws_uri: str, found: re.Match[str]) -> str:
        for each in self._known:
            if each.has(found["scheme"], found["host"], found["port"], found["prefix"]):
                return each.scheme
        raise ValueError(
            f"the ws_uri {ws_uri[:80]!r} leads neither to the base_url nor to one of the nodes: if it comes from a "
            "request whose signature was verified, add the WS_HOSTNAME of its gateway to nodes, with its port and path"
        )


def is_client_id(text: str) -> bool:
    """Return whether `text` has the form of an id."""
    return _CLIENT_ID.fullmatch(text) is not None


def client_id(client: str) -> str:
    """Return the id of a client, from its `ws_uri` or id. Raises `ValueError`."""
    found = _CLIENT.fullmatch(client)
    if found is None:
        raise ValueError(f"the client is {client[:80]!r}: expected its ws_uri, or its id of 30 characters")
    return found[1]


def base_url(address: str) -> str:
    """Return the URL of a REST API, without a slash at its end. Raises `ValueError` if `address` is none."""
    if len(_gateway(address).ports) > 1:
        raise ValueError(f"the base_url is {address!r}: expected one port; a range of ports may be in nodes")
    return (address if "://" in address else f"http://{address}").rstrip("/")


def _gateway(address: str) -> Gateway:
    found = _BASE_URL.fullmatch(address)
    if found is None or _has_dots(found["prefix"]):
        raise ValueError(
            f"the address is {address!r}: expected one such as localhost:8080, or https://ws.example.com/hub"
        )
    scheme = found["scheme"] or "http"
    first = int(found["port"] or DEFAULT_PORTS[scheme])
    last = int(found["last"] or first)
    if not 1 <= first <= last <= MAX_PORT:
        raise ValueError(
            f"the address is {address!r}: expected a port of 1 to {MAX_PORT}, or a range such as 8081-8084"
        )
    return Gateway(scheme, found["host"].lower(), range(first, last + 1), found["prefix"])


def _has_dots(prefix: str) -> bool:
    """Return whether a path has segments that are removed from it, as in a file system."""
    return any(unquote(segment) in {".", ".."} for segment in prefix.split("/"))
