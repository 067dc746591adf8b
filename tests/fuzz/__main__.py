"""`python -m tests.fuzz [TARGET...] [--seconds N] [--seed N]`: try inputs that nobody thought of, guided by coverage.

Needs atheris, which takes libFuzzer to Python; where that cannot be installed, says so and does nothing.
A finding is printed with its bytes and left in the current folder; `test_corpus.py` replays it once it is kept.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from tests.fuzz import corpus

NAMES = ["requests", "responses", "frames", "handshakes", "verdicts"]
HERE = Path(__file__).parent
ROOT = HERE.parent.parent
MAX_LENGTH = 2048
MAX_FRAMES = 600
"""Bytes of an input. Frames are small and take long, byte by byte by two lanes and the reference."""

LONGEST = 20
"""Seconds that one input may take: more is a finding."""

SLOW_START = 120
"""Seconds beyond its time that a fuzzer may need to start and end."""

_STATISTIC = re.compile(r"^stat::(\w+):\s+(\d+)$", re.MULTILINE)


def fuzz(name: str, seconds: int, seed: int, grown: Path) -> bool:
    """Fuzz one target, adding what is new to `grown`; return whether it withstood."""
    flags = {
        "max_total_time": seconds,
        "seed": seed,
        "max_len": MAX_FRAMES if name == "frames" else MAX_LENGTH,
        "timeout": LONGEST,
        "print_final_stats": 1,
        "dict": HERE / "words.dict",
        "artifact_prefix": f"{Path.cwd()}/{name}-",
    }
    command = [sys.executable, "-m", f"{__package__}.child", name, *(f"-{key}={value}" for key, value in flags.items())]
    done = subprocess.run(
        [*command, str(grown), str(corpus.folder(name))],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=seconds + SLOW_START,
        check=False,
        text=True,
        errors="replace",
    )
    statistics = {key: int(value) for key, value in _STATISTIC.findall(done.stdout)}
    executed = statistics.get("number_of_executed_units", 0)
    rate = statistics.get("average_exec_per_sec", 0)
    new = len(list(grown.iterdir()))
    withstood = done.returncode == 0 and executed > 0
    if not withstood:
        print(done.stdout[-20_000:])
    findings = "no finding" if withstood else "A FINDING, see above"
    print(f"fuzz: {name}: {executed} executions, {rate}/s, {new} inputs that are new: {findings}", flush=True)
    return withstood


def main(arguments: Sequence[str]) -> int:
    """Return the exit status: 1 where something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"{', '.join(NAMES)}; all of them without any")
    parser.add_argument("--seconds", type=int, default=60, help="for all targets together")
    parser.add_argument("--seed", type=int, default=0, help="start with the same inputs each time; 0: with others")
    parser.add_argument(
        "--keep", action="store_true", help="add what is new to the corpus, and drop what is not needed"
    )
    options = parser.parse_args(arguments)
    if unknown := set(options.targets) - set(NAMES):
        parser.error(f"no target: {', '.join(sorted(unknown))}")
    if find_spec("atheris") is None:
        print("fuzz: SKIPPED, atheris is not installed: there is none for this interpreter or this machine")
        return 0
    names = options.targets or NAMES
    withstood = True
    for name in names:
        with tempfile.TemporaryDirectory() as grown:
            withstood &= fuzz(name, max(1, options.seconds // len(names)), options.seed, Path(grown))
            if options.keep:
                corpus.keep(name, Path(grown))
    return 0 if withstood else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
