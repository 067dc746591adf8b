"""The part of the backend that speaks to many clients: publishes, `POST /send`, joins and leaves by REST.

Each publisher waits for the answer to its request before it sends the next, over connections of its own. The log has
a line before each request is sent, and one after its answer has arrived:

    PUBLISH NUMBER GROUP QUERY        group "*" is `PUT /connections`, query "-" is none
    SEND NUMBER RECIPIENTS            JSON: for each message a list of ids; the messages are NUMBER, NUMBER + 1, ...
    JOIN NUMBER GROUP ID, LEAVE NUMBER GROUP ID
    ANSWER NUMBER STATUS BODY         missing after a kill of the backend
"""

import asyncio
import base64
import json
import zlib
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from random import Random

from tests.chaos.link import Address, Link, show

ROOMS = [f"room.{number}" for number in range(6)]
FLOOD = "flood"
"""The group of deaf and of drowsy clients. It gets more than they read, so that they are slow."""

EMPTY = "nobody"
"""A group that nobody joins."""

EVERYONE = "*"

PUBLISHERS, SENDERS, REGISTRARS = 4, 2, 2
PUBLISH_PAUSE, SEND_PAUSE, REGISTRAR_PAUSE, FLOOD_PAUSE = 0.1, 0.15, 0.04, 0.03
"""Mean seconds between two requests of each of them."""

FLOOD_PADDING = "." * 30_000
RECONNECT_PERCENT, EVERYONE_PERCENT, EMPTY_PERCENT, EXCEPT_PERCENT, GONE_PERCENT = 5, 4, 1, 15, 5
MAX_RECIPIENTS = 20


def connect_groups(name: str) -> list[str]:
    """Return the groups that the connect answer for this client names. A repeated POST gets the same."""
    if name.startswith("hostile-"):
        return [FLOOD] if name.startswith("hostile-deaf-") else []
    return Random(zlib.crc32(name.encode())).sample(ROOMS, zlib.crc32(name[::-1].encode()) % 3)


class Publishers:
    """Publishers, senders and registrars. `clients`: those that are connected, by id, as far as the log says."""

    def __init__(
        self,
        gateways: Sequence[Address],
        write: Callable[..., None],
        clients: Mapping[str, str],
        numbers: Iterator[int],
        chance: Random,
    ) -> None:
        self._gateways = gateways
        self._write = write
        self._clients = clients
        self._numbers = numbers
        self._chance = chance
        self._former: deque[str] = deque(maxlen=50)

    def start(self) -> list[Coroutine[object, object, None]]:
        """Return what is to be run."""
        return [
            *(self._repeat(self._publish, PUBLISH_PAUSE) for _ in range(PUBLISHERS)),
            *(self._repeat(self._send, SEND_PAUSE) for _ in range(SENDERS)),
            *(self._repeat(self._register, REGISTRAR_PAUSE) for _ in range(REGISTRARS)),
            self._repeat(self._flood, FLOOD_PAUSE),
        ]

    async def _repeat(self, act: Callable[[Link], Coroutine[object, object, None]], pause: float) -> None:
        link = Link(self._gateways)
        while True:
            await asyncio.sleep(self._chance.expovariate(1 / pause))
            if self._percent(RECONNECT_PERCENT):
                link.close()
            await act(link)

    async def _publish(self, link: Link) -> None:
        group = self._chance.choice(ROOMS)
        if self._percent(EVERYONE_PERCENT):
            group = EVERYONE
        elif self._percent(EMPTY_PERCENT):
            group = EMPTY
        parameters = []
        if self._percent(EXCEPT_PERCENT) and self._clients:
            parameters.append("except=" + ",".join(self._some(3)))
        if self._percent(50):
            parameters.append(f"slow={self._chance.choice(('skip', 'skip', 'close'))}")
        await self._publish_to(link, group, "&".join(parameters), "." * 10)

    async def _flood(self, link: Link) -> None:
        await self._publish_to(link, FLOOD, "slow=close" if self._percent(5) else "", FLOOD_PADDING)

    async def _publish_to(self, link: Link, group: str, query: str, padding: str) -> None:
        number = next(self._numbers)
        target = "/connections" if group == EVERYONE else f"/groups/{group}"
        self._write("PUBLISH", number, group, query or "-")
        answer = await link.request(
            "PUT", f"{target}?{query}" if query else target, f"g {number} {group} {padding}".encode()
        )
        self._write("ANSWER", number, *answer)

    async def _send(self, link: Link) -> None:
        if not self._clients:
            return
        count = 1 if self._percent(40) else self._chance.randrange(1, 6)
        numbers = [next(self._numbers) for _ in range(count)]
        recipients = [self._some(MAX_RECIPIENTS) for _ in numbers]
        messages = "\n".join(map(self._message, numbers, recipients))
        self._write("SEND", numbers[0], json.dumps(recipients, separators=(",", ":")))
        is_one = count == 1 and self._percent(80)
        content_type = "application/json" if is_one else "application/x-ndjson"
        self._write("ANSWER", numbers[0], *await link.request("POST", "/send", messages.encode(), content_type))

    def _message(self, number: int, recipients: list[str]) -> str:
        text = f"s {number} {EVERYONE} {'.' * 10}"
        to = [f"http://{show(self._gateways[0])}/{each}" if self._percent(30) else each for each in recipients]
        if self._percent(70):
            return json.dumps({"to": to, "text": text})
        return json.dumps({"to": to, "base64": base64.b64encode(text.encode()).decode()})

    async def _register(self, link: Link) -> None:
        if not self._clients:
            return
        number, group, client = next(self._numbers), self._chance.choice(ROOMS), self._one()
        word, method = self._chance.choice((("JOIN", "PUT"), ("JOIN", "PUT"), ("LEAVE", "DELETE")))
        self._write(word, number, group, client)
        self._write("ANSWER", number, *await link.request(method, f"/groups/{group}/connections/{client}"))
        self._former.append(client)

    def _some(self, most: int) -> list[str]:
        """Return the ids of up to `most` different clients."""
        return list({self._one(): None for _ in range(self._chance.randrange(1, most + 1))})

    def _one(self) -> str:
        """Return the id of a client. It may have gone."""
        if self._former and self._percent(GONE_PERCENT):
            return self._chance.choice(self._former)
        return self._chance.choice(list(self._clients))

    def _percent(self, share: float) -> bool:
        return self._chance.random() * 100 < share
