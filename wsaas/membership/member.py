"""A member: one process of the cluster, and how it is written in NATS."""

from dataclasses import dataclass
from typing import Any

import orjson


@dataclass(slots=True, kw_only=True)
class Member:
    """A process. `prefix`: of its ids. A process that was declared dead goes on with another one.

    `node`: the same for all processes of a node; `name`: of its host; `address`: where other nodes reach its REST API;
    `worker`: its index among `workers`; `since`: when it started (seconds since the epoch).

    These change: `clients`; `is_listening`: whether it may hold clients, so that it has to answer; `has_lease`: false
    when its lease is over, but nobody has declared it dead; `renewed_at`: when it last renewed it (monotonic seconds).
    """

    prefix: str
    node: str
    name: str
    address: str
    worker: int
    workers: int
    since: float
    clients: int = 0
    is_listening: bool = False
    has_lease: bool = True
    renewed_at: float = 0.0

    def to_entry(self) -> bytes:
        """Return what does not change, as it is written in NATS."""
        names = ("prefix", "node", "name", "address", "worker", "workers", "since")
        return orjson.dumps({name: getattr(self, name) for name in names})

    def to_lease(self) -> bytes:
        """Return what each renewal of the lease tells the others."""
        return orjson.dumps({"clients": self.clients, "is_listening": self.is_listening})

    def renewed(self, lease: bytes, now: float) -> None:
        """Take over what a renewal says. Raises `ValueError` if it is malformed."""
        found = _mapping(lease)
        try:
            self.clients = int(found.get("clients", 0))
        except TypeError as error:
            raise ValueError(str(error)) from None
        self.is_listening = bool(found.get("is_listening"))
        self.has_lease = True
        self.renewed_at = now


def from_entry(data: bytes) -> Member:
    """Return the member in an entry. Raises `ValueError` if it is malformed."""
    found = _mapping(data)
    try:
        return Member(
            prefix=str(found["prefix"]),
            node=str(found["node"]),
            name=str(found["name"]),
            address=str(found["address"]),
            worker=int(found["worker"]),
            workers=int(found["workers"]),
            since=float(found["since"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(str(error)) from None


def _mapping(data: bytes) -> dict[str, Any]:
    # A text that is no JSON raises orjson.JSONDecodeError, which is a ValueError.
    found = orjson.loads(data)
    if not isinstance(found, dict):
        raise ValueError("it is no object")  # noqa: TRY004 - callers handle one kind of error
    return found
