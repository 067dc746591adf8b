"""`GET /openapi.json`: the description of the REST API and of the requests to the backend, for tools."""

from functools import lru_cache
from hashlib import sha256
from importlib.resources import files
from typing import Final

import orjson

from wsaas import __version__
from wsaas.http.headers import members
from wsaas.http.request import Request
from wsaas.http.serialize import OutgoingResponse
from wsaas.settings import Settings

_DOCUMENT: Final = files("wsaas.api").joinpath("openapi.json").read_bytes()
"""The document, written by hand. Tests compare it with the routes, the errors and the requests."""


class OpenApiResource:
    """The document of a gateway, which has the same bytes until the gateway is started with other settings."""

    __slots__ = ("_not_modified", "_response", "_tag")

    def __init__(self, settings: Settings) -> None:
        """Prepare the document: it names the version and `WS_HOSTNAME` of this gateway."""
        url = settings.ws_hostname.text
        if "://" not in url:
            url = f"{'https' if settings.tls_cert else 'http'}://{url}"
        body = _document(url)
        self._tag = f'"{sha256(body).hexdigest()[:16]}"'
        headers = (("ETag", self._tag), ("Cache-Control", "no-cache"))
        self._response = OutgoingResponse(200, body, headers)
        self._not_modified = OutgoingResponse(304, body, headers)

    def get(self, request: Request) -> OutgoingResponse:
        """Return the document, or 304 if the caller has it (RFC 9110 section 13.1.2)."""
        known = [each.removeprefix(b"W/") for each in members(request.headers, b"if-none-match")]
        return self._not_modified if self._tag.encode() in known else self._response


@lru_cache(maxsize=1)
def _document(url: str) -> bytes:
    """Return the document for a gateway whose REST API is at `url`."""
    document = orjson.loads(_DOCUMENT)
    document["info"]["version"] = __version__
    document["servers"][0]["url"] = url
    return orjson.dumps(document)
