"""`python -m tests.fuzz [TARGET...] [--seconds N] [--seed N]`: fuzz the targets, guided by coverage.

Needs atheris, a binding of libFuzzer. Without it, the program says so and ends.
A finding is printed and written to the current folder; `test_corpus.py` replays it once it is in the corpus.
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

NAMES = ["requests", "responses", "frames", "handshakes", "verdicts", "proxy_headers"]
HERE = Path(__file__).parent
ROOT = HERE.parent.parent
MAX_LENGTH = 2048
MAX_FRAMES = 600
"""The longest input for frames in bytes. They are short, because three decoders read them byte by byte."""

INPUT_TIMEOUT_S = 20
"""Seconds for one input: more is a finding."""

START_TIMEOUT_S = 120
"""Seconds for a fuzzer to start and end, beside its own time."""

_STATISTIC = re.compile(r"^stat::(\w+):\s+(\d+)$", re.MULTILINE)


def fuzz(name: str, seconds: int, seed: int, grown: Path) -> bool:
    """Fuzz one target, adding new inputs to `grown`; return whether it had no finding."""
    flags = {
        "max_total_time": seconds,
        "seed": seed,
        "max_len": MAX_FRAMES if name == "frames" else MAX_LENGTH,
        "timeout": INPUT_TIMEOUT_S,
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
        timeout=seconds + START_TIMEOUT_S,
        check=False,
        text=True,
        errors="replace",
    )
    statistics = {key: int(value) for key, value in _STATISTIC.findall(done.stdout)}
    executed = statistics.get("number_of_executed_units", 0)
    rate = statistics.get("average_exec_per_sec", 0)
    new = len(list(grown.iterdir()))
    passed = done.returncode == 0 and executed > 0
    if not passed:
        print(done.stdout[-20_000:])
    findings = "no finding" if passed else "A FINDING, see above"
    print(f"fuzz: {name}: {executed} executions, {rate}/s, {new} new inputs: {findings}", flush=True)
    return passed


def main(arguments: Sequence[str]) -> int:
    """Return the exit status: 1 after a finding."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"{', '.join(NAMES)}; all of them without any")
    parser.add_argument("--seconds", type=int, default=60, help="for all targets together")
    parser.add_argument("--seed", type=int, default=0, help="repeat the choices of a run with this seed; 0: random")
    parser.add_argument("--keep", action="store_true", help="add new inputs to the corpus, and drop redundant ones")
    options = parser.parse_args(arguments)
    if unknown := set(options.targets) - set(NAMES):
        parser.error(f"no target: {', '.join(sorted(unknown))}")
    if find_spec("atheris") is None:
        print("fuzz: SKIPPED, atheris is not installed, or not available for this interpreter or machine")
        return 0
    names = options.targets or NAMES
    passed = True
    for name in names:
        with tempfile.TemporaryDirectory() as grown:
            passed &= fuzz(name, max(1, options.seconds // len(names)), options.seed, Path(grown))
            if options.keep:
                corpus.keep(name, Path(grown))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
