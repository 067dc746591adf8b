"""Which clients may ask the backend to connect with `EVENT_FORMAT=azure`: those with a valid token for their hub."""

from typing import Any, Final

from wsaas.access_keys import AccessKeys, audiences, bearer_token, is_current
from wsaas.errors import NotFound, Unauthorized
from wsaas.hubs import HUB_FORM, hub_in_path, hub_in_url, is_hub
from wsaas.websocket.handshake import Handshake

_CHALLENGE: Final = ("WWW-Authenticate", "Bearer")


class HubAccess:
    """Checks the hub and the token of clients before the backend is asked.

    Without keys, no token is needed: the backend decides alone, and what a token says does not count.
    """

    __slots__ = ("_default", "_keys")

    def __init__(self, default: str, keys: AccessKeys | None) -> None:
        """Accept tokens that are signed with `keys`. `default`: the hub of clients whose URL names none."""
        self._default = default
        self._keys = keys

    def check(self, handshake: Handshake, now: float) -> None:
        """Raise `NotFound` for a hub that cannot exist, `Unauthorized` without a token that is valid `now`."""
        named = hub_in_path(handshake.path, handshake.query)
        hub = self._default if named is None else named
        if not is_hub(hub):
            raise NotFound(f"There is no such hub: the name of a hub is {HUB_FORM}.")
        if self._keys is None:
            return
        token = bearer_token(handshake.authorization)
        if not token:
            raise Unauthorized("A token is required: send it as access_token in the query.", _CHALLENGE)
        claims = self._keys.read(token)
        if claims is None:
            raise Unauthorized("The token is not signed with one of CONTROL_AZURE_KEYS.", _CHALLENGE)
        if not is_current(claims, now):
            raise Unauthorized("The token has expired, or is not valid yet.", _CHALLENGE)
        if not is_for_hub(claims, hub):
            raise Unauthorized("The token is for another hub.", _CHALLENGE)


def is_for_hub(claims: dict[str, Any], hub: str) -> bool:
    """Return whether a token with these `claims` is for clients of `hub`. Hosts do not count: a proxy has another."""
    return any((hub_in_url(url) or "").lower() == hub.lower() for url in audiences(claims))
