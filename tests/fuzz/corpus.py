"""The inputs that are kept: for each target, few small ones that go wherever all that were found go."""

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
"""The name of an input that was chosen. One with a name of its own was made by hand, and stays."""

MOST = 50
"""Inputs for one target, at most."""

Arc = tuple[str, int, int, int]
"""A file, two lines, of which one followed the other, and how often, about."""


def folder(name: str) -> Path:
    """Where the inputs of a target are."""
    return HERE / "corpus" / name


def inputs(name: str) -> list[Path]:
    """The inputs that are kept for a target."""
    return sorted(folder(name).iterdir())


def arcs(target: Callable[[bytes], None], data: bytes) -> set[Arc]:
    """Return which line follows which while `target` takes `data`."""
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
    """Choose, of those that are kept and those in `grown`, as few as go everywhere, the small ones first."""
    from .targets import TARGETS  # noqa: PLC0415 - a fuzzer that found something may not be able to

    by_hand = {path.read_bytes() for path in inputs(name) if not CHOSEN.fullmatch(path.name)}
    candidates = {path.read_bytes() for path in [*inputs(name), *grown.iterdir()]} - by_hand
    reached = {data: arcs(TARGETS[name], data) for data in sorted(candidates, key=lambda data: (len(data), data))}
    chosen: list[bytes] = []
    missing = set[Arc]().union(*reached.values()).difference(*(arcs(TARGETS[name], data) for data in by_hand))
    while missing and len(chosen) + len(by_hand) < MOST:
        best = max(reached, key=lambda data: (len(reached[data] & missing), -len(data)))
        chosen.append(best)
        missing -= reached[best]
    for path in inputs(name):
        if CHOSEN.fullmatch(path.name):
            path.unlink()
    for data in chosen:
        (folder(name) / sha1(data, usedforsecurity=False).hexdigest()[:12]).write_bytes(data)
    print(f"fuzz: {name}: {len(chosen)} inputs chosen of {len(candidates)}")
