"""The JSON bodies of the native format, and how a DELETE of another process is read."""

import pytest

from wsaas.delivery.event_bodies import disconnect_body, read_disconnect, stored_disconnect_body
from wsaas.events import Closed, Disconnect


@pytest.mark.parametrize(
    "disconnect",
    [
        Disconnect("localhost:8080/id", 4000, "grüße", 12_345, 3, 4, 0),
        Disconnect("localhost:8080/id", 1006, "gateway lost", 0),
    ],
)
def test_a_delete_that_was_stored_is_read_back(disconnect):
    closed = Closed(1.0, disconnect=disconnect)
    stored = Closed(1.0, disconnect=stored_disconnect_body(closed))
    assert read_disconnect(closed) == read_disconnect(stored) == disconnect
    assert disconnect_body(stored) == disconnect_body(closed)


def test_what_a_stored_delete_does_not_say_is_not_known():
    assert read_disconnect(Closed(1.0, disconnect=b"{}")) == Disconnect("", 1006, "", 0)
