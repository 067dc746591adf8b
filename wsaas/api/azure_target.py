"""The targets of the REST API of Azure Web PubSub: which operation a request asks for, and on what."""

from typing import Final
from urllib.parse import parse_qs, unquote_to_bytes

from wsaas.api.azure_access import HUBS
from wsaas.errors import BadRequest, NotFound
from wsaas.hubs import HUB_FORM, client_group, is_hub, user_group

SUMMARY: Final = "ws-summary"
"""The parameter of a request from another process, which gets a summary of what was done instead of Azure's answer."""

_COLLECTIONS: Final = frozenset({"connections", "groups", "users"})
_NAMED: Final = (1, 3)
"""The places of names in a path below a hub."""


class Target:
    """The target of a request. `hub`: the name of the hub, `query`: the values of each parameter.

    `shape`: the segments of the path below the hub, with a `*` in place of each name; `names`: these names.
    """

    __slots__ = ("hub", "names", "query", "shape")

    def __init__(self, target: bytes) -> None:
        """Read `target`, whose path contains `HUBS`. Raises `NotFound` and `BadRequest`."""
        path, _, query = target.partition(b"?")
        hub, *segments = [_decode(part) for part in path.partition(HUBS)[2].split(b"/")]
        if not is_hub(hub):
            raise NotFound(f"There is no such hub: the name of a hub is {HUB_FORM}.")
        self.hub = hub
        self.query = parse_qs(query.decode("latin-1"), keep_blank_values=True)
        is_collection = segments and segments[0] in _COLLECTIONS
        self.names = [segments[at] for at in _NAMED if is_collection and at < len(segments)]
        self.shape = tuple("*" if is_collection and at in _NAMED else segment for at, segment in enumerate(segments))

    @property
    def is_from_peer(self) -> bool:
        """Whether another process has forwarded the request, and wants a summary."""
        return SUMMARY in self.query

    def parameter(self, name: str) -> str:
        """Return the last value of a parameter, empty if there is none."""
        return self.query.get(name, [""])[-1]

    def group(self, at: int) -> str:
        """Return the group for the name at this place. Raises `BadRequest`."""
        return _checked(client_group(self.hub, self.names[at]), "group")

    def user(self) -> str:
        """Return the group of the clients of the user that comes first. Raises `BadRequest`."""
        return _checked(user_group(self.hub, self.names[0]), "user")


def with_summary(target: bytes) -> bytes:
    """Return a target that asks other processes for a summary."""
    return b"%b%b%b=1" % (target, b"&" if b"?" in target else b"?", SUMMARY.encode())


def _checked(group: str | None, what: str) -> str:
    if group is None:
        raise BadRequest(f"The name of the {what} is empty or too long.")
    return group


def _decode(segment: bytes) -> str:
    """Return a segment of a path as text."""
    try:
        return unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        raise BadRequest("The path is not percent-encoded UTF-8.") from None
