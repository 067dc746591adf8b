"""The metrics of a gateway follow what happens to its clients and its backend."""

import asyncio
import logging
from pathlib import Path

import pytest

from tests.support.certificate_authority import CertificateAuthority
from tests.support.clients import upgrade
from tests.support.exposition import Exposition
from tests.support.frames import BINARY, TEXT, close_frame, frame
from tests.support.ports import free_port
from tests.support.stage import Node, Stage, received_close


async def scrape(node: Node) -> Exposition:
    """Scrape a node."""
    answer = await node.rest("GET", "metrics")
    assert answer.status == 200
    return Exposition(answer.body)


async def scrape_until(node: Node, name: str, expected: float, **labels: str) -> Exposition:
    """Scrape a node until a sample has a value."""
    while True:
        found = await scrape(node)
        if found.value(name, **labels) == expected:
            return found
        await asyncio.sleep(0.01)


async def test_a_client_is_counted_from_its_handshake_to_its_delete(stage: Stage) -> None:
    stage.backend.hold("POST", "DELETE")
    node = await stage.node()
    raw = await node.raw()
    raw.send(upgrade())
    post = await stage.backend.take("POST")
    assert (await scrape(node)).labelled("connections", "state") == {"connecting": 1}
    post.ok()
    assert (await raw.answer()).status == 101
    found = await scrape(node)
    assert found.labelled("connections", "state") == {"open": 1}
    assert found.labelled("handshakes_total", "status") == {"101": 1}
    assert found.value("backend_requests_total", event="connect", result="ok") == 1
    assert found.value("connections_limit") > 1
    raw.send(close_frame(1000, "bye"))
    delete = await stage.backend.take("DELETE")
    found = await scrape(node)
    assert found.labelled("connections", "state") == {}
    assert found.labelled("connections_closed_total", "reason") == {"client_closed": 1}
    assert found.value("connection_duration_seconds_count") == 1
    assert found.value("disconnects_pending") == 1
    delete.ok()
    found = await scrape_until(node, "disconnects_pending", 0)
    assert found.value("backend_requests_total", event="disconnect", result="ok") == 1


async def test_clients_over_the_limit_of_their_address_are_counted_and_logged(stage: Stage) -> None:
    control = free_port()
    node = await stage.node(max_connections_per_address=1, control_listen=f"127.0.0.1:{control}")
    await node.connect()
    for _ in range(3):
        raw = await node.raw()
        assert (await raw.answer()).status == 429
        await raw.end()
    found = Exposition((await node.rest("GET", "/metrics", port=control)).body)
    assert found.labelled("handshakes_total", "status") == {"101": 1, "429": 3}
    line = "a connection from 127.0.0.1 was refused with 429: This address has reached its limit of connections."
    assert stage.messages(logging.INFO).count(line) == 1


async def test_messages_and_pushes_are_counted_with_their_bytes(stage: Stage) -> None:
    node = await stage.node()
    client, name = await node.admit()
    for _ in range(2):
        await client.send("hello")
        await stage.backend.take("PUT")
    for body in ("hi", "you"):
        assert (await node.rest("PUT", name, body)).status == 200
    assert (await node.rest("PUT", "A" * 30, "nobody")).status == 410
    assert (await node.rest("PUT", name, b"\xff", Content_Type="text/plain; charset=utf-8")).status == 400
    found = await scrape_until(node, "delivery_seconds_count", 2)
    assert found.labelled("messages_total", "direction") == {"in": 2, "out": 2}
    assert found.labelled("message_bytes_total", "direction") == {"in": 10, "out": 5}
    assert found.labelled("pushes_total", "result") == {"ok": 2, "gone": 1, "rejected": 1}
    assert found.value("backend_requests_total", event="message", result="ok") == 2
    assert found.value("backend_request_duration_seconds_count", event="message") == 2


async def test_replies_publishes_and_batches_are_counted_as_messages(stage: Stage) -> None:
    stage.backend.hold("PUT")
    node = await stage.node()
    client, name = await node.admit()
    await client.send("hello")
    (await stage.backend.take("PUT")).answer(200, "reply", Ws_Reply="text")
    assert await client.recv() == "reply"
    assert (await node.rest("PUT", f"groups/lobby/connections/{name}")).status == 200
    assert (await node.rest("PUT", "groups/lobby", "all")).json["sent"] == 1
    assert (await node.rest("POST", "send", f'{{"to": ["{name}", "{"A" * 30}"], "text": "some"}}')).json["sent"] == 1
    found = await scrape(node)
    assert found.labelled("messages_total", "direction") == {"in": 1, "out": 3}
    assert found.labelled("message_bytes_total", "direction") == {"in": 5, "out": 12}
    assert found.labelled("group_deliveries_total", "result") == {"ok": 1}
    assert found.labelled("pushes_total", "result") == {"ok": 1, "gone": 1}
    # An answer with actions takes the longer way.
    assert found.value("delivery_seconds_count") == 1


async def test_a_message_that_waits_is_delivered_later_than_its_request_takes(stage: Stage) -> None:
    stage.backend.hold("PUT")
    node = await stage.node()
    client, _ = await node.admit()
    await client.send("one")
    await client.send("two")
    first = await stage.backend.take("PUT")
    found = await scrape_until(node, "backlog_bytes", 3 + 512)
    assert found.value("clients_paused") == 0
    await asyncio.sleep(0.3)
    first.ok()
    (await stage.backend.take("PUT")).ok()
    found = await scrape_until(node, "delivery_seconds_count", 2)
    assert found.value("delivery_seconds_bucket", le="0.25") == 0
    assert found.value("backend_request_duration_seconds_bucket", event="message", le="0.25") == 1
    assert found.value("backlog_bytes") == 0


async def test_a_paused_client_is_counted_until_the_backend_has_caught_up(stage: Stage) -> None:
    stage.backend.hold("PUT")
    node = await stage.node(inbox=2000)
    raw = await node.upgraded()
    for _ in range(4):
        raw.send(frame(BINARY, b"x" * 1000))
    await scrape_until(node, "clients_paused", 1)
    stage.backend.release()
    found = await scrape_until(node, "clients_paused", 0)
    await scrape_until(node, "messages_total", 4, direction="in")
    assert found.value("messages_undelivered_total") == 0


async def test_a_message_that_is_given_up_is_counted_as_undelivered(stage: Stage) -> None:
    stage.backend.hold("PUT")
    node = await stage.node()
    client, _ = await node.admit()
    await client.send("one")
    put = await stage.backend.take("PUT")
    await client.send("two")
    await scrape_until(node, "backlog_bytes", 3 + 512)
    put.answer(400)
    assert (await received_close(client))[0] == 1011
    await stage.backend.take("DELETE")
    found = await scrape(node)
    assert found.value("messages_undelivered_total") == 2
    assert found.value("backend_requests_total", event="message", result="refused") == 1
    assert found.labelled("connections_closed_total", "reason") == {"undelivered": 1}
    assert found.value("backlog_bytes") == 0


async def test_failures_of_the_backend_are_counted_by_their_kind(stage: Stage) -> None:
    stage.backend.hold("PUT")
    node = await stage.node(api_timeout=300, api_retry=60_000)
    client, _ = await node.admit()
    await client.send("one")
    (await stage.backend.take("PUT")).answer(500)
    (await stage.backend.take("PUT")).hang_up(b"HTTP/1.1 200")
    (await stage.backend.take("PUT")).send(b"SSH-2.0\r\n\r\n")
    await stage.backend.take("PUT")
    (await stage.backend.take("PUT")).ok()
    found = await scrape_until(node, "delivery_seconds_count", 1)
    results = {
        dict(labels)["result"]: value
        for (name, labels), value in found.values.items()
        if name == "wsaas_backend_requests_total" and dict(labels)["event"] == "message" and value
    }
    assert results == {"ok": 1, "error": 1, "broken": 1, "invalid": 1, "timeout": 1}
    assert found.labelled("retries_total", "event") == {"message": 4}
    # A POST is never sent again, so there is no series for it.
    assert {dict(labels)["event"] for name, labels in found.values if name == "wsaas_retries_total"} == {
        "message",
        "disconnect",
    }
    assert found.value("backend_request_duration_seconds_count", event="message") == 5


async def test_a_backend_that_is_down_is_shown_with_what_waits_for_it(stage: Stage) -> None:
    node = await stage.node()
    client, _ = await node.admit()
    assert (await scrape(node)).value("backend_up") == 1
    await stage.backend.stop()
    await client.send("hello")
    found = await scrape_until(node, "backend_queued", 1)
    assert found.value("backend_up") == 0
    await stage.backend.start()
    await stage.backend.take("PUT")
    found = await scrape_until(node, "backend_up", 1)
    assert found.value("backend_requests_total", event="message", result="unreachable") >= 1


async def test_refused_handshakes_are_counted_by_their_status(stage: Stage) -> None:
    stage.backend.hold("POST")
    node = await stage.node(allowed_origins="https://good.test")
    refused = await node.raw()
    refused.send(upgrade("/", "Origin: https://evil.test"))
    assert (await refused.answer()).status == 403
    denied = await node.raw()
    denied.send(upgrade("/", "Origin: https://good.test"))
    (await stage.backend.take("POST")).answer(401)
    assert (await denied.answer()).status == 401
    gone = await node.raw()
    gone.send(upgrade("/", "Origin: https://good.test"))
    post = await stage.backend.take("POST")
    gone.close()
    await scrape_until(node, "handshakes_total", 1, status="none")
    post.ok()
    proxied = await node.raw()
    proxied.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    assert (await proxied.answer()).status == 426
    await stage.backend.take("DELETE")
    found = await scrape(node)
    assert found.labelled("handshakes_total", "status") == {"403": 1, "401": 1, "none": 1, "426": 1}
    assert found.value("backend_requests_total", event="connect", result="refused") == 1
    assert found.labelled("connections_closed_total", "reason") == {}


async def test_a_disconnect_that_is_given_up_is_counted(stage: Stage) -> None:
    stage.expected_errors.append("the backend was not told that this connection ended")
    stage.backend.hold("DELETE")
    node = await stage.node(api_retry=10)
    raw = await node.upgraded()
    raw.close()

    async def refuse() -> None:
        while True:
            (await stage.backend.take("DELETE")).answer(500)

    refusing = asyncio.ensure_future(refuse())
    await scrape_until(node, "disconnects_given_up_total", 1)
    refusing.cancel()


async def test_the_journal_and_the_certificate_are_shown(stage: Stage, tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path)
    stage.tls = authority.client()
    node = await stage.node(journal=tmp_path / "journal", **authority.issue())
    found = await scrape(node)
    assert found.value("journal_writable") == 1
    assert found.value("certificate_expiry_timestamp_seconds") > 2e9


async def test_a_cluster_shows_its_nodes(stage: Stage) -> None:
    nodes = await stage.cluster(2)
    found = await scrape(nodes[0])
    assert found.value("cluster_nodes") == 2
    assert found.value("cluster_connected") == 1
    assert not found.has("cluster_unreplicated")


async def test_workers_are_scraped_together(stage: Stage) -> None:
    nodes = await stage.workers(2)
    for node in nodes:
        await node.upgraded()
    for node in nodes:
        found = await scrape(node)
        assert found.value("connections", state="open") == 2
        assert found.value("handshakes_total", status="101") == 2


@pytest.mark.parametrize("size", [1, 70_000])
async def test_a_slow_client_is_counted_however_large_the_push_is(stage: Stage, size: int) -> None:
    node = await stage.node(send_buffer=1000)
    raw = await node.upgraded()
    (post,) = [call for call in stage.backend.calls if call.method == "POST"]
    raw.send(frame(TEXT, b"hi"))
    status = 200
    while status == 200:
        status = (await node.rest("PUT", post.client, "x" * 60_000)).status
    before = (await scrape(node)).value("pushes_total", result="slow")
    assert (await node.rest("PUT", post.client, "x" * size)).status == 429
    assert (await scrape(node)).value("pushes_total", result="slow") == before + 1
