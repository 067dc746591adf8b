"""Reads the streams of the console."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson

from tests.support.stage import Node
from tests.support.waiting import with_timeout

Event = dict[str, Any]


class Stream:
    """A stream of server-sent events. `events`: those that were read; `comments`: how many comments were."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers = response.headers
        self.events: list[Event] = []
        self.ids: list[str] = []
        self.comments = 0

    async def next(self) -> Event:
        """Return the next event."""
        kind, data, number = "", b"", ""
        while True:
            line = (await with_timeout(self._response.content.readline())).removesuffix(b"\n")
            if line.startswith(b":"):
                self.comments += 1
            elif line.startswith(b"event: "):
                kind = line.removeprefix(b"event: ").decode()
            elif line.startswith(b"id: "):
                number = line.removeprefix(b"id: ").decode()
            elif line.startswith(b"data: "):
                data = line.removeprefix(b"data: ")
            elif not line and data:
                event: Event = orjson.loads(data)
                assert event["kind"] == kind
                if kind not in {"hello", "lost"}:
                    assert str(event["seq"]) == number
                    self.ids.append(number)
                self.events.append(event)
                return event
            elif self._response.content.at_eof():
                raise EOFError(f"the stream ended after {[each['kind'] for each in self.events]}")

    async def until(self, kind: str, **fields: Any) -> Event:
        """Read up to an event of this kind with these fields; return it."""
        return await self.find(lambda event: event["kind"] == kind and event.items() >= fields.items())

    async def find(self, is_wanted: Callable[[Event], bool]) -> Event:
        """Read up to an event; return it."""
        while not is_wanted(event := await self.next()):
            pass
        return event

    async def rest(self) -> list[Event]:
        """Read up to the end; return all events."""
        try:
            while True:
                await self.next()
        except EOFError:
            return self.events

    @property
    def kinds(self) -> list[str]:
        """The kinds of the events that were read."""
        return [event["kind"] for event in self.events]


@asynccontextmanager
async def stream(node: Node, path: str, headers: Mapping[str, str] | None = None) -> AsyncIterator[Stream]:
    """Open a stream; `path` without `/console/api/`."""
    async with (
        aiohttp.ClientSession() as http,
        http.get(
            f"http://127.0.0.1:{node.port}/console/api/{path}",
            headers=headers or {},
            timeout=aiohttp.ClientTimeout(total=None),
        ) as response,
    ):
        yield Stream(response)


@asynccontextmanager
async def watching(node: Node, client: str, **headers: str) -> AsyncIterator[Stream]:
    """Follow a connection."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    async with stream(node, f"connections/{client}/events", given) as found:
        assert found.status == 200
        yield found


async def ask(node: Node, path: str, **query: str) -> Any:
    """Return the JSON of a resource of the console."""
    text = "&".join(f"{name}={value}" for name, value in query.items())
    answer = await node.rest("GET", f"/console/api/{path}?{text}")
    assert answer.status == 200, answer
    return answer.json
