"""Request headers as the web frameworks of Python pass them: mappings, pairs, or a WSGI environment."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

Name = str | bytes
Pairs = Iterable[tuple[Name, Name]]


class HasItems(Protocol):
    """Anything with pairs of names and values: a dict, and the headers of nearly every framework."""

    def items(self) -> Iterable[tuple[Any, Any]]:
        """Return the pairs."""


HeadersLike = HasItems | Pairs

_PREFIX: Final = "HTTP_"
_UNPREFIXED: Final = frozenset({"CONTENT_TYPE", "CONTENT_LENGTH"})


def lower_names(headers: HeadersLike) -> dict[str, str]:
    """Return `headers` with their names in lower case. Values of a repeated header are joined with commas.

    Bytes, as in the pairs of ASGI, are decoded as Latin-1, which is also what WSGI and the frameworks do.
    """
    found: dict[str, str] = {}
    # Not `Mapping`: neither the headers of Flask nor those of `http.server` are one.
    for name, value in headers.items() if hasattr(headers, "items") else headers:
        key, text = _text(name).lower(), _text(value)
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


def wsgi_headers(environ: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers in a WSGI environment (PEP 3333), such as Django's `request.META`."""
    found = {}
    for key, value in environ.items():
        if key.startswith(_PREFIX):
            found[key.removeprefix(_PREFIX).replace("_", "-").lower()] = str(value)
        elif key in _UNPREFIXED and value:
            found[key.replace("_", "-").lower()] = str(value)
    return found


def _text(value: Name) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
