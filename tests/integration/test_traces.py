"""The trace of a handshake goes to the backend: unchanged with the POST, as a child with each later event."""

import itertools
from pathlib import Path

import pytest

from tests.support.backend import Call
from tests.support.journal import write_journal
from tests.support.stage import Stage
from tests.support.waiting import wait_until
from wsaas.delivery.journal import Entry
from wsaas.http.trace_context import TraceContext

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
HEADERS = {"traceparent": TRACEPARENT, "tracestate": "vendor=1"}


def trace_of(call: Call) -> tuple[str, str | None]:
    """Return the two headers of a request."""
    return call.headers["traceparent"], call.headers.get("tracestate")


async def test_the_post_has_the_headers_of_the_handshake_and_each_later_event_is_a_child(stage: Stage) -> None:
    node = await stage.node()
    client, name = await node.admit(additional_headers=HEADERS)
    await client.send("one")
    await client.send(b"two")
    await client.close()
    await stage.backend.take("DELETE")
    post, *rest = stage.backend.of(name)
    assert [call.event for call in (post, *rest)] == [0, 1, 2, "end"]
    assert trace_of(post) == (TRACEPARENT, "vendor=1")
    spans = set()
    for call in rest:
        traceparent, tracestate = trace_of(call)
        version, trace, span, flags = traceparent.split("-")
        assert (version, trace, flags, tracestate) == ("00", TRACE, "01", "vendor=1")
        spans.add(span)
    assert len(spans | {PARENT}) == 4


async def test_the_id_of_the_trace_is_known_to_the_session(stage: Stage) -> None:
    node = await stage.node()
    _, name = await node.admit(additional_headers=HEADERS)
    _, other = await node.admit()
    assert node.session(name).info.trace_id == TRACE
    assert node.session(other).info.trace_id is None


async def test_a_handshake_that_is_not_sampled_has_children_that_are_not(stage: Stage) -> None:
    node = await stage.node()
    client, _ = await node.admit(additional_headers={"traceparent": f"{TRACEPARENT[:-2]}00"})
    await client.send("one")
    traceparent, tracestate = trace_of(await stage.backend.take("PUT"))
    assert traceparent.endswith("-00")
    assert tracestate is None


@pytest.mark.parametrize("headers", [{}, {"tracestate": "a=1"}, {"traceparent": "nonsense", "tracestate": "a=1"}])
async def test_without_a_valid_traceparent_there_is_none(stage: Stage, headers: dict[str, str]) -> None:
    node = await stage.node()
    client, name = await node.admit(additional_headers=headers)
    await client.send("one")
    await client.close()
    await stage.backend.take("DELETE")
    for call in stage.backend.of(name):
        assert {"traceparent", "tracestate"}.isdisjoint(call.headers)


async def test_a_message_that_is_sent_again_has_the_same_bytes(stage: Stage) -> None:
    node = await stage.node(api_retry=10_000)
    statuses = itertools.chain([503, 500], itertools.repeat(200))
    stage.backend.on["PUT"] = lambda call: call.answer(next(statuses))
    client, name = await node.admit(additional_headers=HEADERS)
    await client.send("one")
    await stage.backend.wait(lambda: stage.backend.count("PUT") == 3)
    _, *puts = stage.backend.of(name)
    assert len({(tuple(put.headers.items()), put.body) for put in puts}) == 1


async def test_the_delete_after_a_crash_is_a_child_too(stage: Stage, tmp_path: Path) -> None:
    path = tmp_path / "journal"
    stage.expected_errors = ["left for the next start"]
    node = await stage.node(journal=path)
    stage.backend.hold("DELETE")
    client, name = await node.admit(additional_headers=HEADERS)
    await client.close()
    first = await stage.backend.take("DELETE", client=name)
    node.gateway.hurry()
    await node.drain()
    stage.backend.release()
    again = await stage.node(journal=path)
    await wait_until(lambda: stage.backend.count("DELETE") == 2)
    await wait_until(lambda: not again.statistics.recovered_disconnects_owed)
    second = stage.backend.of(name)[-1]
    assert trace_of(second) == trace_of(first)
    assert second.body == first.body


async def test_the_trace_of_a_lost_connection_is_in_the_journal(stage: Stage, tmp_path: Path) -> None:
    path = tmp_path / "journal"
    trace = TraceContext(TRACEPARENT, "vendor=1")
    write_journal(path, Entry("lost", "old/lost", None, None, 1_700_000_000.0, trace=trace))
    await stage.node(journal=path)
    traceparent, tracestate = trace_of(await stage.backend.take("DELETE"))
    assert traceparent[:36] == TRACEPARENT[:36]
    assert traceparent[36:52] != PARENT
    assert tracestate == "vendor=1"
