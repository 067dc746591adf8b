import json
import tracemalloc
from dataclasses import replace

from tests.support.fakes import FakeClock
from tests.support.traced import traced_memory
from wsaas.delivery.event_bodies import disconnect_body, stored_disconnect_body
from wsaas.events import Closed
from wsaas.http.trace_context import TraceContext
from wsaas.sessions.connection_info import ConnectionInfo
from wsaas.websocket.frames import Close
from wsaas.websocket.handshake import Handshake

SHAKEN = Handshake(key=b"", path="/room", query="a=1", headers={}, subprotocols=[], authorization=None)


def test_a_client_without_a_close_was_lost():
    facts = ConnectionInfo("id", "node", SHAKEN, "192.0.2.7", FakeClock(now=5.0))
    facts.ended = 6.234
    assert json.loads(disconnect_body(Closed(0.0, disconnect=facts.disconnect()))) == {
        "ws_uri": "node/id",
        "code": 1006,
        "reason": "",
        "duration": 1234,
        "messages_in": 0,
        "messages_out": 0,
        "undelivered": 0,
    }


def test_facts_come_from_the_handshake_and_the_clock():
    facts = ConnectionInfo("id", "node", SHAKEN, "192.0.2.7", FakeClock(now=5.0))
    assert (facts.path, facts.query, facts.remote_address, facts.order) == ("/room", "a=1", "192.0.2.7", 0)
    assert facts.since == facts.last_seen == 5.0
    assert facts.connected_at == 1_700_000_005.0
    assert facts.subprotocol is None


def test_the_trace_is_that_of_the_handshake():
    assert ConnectionInfo("id", "node", SHAKEN, "192.0.2.7", FakeClock()).trace_id is None
    trace = TraceContext(f"00-{'a' * 32}-{'b' * 16}-01")
    facts = ConnectionInfo("id", "node", replace(SHAKEN, trace=trace), "192.0.2.7", FakeClock())
    assert (facts.trace_context, facts.trace_id) == (trace, "a" * 32)


def test_the_first_close_on_the_wire_counts():
    facts = ConnectionInfo("id", "node", SHAKEN, "192.0.2.7", FakeClock())
    facts.note_close(Close(4001, "first"))
    facts.note_close(Close(1000, "second"))
    assert facts.close == Close(4001, "first")


def test_a_stored_delete_body_takes_no_spare_memory():
    facts = ConnectionInfo("id", "node", SHAKEN, "192.0.2.7", FakeClock())
    tracemalloc.start()
    try:
        kept = [stored_disconnect_body(Closed(0.0, disconnect=facts.disconnect())) for _ in range(100)]
        size = traced_memory()
    finally:
        tracemalloc.stop()
    assert size / len(kept) < len(kept[0]) + 100
