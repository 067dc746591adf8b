"""For backends: verify and parse the requests of a gateway, answer them, and reach its clients.

`verify`, `parse` and the answers need nothing but Python. `Client` and `AsyncClient` need
`pip install 'wsaas[backend]'`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from wsaas.backend.answers import Answer, InvalidAnswer, accept, bad_request, ok, reject, retry_later
from wsaas.backend.errors import (
    BadRequest,
    Forbidden,
    GatewayError,
    Gone,
    Incomplete,
    NotFound,
    SlowClient,
    TooLarge,
    TooManyGroups,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    Unknown,
)
from wsaas.backend.events import ClientRequest, Connect, Disconnect, Event, InvalidEvent, Message, parse
from wsaas.backend.headers import wsgi_headers
from wsaas.backend.results import CloseResult, ConnectionInfo, Page, PublishResult, SendResult
from wsaas.backend.signature import WebhookVerificationError, sign, verify

if TYPE_CHECKING:
    from wsaas.backend.async_client import AsyncClient as AsyncClient
    from wsaas.backend.client import Client as Client

__all__ = [
    "Answer",
    "BadRequest",
    "ClientRequest",
    "CloseResult",
    "Connect",
    "ConnectionInfo",
    "Disconnect",
    "Event",
    "Forbidden",
    "GatewayError",
    "Gone",
    "Incomplete",
    "InvalidAnswer",
    "InvalidEvent",
    "Message",
    "NotFound",
    "Page",
    "PublishResult",
    "SendResult",
    "SlowClient",
    "TooLarge",
    "TooManyGroups",
    "TooManyRequests",
    "Unauthorized",
    "Unavailable",
    "Unknown",
    "WebhookVerificationError",
    "accept",
    "bad_request",
    "ok",
    "parse",
    "reject",
    "retry_later",
    "sign",
    "verify",
    "wsgi_headers",
]

_CLIENTS: Final = {"AsyncClient": "wsaas.backend.async_client", "Client": "wsaas.backend.client"}


def __getattr__(name: str) -> Any:
    """Return a client, imported with its HTTP library when it is first asked for."""
    if name not in _CLIENTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(_CLIENTS[name]), name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{name} needs an HTTP library: pip install 'wsaas[backend]'") from error
