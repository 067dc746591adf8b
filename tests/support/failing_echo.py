"""A backend that echoes each message. It answers the first two attempts to deliver the message "fail" with 503."""

import os
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FAILURES = 2

_attempts: Counter[str] = Counter()


class Handler(BaseHTTPRequestHandler):
    """Answers the gateway."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Accept a client."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(200, b'{"code": "OK"}')

    def do_DELETE(self) -> None:
        """Acknowledge the end of a client."""
        self.do_POST()

    def do_PUT(self) -> None:
        """Send a message back, or fail."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        _attempts[self.headers["ce-id"]] += 1
        if body == b"fail" and _attempts[self.headers["ce-id"]] <= FAILURES:
            self.answer(503, b"not now")
        else:
            self.answer(200, body, ("Ws-Reply", "text"))

    def answer(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        """Send a response."""
        self.send_response(status)
        for name, value in (*headers, ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
