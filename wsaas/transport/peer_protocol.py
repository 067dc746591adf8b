"""The server side of a link: an HTTP connection on which a peer pipelines requests."""

from wsaas.api.forwarded_pushes import ForwardedPushes
from wsaas.http.serialize import serialize_ok
from wsaas.transport.http_connection import AT_NEXT_CHECK
from wsaas.transport.http_server import HttpProtocol
from wsaas.transport.site import Site


class PeerProtocol(HttpProtocol):
    """Takes a shortcut for the usual pushes; its effects and responses are those of `HttpProtocol`."""

    __slots__ = ("_pushes",)

    def __init__(self, site: Site, pushes: ForwardedPushes) -> None:
        """Serve `site`, which has a REST API but admits no clients."""
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
