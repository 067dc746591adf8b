"""Load on the nodes of a cluster: clients that stay and talk both ways, and clients that come and go all the time.

It keeps books of what was sent, and compares them with what arrived.
"""

import asyncio
import contextlib
import random
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count, cycle

from tests.support.clients import RawClient
from tests.support.cluster import ClusterNode, connections_in_nats
from tests.support.frames import CLOSE, PING, PONG, TEXT, close_frame, frame
from tests.support.waiting import wait_until, with_timeout

INTERVAL_S = 0.01
"""Seconds between two messages, and between two pushes, of all clients of a node together."""

VISIT_S = 0.3
"""Maximum seconds for which a short-lived client stays connected."""

VISITORS = 4
"""How many clients of each node come and go at the same time."""


class Talker:
    """A client that stays. `sent`: the number of its messages; `pushed`: the pushes to it, with their status."""

    def __init__(self, raw: RawClient, name: str, node: ClusterNode) -> None:
        self.closed: tuple[int, str] | None = None
        self.name = name
        self.node = node
        self.pushed: list[tuple[int, int]] = []
        self.raw = raw
        self.received: list[int] = []
        self.sent = 0
        self.task = asyncio.ensure_future(self._read())

    def talk(self) -> None:
        """Send the next message."""
        self.sent += 1
        self.raw.send(frame(TEXT, b"%d" % self.sent))

    async def _read(self) -> None:
        reader = self.raw.reader
        try:
            while True:
                first, size = await reader.readexactly(2)
                payload = await reader.readexactly(size)
                if first & 0xF == PING:
                    self.raw.send(frame(PONG, payload))
                elif first & 0xF == CLOSE:
                    self.closed = struct.unpack("!H", payload[:2])[0], payload[2:].decode()
                    self.raw.send(close_frame(self.closed[0]))
                else:
                    self.received.append(int(payload))
        except (EOFError, OSError):
            self.closed = self.closed or (1006, "")

    def missed(self) -> list[int]:
        """Return the pushes that were answered with 200 and have not arrived."""
        return sorted({number for number, status in self.pushed if status == 200} - {*self.received})


class Load:
    """Load on `nodes`, in front of one backend. `stays`: the clients that stay, all of them."""

    def __init__(self, nodes: Sequence[ClusterNode]) -> None:
        self.backend = nodes[0].stage.backend
        self.nodes = list(nodes)
        self.stays: list[Talker] = []
        self.visits = 0
        self.refused = 0
        self._is_stopping = False
        self._lost: list[ClusterNode] = []
        self._rest: dict[tuple[int, int], RawClient] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._said_goodbye: dict[str, ClusterNode] = {}

    async def start(self, number: int) -> None:
        """Connect `number` clients that stay to each node, and begin."""
        for node in self.nodes:
            found = await node.clients(number)
            self.stays += [Talker(raw, name, node) for name, raw in found.items()]
        for index, node in enumerate(self.nodes):
            loops = [self._talk(node), self._push(index), *(self._visit(node) for _ in range(VISITORS))]
            self._tasks += [asyncio.ensure_future(loop) for loop in loops]

    async def stop(self) -> None:
        """Let nobody come, talk or push any more. Those that stay are still there."""
        self._is_stopping = True
        await with_timeout(asyncio.gather(*self._tasks))

    def lose(self, node: ClusterNode) -> None:
        """Kill a node."""
        self._lost.append(node)
        node.program.kill()

    async def end(self) -> None:
        """Leave no task."""
        for task in [*self._tasks, *(each.task for each in self.stays)]:
            task.cancel()
        for raw in [*self._rest.values(), *(each.raw for each in self.stays)]:
            raw.close()

    def of(self, node: ClusterNode) -> list[Talker]:
        """Return the clients that stay on `node`."""
        return [each for each in self.stays if each.node is node]

    def live(self) -> list[str]:
        """Return the ids of the clients that are connected, once nobody comes any more."""
        return sorted(each.name for each in self.stays if each.closed is None)

    # What is checked.

    async def check_messages(self) -> None:
        """Check that no client was closed, and that all messages and pushes arrive in order, but for killed nodes."""
        kept = [each for each in self.stays if each.node not in self._lost]
        assert [each.closed for each in kept if each.closed is not None] == []
        await wait_until(lambda: all(map(self._has_all_messages, kept)), "messages")
        await wait_until(lambda: not any(each.missed() for each in kept), "pushes")
        got = self._messages()
        for each in kept:
            assert got[each.name] == [*range(1, each.sent + 1)]
            assert each.received == sorted({*each.received})
        statuses = Counter(status for each in kept for _, status in each.pushed)
        # 0: by a node that was killed meanwhile.
        assert set(statuses) <= ({200, 0} if self._lost else {200}), statuses
        said_goodbye = (name for name, node in self._said_goodbye.items() if node not in self._lost)
        assert all(got.get(name) == [0] for name in said_goodbye)

    async def check_books(self, url: str, *, repeats: int = 0) -> int:
        """Check that each connection has its DELETE, and that NATS has exactly the live ones.

        `repeats`: how many DELETEs may come twice, with the same `ce-id`. Returns how many do.
        """
        live = self.live()
        posted = {call.client for call in self.backend.calls if call.method == "POST"}
        owed = posted - {*live}
        await self.until(lambda: self._deleted().keys() >= owed, lambda: owed - self._deleted().keys())
        deadline = asyncio.get_running_loop().time() + 30
        while (found := await connections_in_nats(url)) != live:
            assert asyncio.get_running_loop().time() < deadline, ({*found} - {*live}, {*live} - {*found})
            await asyncio.sleep(0.1)
        deleted = self._deleted()
        assert deleted.keys() == owed
        assert all(set(ids) == {f"{name}:end"} for name, ids in deleted.items())
        found_repeats = sum(len(ids) - 1 for ids in deleted.values())
        assert found_repeats <= repeats, {name: ids for name, ids in deleted.items() if len(ids) > 1}
        return found_repeats

    def numbers(self) -> str:
        """Return what happened, in numbers."""
        sent, pushed = sum(each.sent for each in self.stays), sum(len(each.pushed) for each in self.stays)
        return f"{len(self.stays)} clients stay, {self.visits} came and went, {sent} messages, {pushed} pushes"

    async def until(self, condition: Callable[[], bool], shown: Callable[[], object] = str) -> None:
        """Wait for longer than `wait_until` does."""
        deadline = asyncio.get_running_loop().time() + 60
        while not condition():
            assert asyncio.get_running_loop().time() < deadline, shown()
            await asyncio.sleep(0.1)

    def _deleted(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for call in self.backend.calls:
            if call.method == "DELETE":
                found.setdefault(call.client, []).append(call.headers["ce-id"])
        return found

    def _messages(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for call in self.backend.calls:
            if call.method == "PUT":
                found.setdefault(call.client, []).append(int(call.body))
        return found

    def _has_all_messages(self, talker: Talker) -> bool:
        return self._messages().get(talker.name, [])[-1:] == [talker.sent]

    def _goes_on(self, node: ClusterNode) -> bool:
        return not self._is_stopping and node not in self._lost

    # The load.

    async def _talk(self, node: ClusterNode) -> None:
        for talker in cycle(self.of(node)):
            if not self._goes_on(node):
                return
            if talker.closed is None:
                talker.talk()
            await asyncio.sleep(INTERVAL_S)

    async def _push(self, index: int) -> None:
        """Push to the clients of a node, by any node. One client gets its pushes one after the other."""
        talkers = self.of(self.nodes[index])
        for number in count(1):
            for talker in talkers:
                if not self._goes_on(self.nodes[index]):
                    return
                way = random.choice([each for each, node in enumerate(self.nodes) if node not in self._lost])
                talker.pushed.append((number, await self._put(index, way, talker.name, number)))
                await asyncio.sleep(INTERVAL_S)

    async def _put(self, index: int, way: int, name: str, number: int) -> int:
        """Push by the node `way`; return the status, 0 if that is gone."""
        try:
            if (index, way) not in self._rest:
                self._rest[index, way] = await self.nodes[way].raw()
            raw, body = self._rest[index, way], f"{number}"
            raw.send(
                f"PUT /{name} HTTP/1.1\r\nHost: 127.0.0.1:{self.nodes[way].port}\r\nContent-Type: text/plain\r\n"
                f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
            )
            return (await raw.answer()).status
        except (OSError, EOFError):
            self._rest.pop((index, way), None)
            return 0

    async def _visit(self, node: ClusterNode) -> None:
        """Come, say something, and go, again and again."""
        while self._goes_on(node):
            await asyncio.sleep(random.uniform(0, VISIT_S))
            try:
                raw, name = await node.client()
            except (OSError, EOFError, AssertionError):
                self.refused += 1
                continue
            self.visits += 1
            raw.send(frame(TEXT, b"0"))
            await asyncio.sleep(random.uniform(0, VISIT_S))
            if random.random() < 0.3:
                raw.reset()
                continue
            raw.send(close_frame(1000))
            with contextlib.suppress(OSError, EOFError, AssertionError):
                await self._leave(raw, name, node)

    async def _leave(self, raw: RawClient, name: str, node: ClusterNode) -> None:
        if (await raw.closing())[0] == 1000:
            self._said_goodbye[name] = node
        raw.close()


@asynccontextmanager
async def load(nodes: Sequence[ClusterNode], number: int) -> AsyncIterator[Load]:
    """Run load on `nodes`, with `number` clients that stay on each."""
    found = Load(nodes)
    try:
        await found.start(number)
        yield found
    finally:
        await found.end()
