"""Makes this process known to all others, before it accepts clients.

A publish reaches the processes that its node knows. So a process that nobody has heard of yet would miss publishes.
"""

import asyncio
from typing import Final

from wsaas.clock import Clock
from wsaas.log import logger
from wsaas.log.throttle import throttle
from wsaas.membership.bus import Bus, Message
from wsaas.membership.member import Member
from wsaas.membership.member_table import MemberTable

INTRODUCTION_TIMEOUT_S: Final = 5.0
"""Seconds after which a process that does not answer is left out. It hangs, or its lease will end."""

ANSWER_TIMEOUT_S: Final = 1.0
RETRY_S: Final = 0.1


class Introductions:
    """Introduces `own` to the others in `table`, and takes their introductions."""

    def __init__(self, bus: Bus, cluster: str, own: Member, table: MemberTable, clock: Clock) -> None:
        """Do nothing yet. `cluster`: its name."""
        self._bus = bus
        self._clock = clock
        self._listening = ""
        self._own = own
        self._subject = f"{cluster}.hello."
        self._table = table

    async def listen(self) -> None:
        """Take the introductions of others from now on, under the present prefix only."""
        before, self._listening = self._listening, self._subject + self._own.prefix
        if before != self._listening:
            await self._bus.unsubscribe(before)
            await self._bus.subscribe(self._listening, self._greeted)

    async def introduce(self, timeout: float) -> None:
        """Return when all members with a lease have answered, or with a warning after `timeout` seconds."""
        deadline = self._clock.now() + timeout
        greeted = set[str]()
        while missing := self._missing(greeted):
            answers = await asyncio.gather(
                *(
                    self._bus.request(self._subject + each.prefix, self._own.to_entry(), timeout=ANSWER_TIMEOUT_S)
                    for each in missing
                )
            )
            greeted |= {each.prefix for each, answer in zip(missing, answers, strict=True) if answer is not None}
            if missing := self._missing(greeted):
                if self._clock.now() >= deadline:
                    _warn(missing)
                    return
                await asyncio.sleep(RETRY_S)

    def _missing(self, greeted: set[str]) -> list[Member]:
        return [each for each in self._table.members.values() if each.has_lease and each.prefix not in greeted]

    def _greeted(self, message: Message) -> None:
        """Add a process that introduces itself, before it is answered."""
        try:
            self._table.introduce(message.data, self._clock.now())
        except ValueError as error:
            throttle.warning(("NATS", "hello"), "ignored an introduction over NATS: %s", error)
        else:
            self._bus.send(message.reply, self._own.to_entry())


def _warn(missing: list[Member]) -> None:
    for each in missing:
        logger.warning(
            "%s (%s, process %s) does not answer: until it does, its publishes may leave out this node",
            each.name,
            each.address,
            each.prefix,
        )
