"""The hubs of Azure Web PubSub: their names, where they are in URLs, and the groups that stand for them.

With `EVENT_FORMAT=azure`, each client is in a group for its hub and, if it has a user id, in one for its user. Groups
of the application belong to a hub. So everything that is done to a hub, a user or a group is done to one group.
"""

import re
from typing import Final
from urllib.parse import parse_qs, urlsplit

from wsaas.grammar import is_group_name

HUB_FORM: Final = "a letter and up to 63 letters, digits and underscores"
"""What the name of a hub is, for error messages."""

_HUB: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_PATH: Final = re.compile(r"(?:/.*)?/client/hubs/([^/]*)/?")
_OLD_PATH: Final = re.compile(r"(?:/.*)?/client/?")
_ESCAPED: Final = re.compile(rb"[^A-Za-z0-9._~:@-]")
"""Bytes that are escaped in names of groups. The exclamation mark starts an escape."""


def is_hub(name: str) -> bool:
    """Return whether `name` can be that of a hub. Upper and lower case make no difference."""
    return _HUB.fullmatch(name) is not None


def hub_in_path(path: str, query: str) -> str | None:
    """Return the hub in `path` and `query` of a client's URL, which may be no valid name; None if there is none."""
    found = _PATH.fullmatch(path)
    if found is not None:
        return found[1]
    if _OLD_PATH.fullmatch(path) is not None and (named := parse_qs(query).get("hub")):
        return named[0]
    return None


def hub_in_url(url: str) -> str | None:
    """Return the hub in the URL of a client, None if there is none."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return hub_in_path(parts.path, parts.query)


def hub_group(hub: str) -> str:
    """Return the name of the group of all clients of a hub."""
    return f"{hub.lower()}:hub"


def user_group(hub: str, user_id: str) -> str | None:
    """Return the name of the group of all clients of a user, None if the id is too long."""
    return _group(hub, "user", user_id)


def client_group(hub: str, name: str) -> str | None:
    """Return the name of the group that is the group `name` of a hub, None if the name is empty or too long."""
    return _group(hub, "group", name)


def _group(hub: str, kind: str, name: str) -> str | None:
    escaped = _ESCAPED.sub(lambda found: b"!%02X" % found[0][0], name.encode("utf-8", "surrogatepass")).decode()
    group = f"{hub.lower()}:{kind}:{escaped}"
    return group if escaped and is_group_name(group) else None
