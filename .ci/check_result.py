#!/usr/bin/env python3
"""Check the file that `tox --result-json` wrote: every expected environment ran and passed.

An environment that tox skipped counts as failed, unless `--may-skip` names it. tox itself exits with 0 then. The end of
the output of each command that failed is printed again, as it may be thousands of lines above.
"""

import argparse
import json
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

REPEATED_LINES: Final = 200
"""Lines of the output of a failed command that are printed again."""


def judge(result: Mapping[str, Any] | None, *, may_skip: bool) -> tuple[bool, str]:
    """Return whether the result of an environment is acceptable, and how to print it; None: tox reported none."""
    if result is None:
        return False, "DID NOT RUN"
    if not result["success"]:
        return False, f"FAILED with exit code {result['exit_code']}"
    if result["skipped"]:
        return may_skip, "skipped" if may_skip else "SKIPPED, although it can run on this machine"
    return True, f"passed in {result['duration']:.0f} s"


def failures(environments: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield the name of each environment whose command failed, the command, and the end of its output."""
    for name, run in environments.items():
        for command in [*run.get("setup", ()), *run.get("test", ())]:
            if command["retcode"] != 0:
                lines = [*command["output"].splitlines(), *command["err"].splitlines()][-REPEATED_LINES:]
                yield "\n".join(
                    [f"{name}: failed with exit code {command['retcode']}: {' '.join(command['command'])}", *lines]
                )


def report(results: Mapping[str, Mapping[str, Any]], expected: Sequence[str], may_skip: Collection[str]) -> bool:
    """Print a line for each environment that was expected or that ran; return whether all are acceptable."""
    names = list(dict.fromkeys([*expected, *results]))
    width = max(map(len, names))
    success = True
    for name in names:
        acceptable, outcome = judge(results.get(name), may_skip=name in may_skip)
        print(f"{name:{width}}  {outcome}")
        success &= acceptable
    return success


def main(arguments: Sequence[str]) -> int:
    """Return the exit status: 1 unless everything passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("result", type=Path, metavar="FILE", help="written by tox --result-json")
    parser.add_argument("expected", nargs="+", metavar="ENVIRONMENT", help="must be in FILE")
    parser.add_argument("--may-skip", action="append", default=[], metavar="ENVIRONMENT")
    options = parser.parse_args(arguments)
    try:
        environments = json.loads(options.result.read_text())["testenvs"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"{options.result}: not a result of tox: {error!r}", file=sys.stderr)
        return 1
    # tox has an empty entry for each environment that it knows but did not run, and one without a result for packaging.
    results = {name: run["result"] for name, run in environments.items() if "result" in run}
    for failure in failures(environments):
        print(f"{failure}\n")
    return 0 if report(results, options.expected, options.may_skip) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
