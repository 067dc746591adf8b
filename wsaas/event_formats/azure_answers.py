"""What the answers of event handlers of Azure Web PubSub mean."""

from codecs import BOM_UTF8
from typing import Any, Final

import orjson

from wsaas import errors, hubs
from wsaas.delivery.message_answer import MAX_CONTEXT, InvalidAnswer, valid_context
from wsaas.delivery.verdicts import Accepted, Actions, Rejected
from wsaas.errors import HTTPError
from wsaas.events import Message
from wsaas.http import media_type
from wsaas.http.headers import content_coding
from wsaas.http.media_type import BINARY, EITHER, TEXT
from wsaas.http.response import Response
from wsaas.websocket.frames import valid_text

STATE: Final = b"ce-connectionstate"
"""The header with the state of the connection: the same as its context."""


class Connect:
    """A connect event that the handler accepted. `user_id`: None if the answer has none. `groups`: as in the answer."""

    __slots__ = ("groups", "state", "subprotocol", "user_id")

    def __init__(self, subprotocol: str | None, state: str | None, user_id: str | None, groups: list[str]) -> None:
        """Keep the values."""
        self.groups = groups
        self.state = state
        self.subprotocol = subprotocol
        self.user_id = user_id


def read_connect(response: Response) -> Connect | Rejected:
    """Return what a 2xx answer to a connect event says. `roles` are ignored: they are for another subprotocol."""
    try:
        state = read_state(response)
    except InvalidAnswer as error:
        return unusable(str(error).removeprefix("the backend's "))
    if coding := content_coding(response.headers):
        return unusable(f"a body in Content-Encoding {coding}")
    try:
        found: Any = orjson.loads(response.body.removeprefix(BOM_UTF8).strip() or b"{}")
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        return unusable("a body that is not a JSON object")
    subprotocol, user_id, groups = found.get("subprotocol"), found.get("userId"), found.get("groups")
    if not (isinstance(subprotocol, str | None) and isinstance(user_id, str | None)):
        return unusable("a subprotocol or a userId that is not a string")
    if groups is None:
        groups = []
    if not (isinstance(groups, list) and all(isinstance(name, str) for name in groups)):
        return unusable("groups that are not a list of strings")
    return Connect(subprotocol or None, state, user_id or None, groups)


def accepted(connect: Connect, hub: str, user_id: str | None, groups: list[str]) -> Accepted | Rejected:
    """Return the verdict on a client of `hub`, which joins `groups`, besides the groups for its hub and user."""
    names: list[str] = [hubs.hub_group(hub)]
    if user_id is not None:
        name = hubs.user_group(hub, user_id)
        if name is None:
            return unusable("a userId that is too long")
        names.append(name)
    for each in groups:
        name = hubs.client_group(hub, each)
        if name is None:
            return unusable("a group whose name is empty or too long")
        names.append(name)
    return Accepted(connect.subprotocol, connect.state, tuple(names))


def read_answer(response: Response) -> Actions | None:
    """Return what a 2xx answer to a message asks for: its body goes to the client. Raises `InvalidAnswer`."""
    state, reply = read_state(response), _reply(response)
    return None if state is None and reply is None else Actions(reply=reply, context=state)


def read_state(response: Response) -> str | None:
    """Return the new state of the connection, empty to remove it, None to keep it. Raises `InvalidAnswer`."""
    if STATE not in response.headers:
        return None
    state = response.headers[STATE].decode("latin-1")
    if not valid_context(state):
        raise InvalidAnswer(f"the backend's ce-connectionState is not at most {MAX_CONTEXT} printable ASCII characters")
    return state


def unusable(what: str) -> Rejected:
    """Return the refusal of a client because the answer is unusable."""
    error = errors.BadGateway(f"The backend answered with {what}.")
    return Rejected(error, disconnect_owed=True, unusable=what)


def _reply(response: Response) -> Message | None:
    """Return the message in the body. An empty body is none."""
    if response.is_too_large:
        raise InvalidAnswer("the backend's reply is over MAX_MESSAGE_SIZE")
    body = response.body
    if not body:
        return None
    if coding := content_coding(response.headers):
        raise InvalidAnswer(f"the backend's reply is in Content-Encoding {coding}")
    try:
        kind = media_type.interpret(response.headers.get(b"content-type"))
        if kind is BINARY or (kind is EITHER and not valid_text(body)):
            return Message(text=False, data=body)
        if kind is TEXT or kind is EITHER:
            if not valid_text(body):
                raise InvalidAnswer("the backend's text reply is not UTF-8")
            return Message(text=True, data=body)
        return Message(text=True, data=media_type.to_utf8(body, kind, len(body) * 4))
    except HTTPError as error:
        raise InvalidAnswer(f"the backend's reply cannot be read: {error.message}") from None
