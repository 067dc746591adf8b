"""Members of a cluster in the process of the test."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from tests.support.nats import nats_options
from tests.support.waiting import wait_until
from wsaas.clock import Clock
from wsaas.cluster_setting_types import nats_servers
from wsaas.membership.bus import Bus
from wsaas.membership.member import Member
from wsaas.membership.membership import Membership

LEASE_S = 1.0


def make_member(prefix: str, **values: Any) -> Member:
    """Return a member."""
    usual: dict[str, Any] = {
        "node": prefix,
        "name": f"host-{prefix}",
        "address": f"http://{prefix}:8081",
        "worker": 0,
        "workers": 1,
        "since": 1.0,
    }
    return Member(prefix=prefix, **(usual | values))


def make_membership(url: str, prefix: str, lease: float = LEASE_S, name: str = "wsaas", **values: Any) -> Membership:
    """Return a membership that has not joined yet."""
    clock = Clock(asyncio.get_running_loop())
    bus = Bus(nats_servers.parse(url), nats_options(), clock)
    return Membership(name, lease, bus, clock, make_member(prefix, **values))


@contextlib.asynccontextmanager
async def joined(url: str, *prefixes: str, lease: float = LEASE_S) -> AsyncIterator[list[Membership]]:
    """Let members join, one after the other, and leave at the end."""
    found = [make_membership(url, prefix, lease) for prefix in prefixes]
    try:
        for membership in found:
            await membership.join()
        yield found
    finally:
        for membership in found:
            await membership.leave(nothing_owed=True)


async def crash(membership: Membership) -> None:
    """Let a member end as if it were killed: it tells nobody."""
    for task in membership._tasks:  # noqa: SLF001 - nothing else ends it without a word
        task.cancel()
    await membership.bus.close()


async def until_guarded(*memberships: Membership) -> None:
    """Wait until these may declare others dead."""
    await wait_until(lambda: all(each.may_declare_dead for each in memberships))
