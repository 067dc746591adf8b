"""A forwarded port, such as that of a container or of `ssh -L`: it passes on bytes, and knows no HTTP."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from socketserver import BaseRequestHandler, ThreadingTCPServer


def copy(source: socket.socket, target: socket.socket) -> None:
    """Pass on all bytes until the end of `source`."""
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@contextmanager
def forwarded_port(port: int) -> Iterator[int]:
    """Pass connections on to `port` of this machine; yield another port that leads there."""

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)) as target:
                back = threading.Thread(target=copy, args=(target, self.request), daemon=True)
                back.start()
                copy(self.request, target)
                back.join()

    class Server(ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            thread.join()
