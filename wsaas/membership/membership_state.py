"""The states of the membership of a process."""

from collections.abc import Mapping
from enum import Enum
from typing import Final


class MembershipState(Enum):
    """What a process is in its cluster."""

    OUTSIDE = "outside"
    JOINING = "joining"
    MEMBER = "member"
    DEAD = "dead"
    LEFT = "left"


OUTSIDE: Final = MembershipState.OUTSIDE
JOINING: Final = MembershipState.JOINING
MEMBER: Final = MembershipState.MEMBER
DEAD: Final = MembershipState.DEAD
LEFT: Final = MembershipState.LEFT

TRANSITIONS: Final[Mapping[MembershipState, Mapping[MembershipState, str]]] = {
    OUTSIDE: {
        JOINING: "the process starts",
        LEFT: "the process never started",
    },
    JOINING: {
        MEMBER: "its lease is in NATS, and all others know it",
        DEAD: "another process has claimed it",
        LEFT: "the process stops",
    },
    MEMBER: {
        DEAD: "another process has claimed it",
        LEFT: "the process stops",
    },
    DEAD: {
        JOINING: "it has a new prefix",
        LEFT: "the process stops",
    },
    LEFT: {},
}
