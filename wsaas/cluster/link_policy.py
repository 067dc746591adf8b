"""How long a link to another process waits, for what."""

import math
from dataclasses import dataclass
from typing import Final

PEER_TIMEOUT_S: Final = 5.0
"""Seconds that another worker of this node has to answer a request."""

NODE_TIMEOUT_S: Final = 8.0
"""Seconds that another node has to answer a request. Its own workers have `PEER_TIMEOUT_S` of these."""

NODE_VERDICT_S: Final = 1.0
"""Seconds that a request on a lost connection to a node waits for the news that the node has stopped."""


@dataclass(frozen=True, slots=True)
class LinkPolicy:
    """The time limits of a link, in seconds.

    `timeout`: how long the peer has to answer a request. `verdict`: how long the requests on a lost connection wait for
    the news that the peer is gone. `silence`: how much longer than `timeout` the oldest request may go unanswered
    before the connection is replaced by a new one. `idle`: how long a connection without requests is kept open.
    `is_patient`: whether requests wait for a connection until they are due, even though an attempt has failed.
    """

    timeout: float
    verdict: float
    silence: float
    idle: float
    is_patient: bool


WORKER_POLICY: Final = LinkPolicy(
    timeout=PEER_TIMEOUT_S, verdict=PEER_TIMEOUT_S, silence=math.inf, idle=math.inf, is_patient=True
)
"""For links to the other workers of a node. The supervisor reports at once that a worker is gone, and a connection to
the socket of a worker that runs never fails."""


def node_policy(keep_alive_timeout: float) -> LinkPolicy:
    """Return the policy for links to other nodes, which close idle connections after `keep_alive_timeout` seconds.

    A link closes its connection before, so it never writes a request into a connection that the node is closing.
    """
    return LinkPolicy(
        timeout=NODE_TIMEOUT_S,
        verdict=NODE_VERDICT_S,
        silence=NODE_TIMEOUT_S,
        idle=keep_alive_timeout / 2,
        is_patient=False,
    )
