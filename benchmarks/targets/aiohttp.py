"""The same contract in a hundred lines of Python: `python/server.py`, with aiohttp on uvloop."""

import sys
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from benchmarks.targets.base import Placement, Target

SERVER = Path(__file__).with_name("python") / "server.py"


class Aiohttp(Target):
    """Aiohttp on uvloop."""

    name = "aiohttp"
    install = "python -m pip install aiohttp uvloop"

    def missing(self) -> bool:
        """Look for the packages."""
        return find_spec("aiohttp") is None or find_spec("uvloop") is None

    def version(self) -> str:
        """Return the versions."""
        return f"aiohttp {version('aiohttp')}, uvloop {version('uvloop')}, CPython {sys.version.split()[0]}"

    def command(self, placement: Placement) -> Sequence[str]:
        """Return the command."""
        return [sys.executable, str(SERVER), str(placement.client), str(placement.backend), str(placement.connections)]
