"""`python -m benchmarks CASE [options]`."""

import sys
from importlib import import_module

from benchmarks import compare
from benchmarks.measure import RUNS

ALONE = ("connects", "framing", "growth", "hostile", "idle", "micro", "outage", "paths", "pauses", "slow", "stalls")
"""Cases with a module of their own. `idle` is one of them when no target is named."""

if __name__ == "__main__":
    cases = sys.argv[1].split(",") if len(sys.argv) > 1 else []
    targeted = any(argument.partition("=")[0] == "--target" for argument in sys.argv)
    if cases and all(case in RUNS and (case != "idle" or targeted) for case in cases):
        compare.main(cases, sys.argv[2:])
    elif len(cases) == 1 and cases[0] in ALONE:
        import_module(f"benchmarks.{cases[0]}").main(sys.argv[2:])
    else:
        sys.exit(f"usage: python -m benchmarks {{{','.join(dict.fromkeys((*RUNS, *ALONE)))}}} [options]")
