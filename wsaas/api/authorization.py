"""Who may use the REST API: bearer tokens, client certificates, and the check against requests of web pages."""

from wsaas.access import HostCheck, from_web_page
from wsaas.api.bearer_tokens import BearerTokens
from wsaas.errors import Forbidden, HTTPError, Unauthorized
from wsaas.http.request import Request
from wsaas.settings import Settings, control_address


class Authorization:
    """Decides whether a request is served, by its head.

    With `CONTROL_TOKEN` a request needs one of its tokens. With `CONTROL_TLS_CA` alone, the certificate of its
    connection is enough. With neither, nothing proves who makes a request: then those are refused that a web page may
    have made a browser send. A browser reaches no Unix socket, so any `Host` is taken there.

    `known_hosts`: `Host` values that were found to be allowed, where a request with one of them and without the headers
    of a web page needs no `check`; empty where a token is needed.
    """

    __slots__ = ("_has_proof", "_hosts", "_needs_token", "known_hosts", "tokens")

    def __init__(self, settings: Settings) -> None:
        """Require what `settings` ask for."""
        address = control_address(settings)
        self._has_proof = bool(settings.control_token or settings.control_tls_ca)
        self._hosts = HostCheck((settings.ws_hostname.host, address.host), any_host=bool(address.path))
        self._needs_token = bool(settings.control_token)
        # Only `check` fills it, and only where it looks at the Host at all.
        self.known_hosts = self._hosts.known
        self.tokens = BearerTokens(settings.control_token)

    def check(self, request: Request) -> None:
        """Raise `Unauthorized` without a valid token, `Forbidden` where a web page may have made the request."""
        headers = request.headers
        if self._needs_token:
            if not self.tokens.accept(headers.get(b"authorization")):
                raise Unauthorized(
                    "The header Authorization: Bearer <CONTROL_TOKEN> is required.", ("WWW-Authenticate", "Bearer")
                )
        elif not self._has_proof:
            if from_web_page(headers):
                raise Forbidden("Web pages may not use the REST API: set CONTROL_TOKEN, and send it as a bearer token.")
            if not self._hosts.allow(headers.get(b"host")):
                raise Forbidden(
                    "The REST API does not accept this Host: set CONTROL_TOKEN, or name the host in WS_HOSTNAME."
                )

    def allows(self, request: Request) -> bool:
        """Return whether `check` raises nothing."""
        try:
            self.check(request)
        except HTTPError:
            return False
        return True
