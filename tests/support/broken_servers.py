"""Servers that are broken in ways that `tests.support.backend` cannot be."""

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

OK = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n{"code": "OK"}'
BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"


@asynccontextmanager
async def without_delete_bodies() -> AsyncIterator[str]:
    """Serve a backend that does not read the body of a DELETE, but keeps the connection; yield its address."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                method = head.partition(b" ")[0]
                length = re.search(rb"\r\nContent-Length: (\d+)", head)
                if length and method != b"DELETE":
                    await reader.readexactly(int(length[1]))
                writer.write(OK if method in {b"POST", b"PUT", b"DELETE"} else BAD_REQUEST)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 22)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


class QuietHandler(WSGIRequestHandler):
    """Logs nothing."""

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def django_with_csrf() -> Iterator[str]:
    """Serve a view of Django that is not exempt from its check of CSRF tokens; yield its address."""
    import django  # noqa: PLC0415 - takes long
    from django.conf import settings  # noqa: PLC0415 - takes long
    from django.core.handlers.wsgi import WSGIHandler  # noqa: PLC0415 - takes long
    from django.http import JsonResponse  # noqa: PLC0415 - takes long
    from django.urls import path  # noqa: PLC0415 - takes long

    urls = [path("hook", lambda _request: JsonResponse({"code": "OK"}))]
    if not settings.configured:
        settings.configure(
            ALLOWED_HOSTS=["*"],
            LOGGING_CONFIG=None,
            MIDDLEWARE=["django.middleware.csrf.CsrfViewMiddleware"],
            ROOT_URLCONF=tuple(urls),
            SECRET_KEY="of no use",
        )
        django.setup()
    server = make_server("127.0.0.1", 0, WSGIHandler(), handler_class=QuietHandler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
