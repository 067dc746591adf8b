"""Builds the membership of a process from the settings. Imported only with `CLUSTER`, as it imports the extra."""

import os
import ssl
from collections.abc import Callable

from wsaas.clock import Clock
from wsaas.membership.bus import Bus
from wsaas.membership.member import Member
from wsaas.membership.membership import Membership
from wsaas.membership.nats_connection import NatsOptions
from wsaas.settings import Settings
from wsaas.worker_place import WorkerPlace


def make_membership(
    settings: Settings,
    clock: Clock,
    tls: Callable[[], ssl.SSLContext | None],
    place: WorkerPlace | None,
    identity: tuple[str, float],
) -> Membership:
    """Return the membership of a process.

    `tls`: returns the context for NATS; `place`: that of a worker; `identity`: the prefix of the ids of the process and
    when it started.
    """
    prefix, since = identity
    address = settings.node_address
    assert address is not None  # noqa: S101 - `settings.load` has checked it
    host = os.uname().nodename
    own = Member(
        prefix=prefix,
        node=prefix if place is None else place.node,
        name=host,
        address=address.url,
        worker=0 if place is None else place.index,
        workers=settings.workers,
        since=since,
    )
    options = NatsOptions(settings.cluster_credentials, tls, f"wsaas {host} {prefix}")
    bus = Bus(settings.cluster, options, clock)
    return Membership(settings.cluster_name, settings.cluster_lease, bus, clock, own)
