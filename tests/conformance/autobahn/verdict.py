"""What a report of the suite says: a table of it, and what is wrong with it.

A report is, for each case (`"9.1.6"`), how the gateway behaved and how the connection was closed, in the suite's words.
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
"""Cases that send a message and, right behind it, a violation. Strictly, the echo comes before the connection is
failed; here it comes by way of the backend, and a connection is failed at once."""


def kind(result: Mapping[str, Any] | None) -> str:
    """Return the one of `KINDS` that a case's result is; None is that of a case which was not run."""
    if result is None:
        return "missing"
    found = _BEHAVIORS.get(result["behavior"], "failed")
    if found in {"passed", "non-strict", "informational"} and result["behaviorClose"] not in _GOOD_CLOSES:
        return "failed"
    return found


def judge(report: Report, cases: Collection[str]) -> list[str]:
    """Return what is wrong with the results of `cases`: a sentence each, none where all is right."""
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
    """Return how many of `cases` are of which of `KINDS`, by section, and how many seconds they took."""
    rows = [["section", "cases", *KINDS, "seconds"]]
    sections = sorted({section(case) for case in cases}, key=int)
    groups = {each: [case for case in cases if section(case) == each] for each in sections}
    for title, group in [*groups.items(), ("all", list(cases))]:
        counts = Counter(kind(report.get(case)) for case in group)
        seconds = sum(report[case]["duration"] for case in group if case in report) / 1000
        rows.append([title, str(len(group)), *(str(counts[each]) for each in KINDS), f"{seconds:.1f}"])
    return "\n".join("  ".join(f"{cell:>{len(head)}}" for cell, head in zip(row, rows[0], strict=True)) for row in rows)


def section(case: str) -> str:
    """Return the first number of a case's name."""
    return case.partition(".")[0]
