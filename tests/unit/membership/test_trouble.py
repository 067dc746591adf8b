"""Log lines about the trouble with NATS."""

import pytest

from wsaas.membership.trouble import REMINDER_S, Trouble


@pytest.fixture
def lines(caplog):
    caplog.set_level("INFO")
    return caplog


def test_it_is_logged_once_then_every_minute_and_at_its_end(lines):
    trouble = Trouble()
    trouble.details = lambda: "7 connections are not replicated"
    for now in (0.0, 1.0, 30.0, REMINDER_S, REMINDER_S + 1, 2 * REMINDER_S):
        trouble.found("NATS is not connected", 100 + now)
    trouble.solved(230.5)
    trouble.solved(231)
    assert trouble.is_over
    assert lines.messages == [
        "no contact with the cluster: NATS is not connected; 7 connections are not replicated",
        "no contact with the cluster for 60 s: NATS is not connected; 7 connections are not replicated",
        "no contact with the cluster for 120 s: NATS is not connected; 7 connections are not replicated",
        "in contact with the cluster again after 130.5 s",
    ]


def test_without_details_nothing_is_added(lines):
    Trouble().found("why", 0)
    assert lines.messages == ["no contact with the cluster: why"]
