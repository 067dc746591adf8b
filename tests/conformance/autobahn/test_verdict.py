"""Each kind of problem in a report is found, and a report without problems passes."""

import pytest

from tests.conformance.autobahn.verdict import KINDS, RACES, judge, kind, table

CASES = ["1.1.1", "3.2", "5.15", "6.4.1", "7.1.6", "10.1.1"]


def result(behavior: str = "OK", close: str = "OK") -> dict[str, object]:
    return {"behavior": behavior, "behaviorClose": close, "duration": 250}


RIGHT = {
    **{case: result() for case in CASES},
    "3.2": result("NON-STRICT"),
    "7.1.6": result("INFORMATIONAL", "INFORMATIONAL"),
}


def test_a_report_without_failures_has_no_findings():
    assert judge(RIGHT, CASES) == []


def test_a_missing_report_is_a_finding_for_each_case():
    assert judge({}, CASES) == [f"{case} missing" for case in CASES]


def test_a_run_without_cases_is_a_finding():
    assert judge({}, []) == ["no case was run"]


@pytest.mark.parametrize("case", CASES)
def test_a_case_that_was_not_run_is_a_finding(case):
    report = {each: what for each, what in RIGHT.items() if each != case}
    assert judge(report, CASES) == [f"{case} missing"]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("behavior", ["FAILED", "UNIMPLEMENTED", "WRONG CODE", "UNCLEAN", "something new"])
def test_a_case_that_failed_is_a_finding(case, behavior):
    found = "unimplemented" if behavior == "UNIMPLEMENTED" else "failed"
    assert judge({**RIGHT, case: result(behavior)}, CASES) == [f"{case} {found}: {behavior}, closed: OK"]


@pytest.mark.parametrize("behavior", ["OK", "NON-STRICT", "INFORMATIONAL"])
@pytest.mark.parametrize("close", ["FAILED", "UNCLEAN", "WRONG CODE", "FAILED BY CLIENT", "something new"])
def test_a_connection_that_was_closed_wrongly_is_a_finding(behavior, close):
    assert judge({**RIGHT, "3.2": result(behavior, close)}, CASES) == [f"3.2 failed: {behavior}, closed: {close}"]


@pytest.mark.parametrize("case", ["1.1.1", "3.1", "5.14", "6.4.1", "7.1.6", "9.1.1", "10.1.1", "12.1.1"])
def test_a_non_strict_case_is_a_finding_unless_an_echo_races_a_failure(case):
    assert judge({case: result("NON-STRICT")}, [case]) == [f"{case} non-strict: NON-STRICT, closed: OK"]


@pytest.mark.parametrize("case", sorted(RACES))
def test_a_non_strict_case_is_accepted_where_an_echo_races_a_failure(case):
    assert judge({case: result("NON-STRICT")}, [case]) == []
    assert judge({case: result("OK")}, [case]) == []


def test_each_kind_is_one_of_the_columns():
    behaviors = ["OK", "NON-STRICT", "INFORMATIONAL", "FAILED", "UNIMPLEMENTED"]
    assert [*(kind(result(behavior)) for behavior in behaviors), kind(None)] == list(KINDS)


def test_the_table_counts_by_section_in_their_order():
    rows = [line.split() for line in table({**RIGHT, "6.4.1": result("FAILED")}, [*CASES, "10.1.2"]).splitlines()]
    assert rows == [
        ["section", "cases", *KINDS, "seconds"],
        ["1", "1", "1", "0", "0", "0", "0", "0", "0.2"],
        ["3", "1", "0", "1", "0", "0", "0", "0", "0.2"],
        ["5", "1", "1", "0", "0", "0", "0", "0", "0.2"],
        ["6", "1", "0", "0", "0", "1", "0", "0", "0.2"],
        ["7", "1", "0", "0", "1", "0", "0", "0", "0.2"],
        ["10", "2", "1", "0", "0", "0", "0", "1", "0.2"],
        ["all", "7", "3", "1", "1", "1", "0", "1", "1.5"],
    ]
