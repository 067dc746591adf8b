"""A shortcut for the pushes that peers forward (`python -m benchmarks micro`, step `ten pushes from a peer`).

Everything else takes the usual way through the parser and the routes, which have the same effect on these pushes.
"""

from collections.abc import Callable
from typing import Final

from wsaas.cluster.forwarded import PEER_HEAD, push_pattern
from wsaas.errors import HTTPError
from wsaas.http import media_type
from wsaas.http.media_type import BINARY, EITHER, TEXT
from wsaas.run_queue import TURN_S
from wsaas.sessions.registry import ID_FORM, Registry
from wsaas.settings import Settings
from wsaas.websocket import frames

MAX_PUSHES: Final = 128
"""Maximum number of pushes that are carried out, within `TURN_S`, before other connections are served. They are from
many callers, so there may be more than of one connection."""


class ForwardedPushes:
    """Carries out usual pushes to clients of this process."""

    __slots__ = ("_find", "_match", "_max_size")

    def __init__(self, settings: Settings, registry: Registry, head: bytes = PEER_HEAD) -> None:
        """Find the clients in `registry`. `head`: the first headers of the pushes, which are authorized."""
        self._find = registry.find
        prefix = settings.ws_hostname.prefix.encode() + b"/"
        self._match = push_pattern(prefix, ID_FORM.pattern.encode(), head).match
        self._max_size = settings.max_message_size

    def carry_out(self, data: bytes, timer: Callable[[], float]) -> tuple[int, int]:
        """Carry out the pushes at the start of `data`. Return how many, to be answered with `OK`, and where they end.

        It stops at a request that is incomplete or not usual, or that is answered with an error: that one has had no
        effect.
        """
        find, match, max_size, size = self._find, self._match, self._max_size, len(data)
        over = timer() + TURN_S
        count = at = 0
        while count < MAX_PUSHES and (head := match(data, at)) is not None:
            start = head.end()
            end = start + int(head[3])
            session = find(head[1].decode())
            if session is None or end > size or end - start > max_size:
                break
            body = data[start:end]
            try:
                kind = media_type.interpret(head[2])
                if kind is not BINARY and not ((kind is TEXT or kind is EITHER) and frames.valid_text(body)):
                    break
                session.send(frames.BINARY if kind is BINARY else frames.TEXT, body)
            except HTTPError:
                break
            count += 1
            at = end
            if timer() >= over:
                break
        return count, at
