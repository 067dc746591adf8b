"""What a process knows about its cluster."""

from collections.abc import Mapping
from typing import Protocol


class Member(Protocol):
    """A process of the cluster. See `membership.member.Member`."""

    @property
    def node(self) -> str:
        """The same for all processes of a node."""

    @property
    def name(self) -> str:
        """The name of the host, for people."""

    @property
    def address(self) -> str:
        """Where other nodes reach its REST API, such as `https://10.0.0.5:8081`."""

    @property
    def since(self) -> float:
        """When it started (seconds since the epoch)."""

    @property
    def clients(self) -> int:
        """The number of its clients."""

    @property
    def is_listening(self) -> bool:
        """Whether it may have clients, so that it has to answer."""

    @property
    def renewed_at(self) -> float:
        """When it last renewed its lease (monotonic seconds)."""


class ClusterView(Protocol):
    """The processes of a cluster, as one of them sees it."""

    @property
    def own(self) -> Member:
        """This process."""

    @property
    def members(self) -> Mapping[str, Member]:
        """The other processes, by the prefix of their ids. Those of this node may be among them."""

    @property
    def is_ready(self) -> bool:
        """Whether this process has joined, so that it knows all others, and they know it."""

    @property
    def is_certain(self) -> bool:
        """Whether no process has clients that this one does not know. Without contact, others may come unnoticed."""
