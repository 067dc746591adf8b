"""Tests of the messages of one `POST /send`."""

import math
from base64 import b64encode

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fakes import (
    FakeClock,
    FakePendingClient,
    FakeWebhook,
    Stopwatch,
    make_settings,
    start_session,
)
from tests.support.strategies import examples
from wsaas.delivery.journal import NoJournal
from wsaas.delivery.verdicts import Accepted
from wsaas.errors import BadRequest, TooLarge, Unavailable
from wsaas.reason import Reason
from wsaas.sessions.publication import MAX_NAMED
from wsaas.sessions.registry import Registry
from wsaas.sessions.send_batch import SendBatch
from wsaas.websocket import frames

UNKNOWN = "a" * 30


class Rig:
    """Open clients."""

    def __init__(self, clients=0, **values):
        settings = make_settings(**values)
        self.webhook = FakeWebhook()
        self.registry = Registry(settings, FakeClock(), self.webhook, NoJournal(), 10)
        self.timer = Stopwatch()
        self.clients = [self.admit() for _ in range(clients)]

    def admit(self):
        pending = FakePendingClient()
        session = start_session(self.registry, pending)
        pending.connection.ended = session.lost
        self.webhook.calls.pop()[1](Accepted(None, None))
        return session

    def batch(self, *documents, max_size=1000):
        raw = [each if isinstance(each, bytes) else orjson.dumps(each) for each in documents]
        return SendBatch(self.registry.find, raw, max_size, self.find_process)

    def find_process(self, connection_id):
        # The random ids of clients begin with neither.
        if connection_id.startswith("?"):
            raise Unavailable("It is not known.")
        return "peer" if connection_id.startswith("!") else None

    def send(self, *documents, **values):
        """Send everything in one slice."""
        batch = self.batch(*documents, **values)
        assert batch.advance(self.timer, math.inf)
        return batch

    def texts(self):
        """Return the texts that each client got."""
        return [[frame[2:].decode() for frame in each.connection.written] for each in self.clients]


def ids(sessions):
    return [each.id for each in sessions]


def test_a_message_goes_to_each_client_that_it_names():
    rig = Rig(3)
    batch = rig.send({"to": ids(rig.clients[:2]), "text": "grüße"})
    assert rig.texts() == [["grüße"], ["grüße"], []]
    assert batch.summary() == {"sent": 2, "gone": [], "gone_count": 0, "slow": [], "slow_count": 0}
    assert rig.clients[0].info.bytes_out == 7


def test_a_client_may_be_named_by_its_ws_uri():
    rig = Rig(2)
    first, second = rig.clients
    assert rig.send({"to": [first.ws_uri, f"http://host/prefix/{second.id}"], "text": "hi"}).sent == 2
    assert rig.texts() == [["hi"], ["hi"]]


def test_a_binary_message_is_base64():
    rig = Rig(1)
    rig.send({"to": ids(rig.clients), "base64": b64encode(b"\x00\xff").decode()})
    assert rig.clients[0].connection.written == [frames.encode(frames.BINARY, b"\x00\xff")]


def test_messages_are_sent_in_order():
    rig = Rig(2)
    a, b = ids(rig.clients)
    batch = rig.send({"to": [a], "text": "1"}, {"to": [b, a], "text": "2"}, {"to": [a, b, a], "text": "3"})
    assert rig.texts() == [["1", "2", "3", "3"], ["2", "3"]]
    assert batch.sent == 6


def test_blank_documents_count_as_none():
    rig = Rig(1)
    batch = rig.send(b"\n", {"to": ids(rig.clients), "text": "1"}, b"  \r\n", {"to": [], "text": "2"}, b"")
    assert batch.error is None
    assert rig.texts() == [["1"]]


def test_clients_that_disconnected_are_named_as_in_the_request():
    rig = Rig(3)
    open_client, lost, closing = rig.clients
    lost.lost()
    closing.close(Reason.SHUTDOWN)
    to = [lost.ws_uri, open_client.id, closing.id, UNKNOWN, "", "é"]
    assert rig.send({"to": to, "text": "hi"}).summary() == {
        "sent": 1,
        "gone": [lost.ws_uri, closing.id, UNKNOWN, "", "é"],
        "gone_count": 5,
        "slow": [],
        "slow_count": 0,
    }


def test_slow_clients_are_named_and_get_nothing():
    rig = Rig(2, send_buffer="100")
    rig.clients[0].connection.backlog = 100
    batch = rig.send({"to": ids(rig.clients), "text": "hi"})
    assert (batch.sent, batch.slow.ids, batch.slow.count) == (1, [rig.clients[0].id], 1)
    assert rig.texts() == [[], ["hi"]]


def test_a_client_that_waits_for_the_backend_gets_its_messages_after_the_101():
    rig = Rig()
    pending = FakePendingClient()
    session = start_session(rig.registry, pending)
    assert rig.send({"to": [session.id], "text": "hi"}).sent == 1
    rig.webhook.answer(Accepted(None, None))
    assert pending.accepted == (None, frames.encode(frames.TEXT, b"hi"))


def test_at_most_so_many_clients_are_named():
    batch = Rig().send({"to": [UNKNOWN] * (MAX_NAMED + 1), "text": "hi"})
    assert (len(batch.gone.ids), batch.gone.count) == (MAX_NAMED, MAX_NAMED + 1)


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        (b"nonsense", "Message 2 is not JSON such as"),
        (b'{"to": [], "text": "\\ud800"}', "Message 2 is not JSON such as"),
        (b"[" * 2000, "Message 2 is not JSON such as"),
        ([], "Message 2 is not a JSON object"),
        ("text", "Message 2 is not a JSON object"),
        (None, "Message 2 is not a JSON object"),
        ({"text": "x"}, 'Message 2 has no "to" that is a list'),
        ({"to": UNKNOWN, "text": "x"}, 'Message 2 has no "to" that is a list'),
        ({"to": [UNKNOWN, 7], "text": "x"}, 'Message 2 has no "to" that is a list'),
        ({"to": []}, 'Message 2 needs either "text" or "base64"'),
        ({"to": [], "text": 7}, 'Message 2 needs either "text" or "base64"'),
        ({"to": [], "base64": 7}, 'Message 2 needs either "text" or "base64"'),
        ({"to": [], "text": "x", "base64": "eA=="}, 'Message 2 needs either "text" or "base64"'),
        ({"to": [], "base64": "eA"}, 'The "base64" of message 2 is not base64'),
        ({"to": [], "base64": "e A=="}, 'The "base64" of message 2 is not base64'),
        ({"to": [], "base64": "é"}, 'The "base64" of message 2 is not base64'),
    ],
)
def test_a_request_with_an_invalid_message_sends_nothing(document, complaint):
    rig = Rig(1)
    batch = rig.send({"to": ids(rig.clients), "text": "1"}, document)
    assert isinstance(batch.error, BadRequest)
    assert batch.error.message.startswith(complaint)
    assert batch.sent == 0
    assert rig.texts() == [[]]


@pytest.mark.parametrize("documents", [(), (b"",), (b"\n", b" ")])
def test_a_request_without_a_message_is_refused(documents):
    error = Rig().send(*documents).error
    assert isinstance(error, BadRequest)
    assert error.message.startswith("The body has no message such as {")


@pytest.mark.parametrize("message", [{"text": "é" * 5 + "x"}, {"base64": b64encode(b"x" * 11).decode()}])
def test_a_message_over_the_limit_is_refused(message):
    rig = Rig(1)
    error = rig.send({"to": ids(rig.clients), **message}, max_size=10).error
    assert isinstance(error, TooLarge)
    assert error.message == "Message 1 has 11 bytes; MAX_MESSAGE_SIZE is 10."
    assert rig.send({"to": ids(rig.clients), "text": "é" * 5}, max_size=10).sent == 1


@pytest.mark.parametrize("per_slice", [1, 2, 3])
def test_a_large_request_is_read_and_sent_in_slices(per_slice):
    rig = Rig(2)
    rig.timer.step = 1.0
    batch = rig.batch(*[{"to": ids(rig.clients), "text": str(number)} for number in range(3)])
    slices = 0
    sent = 0
    while not batch.advance(rig.timer, rig.timer.now + per_slice):
        slices += 1
        assert batch.sent - sent <= per_slice
        sent = batch.sent
    assert batch.sent == 6
    assert slices >= 9 // per_slice - 1
    assert rig.texts() == [["0", "1", "2"]] * 2


def test_nothing_is_sent_before_all_is_read():
    rig = Rig(1)
    rig.timer.step = 1.0
    batch = rig.batch({"to": ids(rig.clients), "text": "1"}, {"to": ids(rig.clients), "text": "2"}, b"x")
    while not batch.advance(rig.timer, rig.timer.now):
        assert rig.texts() == [[]]
    assert batch.error is not None
    assert rig.texts() == [[]]


@examples(200)
@given(document=st.binary(max_size=60) | st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3)
    | st.dictionaries(st.sampled_from(["to", "text", "base64", "x"]), children, max_size=4),
    max_leaves=8,
).map(orjson.dumps))  # fmt: skip
def test_any_document_is_sent_or_refused(document):
    error = Rig().send(document).error
    assert error is None or error.status in {400, 413}


def test_what_is_for_a_peer_and_what_is_for_nobody_known_is_kept_apart():
    rig = Rig(clients=1)
    batch = rig.send({"to": ["!1", rig.clients[0].id, "?1"], "text": "a"}, {"to": ["/!2"], "text": "b"})
    assert batch.sent == 1
    assert batch.remote["peer"].lines == [b'{"to":["!1"],"text":"a"}', b'{"to":["/!2"],"text":"b"}']
    assert batch.unknown.ids == ["?1"]
    assert batch.gone.ids == []
