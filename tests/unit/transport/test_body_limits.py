"""Tests of the size of the body of each request, however it arrives."""

import orjson
import pytest

from tests.support.fakes import FakePendingClient, start_session
from tests.support.http_rig import HttpRig
from wsaas.delivery.verdicts import Accepted

MAX_MESSAGE, MAX_BATCH = 20_000, 50_000


class Rig(HttpRig):
    """A listener with one open client in the group `lobby`."""

    def __init__(self):
        super().__init__(max_message_size=str(MAX_MESSAGE), max_batch_size=str(MAX_BATCH), send_buffer="100000")
        pending = FakePendingClient()
        self.session = start_session(self.registry, pending)
        self.connection = pending.connection
        self.webhook.answer(Accepted(None, None, ("lobby",)))

    def send(self, method, path, body, arrival, *headers):
        """Make a request whose body arrives in one way; return status and code of its answer."""
        chunked = arrival.startswith("chunked")
        length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
        head = "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", length, *headers, "", ""]).encode()
        if chunked:
            pieces = [body[at : at + 7000] for at in range(0, len(body), 7000)]
            body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        data = head + body
        step = 4096 if arrival.endswith("in pieces") else len(data)
        for at in range(0, len(data), step):
            self.receive(data[at : at + step])
            while self.clock.timers:
                self.clock.turn()
        (answer,) = self.responses()
        return answer[:2]


ARRIVALS = pytest.mark.parametrize("arrival", ["whole", "in pieces", "chunked", "chunked in pieces"])


def batch(rig, size):
    """Return messages in a body of exactly `size` bytes."""
    line = orjson.dumps({"to": [rig.session.id], "text": "x" * 10_000}) + b"\n"
    body = line * (size // len(line))
    return body + b" " * (size - len(body))


@ARRIVALS
@pytest.mark.parametrize("path", ["ws_uri", "/groups/lobby", "/connections"])
def test_a_push_and_a_publish_have_at_most_max_message_size(arrival, path):
    rig = Rig()
    path = path.replace("ws_uri", f"/{rig.session.id}")
    assert rig.send("PUT", path, b"x" * MAX_MESSAGE, arrival) == (200, "OK")
    assert len(rig.connection.written) == 1
    assert rig.send("PUT", path, b"x" * (MAX_MESSAGE + 1), arrival) == (413, "TOO_LARGE")
    assert len(rig.connection.written) == 1


@ARRIVALS
@pytest.mark.parametrize("size", [MAX_MESSAGE, MAX_MESSAGE + 1, MAX_BATCH])
def test_a_batch_may_be_larger_than_a_message(arrival, size):
    rig = Rig()
    assert rig.send("POST", "/send", batch(rig, size), arrival, "Content-Type: application/x-ndjson") == (200, "OK")
    assert len(rig.connection.written) == size // 10_050


@ARRIVALS
def test_a_batch_has_at_most_max_batch_size(arrival):
    rig = Rig()
    body = batch(rig, MAX_BATCH + 1)
    assert rig.send("POST", "/send", body, arrival, "Content-Type: application/x-ndjson") == (413, "TOO_LARGE")
    assert rig.connection.written == []
