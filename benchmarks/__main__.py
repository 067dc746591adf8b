"""The command line: `python -m benchmarks CASE [options]`."""

import sys
from collections.abc import Sequence

from benchmarks.cases import CASES, COMPARISONS, compare

USAGE = "usage: python -m benchmarks CASE [options]"


def overview() -> str:
    """Return a line about each case."""
    width = max(map(len, CASES))
    lines = [f"  {name:{width}}  {case.summary}" for name, case in CASES.items()]
    together = f"Several of {', '.join(COMPARISONS)} can be run together, separated by commas."
    return "\n".join([USAGE, "", *lines, "", together, "Options of a case: python -m benchmarks CASE --help"])


def main(arguments: Sequence[str]) -> None:
    """Run the case that the first argument names."""
    if not arguments:
        sys.exit(overview())
    name, *options = arguments
    if name in ("-h", "--help"):
        print(overview())
    elif name in CASES:
        CASES[name].main(options)
    elif all(each in COMPARISONS for each in name.split(",")):
        compare(name.split(","), options)
    else:
        sys.exit(f"error: unknown case {name}\n\n{overview()}")


if __name__ == "__main__":
    main(sys.argv[1:])
