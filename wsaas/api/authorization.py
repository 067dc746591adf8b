"""Who may use the REST API: bearer tokens, client certificates, signatures, and protection from web pages."""

from collections.abc import Callable
from typing import Final

from wsaas.access import HostCheck, from_other_page, from_own_page, from_web_page
from wsaas.api.aws_keys import AwsKeys
from wsaas.api.bearer_tokens import BearerTokens
from wsaas.api.sigv4 import is_signed
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

_NOT_AUTHORIZED: Final = "The header Authorization: Bearer <CONTROL_TOKEN> is required."
_NO_TOKENS: Final = (
    "CONTROL_AWS_KEYS is only for paths with /@connections/, CONTROL_AZURE_KEYS for those below /api/hubs: set "
    "CONTROL_TOKEN to make other requests."
)

_OF_WEB_PAGE: Final = Forbidden("Web pages may not use the REST API: set CONTROL_TOKEN, and send it as a bearer token.")


class Authorization:
    """Decides by the head of a request whether it is served.

    With `CONTROL_TOKEN`, a request needs one of its tokens. With `CONTROL_TLS_CA` alone, the client certificate of the
    connection is enough. With neither, anyone may make requests except web pages: a request that a page could have made
    a browser send is refused. Browsers cannot reach a Unix socket, so any `Host` is accepted there.

    With `CONTROL_AWS_KEYS`, a request in the form of AWS needs a signature by one of these keys, or a token. They open
    nothing else: if there is neither a token nor a `CONTROL_TLS_CA`, all other requests are refused. It is the same
    with `CONTROL_AZURE_KEYS` (see `azure_access`).

    `known_hosts`: `Host` values that `check` has accepted. A request with one of them, and without the headers that
    browsers add, needs no further `check`. Empty if a token is required.
    """

    __slots__ = (
        "_has_proof",
        "_has_tls",
        "_hosts",
        "_local_hosts",
        "_needs_token",
        "aws_keys",
        "known_hosts",
        "tokens",
    )

    def __init__(self, settings: Settings, wall: Callable[[], float]) -> None:
        """Require the credentials that `settings` ask for. `wall`: returns the time in seconds since the epoch."""
        address, node = control_address(settings), settings.node_address
        has_keys = bool(settings.control_aws_keys or settings.control_azure_keys)
        self._has_proof = bool(settings.control_token or settings.control_tls_ca or has_keys)
        self._hosts = HostCheck(
            (settings.ws_hostname.host, address.host, node.host if node else ""), any_host=bool(address.path)
        )
        self._local_hosts = HostCheck((), any_host=bool(address.path))
        self._has_tls = bool(settings.tls_cert)
        self._needs_token = bool(settings.control_token or (has_keys and not settings.control_tls_ca))
        # Filled by `check`, which looks at the Host only if neither a token nor a certificate is required.
        self.known_hosts = self._hosts.known
        self.aws_keys = AwsKeys(settings.control_aws_keys, wall)
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

    def check_aws(self, request: Request) -> None:
        """Do what `check` does for a request in the form of AWS, of which only the head has to be there.

        Call `verify_aws` once the body is there.
        """
        if not len(self.aws_keys):
            self.check(request)
        elif is_signed(request.headers):
            self.aws_keys.check(request)
        elif not self.tokens.accept(request.headers.get(b"authorization")):
            raise Forbidden("A signature by one of the keys in CONTROL_AWS_KEYS is required, or a CONTROL_TOKEN.")

    def verify_aws(self, request: Request) -> None:
        """Raise `Forbidden` if the signature of a complete request in the form of AWS is wrong."""
        if len(self.aws_keys) and is_signed(request.headers):
            self.aws_keys.verify(request)

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
                _NO_TOKENS if self.tokens.header is None else _NOT_AUTHORIZED, ("WWW-Authenticate", "Bearer")
            )

    def check_again(self, request: Request) -> None:
        """Do what `check` does, faster for a request with a `Host` that it has accepted before."""
        headers = request.headers
        if headers.get(b"host") not in self.known_hosts or b"origin" in headers or b"sec-fetch-site" in headers:
            self.check(request)
