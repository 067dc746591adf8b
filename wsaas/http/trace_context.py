"""The headers `traceparent` and `tracestate` (W3C Trace Context), which say which trace a request belongs to.

What does not follow the recommendation is ignored, as it demands: a `traceparent` together with its `tracestate`, a
`tracestate` alone. No request fails because of them.
"""

import re
from dataclasses import dataclass
from typing import Final

from wsaas.http.headers import Headers

MAX_STATE: Final = 512
"""Maximum number of characters of a `tracestate` that is passed on. Whole members are dropped from a longer one."""

MAX_MEMBERS: Final = 32
"""Maximum number of members of a `tracestate`."""

LARGE_MEMBER: Final = 128
"""Members with more characters are the first to be dropped from a `tracestate` that is too long."""

TRACEPARENT: Final = b"traceparent"
TRACESTATE: Final = b"tracestate"

SAMPLED: Final = 1
_KNOWN_FLAGS: Final = 3
"""The flags that a child keeps: sampled, and random trace id (level 2 of the recommendation)."""

_SIZE: Final = 55
_PARENT: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-[!-+\--~]{0,255})?")
_KEY: Final = rb"[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13}"
_MEMBER: Final = re.compile(rb"(?:%b)=[ !-+\--<>-~]{0,255}[!-+\--<>-~]" % _KEY)


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A valid `traceparent`, and the `tracestate` with it, which is empty if there is none."""

    traceparent: str
    tracestate: str = ""

    @property
    def trace_id(self) -> str:
        """The trace, as 32 hexadecimal digits."""
        return self.traceparent[3:35]

    @property
    def parent_id(self) -> str:
        """The span of the sender, as 16 hexadecimal digits."""
        return self.traceparent[36:52]

    @property
    def is_sampled(self) -> bool:
        """Whether the sender may have recorded its span."""
        return bool(int(self.traceparent[53:_SIZE], 16) & SAMPLED)

    def child(self, span_id: int) -> str:
        """Return the header lines of a request that belongs to the span `span_id`, a child of the sender's span."""
        flags = int(self.traceparent[53:_SIZE], 16) & _KNOWN_FLAGS
        return self._lines(f"00-{self.trace_id}-{span_id.to_bytes(8, 'big').hex()}-0{flags}")

    def lines(self) -> str:
        """Return the header lines that pass the context on unchanged."""
        return self._lines(self.traceparent)

    def _lines(self, traceparent: str) -> str:
        state = f"tracestate: {self.tracestate}\r\n" if self.tracestate else ""
        return f"traceparent: {traceparent}\r\n{state}"

    @property
    def text(self) -> str:
        """The context as one text, for `from_text`."""
        return f"{self.traceparent} {self.tracestate}".rstrip()


def read(headers: Headers) -> TraceContext | None:
    """Return the trace context of a request, None if there is no valid one."""
    traceparent = headers.get(TRACEPARENT)
    return None if traceparent is None else parse(traceparent, headers.get(TRACESTATE, b""))


def from_text(text: str) -> TraceContext | None:
    """Return the context with this `TraceContext.text`, None if it is not valid."""
    traceparent, _, tracestate = text.encode().partition(b" ")
    return parse(traceparent, tracestate)


def parse(traceparent: bytes, tracestate: bytes) -> TraceContext | None:
    """Return the context in the values of the two headers, None if `traceparent` is not valid.

    Values of repeated headers are joined: several `tracestate` are one list, several `traceparent` are invalid. A
    version above 00 may have more fields, behind another hyphen.
    """
    match = _PARENT.fullmatch(traceparent)
    if match is None:
        return None
    version, trace_id, parent_id, more = match.groups()
    if version == b"ff" or (version == b"00" and more is not None):
        return None
    if not (trace_id.strip(b"0") and parent_id.strip(b"0")):
        return None
    return TraceContext(traceparent.decode(), _state(tracestate).decode() if tracestate else "")


def _state(tracestate: bytes) -> bytes:
    """Return `tracestate` as it is passed on, empty if it is invalid."""
    # Empty members are valid: a sender may have nothing to say.
    members = [member for each in tracestate.split(b",") if (member := each.strip(b" \t"))]
    keys = {member.partition(b"=")[0] for member in members}
    if len(keys) < len(members) or len(members) > MAX_MEMBERS or not all(map(_MEMBER.fullmatch, members)):
        return b""
    if len(tracestate) <= MAX_STATE:
        return tracestate if members else b""
    while members and len(b",".join(members)) > MAX_STATE:
        large = [place for place, member in enumerate(members) if len(member) > LARGE_MEMBER]
        del members[large[-1] if large else -1]
    return b",".join(members)
