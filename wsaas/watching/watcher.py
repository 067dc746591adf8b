"""Which connections of this process are watched, and who follows them.

Watching swaps objects of the watched connection alone: the encoder of its session, the webhook of its outbox, and the
decoder and the transport of its socket. All others, and their paths, stay as they are. A connection is watched until
nobody has followed it for `LINGER_S`.
"""

import time
from collections.abc import Callable
from typing import Final, Protocol

from wsaas.clock import Clock
from wsaas.delivery.watched_webhook import WatchedWebhook
from wsaas.errors import TooManyViewers
from wsaas.sessions.opening_handshake import OpeningHandshake
from wsaas.sessions.ports import PendingClient
from wsaas.sessions.registry import Registry
from wsaas.sessions.session import Services, Session
from wsaas.sessions.watched_client import WatchedEncoder
from wsaas.watching.recorder import Recorder
from wsaas.watching.ring import Ring, Rings
from wsaas.websocket.handshake import Handshake

MAX_FOLLOWERS: Final = 8
"""Viewers in one process."""

MAX_WATCHED: Final = 256
"""Connections that are watched at a time, with those that nobody follows any more."""

LINGER_S: Final = 60.0
"""Seconds that a connection is watched after its last viewer has left, who may come back."""


class Follower(Protocol):
    """Somebody who reads the events of connections."""

    def advance(self) -> None:
        """Read the events that are new."""

    def check(self, now: float) -> None:
        """Do what is due at `now` (monotonic seconds)."""


class Watch:
    """A watched connection. `from_handshake`: it is watched from its handshake on. `webhook`: that of its outbox.

    `followers`: who reads its events. `expires`: when it is not watched any more, unless somebody follows it again
    (monotonic seconds).
    """

    __slots__ = ("expires", "followers", "from_handshake", "recorder", "ring", "webhook")

    def __init__(self, recorder: Recorder, webhook: WatchedWebhook) -> None:
        """Start without followers."""
        self.expires = 0.0
        self.followers: set[Follower] = set()
        self.from_handshake = False
        self.recorder = recorder
        self.ring: Ring = recorder.ring
        self.webhook = webhook

    @property
    def id(self) -> str:
        """The connection's id."""
        return self.recorder.session.id

    @property
    def is_complete(self) -> bool:
        """Whether no further event will come."""
        return self.recorder.is_finished


class HandshakeFollower(Follower, Protocol):
    """Somebody who waits for the next handshakes: as many as `wanted`, of `path`, or of any if that is None."""

    path: str | None
    wanted: int

    def begin(self, watch: Watch) -> None:
        """Follow one more connection, which has just sent its handshake."""


class Watcher:
    """The watched connections of this process, by id. `timer`: see `RunQueue`."""

    def __init__(self, registry: Registry, clock: Clock, timer: Callable[[], float] = time.perf_counter) -> None:
        """Watch nothing."""
        self._clock = clock
        self._followers: set[Follower] = set()
        self._is_scheduled = False
        self._registry = registry
        self._rings = Rings()
        self._waiting: list[HandshakeFollower] = []
        self._watches: dict[str, Watch] = {}
        self.timer = timer

    def check_room(self) -> None:
        """Raise `TooManyViewers` if there are as many as there may be."""
        if len(self._followers) >= MAX_FOLLOWERS:
            raise TooManyViewers(f"{MAX_FOLLOWERS} viewers follow connections of this process already.")

    def known(self, connection_id: str) -> Watch | None:
        """Return the connection with this id if it is watched."""
        return self._watches.get(connection_id)

    def find(self, connection_id: str) -> Watch | None:
        """Return the watched connection with this id; begin to watch it if that is possible."""
        watch = self._watches.get(connection_id)
        if watch is None:
            session = self._registry.remembered(connection_id)
            if session is not None:
                watch = self._begin(session)
                # Perhaps nobody follows it.
                self.linger(watch)
        return watch

    def add(self, follower: Follower) -> None:
        """Tell `follower` about news. Raises `TooManyViewers`."""
        self.check_room()
        self._followers.add(follower)

    def follow(self, watch: Watch, follower: Follower) -> None:
        """Keep `watch` until `follower` leaves."""
        watch.followers.add(follower)

    def linger(self, watch: Watch) -> None:
        """Watch a connection for `LINGER_S` more, even if nobody follows it."""
        watch.expires = self._clock.now() + LINGER_S

    def leave(self, follower: Follower) -> None:
        """Forget `follower`. Connections that nobody follows are watched for `LINGER_S` more."""
        self._followers.discard(follower)
        for watch in self._watches.values():
            if follower in watch.followers:
                watch.followers.remove(follower)
                self.linger(watch)

    def await_handshakes(self, follower: HandshakeFollower) -> None:
        """Let `follower` follow the next handshakes, as many as it wants."""
        self._waiting.append(follower)
        self._registry.open_handshake = self._open_handshake

    def cancel_handshakes(self, follower: HandshakeFollower) -> None:
        """Let `follower` wait for no further handshakes."""
        if follower in self._waiting:
            self._waiting.remove(follower)
        if not self._waiting:
            self._registry.open_handshake = OpeningHandshake

    def left(self, path: str | None) -> list[Watch]:
        """Return what was watched from its handshake on and has no followers any more. `path`: of which path."""
        return [
            watch
            for watch in self._watches.values()
            if watch.from_handshake
            and not watch.followers
            and (path is None or watch.recorder.session.info.path == path)
        ]

    def notify(self) -> None:
        """Let the followers read at the end of this turn of the loop."""
        if not self._is_scheduled and self._followers:
            self._is_scheduled = True
            self._clock.call_later(0.0, self._advance)

    def sweep(self, now: float) -> None:
        """Notice what was not reported, and forget connections that nobody has followed for long."""
        for follower in [*self._followers]:
            follower.check(now)
        for watch in [*self._watches.values()]:
            if not watch.followers and now >= watch.expires:
                self._end(watch)
            else:
                watch.recorder.look()

    def stop(self) -> None:
        """Watch nothing any more."""
        for watch in [*self._watches.values()]:
            self._end(watch)

    def _advance(self) -> None:
        self._is_scheduled = False
        for watch in [*self._watches.values()]:
            watch.recorder.look()
        # What was noticed just now is read here too.
        for follower in [*self._followers]:
            follower.advance()

    def _begin(self, session: Session) -> Watch:
        """Swap the objects of `session`."""
        if len(self._watches) >= MAX_WATCHED:
            self._make_room()
        recorder = Recorder(session, Ring(self._rings), self._clock, self.notify)
        session.encode = WatchedEncoder(session.encode, recorder)
        session.connection.watch(recorder)
        session.attach(session.connection)
        webhook = WatchedWebhook(session.outbox.webhook, recorder)
        session.outbox.use_webhook(webhook)
        self._registry.push_recorders[session.id] = recorder.pushed
        watch = self._watches[session.id] = Watch(recorder, webhook)
        return watch

    def _end(self, watch: Watch) -> None:
        """Give `session` its objects back."""
        session = watch.recorder.session
        session.encode = watch.recorder.encode
        session.connection.unwatch()
        session.attach(session.connection)
        session.outbox.use_webhook(watch.webhook.inner)
        self._registry.push_recorders.pop(session.id, None)
        watch.ring.close()
        del self._watches[watch.id]

    def _make_room(self) -> None:
        """Forget the connection that nobody has followed for the longest time. Raises `TooManyViewers`."""
        idle = [watch for watch in self._watches.values() if not watch.followers]
        if not idle:
            raise TooManyViewers(f"{MAX_WATCHED} connections of this process are watched already.")
        self._end(min(idle, key=lambda watch: watch.expires))

    def _open_handshake(
        self, services: Services, session: Session, handshake: Handshake, client: PendingClient
    ) -> OpeningHandshake:
        """Return the opening handshake of a new session, and watch it if somebody waits for it."""
        opening = OpeningHandshake(services, session, handshake, client)
        wanting = [each for each in self._waiting if each.path in (None, handshake.path)]
        if wanting:
            try:
                watch = self._begin(session)
            except TooManyViewers:
                return opening
            watch.from_handshake = True
            watch.recorder.handshake(handshake)
            opening.watch(watch.recorder)
            for follower in wanting:
                self.follow(watch, follower)
                follower.begin(watch)
                if follower.wanted <= 0:
                    self.cancel_handshakes(follower)
        return opening
