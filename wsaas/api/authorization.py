"""Who may use the REST API: bearer tokens, client certificates, and protection from web pages."""

from typing import Final

from wsaas.access import HostCheck, from_other_page, from_own_page, from_web_page
from wsaas.api.bearer_tokens import BearerTokens
from wsaas.errors import Forbidden, Unauthorized
from wsaas.http.headers import Headers
from wsaas.http.request import Request
from wsaas.settings import Settings, control_address

_OF_PROXIES: Final = (
    b"forwarded",
    b"via",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-proto",
    b"x-real-ip",
)
"""Headers that proxies add. A browser on this machine sends none of them."""

_OF_WEB_PAGE: Final = Forbidden("Web pages may not use the REST API: set CONTROL_TOKEN, and send it as a bearer token.")


class Authorization:
    """Decides by the head of a request whether it is served.

    With `CONTROL_TOKEN`, a request needs one of its tokens. With `CONTROL_TLS_CA` alone, the client certificate of the
    connection is enough. With neither, anyone may make requests except web pages: a request that a page could have made
    a browser send is refused. Browsers cannot reach a Unix socket, so any `Host` is accepted there.

    `known_hosts`: `Host` values that `check` has accepted. A request with one of them, and without the headers that
    browsers add, needs no further `check`. Empty if a token is required.
    """

    __slots__ = ("_has_proof", "_has_tls", "_hosts", "_local_hosts", "_needs_token", "known_hosts", "tokens")

    def __init__(self, settings: Settings) -> None:
        """Require the credentials that `settings` ask for."""
        address, node = control_address(settings), settings.node_address
        self._has_proof = bool(settings.control_token or settings.control_tls_ca)
        self._hosts = HostCheck(
            (settings.ws_hostname.host, address.host, node.host if node else ""), any_host=bool(address.path)
        )
        self._local_hosts = HostCheck((), any_host=bool(address.path))
        self._has_tls = bool(settings.tls_cert)
        self._needs_token = bool(settings.control_token)
        # Filled by `check`, which looks at the Host only if neither a token nor a certificate is required.
        self.known_hosts = self._hosts.known
        self.tokens = BearerTokens(settings.control_token)

    def check(self, request: Request) -> None:
        """Raise `Unauthorized` if a required token is missing or wrong, `Forbidden` if a web page may be the sender."""
        headers = request.headers
        if self._needs_token:
            self._check_token(headers)
        elif not self._has_proof:
            if from_web_page(headers):
                raise _OF_WEB_PAGE.with_traceback(None)
            if not self._hosts.allow(headers.get(b"host")):
                raise Forbidden(
                    "The REST API does not accept this Host: set CONTROL_TOKEN, or name the host in WS_HOSTNAME."
                )

    def check_console(self, request: Request) -> None:
        """Do what `check` does for the console, which may only be used on this machine if nothing is required.

        Requests of the page of this gateway are let through. A client certificate does not show who sends a request:
        a browser adds it to those of all pages. But a proxy with a certificate may change the `Host`.
        """
        headers = request.headers
        if self._needs_token:
            self._check_token(headers)
            return
        self.check_page(request)
        if from_other_page(headers) if self._has_proof else not from_own_page(headers, has_tls=self._has_tls):
            raise _OF_WEB_PAGE.with_traceback(None)

    def check_page(self, request: Request) -> None:
        """Raise `Forbidden` if nothing is required, and the page of the console may be seen from another machine."""
        headers = request.headers
        if not self._has_proof and (
            any(name in headers for name in _OF_PROXIES) or not self._local_hosts.allow(headers.get(b"host"))
        ):
            raise Forbidden(
                "Without CONTROL_TOKEN, the console is only for this machine: use localhost, and no proxy in between."
            )

    def _check_token(self, headers: Headers) -> None:
        if not self.tokens.accept(headers.get(b"authorization")):
            raise Unauthorized(
                "The header Authorization: Bearer <CONTROL_TOKEN> is required.", ("WWW-Authenticate", "Bearer")
            )

    def check_again(self, request: Request) -> None:
        """Do what `check` does, faster for a request with a `Host` that it has accepted before."""
        headers = request.headers
        if headers.get(b"host") not in self.known_hosts or b"origin" in headers or b"sec-fetch-site" in headers:
            self.check(request)
