"""What happens on a watched connection, as events. They become JSON only when somebody reads them."""

from typing import Any, Final, Protocol

import orjson

from wsaas.delivery.webhook import Subject, Webhook
from wsaas.events import Event, Message, Opened
from wsaas.watching.masking import MASK, mask_header, mask_headers, mask_query, mask_subprotocol, mask_target, show_body

MAX_BODY: Final = 16 * 1024
"""Bytes of a body that are kept to be shown."""

MAX_REPLAYED: Final = 1024 * 1024
"""Bytes of a message that are kept to be sent again."""

_OVERHEAD: Final = 600
"""About the bytes of an event besides its bodies and headers."""

_PAIR_OVERHEAD: Final = 160
"""About the bytes of a header besides those of its name and value."""

REPLAY_OVERHEAD: Final = 450
"""About the bytes of what is kept to send a request again, besides the body."""


class Lazy(Protocol):
    """The value of a field that is made when it is shown. `cost`: about its bytes in memory."""

    @property
    def cost(self) -> int:
        """The bytes."""

    def show(self) -> Any:
        """Return the value, without credentials."""


class Body:
    """The first bytes of a body."""

    __slots__ = ("_data", "_is_text", "_size")

    def __init__(self, data: bytes, *, is_text: bool = True) -> None:
        """Keep what is shown of `data`."""
        self._data = data[:MAX_BODY]
        self._is_text = is_text
        self._size = len(data)

    @property
    def cost(self) -> int:
        """The bytes."""
        return len(self._data)

    def show(self) -> Any:
        """Return it as text or base64."""
        return show_body(self._data, self._size, is_text=self._is_text)


class ConnectBody:
    """The body of a POST, which repeats the headers of the handshake."""

    __slots__ = ("_opened", "_subject", "_webhook")

    def __init__(self, opened: Opened, subject: Subject, webhook: Webhook) -> None:
        """Show the body that `webhook` makes for `opened`."""
        self._opened = opened
        self._subject = Subject(subject.id, subject.node, subject.authorization and MASK.encode(), subject.context)
        self._webhook = webhook

    @property
    def cost(self) -> int:
        """The bytes."""
        return sum(len(name) + len(value) for name, value in self._opened.headers.items())

    def show(self) -> Any:
        """Return it with its credentials masked."""
        opened = self._opened
        masked = Opened(
            opened.at,
            opened.id,
            opened.ws_uri,
            opened.timeout_ms,
            opened.remote_address,
            opened.path,
            mask_query(opened.query),
            {name: mask_header(name, value) for name, value in opened.headers.items()},
            [mask_subprotocol(each) for each in opened.subprotocols],
        )
        subject = self._subject
        return Body(self._webhook.content(subject, masked, f"{subject.id}:{masked.number}")[1]).show()


class RequestHead:
    """The head of a request to the backend, as bytes: its headers."""

    __slots__ = ("_head",)

    def __init__(self, head: bytes) -> None:
        """Show the headers of `head`."""
        self._head = head

    @property
    def cost(self) -> int:
        """The bytes."""
        return len(self._head)

    def show(self) -> Any:
        """Return pairs of name and value."""
        lines = self._head.decode("utf-8", "replace").split("\r\n")[1:]
        return mask_headers((name, value) for name, _, value in (line.partition(": ") for line in lines))


class HeaderPairs:
    """The headers of a message that was parsed."""

    __slots__ = ("_pairs",)

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        """Show `pairs`."""
        self._pairs = pairs

    @property
    def cost(self) -> int:
        """The bytes."""
        return sum(_PAIR_OVERHEAD + len(name) + len(value) for name, value in self._pairs)

    def show(self) -> Any:
        """Return pairs of name and value."""
        return mask_headers(self._pairs)


class Query:
    """The query of a handshake."""

    __slots__ = ("_query",)

    def __init__(self, query: str) -> None:
        """Show `query`."""
        self._query = query

    @property
    def cost(self) -> int:
        """The bytes."""
        return len(self._query)

    def show(self) -> Any:
        """Return it without secret values."""
        return mask_query(self._query)


class Target:
    """The target of a request to the backend."""

    __slots__ = ("_target",)

    def __init__(self, target: str) -> None:
        """Show `target`."""
        self._target = target

    @property
    def cost(self) -> int:
        """The bytes."""
        return len(self._target)

    def show(self) -> Any:
        """Return it without secret values."""
        return mask_target(self._target)


_LAZY: Final = (Body, ConnectBody, RequestHead, HeaderPairs, Query, Target)


def shown(fields: dict[str, Any]) -> dict[str, Any]:
    """Return `fields` as JSON."""
    return {key: value.show() if isinstance(value, _LAZY) else value for key, value in fields.items()}


class Replayable:
    """What a request to the backend is made of, to send it again."""

    __slots__ = ("event", "subject", "webhook")

    def __init__(self, event: Event, subject: Subject, webhook: Webhook) -> None:
        """Keep the `event`, the `subject` as it is now, and the `webhook` of the connection."""
        self.event = event
        self.webhook = webhook
        self.subject = Subject(subject.id, subject.node, subject.authorization, subject.context)
        self.subject.trace = subject.trace


class WatchedEvent:
    """An event. `seq`: ascending in this process. `index`: 0 for the first one of its connection, and so on.

    `fields` may be changed until the event is shown, at the end of the turn of the loop. `replayable`: of a request.
    """

    __slots__ = ("at", "connection", "fields", "index", "kind", "replayable", "seq", "size")

    def __init__(self, connection: str, kind: str, at: float, fields: dict[str, Any]) -> None:
        """Describe what happened at `at` (seconds since the epoch)."""
        self.at = at
        self.connection = connection
        self.fields = fields
        self.index = self.seq = 0
        self.kind = kind
        self.replayable: Replayable | None = None
        self.size = _OVERHEAD + sum(value.cost for value in fields.values() if isinstance(value, _LAZY))

    def keep_for_replay(self, event: Event, subject: Subject, webhook: Webhook) -> None:
        """Keep what is needed to send the request again, unless it is too large."""
        size = len(event.data) if isinstance(event, Message) else 0
        if size <= MAX_REPLAYED:
            self.replayable = Replayable(event, subject, webhook)
            self.size += REPLAY_OVERHEAD + max(0, size - MAX_BODY)

    def show(self) -> dict[str, Any]:
        """Return the JSON object."""
        known = {"seq": self.seq, "connection": self.connection, "at": self.at, "kind": self.kind}
        return known | shown(self.fields)

    def to_json(self) -> bytes:
        """Return the JSON."""
        return orjson.dumps(self.show())
