"""Evaluates a report of the suite: a table, and a list of problems.

A report maps each case (`"9.1.6"`) to the behaviour of the gateway and the end of the connection, in the suite's terms.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

Report = Mapping[str, Mapping[str, Any]]

KINDS = ("passed", "non-strict", "informational", "failed", "unimplemented", "missing")

_BEHAVIORS = {
    "OK": "passed",
    "NON-STRICT": "non-strict",
    "INFORMATIONAL": "informational",
    "UNIMPLEMENTED": "unimplemented",
}

_GOOD_CLOSES = {"OK", "INFORMATIONAL"}

RACES = frozenset({"3.2", "3.3", "3.4", "4.1.3", "4.1.4", "4.1.5", "4.2.3", "4.2.4", "4.2.5", "5.15"})
"""Cases that send a violation right after a message. The suite expects the echo before the failure. Here the echo
travels through the backend, while the connection is failed at once."""


def kind(result: Mapping[str, Any] | None) -> str:
    """Return which of `KINDS` the result of a case is. `result`: None if the case was not run."""
    if result is None:
        return "missing"
    found = _BEHAVIORS.get(result["behavior"], "failed")
    if found in {"passed", "non-strict", "informational"} and result["behaviorClose"] not in _GOOD_CLOSES:
        return "failed"
    return found


def judge(report: Report, cases: Collection[str]) -> list[str]:
    """Return one sentence for each problem with the results of `cases`."""
    if not cases:
        return ["no case was run"]
    wrong = []
    for case in cases:
        result = report.get(case)
        found = kind(result)
        if found in {"passed", "informational"} or (found == "non-strict" and case in RACES):
            continue
        words = f": {result['behavior']}, closed: {result['behaviorClose']}" if result else ""
        wrong.append(f"{case} {found}{words}")
    return wrong


def table(report: Report, cases: Collection[str]) -> str:
    """Return a table with the number of cases of each of `KINDS` and their seconds, by section."""
    rows = [["section", "cases", *KINDS, "seconds"]]
    sections = sorted({section(case) for case in cases}, key=int)
    groups = {each: [case for case in cases if section(case) == each] for each in sections}
    for title, group in [*groups.items(), ("all", list(cases))]:
        counts = Counter(kind(report.get(case)) for case in group)
        seconds = sum(report[case]["duration"] for case in group if case in report) / 1000
        rows.append([title, str(len(group)), *(str(counts[each]) for each in KINDS), f"{seconds:.1f}"])
    return "\n".join("  ".join(f"{cell:>{len(head)}}" for cell, head in zip(row, rows[0], strict=True)) for row in rows)


def section(case: str) -> str:
    """Return the section of a case: the first number of its name."""
    return case.partition(".")[0]
