"""For backends: verify and parse the requests of a gateway, answer them, and reach its clients.

`verify`, `parse` and the answers need nothing but Python. `Client` and `AsyncClient` need `pip install wsaas[backend]`.
"""

from wsaas.backend.answers import Answer, InvalidAnswer, accept, ok, reject, retry_later
from wsaas.backend.events import ClientRequest, Connect, Disconnect, Event, InvalidEvent, Message, parse
from wsaas.backend.headers import wsgi_headers
from wsaas.backend.signature import WebhookVerificationError, sign, verify

__all__ = [
    "Answer",
    "ClientRequest",
    "Connect",
    "Disconnect",
    "Event",
    "InvalidAnswer",
    "InvalidEvent",
    "Message",
    "WebhookVerificationError",
    "accept",
    "ok",
    "parse",
    "reject",
    "retry_later",
    "sign",
    "verify",
    "wsgi_headers",
]
