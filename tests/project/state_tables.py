"""Writes the state tables of docs/architecture.md from the code: `python -m tests.project.state_tables`.

A machine's `TRANSITIONS` maps each state to those that may follow it, each with the reason for the transition.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wsaas.cluster import link_state
from wsaas.delivery import circuit_breaker, outbox_state, replication_state
from wsaas.http import deferred
from wsaas.membership import membership_state
from wsaas.sessions import session_state
from wsaas.transport import tls
from wsaas.workers import worker_state

Transitions = Mapping[Any, Mapping[Any, str]]
"""States, which are members of an enumeration, to the states that may follow and the reason for each transition."""

PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"

MACHINES: dict[str, Transitions] = {
    "sessions/session_state.py": session_state.TRANSITIONS,
    "delivery/outbox_state.py": outbox_state.TRANSITIONS,
    "delivery/circuit_breaker.py": circuit_breaker.TRANSITIONS,
    "delivery/replication_state.py": replication_state.TRANSITIONS,
    "transport/tls.py": tls.TRANSITIONS,
    "http/deferred.py": deferred.TRANSITIONS,
    "cluster/link_state.py": link_state.TRANSITIONS,
    "membership/membership_state.py": membership_state.TRANSITIONS,
    "workers/worker_state.py": worker_state.TRANSITIONS,
}
"""The file of each machine, as the page names it, and its table."""

_PLACE = re.compile(r"(<!-- states of (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(transitions: Transitions) -> str:
    """Return a table in Markdown: a row for each transition, and one for each state that is never left."""
    rows = ["| state | next state | when |", "| --- | --- | --- |"]
    for state, following in transitions.items():
        rows += [f"| {state.name} | {after.name} | {reason} |" for after, reason in following.items()]
        if not following:
            rows.append(f"| {state.name} | | never left |")
    return "\n".join(rows)


def fill(page: str) -> str:
    """Return `page` with the tables of `MACHINES` between its markers. Raises `KeyError` for an unknown machine."""
    return _PLACE.sub(lambda place: f"{place[1]}{table(MACHINES[place[2]])}\n{place[3]}", page)


if __name__ == "__main__":
    PAGE.write_text(fill(PAGE.read_text()))
