"""Why a connection ended.

In a module of its own, as mypyc cannot compile an enumeration whose members are made by `__new__`.
"""

from enum import Enum


class Reason(Enum):
    """Why a connection ended.

    `code`: the WebSocket close code (RFC 6455 section 7.4.1), unless the client or the backend chose another; 1006 if
    no Close was sent. `is_final`: the connection is closed right after the Close, without waiting for an answer.
    """

    code: int
    is_final: bool

    __hash__ = object.__hash__
    """Hash by identity: `Enum` hashes the name, in Python code."""

    def __new__(cls, label: str, code: int, is_final: bool = False) -> "Reason":  # noqa: PYI034 - Self needs 3.11
        """Make a member whose value is its label."""
        member = object.__new__(cls)
        member._value_ = label
        member.code = code
        member.is_final = is_final
        return member

    CLIENT_CLOSED = ("client closed", 1005)
    CLIENT_LOST = ("client lost", 1006)
    TIMED_OUT = ("timeout", 1001, True)
    OUT_OF_MEMORY = ("out of memory", 1013, True)
    SLOW_CLIENT = ("slow client", 1013, True)
    VIOLATION = ("protocol violation", 1002)
    BACKEND_CLOSED = ("closed by backend", 1000)
    BACKEND_GONE = ("backend gone", 1000)
    TOO_LARGE = ("message too large", 1009)
    UNDELIVERED = ("message not delivered", 1011)
    SHUTDOWN = ("going away", 1001)
    REFUSED = ("refused", 1006)
    DECLARED_DEAD = ("node declared dead", 1012)
    GATEWAY_LOST = ("gateway lost", 1006)
