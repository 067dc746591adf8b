"""A cluster without NATS, whose members are set by the test."""

from collections.abc import Mapping
from typing import Any

from wsaas.membership.member import Member


def make_member(node: str, **values: Any) -> Member:
    """Return the only process of a node."""
    usual: dict[str, Any] = {
        "prefix": node[:8].ljust(8, "_"),
        "node": node,
        "name": f"host-of-{node}",
        "address": f"http://{node}.test:8081",
        "worker": 0,
        "workers": 1,
        "since": 1.0,
        "is_listening": True,
    }
    return Member(**(usual | values))


class FakeView:
    """What a process knows of its cluster."""

    def __init__(self, own: Member, members: Mapping[str, Member] | None = None) -> None:
        self.own = own
        self.members: Mapping[str, Member] = members or {}
        self.is_ready = True
        self.is_in_contact = True

    @property
    def is_certain(self) -> bool:
        return self.is_ready and self.is_in_contact
