"""A client that is watched for a while, and whose spans are recorded."""

import pytest

from tests.support.collector import Collector
from tests.support.console import watching
from tests.support.stage import Stage
from tests.support.waiting import wait_until
from wsaas.watching import watcher

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def test_a_client_that_is_watched_for_a_while_has_all_its_spans(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector = Collector()
    stage.stack.callback(collector.close)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setattr(watcher, "LINGER_S", 0.0)
    node = await stage.node(traces="on", handshake_timeout=100)
    client, name = await node.admit(additional_headers={"traceparent": TRACEPARENT})
    await client.send("before")
    await stage.backend.take("PUT")
    async with watching(node, name) as viewer:
        await client.send("watched")
        request = await viewer.until("request")
        assert TRACEPARENT[:36] in dict(request["headers"])["traceparent"]
        await viewer.until("response")
    recorders = node.gateway.sessions.push_recorders
    await wait_until(lambda: name not in recorders, "the objects to be swapped back")
    await client.send("after")
    await stage.backend.wait(lambda: stage.backend.count("PUT") == 3)
    await client.close()
    await stage.backend.take("DELETE")
    assert await node.drain()
    assert len(collector.named("PUT")) == 3
    assert len(collector.named("DELETE")) == 1
