"""One route of the REST API: the paths that it serves, and a handler for each method."""

import re
from collections.abc import Callable, Mapping

from wsaas.api.authorization import Authorization
from wsaas.errors import MethodNotAllowed
from wsaas.http.deferred import DeferredResponse
from wsaas.http.request import Request
from wsaas.http.serialize import OutgoingResponse
from wsaas.http.streamed import StreamedResponse

Response = OutgoingResponse | DeferredResponse | StreamedResponse

Handler = Callable[..., Response]
"""Called with the request and each group of the path's pattern, as text. Raises an `HTTPError` to refuse a request."""

Check = Callable[[Authorization, Request], None]
"""Raises `Unauthorized` or `Forbidden` for a request that is not allowed."""


def _allow(_authorization: Authorization, _request: Request) -> None:
    """Let everybody through."""


def no_body(_request: Request, *_names: str) -> int:
    """Return 0: the handler needs no body. A body that is sent anyway is read and discarded."""
    return 0


class Route:
    """The handlers of the paths that match a pattern.

    `methods`: the handler of each method; a route with a GET also has a HEAD, with the same handler.
    `body_limit`: called with the arguments of a handler as soon as the head is complete; see `http.request.BodyLimit`.
    By default, the body is discarded, and the handler gets an empty one.
    `is_public`: everybody may use it. `check`: authorizes a request by its head, by default as the REST API does.
    """

    __slots__ = ("_allow", "body_limit", "check", "is_public", "methods", "pattern")

    def __init__(
        self,
        pattern: bytes,
        methods: Mapping[bytes, Handler],
        body_limit: Callable[..., int] = no_body,
        *,
        is_public: bool = False,
        check: Check | None = None,
    ) -> None:
        """Serve decoded paths that fully match `pattern`."""
        self.methods = dict(methods)
        if b"GET" in methods:
            self.methods[b"HEAD"] = methods[b"GET"]
        self._allow = ", ".join(method.decode() for method in self.methods)
        self.body_limit = body_limit
        self.check: Check = check or (_allow if is_public else Authorization.check)
        self.is_public = is_public
        self.pattern = re.compile(pattern)

    def verify(self, authorization: Authorization, request: Request) -> None:
        """Authorize a complete request for which `check` does not suffice. Raises what `check` raises."""

    def match(self, path: bytes) -> tuple[str, ...] | None:
        """Return the groups of the pattern in `path`, or None if the pattern does not match."""
        found = self.pattern.fullmatch(path)
        return None if found is None else tuple(name.decode("latin-1") for name in found.groups())

    def handler(self, method: bytes) -> Handler:
        """Return the handler of `method`. Raises `MethodNotAllowed`."""
        if method not in self.methods:
            raise MethodNotAllowed(f"This path supports only {self._allow}.", ("Allow", self._allow))
        return self.methods[method]
