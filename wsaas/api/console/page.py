"""`GET /console`: the page. It has no secret in it, so it is served without a token."""

from typing import Final

from wsaas.console_page import console_page, content_security_policy
from wsaas.http.request import Request
from wsaas.http.serialize import OutgoingResponse

_HEADERS: Final = (
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
)


def get_page(_request: Request) -> OutgoingResponse:
    """Return the page."""
    headers = (("Content-Security-Policy", content_security_policy()), *_HEADERS)
    return OutgoingResponse(200, console_page(), headers, content_type="text/html; charset=utf-8")
