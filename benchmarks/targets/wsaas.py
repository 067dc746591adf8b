"""WSaaS itself, of this checkout or of another one."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.targets.base import HOST, Place, Target

HERE = Path(__file__).parents[2]


class Wsaas(Target):
    """`python -m wsaas`, with its defaults, or with a `journal`; the package is taken from the folder `checkout`."""

    name = "wsaas"

    def __init__(self, checkout: Path | None = None, *, journal: bool = False) -> None:
        """Take the package from `checkout`, by default from where this is."""
        self.checkout = (checkout or HERE).resolve()
        self.journal = journal
        if journal:
            self.name += "+journal"
        if checkout is not None:
            self.name += f"@{checkout.name}"

    def version(self) -> str:
        """Return the interpreter's version."""
        return f"CPython {sys.version.split()[0]}"

    def command(self, _place: Place) -> Sequence[str]:
        """Return the command."""
        return [sys.executable, "-m", "wsaas"]

    def environment(self, place: Place) -> Mapping[str, str]:
        """Return the settings."""
        return {
            "PYTHONPATH": str(self.checkout),
            "API_URI": f"{HOST}:{place.backend}/",
            "WS_HOSTNAME": f"{HOST}:{place.client}",
            "API_CONNECTIONS": str(place.connections),
            **({"JOURNAL": str(place.folder / "journal")} if self.journal else {}),
        }
