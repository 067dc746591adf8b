"""The corpus: for each target, a few small inputs that cover as much as all known inputs."""

import re
import sys
from collections import Counter
from collections.abc import Callable
from hashlib import sha1
from pathlib import Path
from types import FrameType
from typing import Any

HERE = Path(__file__).parent
WATCHED = ("/wsaas/", "/wsproto/", "/fuzz/reference.py")
CHOSEN = re.compile(r"[0-9a-f]{12}")
"""The name of a generated input. Inputs with other names were written by hand and are never dropped."""

MAX_INPUTS = 50
"""The most inputs for one target."""

Arc = tuple[str, int, int, int]
"""A file, two consecutive lines, and the binary logarithm of the number of times."""


def folder(name: str) -> Path:
    """Return the folder of the inputs of a target."""
    return HERE / "corpus" / name


def inputs(name: str) -> list[Path]:
    """Return the inputs of a target."""
    return sorted(folder(name).iterdir())


def arcs(target: Callable[[bytes], None], data: bytes) -> set[Arc]:
    """Return the arcs that `target` executes for `data`."""
    found: Counter[tuple[str, int, int]] = Counter()

    def enter(frame: FrameType, _event: str, _argument: Any) -> Any:
        path = frame.f_code.co_filename
        if not any(part in path for part in WATCHED):
            return None
        before = -frame.f_code.co_firstlineno

        def step(frame: FrameType, event: str, _argument: Any) -> Any:
            nonlocal before
            line = frame.f_lineno if event == "line" else 0
            found[path, before, line] += 1
            before = line
            return step

        return step

    previous = sys.gettrace()
    sys.settrace(enter)
    try:
        target(data)
    finally:
        sys.settrace(previous)
    return {(*arc, times.bit_length()) for arc, times in found.items()}


def keep(name: str, grown: Path) -> None:
    """Reduce the corpus and `grown` to few inputs that cover the same arcs, preferring small ones."""
    from .targets import TARGETS  # noqa: PLC0415 - after a finding, the import may fail

    by_hand = {path.read_bytes() for path in inputs(name) if not CHOSEN.fullmatch(path.name)}
    candidates = {path.read_bytes() for path in [*inputs(name), *grown.iterdir()]} - by_hand
    reached = {data: arcs(TARGETS[name], data) for data in sorted(candidates, key=lambda data: (len(data), data))}
    chosen: list[bytes] = []
    missing = set[Arc]().union(*reached.values()).difference(*(arcs(TARGETS[name], data) for data in by_hand))
    while missing and len(chosen) + len(by_hand) < MAX_INPUTS:
        best = max(reached, key=lambda data: (len(reached[data] & missing), -len(data)))
        chosen.append(best)
        missing -= reached[best]
    for path in inputs(name):
        if CHOSEN.fullmatch(path.name):
            path.unlink()
    for data in chosen:
        (folder(name) / sha1(data, usedforsecurity=False).hexdigest()[:12]).write_bytes(data)
    print(f"fuzz: {name}: {len(chosen)} inputs chosen of {len(candidates)}")
