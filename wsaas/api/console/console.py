"""The routes of the console."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from wsaas.api.authorization import Authorization
from wsaas.api.connections import ConnectionResource
from wsaas.api.console.connections import ConsoleConnections
from wsaas.api.console.node import NodeResource
from wsaas.api.console.page import get_page
from wsaas.api.console.replay import ReplayResource
from wsaas.api.console.streams import StreamResource
from wsaas.api.route import Route
from wsaas.cluster.router import Router
from wsaas.delivery.watched_webhook import ReplayWebhook
from wsaas.metrics.own import OwnMetrics
from wsaas.run_queue import RunQueue
from wsaas.sessions.registry import ID_FORM, Registry
from wsaas.watching.watcher import Watcher

_ID: Final = ID_FORM.pattern.encode()


@dataclass(frozen=True, slots=True)
class Console:
    """What the console shows, and `make_replay`: what sends requests again, made when it is first needed."""

    registry: Registry
    watcher: Watcher
    metrics: OwnMetrics
    run_queue: RunQueue
    make_replay: Callable[[], ReplayWebhook]

    def routes(self, connection: ConnectionResource, router: Router, prefix: bytes) -> tuple[Route, ...]:
        """Return the routes for an API that finds connections with `router`.

        `connection`: carries out what is done to a connection. `prefix`: a pattern for what may stand before the path.
        """
        registry, watcher = self.registry, self.watcher
        node = NodeResource(registry, self.metrics, router)
        connections = ConsoleConnections(registry, self.metrics, router, self.run_queue)
        streams = StreamResource(registry, watcher, connections, router)
        replay = ReplayResource(registry, watcher, router, self.make_replay)
        start = rb"%b/console/api/connections/(%b)" % (prefix, _ID)
        own = Authorization.check_own_page
        return (
            Route(rb"/console", {b"GET": get_page}, is_public=True, check=Authorization.check_host),
            Route(rb"/console/api/node", {b"GET": node.get}, check=own),
            Route(rb"/console/api/connections", {b"GET": connections.list}, check=own),
            Route(
                start,
                {b"GET": connections.get, b"PUT": connection.put, b"DELETE": connection.delete},
                connection.body_limit,
                check=own,
            ),
            Route(rb"%b/events" % start, {b"GET": streams.connection}, check=own),
            Route(rb"%b/ring" % start, {b"GET": streams.ring}, check=own),
            Route(rb"%b/replay" % start, {b"POST": replay.post}, replay.body_limit, check=own),
            Route(rb"/console/api/connects/events", {b"GET": streams.handshakes}, check=own),
            Route(rb"/console/api/connects/ring", {b"GET": streams.handshake_ring}, check=own),
        )
