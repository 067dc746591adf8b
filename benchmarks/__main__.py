"""`python -m benchmarks CASE [options]`."""

import sys
from importlib import import_module

from benchmarks import compare

ALONE = ("connects", "framing", "idle", "micro", "outage", "paths", "slow", "stalls")
"""Cases with a module of their own."""

if __name__ == "__main__":
    cases = sys.argv[1].split(",") if len(sys.argv) > 1 else []
    # `idle` without a target is a case of its own.
    beside = [case for case in compare.CASES if case != "idle" or "--target" in sys.argv]
    if cases and all(case in beside for case in cases):
        compare.main(cases, sys.argv[2:])
    elif len(cases) == 1 and cases[0] in ALONE:
        import_module(f"benchmarks.{cases[0]}").main(sys.argv[2:])
    else:
        sys.exit(f"usage: python -m benchmarks {{{','.join((*compare.CASES, *ALONE))}}} [options]")
