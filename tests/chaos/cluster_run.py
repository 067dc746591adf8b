"""A run with the nodes of a cluster: faults of nodes and of NATS, and the end, when all books have to agree."""

import asyncio
import json
import pickle
import time
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from tests.chaos.absences import Absence, Absences
from tests.chaos.audit import Findings, Ledger, audit
from tests.chaos.cluster_audit import DECLARED_DEAD, check_books, check_declared_dead, check_left, check_lost, owners
from tests.chaos.fan_out_audit import audit_fan_out
from tests.chaos.fan_out_log import NEVER, Span
from tests.chaos.link import Address, show
from tests.chaos.nodes import HERE, LEASE_S, Node, Nodes, Place
from tests.chaos.run import SETTINGS, ChaosRun, Load, count, count_in_use, tracebacks
from tests.support.isolation import Isolation
from tests.support.ports import free_port

REPLICATED_S = 6.0
"""Seconds after a start of NATS until it certainly has all connections. Then a node may be lost for ever."""

RETURN_S = 2.0
"""Seconds in which a node that returns finds out that it was declared dead, and has told its clients."""

BOOKS_TIMEOUT_S = 20.0
"""Seconds until all books agree. What has been in doubt is compared five seconds after a new connection to NATS."""

ANSWER_TIMEOUT_S = 10

JOINED = "joined the cluster"

POLL_S = 0.05

READING_S = 0.5
"""Seconds between two lists of the connections, for hostile clients."""


class ClusterRun(ChaosRun):
    """`places`: of the nodes. `settings`: of all nodes, instead of the usual ones."""

    def __init__(
        self,
        folder: Path,
        load: Load,
        places: Sequence[Place] = (HERE,) * 3,
        settings: Mapping[str, object] | None = None,
        *,
        host: str = "127.0.0.1",
        unreachable: Sequence[int] = (),
    ) -> None:
        """`host`: where backend and NATS listen. `unreachable`: the nodes that the backend may not reach for long."""
        backend = free_port()
        self.nodes = Nodes(folder, places, backend, {**SETTINGS, **(settings or {})}, host)
        super().__init__(folder, load, [], ledger=Ledger(is_cluster=True))
        environment = {"CHAOS_HOST": host}
        for index in unreachable:
            environment["CHAOS_UNREACHABLE"] = show(self.nodes.live[index].rest_address)
        self.make_backend(backend, self.nodes.rest_addresses, environment)
        self._absences: list[Absence] = []
        self._nats_since = 0.0
        self._update()

    def _update(self) -> None:
        """Let clients use the present nodes."""
        self.addresses[:] = [node.address for node in self.nodes.live]

    async def start(self) -> None:
        await self.start_backend()
        await self.nodes.start()

    def kill(self) -> None:
        """Kill everything."""
        self.nodes.kill()
        self.backend.kill()

    # Faults of nodes.

    async def kill_node(self) -> None:
        """Kill a node. It comes back with its journal, before or after others have sent its DELETEs."""
        await self._kill_and_return(self.chance.choice(self.nodes.live))

    async def kill_two_nodes(self) -> None:
        """Kill two nodes at once, perhaps while one sends the DELETEs of the other."""
        first, second = self.chance.sample(self.nodes.live, 2)
        self._kill(first)
        await self.pause(0, LEASE_S * 1.5)
        await self._kill_and_return(second)
        await first.program.start()

    async def replace_node(self) -> None:
        """Kill a node that never comes back. A fresh one, without a journal, joins at its address or at another one."""
        await self._until_replicated()
        node = self.chance.choice(self.nodes.live)
        self._kill(node)
        self.counts["nodes lost for ever"] += 1
        fresh = self.nodes.replace(node, elsewhere=self.chance.random() < 0.5)
        await self.pause(0, LEASE_S * 1.5)
        await fresh.program.start()
        self._update()

    async def freeze_node(self) -> None:
        """Freeze a node for less than its lease."""
        self.counts["freezes of nodes, short"] += 1
        node = self.chance.choice(self.nodes.live)
        node.freeze()
        await self.pause(0.2, LEASE_S * 0.5)
        node.thaw()

    async def freeze_node_for_long(self) -> None:
        """Freeze a node for longer than its lease, perhaps while another one is killed."""
        self.counts["freezes of nodes, long"] += 1
        node, other = self.chance.sample(self.nodes.live, 2)
        async with self.absence(node):
            node.freeze()
            await self.pause(LEASE_S * 0.7, LEASE_S * 2)
            if self.chance.random() < 0.3:
                await self._kill_and_return(other)
            await self.pause(LEASE_S * 0.5, LEASE_S * 0.7)
            node.thaw()

    async def drain_node(self) -> None:
        """Stop a node by a signal, and start it again. Sometimes it is killed meanwhile."""
        self.counts["stops of nodes"] += 1
        node = self.chance.choice(self.nodes.live)
        node.program.terminate()
        if self.chance.random() < 0.25:
            await self.pause(0, 1)
            self._kill(node)
        else:
            await self._wait_for_stop(node)
        await self.pause(0, 1)
        await node.program.start()

    async def rolling_restart(self) -> None:
        """Stop and start all nodes, one after another."""
        for node in [*self.nodes.live]:
            self.counts["stops of nodes"] += 1
            node.program.terminate()
            await self._wait_for_stop(node)
            await node.program.start()
            await self.pause(0.5, 1)

    async def _wait_for_stop(self, node: Node) -> None:
        status = await node.program.wait()
        assert status in (0, 1), f"a stop ended with {status}"
        self.counts["stops of nodes that left DELETEs to others"] += status

    async def _kill_and_return(self, node: Node) -> None:
        self._kill(node)
        await self.pause(0, LEASE_S * self.chance.choice((0.1, 2)))
        await node.program.start()
        while self.chance.random() < 0.3:
            # Once more, during the recovery.
            await self.pause(0, 0.3)
            self._kill(node)
            await node.program.start()

    def _kill(self, node: Node) -> None:
        self.counts["kills of nodes"] += 1
        node.program.kill()

    @asynccontextmanager
    async def absence(self, node: Node) -> AsyncIterator[None]:
        """A time in which a node is frozen or cut off for so long that others may declare it dead."""
        node.absences += 1
        begin = time.monotonic_ns()
        self._absences.append(Absence(node.address, Span(begin, NEVER)))
        declared = node.program.said().count(DECLARED_DEAD)
        yield
        await self._wait_for_news(node, declared)
        end = time.monotonic_ns() + round(RETURN_S * 1e9)
        self._absences[-1] = Absence(node.address, Span(begin, end))

    async def cut_off(self, network: Isolation, seconds: float) -> None:
        """Cut the last node off from NATS and from the other nodes, and heal that."""
        node = self.nodes.live[-1]
        joins = node.program.said().count(JOINED)
        async with self.absence(node):
            network.cut()
            await asyncio.sleep(seconds)
            network.heal()
            deadline = asyncio.get_running_loop().time() + BOOKS_TIMEOUT_S
            while node.program.said().count(JOINED) == joins:
                assert asyncio.get_running_loop().time() < deadline, "the node does not join again"
                await asyncio.sleep(0.05)

    async def _wait_for_news(self, node: Node, declared: int) -> None:
        """Wait until a node has found out that it was declared dead, unless it was not. NATS has to be there."""
        for _ in range(round(LEASE_S / POLL_S)):
            if node.program.said().count(DECLARED_DEAD) > declared:
                break
            await asyncio.sleep(POLL_S)

    # Faults of NATS.

    async def stop_nats(self) -> None:
        """Stop NATS for less than a lease."""
        await self._stop_nats()
        await self.pause(0.2, LEASE_S * 0.4)
        await self._start_nats()

    async def stop_nats_for_long(self) -> None:
        """Stop NATS for longer than a lease, perhaps while a node is killed or the backend is down."""
        await self._stop_nats()
        await self.pause(LEASE_S * 0.5, LEASE_S * 1.5)
        faults = (ClusterRun.kill_node, ClusterRun.kill_backend, ClusterRun.drain_node)
        if self.chance.random() < 0.6:
            await self.chance.choice(faults)(self)
        await self.pause(LEASE_S, LEASE_S * 1.5)
        await self._start_nats()

    async def freeze_nats(self) -> None:
        self.counts["freezes of NATS"] += 1
        self.nodes.nats.freeze()
        await self.pause(0.2, LEASE_S * 2)
        self.nodes.nats.thaw()
        self._nats_since = asyncio.get_running_loop().time()

    async def _stop_nats(self) -> None:
        # Not killed: a lone server would lose the last writes and bring back what was removed.
        self.counts["stops of NATS"] += 1
        await asyncio.to_thread(self.nodes.nats.stop)

    async def _start_nats(self) -> None:
        await self.nodes.nats.start()
        self._nats_since = asyncio.get_running_loop().time()

    async def _until_replicated(self) -> None:
        """Wait until NATS has all connections. Without it, only a node itself remembers new ones."""
        since = self._nats_since + REPLICATED_S
        await asyncio.sleep(max(0.0, since - asyncio.get_running_loop().time()))

    async def kill_backend_and_node(self) -> None:
        """Kill the backend, and a node after a while, so that there are many DELETEs to send again."""
        self.counts["kills of the backend"] += 1
        self.backend.kill()
        await self.pause(0, 1)
        await self.kill_node()
        await self.start_backend()

    # Phases.

    def check_up(self, fault: str) -> None:
        for node in self.nodes.live:
            said = node.program.said()[-2000:]
            assert node.program.is_up, f"{node.name} ended by itself after {fault}: {said}"
        assert self.nodes.nats.is_up, "NATS ended by itself"

    async def watch(self) -> None:
        """Find ids of clients for hostile pushes."""
        while True:
            with suppress(OSError, ValueError):
                listed = await self._list(self.chance.choice(self.addresses), 5)
                self.hostile.live = [each["id"] for each in listed["connections"]]
            await asyncio.sleep(READING_S)

    async def is_idle(self) -> bool:
        try:
            listed = await self._list(self.addresses[0], 1)
        except OSError:
            return False
        if listed["code"] != "OK" or listed["total"] or await self.nodes.stored():
            return False
        copy = self._folder / "copy"
        return not sum(count_in_use(node.journal, copy) for node in self.nodes.live)

    async def _list(self, address: Address, limit: int) -> Any:
        """Return the connections of the cluster, by a request to one node."""
        return await asyncio.to_thread(
            _get, f"http://{show(address)}/connections?limit={limit}", self.nodes.ws_hostname
        )

    async def compare_books(self, number: int) -> list[str]:
        """Connect quiet clients, and check that backend, nodes and NATS have the same connections; then end them.

        There may be no others.
        """
        quiet = await self.honest.hold(number)
        deadline = asyncio.get_running_loop().time() + BOOKS_TIMEOUT_S
        while violations := check_books(await self._books()):
            if asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(0.1)
        for client in quiet:
            await client.confirm()
            await client.close()
        await self.settle()
        return violations

    async def _books(self) -> dict[str, list[str]]:
        self.read_log()
        posted = [each.id for each in self.ledger.accounts.values() if each.is_owed and not each.is_settled]
        books = {"known to the backend": posted, "in NATS": await self.nodes.stored()}
        for node in self.nodes.live:
            listed = await self._list(node.address, 1000)
            books[f"listed by {node.name}"] = [each["id"] for each in listed["connections"]]
        return books

    async def end(self) -> Findings:
        """Stop all nodes by a signal, and audit the log."""
        violations = [
            f"the last stop of {name} ended with {status}"
            for name, status in (await self.nodes.until_stopped()).items()
            if status
        ]
        # A removed key goes after a second.
        await asyncio.sleep(2)
        violations += check_left("connections in NATS", await self.nodes.stored())
        violations += check_left("entries of processes in NATS", await self.nodes.members())
        self.kill()
        for node in self.nodes.everyone:
            violations += check_declared_dead(node.name, node.program.said(), node.absences)
            violations += check_lost(node.name, node.program.said())
            if node in self.nodes.live and (left := count(node.journal)):
                violations.append(f"{left} connections are still in the journal of {node.name}")
        violations += tracebacks(self.backend, *(node.program for node in self.nodes.everyone))
        lives = self.honest.lives
        # For a later look: the audit can be repeated with these and the log.
        (self._folder / "lives").write_bytes(pickle.dumps((lives, self._absences)))
        absences = Absences(self._absences, owners(self.read_log(), lives))
        findings = audit(self.ledger, lives, has_workers=True, absences=absences)
        fan_out = audit_fan_out(self.ledger, lives, has_workers=True, absences=absences)
        self.fan_out = fan_out.counts
        return Findings([*violations, *findings.violations, *fan_out.violations], findings.counts)


def _get(url: str, host: str) -> Any:
    request = urllib.request.Request(url, headers={"Host": host})  # noqa: S310 - a URL of this test
    with urllib.request.urlopen(request, timeout=ANSWER_TIMEOUT_S) as answer:  # noqa: S310 - the same
        return json.load(answer)


CLUSTER_FAULTS = [
    *[ClusterRun.kill_backend] * 2,
    ClusterRun.kill_backend_for_long,
    ClusterRun.kill_backend_and_node,
    *[ClusterRun.kill_node] * 4,
    ClusterRun.kill_two_nodes,
    *[ClusterRun.replace_node] * 3,
    ClusterRun.freeze_node,
    *[ClusterRun.freeze_node_for_long] * 3,
    *[ClusterRun.drain_node] * 3,
    ClusterRun.rolling_restart,
    ClusterRun.stop_nats,
    *[ClusterRun.stop_nats_for_long] * 2,
    ClusterRun.freeze_nats,
]
