"""The REST API: its routes, and the dispatch of requests to them."""

import re
from collections.abc import Iterable
from functools import partial
from typing import Final
from urllib.parse import unquote_to_bytes

from wsaas.api import health
from wsaas.api.authorization import Authorization
from wsaas.api.aws import AwsConnectionResource
from wsaas.api.aws_keys import AwsKeys
from wsaas.api.azure import AzureResource
from wsaas.api.azure_access import AzureAccess
from wsaas.api.connections import ConnectionResource, connection_resource
from wsaas.api.console.console import Console
from wsaas.api.fan_out import FanOutRunner
from wsaas.api.groups import GroupResource
from wsaas.api.listing import Lists
from wsaas.api.metrics import MetricsResource
from wsaas.api.nodes import NodesResource
from wsaas.api.openapi import OpenApiResource
from wsaas.api.route import Response, Route
from wsaas.api.send import SendResource
from wsaas.cluster.router import LocalRouter, Peer, Router
from wsaas.cluster.view import ClusterView
from wsaas.errors import HTTPError, NotFound
from wsaas.http.request import Request
from wsaas.http.serialize import error_response
from wsaas.metrics.own import OwnMetrics
from wsaas.sessions.fan_out import FanOutQueue
from wsaas.sessions.registry import ID_FORM, Registry
from wsaas.settings import Settings


class Api:
    """Answers requests: at once, or with a deferred response if a peer has to answer.

    `routes`: everything that it serves. The shortcut in `respond` adds nothing to that.
    """

    def __init__(  # noqa: PLR0913 - the parts that the resources share come together here
        self,
        settings: Settings,
        registry: Registry,
        queue: FanOutQueue,
        router: Router | None = None,
        view: ClusterView | None = None,
        *,
        metrics: OwnMetrics | None = None,
        console: Console | None = None,
    ) -> None:
        """Serve the connections that `router` finds; by default, all connections of `registry`.

        `view`: of the cluster, if there is one. `metrics`, `console`: of this process, if they are served.
        """
        router = router or LocalRouter(registry)
        self._find = router.find
        self._for_request = router.for_request
        connection = connection_resource(router, registry, settings.max_message_size)
        runner = FanOutRunner(queue, registry.services.clock, settings.keep_alive_timeout, router)
        lists = Lists(registry, router, queue.run_queue)
        groups = GroupResource(router, registry, runner, lists, settings.max_message_size)
        send = SendResource(router, registry.services, runner, settings.max_batch_size)
        self._push = connection.push
        self._authorization = Authorization(settings, registry.services.clock.wall)
        aws = AwsConnectionResource(connection, self._authorization, registry.services)
        self._known_hosts, self.tokens = self._authorization.known_hosts, self._authorization.tokens
        # The path of a `ws_uri` is this prefix and the id.
        path = settings.ws_hostname.prefix.encode()
        self._prefix, self._id_start = path + b"/", len(path) + 1
        # Before any path, as a proxy may strip it or keep it.
        optional = rb"(?:%b)?" % re.escape(path) if path else b""
        ws_uri = Route(
            rb"%b/(%b)" % (optional, ID_FORM.pattern.encode()),
            {b"PUT": connection.put, b"DELETE": connection.delete, b"GET": connection.get},
            connection.body_limit,
        )
        self.routes: Final = (
            ws_uri,
            aws.route(optional),
            *_azure_routes(connection, router, registry, runner, settings),
            Route(rb"/connections", {b"GET": lists.connections, b"PUT": groups.publish_to_all}, groups.body_limit),
            Route(rb"/send", {b"POST": send.post}, send.body_limit),
            *_group_routes(groups, optional),
            *([Route(rb"/metrics", {b"GET": MetricsResource(metrics, router).get})] if metrics else []),
            *(console.routes(connection, router, self.tokens, optional) if console else ()),
            *_node_routes(settings, registry, router, view),
        )
        self._fixed = _fixed_paths(self.routes, path)
        self._patterns = [route for route in self.routes if route.pattern.groups]

    def respond(self, request: Request) -> Response:
        """Return the response to a complete `request`. Raises nothing: errors become responses."""
        try:
            target = request.target
            if request.method == b"PUT" and target.startswith(self._prefix):
                # A shortcut for a push (`python -m benchmarks micro`, case `push`). The route below returns the same
                # response.
                connection_id = target[self._id_start :].decode()
                session = self._find(connection_id)
                if session is not None:
                    headers = request.headers
                    if (
                        headers.get(b"host") not in self._known_hosts
                        or b"origin" in headers
                        or b"sec-fetch-site" in headers
                    ):
                        self._authorization.check(request)
                    return self._push(session, request)
                peer = self._find_peer(request, connection_id)
                if peer is not None:
                    self._authorization.check_again(request)
                    return peer.forward(request, connection_id)
            route, names = self._route(request)
            route.verify(self._authorization, request)
            return route.handler(request.method)(request, *names)
        except HTTPError as error:
            return error_response(error)

    @property
    def aws_keys(self) -> AwsKeys:
        """The access keys that may sign requests."""
        return self._authorization.aws_keys

    def body_limit(self, request: Request) -> int:
        """Return how many bytes of the body are needed to answer `request`, of which only the head has arrived.

        Raises an `HTTPError` to refuse the request before any of its body is stored.
        """
        route, names = self._route(request)
        route.handler(request.method)
        return route.body_limit(request, *names)

    def authorizes(self, request: Request) -> bool:
        """Return whether `request` proves that its connection is the backend's.

        A request for a public path proves nothing.
        """
        try:
            route, _ = self._route(request)
            route.verify(self._authorization, request)
        except NotFound:
            return True
        except HTTPError:
            return False
        return not route.is_public

    def _find_peer(self, request: Request, connection_id: str) -> Peer | None:
        """Return the peer for `connection_id`, or None if the routes have to answer `request`."""
        try:
            return self._for_request(request).find_peer(connection_id)
        except HTTPError:
            # The error is raised again, after the check of the authorization.
            return None

    def _route(self, request: Request) -> tuple[Route, tuple[str, ...]]:
        """Return the route of `request` and the names in its path. Raises `Unauthorized`, `Forbidden`, `NotFound`.

        Authorization is checked first: a caller without it cannot tell whether a path exists.
        """
        found = self._match(_decode_path(request.target))
        if found is None:
            self._authorization.check(request)
            raise NotFound("No such path.")
        found[0].check(self._authorization, request)
        return found

    def _match(self, path: bytes) -> tuple[Route, tuple[str, ...]] | None:
        """Return the route of `path` and the names in the path, or None if no route matches."""
        if path in self._fixed:
            return self._fixed[path], ()
        for route in self._patterns:
            names = route.match(path)
            if names is not None:
                return route, names
        return None


def _fixed_paths(routes: Iterable[Route], prefix: bytes) -> dict[bytes, Route]:
    """Return the routes whose pattern has no groups and is a path, by that path, with `prefix` and without."""
    fixed = {route.pattern.pattern: route for route in routes if not route.pattern.groups}
    return fixed | {prefix + path: route for path, route in fixed.items()}


def _azure_routes(
    connection: ConnectionResource, router: Router, registry: Registry, runner: FanOutRunner, settings: Settings
) -> tuple[Route, ...]:
    """Return the routes of hubs with `EVENT_FORMAT=azure`: without it, no client is in a hub."""
    if settings.event_format != "azure":
        return ()
    services, prefix = registry.services, settings.ws_hostname.prefix
    # The private API needs no credentials, and its settings have none.
    keys = services.webhook.access_keys if settings.control_azure_keys else None
    optional = rb"(?:%b)?" % re.escape(prefix.encode())
    return (
        AzureResource(connection, router, registry, runner).route(
            optional, AzureAccess(keys, prefix, services.clock.wall)
        ),
    )


def _group_routes(groups: GroupResource, prefix: bytes) -> tuple[Route, ...]:
    """Return the routes of groups. `prefix`: a pattern for what may stand before the path."""
    return (
        Route(
            rb"%b/groups/([^/]*)" % prefix,
            {b"PUT": groups.publish, b"GET": groups.get, b"DELETE": groups.close},
            groups.body_limit,
        ),
        Route(
            rb"%b/groups/([^/]*)/connections/(%b)" % (prefix, ID_FORM.pattern.encode()),
            {b"PUT": groups.join, b"DELETE": groups.leave},
        ),
    )


def _node_routes(settings: Settings, registry: Registry, router: Router, view: ClusterView | None) -> tuple[Route, ...]:
    """Return the routes about the node and its API."""
    return (
        Route(rb"/nodes", {b"GET": NodesResource(registry, router, view).get}),
        Route(rb"/openapi.json", {b"GET": OpenApiResource(settings).get}),
        Route(rb"/healthz", {b"GET": health.is_alive}, is_public=True),
        Route(rb"/readyz", {b"GET": partial(health.is_ready, registry, view)}, is_public=True),
    )


def _decode_path(target: bytes) -> bytes:
    """Return the path of a target in origin form, percent-decoded.

    A path with an encoded slash is not decoded, because `%2F` does not separate segments.
    """
    path = target.partition(b"?")[0]
    return unquote_to_bytes(path) if b"%" in path and b"%2f" not in path.lower() else path
