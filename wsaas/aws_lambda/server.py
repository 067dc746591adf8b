"""The HTTP server of a function: takes events as the runtime interface emulator of AWS does."""

import socket
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer

from wsaas.aws_lambda.function import Function


class InvocationServer(ThreadingHTTPServer):
    """Listens from its creation. `serve_forever` serves requests."""

    daemon_threads = True
    request_queue_size = 128  # the gateway may open many connections at once

    def __init__(self, host: str, port: int, function: Function) -> None:
        """Invoke `function`. `port`: 0 for a free one."""
        if ":" in host:
            self.address_family = socket.AF_INET6
        self.function = function
        super().__init__((host, port), InvocationHandler)

    def server_bind(self) -> None:
        """Bind without looking up the full name of the host, which may take seconds."""
        TCPServer.server_bind(self)
        host, port = self.server_address[:2]
        self.server_name, self.server_port = str(host), int(port)

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore errors of connections, which the gateway may close at any time."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # as in the demo


class InvocationHandler(BaseHTTPRequestHandler):
    """Each POST is an invocation, whatever its path."""

    server: InvocationServer
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    """Write each answer at once."""

    def do_POST(self) -> None:
        """Invoke the function with the body."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            self.close_connection = True
            self._send(HTTPStatus.LENGTH_REQUIRED, b"")
            return
        data = self.rfile.read(int(length))
        if "Origin" in self.headers:
            # Only browsers send it. No web page may invoke the function.
            self._send(HTTPStatus.FORBIDDEN, b"")
            return
        answer = self.server.function.invoke(data)
        self._send(HTTPStatus.OK, answer.body, is_error=answer.is_error)

    def log_message(self, format: str, *_values: object) -> None:  # noqa: A002 - its name in the base class
        """Log nothing: the gateway does."""

    def _send(self, status: HTTPStatus, body: bytes, *, is_error: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if is_error:
            self.send_header("X-Amz-Function-Error", "Unhandled")
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
