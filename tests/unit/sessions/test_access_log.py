"""The access log: when there is a line, and what it says."""

from dataclasses import replace

import pytest

from tests.support.fakes import (
    FakeClock,
    FakeConnection,
    FakePendingClient,
    FakeSessionListener,
    FakeWebhook,
    make_handshake,
    make_services,
    make_settings,
)
from wsaas.delivery.journal import NoJournal
from wsaas.delivery.verdicts import DELIVERED, Accepted, Rejected
from wsaas.errors import BadRequest, RefusedWithClose, Unauthorized
from wsaas.events import Message
from wsaas.http.trace_context import TraceContext
from wsaas.reason import Reason
from wsaas.sessions.access_log import MAX_PATH, log_refused_at_once
from wsaas.sessions.connection_info import ConnectionInfo
from wsaas.sessions.opening_handshake import OpeningHandshake
from wsaas.sessions.session import Session
from wsaas.websocket import frames

ID = "abcdefghijklmnopqrstuv"
OK = Accepted(None, None)
CLIENT = {"remote_address": "192.0.2.7", "path": "/room"}


class Rig:
    """A session whose handshake waits for the backend."""

    def __init__(self, trace=None, **values):
        self.clock = FakeClock()
        self.webhook = FakeWebhook()
        services = make_services(make_settings(**values), self.clock, self.webhook, FakeSessionListener(), NoJournal())
        handshake = replace(make_handshake(), trace=trace)
        info = ConnectionInfo(ID, "localhost:8080", handshake, "192.0.2.7", self.clock)
        self.session = Session(services, info, handshake)
        OpeningHandshake(services, self.session, handshake, FakePendingClient()).start()

    def enter(self):
        self.webhook.answer(OK)
        return self


@pytest.fixture
def logged(caplog):
    """Return a function that returns the fields of the lines so far."""
    caplog.set_level("INFO", "wsaas")
    return lambda: [each.args for each in caplog.records if isinstance(each.args, dict) and "event" in each.args]


def test_the_end_of_a_connection_is_one_line(logged, caplog):
    rig = Rig().enter()
    rig.clock.advance(1.25)
    rig.session.receive(Message(text=True, data=b"hello"))
    rig.session.send(frames.TEXT, b"hi")
    rig.session.send(frames.TEXT, b"again")
    assert logged() == []
    rig.session.closed_by_client(4001, "a secret of the client")
    rig.webhook.answer(DELIVERED)
    assert logged() == [
        {
            "event": "closed",
            "id": ID,
            "reason": "client closed",
            "code": 4001,
            "duration_ms": 1250,
            "messages_in": 1,
            "messages_out": 2,
            **CLIENT,
        }
    ]
    assert caplog.messages == ["connection closed"]


def test_messages_that_were_unread_at_the_disconnect_are_counted(logged):
    rig = Rig().enter()
    rig.session.disconnected(FakeConnection())
    assert logged() == []
    rig.session.receive(Message(text=True, data=b"hello"))
    rig.session.lost()
    (line,) = logged()
    assert (line["reason"], line["code"], line["messages_in"]) == ("client lost", 1006, 1)


@pytest.mark.parametrize("reason", [Reason.TIMED_OUT, Reason.SHUTDOWN, Reason.UNDELIVERED])
def test_the_reason_of_the_gateway_and_the_code_on_the_wire_are_logged(logged, reason):
    rig = Rig().enter()
    rig.session.close(reason, 4321, "text of the backend")
    rig.session.lost()
    (line,) = logged()
    assert (line["reason"], line["code"]) == (reason.value, 4321)


def test_a_handshake_that_the_backend_refuses_is_one_line(logged):
    rig = Rig()
    rig.clock.advance(0.5)
    rig.webhook.answer(Rejected(Unauthorized("The backend refused the connection."), disconnect_owed=False))
    rig.session.lost()
    assert logged() == [
        {
            "event": "refused",
            "id": ID,
            "reason": "The backend refused the connection.",
            "status": 401,
            "duration_ms": 500,
            **CLIENT,
        }
    ]


def test_a_handshake_that_the_backend_refuses_with_a_close_has_its_code(logged):
    rig = Rig()
    rig.webhook.answer(Rejected(RefusedWithClose(4401, "the backend's words"), disconnect_owed=False))
    (line,) = logged()
    assert (line["event"], line["status"], line["code"]) == ("refused", 403, 4401)
    assert line["reason"] == "The backend refused the connection."


def test_a_handshake_whose_client_goes_away_is_one_line(logged):
    rig = Rig()
    rig.clock.advance(0.1)
    rig.session.lost()
    rig.webhook.answer(OK)
    assert logged() == [{"event": "abandoned", "id": ID, "duration_ms": 100, **CLIENT}]


def test_the_trace_of_a_handshake_is_in_its_line(logged):
    trace = TraceContext(f"00-{'a' * 32}-{'b' * 16}-01")
    Rig(trace).enter().session.lost()
    Rig(trace).session.lost()
    assert [line["trace_id"] for line in logged()] == ["a" * 32] * 2


def test_the_access_log_can_be_switched_off(logged):
    Rig(access_log="off").enter().session.lost()
    Rig(access_log="off").session.lost()
    Rig(access_log="off").webhook.answer(Rejected(Unauthorized("No."), disconnect_owed=False))
    assert logged() == []


def test_a_long_path_is_shortened_and_a_query_is_not_logged(logged):
    log_refused_at_once(BadRequest("No."), "", "/" + "p" * MAX_PATH + "?token=s3cret")
    log_refused_at_once(BadRequest("No."), "", "/" + "p" * (MAX_PATH - 1) + "?token=s3cret")
    assert [line["path"] for line in logged()] == ["/" + "p" * (MAX_PATH - 1) + "...", "/" + "p" * (MAX_PATH - 1)]
