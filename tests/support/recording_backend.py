"""A backend that writes each message to a file before it acknowledges it, and that can be killed.

Its arguments are a port and the file, which gets a line of JSON for each request: `ce-id` and text. It answers

- `ping` with `pong`, which it does not write down,
- `close 4403 forbidden` with a Close of this code and reason,
- any other message with `ack`.
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REFUSED = b'{"code": "EXPIRED", "close": {"code": 4401, "reason": "token expired"}}'


class Handler(BaseHTTPRequestHandler):
    """Answers the gateway."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    file: int

    def do_POST(self) -> None:
        """Accept a client, unless its path is `/refused`, or acknowledge its end."""
        is_refused = json.loads(self.body()).get("request", {}).get("path") == "/refused"
        self.answer(REFUSED if is_refused else b'{"code": "OK"}')

    do_DELETE = do_POST  # noqa: N815 - http.server wants these names

    def do_PUT(self) -> None:
        """Take a message."""
        text = self.body().decode()
        if text == "ping":
            self.answer(b"pong", ("Ws-Reply", "text"))
            return
        line = json.dumps([self.headers["ce-id"], text]) + "\n"
        os.write(self.file, line.encode())
        if text.startswith("close "):
            self.answer(b"", ("Ws-Close", text.removeprefix("close ")))
        else:
            self.answer(b"ack", ("Ws-Reply", "text"))

    def body(self) -> bytes:
        """Read the body."""
        return self.rfile.read(int(self.headers["Content-Length"]))

    def answer(self, body: bytes, *headers: tuple[str, str]) -> None:
        """Send a response."""
        self.send_response(200)
        for name, value in (*headers, ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


class Server(ThreadingHTTPServer):
    """A stop does not wait for the connections that the gateway keeps open."""

    daemon_threads = True


if __name__ == "__main__":
    Handler.file = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    with Server(("127.0.0.1", int(sys.argv[1])), Handler) as server:
        print("listening", flush=True)
        server.serve_forever()
