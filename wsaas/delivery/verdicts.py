"""What the answers of the backend mean: the verdicts on events."""

from dataclasses import dataclass
from typing import Final

from wsaas import errors
from wsaas.events import Message
from wsaas.reason import Reason
from wsaas.websocket.frames import Close


@dataclass(slots=True)
class Accepted:
    """The backend accepted the client. `groups`: names of groups that the client joins."""

    subprotocol: str | None
    context: str | None
    groups: tuple[str, ...] = ()


@dataclass(slots=True)
class Rejected:
    """The client is refused with `error`.

    `disconnect_owed`: the backend may consider the client connected, so it gets a DELETE.
    `unusable`: the unusable part of the backend's answer, for the log.
    """

    error: errors.HTTPError
    disconnect_owed: bool
    unusable: str = ""


@dataclass(slots=True)
class Actions:
    """What the backend asks for in its answer to a message. It is done in the order of the fields.

    `join`, `leave`: names of groups.
    `reply`: a message for the client.
    `context`: replaces the context of the connection; an empty one removes it, None keeps it.
    `close`: closes the connection.
    """

    join: tuple[str, ...] = ()
    leave: tuple[str, ...] = ()
    reply: Message | None = None
    context: str | None = None
    close: Close | None = None


@dataclass(slots=True)
class Delivered:
    """The backend acknowledged the event. `actions`: what it asks for in its answer, if anything.

    `failed`: the backend says that it failed, and the event is not sent again.
    """

    actions: Actions | None = None
    failed: bool = False


@dataclass(slots=True)
class Retry:
    """The event failed, but may succeed when it is sent again, at least `after` seconds later.

    `sent`: whether the backend may have seen the request.
    """

    why: str
    after: float = 0.0
    sent: bool = True


@dataclass(slots=True)
class Undeliverable:
    """The backend refuses the event; the client is closed for `reason`."""

    why: str
    reason: Reason


Verdict = Accepted | Rejected | Delivered | Retry | Undeliverable

DELIVERED: Final = Delivered()
