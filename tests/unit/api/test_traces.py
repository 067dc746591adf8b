"""The trace of a push in the log."""

import logging

import pytest

from tests.support.api_rig import Rig
from wsaas.log.throttle import throttle

TRACE = "a" * 32
TRACEPARENT = f"traceparent: 00-{TRACE}-{'b' * 16}-01"


@pytest.fixture(autouse=True)
def fresh_throttle():
    throttle.flush()


@pytest.fixture
def debug(caplog):
    caplog.set_level(logging.DEBUG, "wsaas")
    return caplog


def push(rig, *headers):
    return rig.ask("PUT", rig.path, *headers, body=b"hello")


def test_a_push_with_a_trace_is_logged_with_it_at_debug(debug):
    rig = Rig()
    debug.clear()
    assert push(rig, TRACEPARENT).status == 200
    assert debug.messages == [f"{rig.session.ws_uri}: a push of 5 bytes was sent (trace {TRACE})"]


def test_a_push_without_a_trace_is_not_logged(debug):
    rig = Rig()
    debug.clear()
    assert push(rig).status == 200
    assert debug.messages == []


def test_a_push_is_not_logged_at_info(caplog):
    caplog.set_level(logging.INFO, "wsaas")
    rig = Rig()
    assert push(rig, TRACEPARENT).status == 200
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("headers", "end"), [((), ""), ((TRACEPARENT,), f" (trace {TRACE})"), (("traceparent: nonsense",), "")]
)
def test_a_push_to_a_slow_client_is_logged_with_its_trace(caplog, headers, end):
    caplog.set_level(logging.INFO, "wsaas")
    rig = Rig()
    rig.connection.backlog = 1024 * 1024
    assert push(rig, *headers).status == 429
    assert caplog.messages == [
        f"{rig.session.ws_uri}: a push was refused with 429: The client has not read what is already queued for it."
        + end
    ]


def test_a_push_that_was_refused_otherwise_is_logged_at_debug_if_it_has_a_trace(debug):
    rig = Rig()
    name, rig.path = rig.path, "/" + "x" * 30
    debug.clear()
    assert push(rig).status == 410
    assert debug.messages == []
    assert push(rig, TRACEPARENT).status == 410
    uri = rig.session.ws_uri.replace(name, rig.path)
    assert debug.messages == [f"{uri}: a push was refused with 410: This connection has ended. (trace {TRACE})"]
