"""WSaaS itself, of this checkout or of another one."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.targets.base import GROUP, PUSH, Placement, Target
from benchmarks.wire import HOST

ROOT = Path(__file__).parents[2]
"""This checkout."""

COMPILED = Path("build", "compiled")
"""Where the compiled package of a checkout is installed, in that checkout."""


class Wsaas(Target):
    """`python -m wsaas` with its defaults, or with a `journal`, but without its access log, as other targets have none.

    `checkout`: the folder that contains the package.
    """

    name = "wsaas"
    publish = PUSH.replace("{id}", f"/groups/{GROUP}")
    send = (
        "POST /send HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
        'Content-Length: {length}\r\n\r\n{"to":[{ids}],"text":"{body}"}'
    )

    def __init__(
        self,
        checkout: Path | None = None,
        *,
        journal: bool = False,
        compiled: bool = False,
        separate_control: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Take the package from `checkout`, by default from this one.

        `compiled`: take the package that was compiled from the checkout. `separate_control`: the REST API listens on a
        port of its own. `settings`: further environment variables.
        """
        self._source = (checkout or ROOT).resolve()
        self.checkout = self._source / COMPILED if compiled else self._source
        self.journal = journal
        self.separate_control = separate_control
        self.settings = dict(settings or {})
        if journal:
            self.name += "+journal"
        if compiled:
            self.name += "+compiled"
            # `--upgrade` replaces an earlier build. The wheel is not cached, as its version stays the same.
            pip = f"{sys.executable} -m pip install --no-deps --no-cache-dir --upgrade --target {self.checkout}"
            self.install = f"WSAAS_COMPILE=1 {pip} {self._source}"
        if checkout is not None:
            self.name += f"@{checkout.name}"

    def missing(self) -> bool:
        """Return whether the package has to be compiled, or was compiled from other source files."""
        if self.checkout == self._source:
            return False
        return sources(self.checkout) != sources(self._source) or not any(self.checkout.glob("wsaas/*/*.so"))

    def version(self) -> str:
        """Return the interpreter's version."""
        return f"CPython {sys.version.split()[0]}"

    def command(self, _placement: Placement) -> Sequence[str]:
        """Return the command."""
        return [sys.executable, "-m", "wsaas"]

    def environment(self, placement: Placement) -> Mapping[str, str]:
        """Return the settings."""
        control = f"{HOST}:{self.control_port(placement)}"
        listeners = {"LISTEN": f"{HOST}:{placement.client}", "CONTROL_LISTEN": control}
        return {
            "PYTHONPATH": str(self.checkout),
            "ACCESS_LOG": "off",
            "API_URI": f"{HOST}:{placement.backend}/",
            "WS_HOSTNAME": control,
            **({"API_CONNECTIONS": str(placement.connections)} if placement.connections else {}),
            **({"JOURNAL": str(placement.folder / "journal")} if self.journal else {}),
            **(listeners if self.separate_control else {}),
            **self.settings,
        }

    def control_port(self, placement: Placement) -> int:
        """Return the port of the REST API."""
        return placement.control if self.separate_control else placement.client


def sources(folder: Path) -> dict[Path, bytes]:
    """Return the source files of the package in `folder`, by their paths."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.glob("wsaas/**/*.py")}
