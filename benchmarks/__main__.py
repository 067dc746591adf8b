"""`python -m benchmarks CASE [options]`."""

import sys
from importlib import import_module

CASES = ("connects", "framing", "idle", "micro", "outage", "paths", "slow", "stalls")

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in CASES:  # noqa: PLR2004 - the program and the case
        sys.exit(f"usage: python -m benchmarks {{{','.join(CASES)}}} [options]")
    import_module(f"benchmarks.{sys.argv[1]}").main(sys.argv[2:])
