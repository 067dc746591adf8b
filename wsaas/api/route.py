"""A row of the table of routes: which paths it serves, and what each method does there."""

import re
from collections.abc import Callable, Mapping

from wsaas.errors import MethodNotAllowed
from wsaas.http.deferred import DeferredResponse
from wsaas.http.request import Request
from wsaas.http.serialize import OutgoingResponse

Response = OutgoingResponse | DeferredResponse

Handler = Callable[..., Response]
"""Called with the request and, as text, each group of the path's pattern. Raises the `HTTPError` that refuses it."""


def no_body(_request: Request, *_names: str) -> int:
    """Let a request be answered without its body, which is read and discarded."""
    return 0


class Route:
    """What is served at the paths that match a pattern.

    `methods`: the handler of each method; a HEAD is handled as a GET. `body_limit`: called like a handler as soon as
    the head is complete; see `http.request.BodyLimit`. `is_public`: no authorization is needed.
    """

    __slots__ = ("_allow", "_methods", "body_limit", "is_public", "pattern")

    def __init__(
        self,
        pattern: bytes,
        methods: Mapping[bytes, Handler],
        body_limit: Callable[..., int] = no_body,
        *,
        is_public: bool = False,
    ) -> None:
        """Serve the decoded paths that `pattern` matches from start to end."""
        self._methods = dict(methods)
        if b"GET" in methods:
            self._methods[b"HEAD"] = methods[b"GET"]
        self._allow = ", ".join(method.decode() for method in self._methods)
        self.body_limit = body_limit
        self.is_public = is_public
        self.pattern = re.compile(pattern)

    def match(self, path: bytes) -> tuple[str, ...] | None:
        """Return the names in `path`, None where this is not its route."""
        found = self.pattern.fullmatch(path)
        return None if found is None else tuple(name.decode("latin-1") for name in found.groups())

    def handler(self, method: bytes) -> Handler:
        """Return what handles `method`. Raises `MethodNotAllowed`."""
        if method not in self._methods:
            raise MethodNotAllowed(f"This path supports only {self._allow}.", ("Allow", self._allow))
        return self._methods[method]
