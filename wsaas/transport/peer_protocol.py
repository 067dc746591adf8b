"""The server side of a link: an HTTP connection on which a peer pipelines requests."""

from collections.abc import Callable

from wsaas.api.azure_access import HUBS
from wsaas.api.bearer_tokens import BearerTokens
from wsaas.api.forwarded_pushes import ForwardedPushes
from wsaas.api.sigv4 import is_signed
from wsaas.cluster.forwarded import FOR_NODE, node_head
from wsaas.http.request import Request
from wsaas.http.serialize import serialize_ok
from wsaas.transport.http_connection import AT_NEXT_CHECK
from wsaas.transport.http_server import HttpProtocol
from wsaas.transport.site import Site


class PeerProtocol(HttpProtocol):
    """Takes a shortcut for the usual pushes; its effects and responses are those of `HttpProtocol`."""

    __slots__ = ("_pushes",)

    def __init__(self, site: Site, pushes: ForwardedPushes) -> None:
        """Serve `site`, which has a REST API. `pushes`: the shortcut."""
        super().__init__(site)
        self._pushes = pushes

    def data_received(self, data: bytes) -> None:
        """Answer the requests that are complete now."""
        parser = self._parser
        if self._waiting is None and not self._is_queued and parser.is_idle:
            context = self._site.context
            count, end = self._pushes.carry_out(data, context.run_queue.timer)
            if count:
                self._is_first = False
                self._deadline = AT_NEXT_CHECK
                self._transport.write(serialize_ok(int(context.clock.wall())) * count)
                if end == len(data):
                    return
                data = data[end:]
        super().data_received(data)


class NodeProtocol(PeerProtocol):
    """A connection that may be the link of another node. That shows with its first request.

    It takes the shortcut for pushes with the same headers as this request, which was authorized, until the tokens are
    replaced.
    """

    __slots__ = ("_find_shortcut", "_generation", "_is_link", "_tokens")

    def __init__(self, site: Site, tokens: BearerTokens, find_shortcut: Callable[[bytes], ForwardedPushes]) -> None:
        """Serve `site`. `find_shortcut`: returns the shortcut for pushes with these first headers."""
        super().__init__(site, find_shortcut(b""))
        self._find_shortcut = find_shortcut
        self._generation = tokens.generation
        self._is_link = False
        self._tokens = tokens

    def data_received(self, data: bytes) -> None:
        """Answer the requests that are complete now."""
        if not self._is_link:
            HttpProtocol.data_received(self, data)
            return
        if self._generation != self._tokens.generation:
            self._generation = self._tokens.generation
            self._is_authorized = self._is_link = False
            HttpProtocol.data_received(self, data)
            return
        super().data_received(data)

    def _note_authorized(self, request: Request) -> None:
        super()._note_authorized(request)
        headers = request.headers
        # A signature is for one request, and a token of Azure for one path, not for the pushes after it.
        is_for_all = not is_signed(headers) and HUBS not in request.target
        if self._is_authorized and FOR_NODE in headers and is_for_all:
            host, node, authorization = headers.get(b"host", b""), headers[FOR_NODE], headers.get(b"authorization")
            self._pushes = self._find_shortcut(node_head(host, node, authorization))
            self._is_link = True
