"""The routes of the console."""

from typing import Final

from wsaas.api.authorization import Authorization
from wsaas.api.bearer_tokens import BearerTokens
from wsaas.api.connections import ConnectionResource
from wsaas.api.console.connections import ConsoleConnections
from wsaas.api.console.node import NodeResource
from wsaas.api.console.page import get_page
from wsaas.api.console.replay import ReplayResource, Replays
from wsaas.api.console.streams import StreamResource
from wsaas.api.route import Route
from wsaas.cluster.router import Router
from wsaas.delivery.pool import Pool
from wsaas.delivery.watched_webhook import ReplayWebhook
from wsaas.metrics.own import OwnMetrics
from wsaas.run_queue import RunQueue
from wsaas.sessions.registry import ID_FORM, Registry
from wsaas.watching.watcher import Watcher

_ID: Final = ID_FORM.pattern.encode()


class Console:
    """What the console of a process shows. `watcher`: the connections that are watched for it."""

    __slots__ = ("_metrics", "_registry", "_replays", "_run_queue", "watcher")

    def __init__(self, registry: Registry, pool: Pool, metrics: OwnMetrics, run_queue: RunQueue) -> None:
        """Show the connections of `registry`, whose requests go through `pool`."""
        self._metrics = metrics
        self._registry = registry
        services = registry.services
        # Those of all APIs are numbered together: each needs a `ce-id` of its own.
        self._replays = Replays(ReplayWebhook(pool))
        self._run_queue = run_queue
        self.watcher = Watcher(registry, services.clock, run_queue.timer)

    def routes(
        self, connection: ConnectionResource, router: Router, tokens: BearerTokens, prefix: bytes
    ) -> tuple[Route, ...]:
        """Return the routes for an API that finds connections with `router`.

        `connection`: carries out what is done to a connection. `tokens`: of the API. `prefix`: a pattern for what may
        stand before the path.
        """
        registry, watcher = self._registry, self.watcher
        node = NodeResource(registry, self._metrics, router)
        connections = ConsoleConnections(registry, self._metrics, router, self._run_queue)
        streams = StreamResource(registry, watcher, connections, router, tokens)
        replay = ReplayResource(registry, watcher, router, self._replays)
        start = rb"%b/console/api/connections/(%b)" % (prefix, _ID)
        own = Authorization.check_console
        return (
            Route(rb"/console", {b"GET": get_page}, is_public=True, check=Authorization.check_page),
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
