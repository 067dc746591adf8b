"""A Lambda function of a test, behind the HTTP server of `wsaas lambda`."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.waiting import TIMEOUT_S
from wsaas.aws_lambda.function import Function
from wsaas.aws_lambda.server import InvocationServer

PATH = "/2015-03-31/functions/function/invocations"


class ServedFunction:
    """A function that a test answers with `answer`. `events`: those that it got, in order."""

    def __init__(self, answer: Callable[[dict[str, Any]], Any]) -> None:
        self.answer = answer
        self.events: list[dict[str, Any]] = []
        self._arrived = threading.Condition()
        self.server = InvocationServer("127.0.0.1", 0, Function("app.handler", self._handle, TIMEOUT_S))

    @property
    def uri(self) -> str:
        """The `API_URI`."""
        return f"127.0.0.1:{self.server.server_port}{PATH}"

    def take(self, kind: str) -> dict[str, Any]:
        """Wait for the next event of this type, and remove it."""
        with self._arrived:

            def found() -> list[dict[str, Any]]:
                return [each for each in self.events if each["requestContext"]["eventType"] == kind]

            assert self._arrived.wait_for(found, TIMEOUT_S), (kind, self.events)
            event = found()[0]
            self.events.remove(event)
            return event

    def _handle(self, event: dict[str, Any], _context: object) -> Any:
        with self._arrived:
            self.events.append(event)
            self._arrived.notify_all()
        return self.answer(event)


@contextmanager
def serving(answer: Callable[[dict[str, Any]], Any] = lambda _: {"statusCode": 200}) -> Iterator[ServedFunction]:
    """Serve a function in threads of this process."""
    function = ServedFunction(answer)
    thread = threading.Thread(target=function.server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield function
    finally:
        function.server.shutdown()
        thread.join(TIMEOUT_S)
        function.server.server_close()
