"""Who may use the REST API of Azure Web PubSub: who has a token for the path, signed with an access key."""

from collections.abc import Callable
from typing import Final
from urllib.parse import unquote, urlsplit

from wsaas.access_keys import AccessKeys, audiences, bearer_token, is_current
from wsaas.api.authorization import Authorization
from wsaas.errors import Unauthorized
from wsaas.http.request import Request

HUBS: Final = b"/api/hubs/"
"""What all paths contain."""

_CHALLENGE: Final = ("WWW-Authenticate", "Bearer")


class AzureAccess:
    """Checks the tokens of requests. Without keys, requests are authorized as all others.

    A `CONTROL_TOKEN` is accepted, too.
    """

    __slots__ = ("_keys", "_prefix", "_wall")

    def __init__(self, keys: AccessKeys | None, prefix: str, wall: Callable[[], float]) -> None:
        """Accept tokens that are signed with `keys`. `prefix`: of the path, which a proxy may have stripped."""
        self._keys = keys
        self._prefix = _segments(prefix)
        self._wall = wall

    def check(self, authorization: Authorization, request: Request) -> None:
        """Raise `Unauthorized` without a valid token."""
        if self._keys is None:
            authorization.check(request)
            return
        given = request.headers.get(b"authorization")
        if authorization.tokens.accept(given):
            return
        claims = self._keys.read(bearer_token(given))
        if claims is None:
            raise Unauthorized("A token that is signed with one of CONTROL_AZURE_KEYS is required.", _CHALLENGE)
        if not is_current(claims, self._wall()):
            raise Unauthorized("The token has expired, or is not valid yet.", _CHALLENGE)
        path = self._path(request.target.decode("latin-1"))
        if not any(self._path(url) == path for url in audiences(claims)):
            raise Unauthorized("The token is for another path.", _CHALLENGE)

    def _path(self, url: str) -> list[str] | None:
        """Return the segments of the path of a URL or target, each decoded, without the prefix.

        Its host does not count: it is another one behind a proxy, and in a cluster. Nor does the query, as in Azure.
        """
        try:
            segments = _segments(urlsplit(url).path)
        except ValueError:
            return None
        count = len(self._prefix)
        return ["", *segments[count:]] if segments[:count] == self._prefix else segments


def _segments(path: str) -> list[str]:
    """Return the segments of a path. An encoded slash is part of a segment (RFC 3986 section 2.2)."""
    return [unquote(segment) for segment in path.split("/")]
