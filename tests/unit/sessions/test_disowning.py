import orjson
import pytest

from tests.support.fakes import (
    FakeClock,
    FakeConnection,
    FakeJournal,
    FakePendingClient,
    FakeWebhook,
    body_of,
    make_settings,
    start_session,
)
from wsaas.delivery.verdicts import DELIVERED, Accepted
from wsaas.events import Closed, Message, Opened
from wsaas.reason import Reason
from wsaas.sessions.disowning import close_all_clients
from wsaas.sessions.registry import Registry
from wsaas.websocket import frames


class Rig:
    """A registry with one client."""

    def __init__(self):
        self.webhook = FakeWebhook()
        self.journal = FakeJournal()
        self.registry = Registry(make_settings(), FakeClock(), self.webhook, self.journal, 10)
        self.client = FakePendingClient()
        self.connection = self.client.connection
        self.session = start_session(self.registry, self.client)
        self.journal.write()

    def enter(self, *messages):
        self.webhook.answer(Accepted(None, None))
        for data in messages:
            self.receive(data)
        return self

    def receive(self, data):
        self.session.receive(Message(text=True, data=data))

    def close_all(self, *, is_foreign=True):
        close_all_clients(self.registry, lambda _id: is_foreign)

    def answer_all(self):
        while self.webhook.calls:
            is_opened = isinstance(self.webhook.pending, Opened)
            self.webhook.answer(Accepted(None, None) if is_opened else DELIVERED)
        self.journal.write()

    @property
    def ends(self):
        return [orjson.loads(body_of(event)) for event in self.webhook.events if isinstance(event, Closed)]

    @property
    def is_finished(self):
        return not self.registry.live() and not self.registry.ending()


@pytest.fixture
def rig():
    return Rig()


CLOSE = frames.encode_close(1012, "node declared dead")


def test_a_client_is_closed_and_another_process_reports_its_end(rig, caplog):
    rig.enter(b"under way", b"waits").close_all()
    assert rig.connection.written == [CLOSE]
    rig.receive(b"late")
    rig.session.closed_by_client(1012, "")
    rig.answer_all()
    assert rig.ends == []
    assert len([event for event in rig.webhook.events if isinstance(event, Message)]) == 1
    assert rig.is_finished
    assert [*rig.journal.entries] == [rig.session.id]
    assert caplog.messages == [
        "declared dead by another process: 1 client is closed with 1012",
        f"{rig.session.ws_uri}: the node was declared dead: 3 messages not delivered",
    ]


def test_the_end_of_a_client_that_no_other_process_knows_is_reported_here(rig, caplog):
    rig.enter(b"under way", b"waits").close_all(is_foreign=False)
    assert rig.connection.written == [CLOSE]
    rig.session.closed_by_client(1012, "")
    rig.answer_all()
    (end,) = rig.ends
    assert (end["code"], end["reason"], end["undelivered"]) == (1012, "node declared dead", 0)
    assert rig.is_finished
    assert rig.journal.entries == {}
    assert caplog.messages == ["declared dead by another process: 1 client is closed with 1012"]


def test_a_client_that_is_closing_already_is_disowned(rig):
    rig.enter()
    rig.registry.find(rig.session.id).close(Reason.DECLARED_DEAD)
    rig.close_all()
    assert rig.connection.written == [CLOSE]
    rig.session.lost()
    assert (rig.ends, rig.is_finished) == ([], True)


def test_the_unread_data_of_a_disowned_client_is_read(rig):
    rig.enter()
    rig.session.disconnected(FakeConnection())
    rig.close_all()
    rig.receive(b"unread")
    rig.session.lost()
    assert rig.session.info.messages_undelivered == 1
    assert (rig.ends, rig.is_finished) == ([], True)


def test_a_session_whose_client_is_gone_finishes(rig, caplog):
    rig.enter(b"under way")
    rig.session.lost()
    rig.close_all()
    assert rig.is_finished
    assert f"{rig.session.ws_uri}: the node was declared dead: 1 message not delivered" in caplog.messages
    rig.answer_all()
    assert rig.ends == []


def test_a_client_that_the_backend_has_not_decided_about_is_refused_and_its_end_reported(rig):
    rig.close_all()
    assert rig.client.refused.status == 503
    rig.answer_all()
    assert len(rig.ends) == 1
    assert rig.is_finished
    assert rig.journal.entries == {}
