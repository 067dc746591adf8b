"""Each alert fires for its fault on a real gateway, and none does in a calm run.

The gateway is scraped a few times in a second. For Prometheus, there is a minute between two scrapes.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.support.clients import upgrade
from tests.support.exposition import Exposition
from tests.support.promtool import RULES, TARGET, alerts_expected, needs_promtool, promtool, series_of
from tests.support.stage import Node, Stage
from tests.support.waiting import wait_until

pytestmark = needs_promtool

MINUTES = 15
"""Longer than any range and `for` of the rules together."""


async def do_nothing() -> None:
    """Let the gateway do what it does."""
    await asyncio.sleep(0.005)


async def scrapes_of(node: Node, between: Callable[[], Awaitable[None]] = do_nothing) -> list[Exposition]:
    """Scrape a node once for each minute. `between`: called between two scrapes."""
    found = []
    for _ in range(MINUTES + 1):
        found.append(Exposition((await node.rest("GET", "metrics")).body))
        await between()
    return found


def check(scrapes: list[Exposition], folder: Path, alert: str) -> None:
    """Check that an alert fires."""
    assert alerts_expected(folder, series_of(scrapes), MINUTES, [alert], alert) == ""


async def test_no_alert_fires_in_a_calm_run(stage: Stage, tmp_path: Path) -> None:
    node = await stage.node(journal=tmp_path / "journal")
    client, name = await node.admit()

    async def chat() -> None:
        await client.send("hello")
        await stage.backend.take("PUT")
        assert (await node.rest("PUT", name, "hi")).status == 200
        assert await client.recv() == "hi"
        passing = await node.upgraded()
        passing.close()
        await stage.backend.take("DELETE")

    scrapes = await scrapes_of(node, chat)
    assert scrapes[-1].value("messages_total", direction="in") == MINUTES
    assert alerts_expected(tmp_path, series_of(scrapes), MINUTES, [], ".*") == ""


async def test_the_backend_is_down(stage: Stage, tmp_path: Path) -> None:
    node = await stage.node()
    client, _ = await node.admit()
    await stage.backend.stop()
    await client.send("hello")
    await wait_until(lambda: node.statistics.deliveries_waiting == 1)
    check(await scrapes_of(node), tmp_path, "WsaasBackendDown")
    await stage.backend.start()
    await stage.backend.take("PUT")


@pytest.mark.slow
async def test_the_backend_is_slow(stage: Stage, tmp_path: Path) -> None:
    stage.backend.hold("PUT")
    node = await stage.node()
    clients = [(await node.admit())[0] for _ in range(MINUTES)]

    async def wait() -> None:
        """Answer the message of one of the clients, which wait for more than a second."""
        await clients.pop().send("hello")
        put = await stage.backend.take("PUT")
        asyncio.get_running_loop().call_later(1.5, put.ok)
        await asyncio.sleep(0.2)

    found = []
    for _ in range(MINUTES):
        found.append(Exposition((await node.rest("GET", "metrics")).body))
        await wait()
    await asyncio.sleep(1.6)
    found.append(Exposition((await node.rest("GET", "metrics")).body))
    check(found, tmp_path, "WsaasBackendSlow")


async def test_a_message_is_lost(stage: Stage, tmp_path: Path) -> None:
    stage.backend.hold("PUT")
    node = await stage.node()
    client, _ = await node.admit()
    first = Exposition((await node.rest("GET", "metrics")).body)
    await client.send("hello")
    (await stage.backend.take("PUT")).answer(400)
    await stage.backend.take("DELETE")
    scrapes = await scrapes_of(node)
    check([first, *scrapes[1:]], tmp_path, "WsaasMessagesLost")


async def test_the_backend_does_not_take_a_delete(stage: Stage, tmp_path: Path) -> None:
    stage.expected_errors.append("the backend was not told that this connection ended")
    stage.backend.hold("DELETE")
    node = await stage.node(api_retry=10)
    raw = await node.upgraded()
    first = Exposition((await node.rest("GET", "metrics")).body)
    raw.close()

    async def refuse() -> None:
        while True:
            (await stage.backend.take("DELETE")).answer(500)

    refusing = asyncio.ensure_future(refuse())
    await wait_until(lambda: any("was not told" in message for message in stage.messages()))
    refusing.cancel()
    scrapes = await scrapes_of(node)
    check([first, *scrapes[1:]], tmp_path, "WsaasDisconnectsNotTold")


async def test_the_pool_is_too_small(stage: Stage, tmp_path: Path) -> None:
    stage.backend.hold("PUT")
    node = await stage.node(api_connections=1)
    clients = [(await node.admit())[0] for _ in range(3)]
    for client in clients:
        await client.send("hello")
    await wait_until(lambda: node.statistics.backend_requests_waiting == 2)
    check(await scrapes_of(node), tmp_path, "WsaasPoolTooSmall")
    stage.backend.release()


@pytest.mark.slow
async def test_the_core_is_full(stage: Stage, tmp_path: Path) -> None:
    node = await stage.node(keep_alive_timeout=100)

    async def block() -> None:
        # For a timer that is due all the time.
        time.sleep(0.25)  # noqa: ASYNC251 - this is the fault
        await asyncio.sleep(0.06)

    check(await scrapes_of(node, block), tmp_path, "WsaasCoreFull")


def test_the_cores_are_full_by_their_cpu_time(tmp_path: Path) -> None:
    # The CPU time of a real process cannot be compressed.
    target = ", ".join(f'{label}="{value}"' for label, value in TARGET.items())
    for busy_s, expected in ((59, ["WsaasCoreFull"]), (50, [])):
        series = {
            f"process_cpu_seconds_total{{{target}}}": f"0+{busy_s * 2}x{MINUTES}",
            f'wsaas_workers{{{target}, state="answered"}}': f"2+0x{MINUTES}",
            f'wsaas_workers{{{target}, state="missing"}}': f"0+0x{MINUTES}",
        }
        assert alerts_expected(tmp_path, series, MINUTES, expected, ".*") == ""


async def test_the_node_is_nearly_full(stage: Stage, tmp_path: Path) -> None:
    node = await stage.node(max_connections=10)
    for _ in range(10):
        await node.upgraded()
    check(await scrapes_of(node), tmp_path, "WsaasNodeNearlyFull")
    refused = await node.raw()
    refused.send(upgrade())
    assert (await refused.answer()).status == 503


@pytest.mark.slow
async def test_the_journal_cannot_be_written(stage: Stage, tmp_path: Path) -> None:
    stage.expected_errors.append("the journal ")
    journal = tmp_path / "journal"
    node = await stage.node(journal=journal)
    journal.unlink()
    journal.mkdir()
    await wait_until(lambda: node.statistics.journal_writable is False, "the damage to be found")
    check(await scrapes_of(node), tmp_path, "WsaasNotCrashSafe")
    journal.rmdir()
    await wait_until(lambda: node.statistics.journal_writable is True, "the journal to be rewritten")


async def test_nats_is_lost(stage: Stage, tmp_path: Path) -> None:
    (node,) = await stage.cluster(1)
    node.view.is_in_contact = False
    check(await scrapes_of(node), tmp_path, "WsaasNotCrashSafe")


async def test_the_exposition_has_the_style_of_prometheus(stage: Stage, tmp_path: Path) -> None:
    node = await stage.node(journal=tmp_path / "journal")
    await node.admit()
    done = promtool("check", "metrics", stdin=(await node.rest("GET", "metrics")).body.decode())
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_rules_are_valid() -> None:
    done = promtool("check", "rules", str(RULES))
    assert done.returncode == 0, done.stderr
    assert "8 rules found" in done.stdout
