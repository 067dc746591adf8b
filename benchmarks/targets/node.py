"""The same contract in a hundred lines of Node: `node/server.mjs`, with ws and undici."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.targets.base import Placement, Target

FOLDER = Path(__file__).with_name("node")
MODULES = ("ws", "undici", "bufferutil")


class Node(Target):
    """Node with ws and undici."""

    name = "node"
    install = f"npm install --no-package-lock --prefix {FOLDER}"

    def missing(self) -> bool:
        """Look for node and the modules."""
        return shutil.which("node") is None or not all((FOLDER / "node_modules" / name).exists() for name in MODULES)

    def version(self) -> str:
        """Return the versions."""
        script = "console.log(process.version, ...process.argv.slice(1).map(m => m + ' ' + require(m).version))"
        files = [str(FOLDER / "node_modules" / name / "package.json") for name in MODULES]
        command = ["node", "-e", script, *files]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        return printed.replace(f"{FOLDER}/node_modules/", "").replace("/package.json", "")

    def command(self, placement: Placement) -> Sequence[str]:
        """Return the command."""
        return [
            "node",
            str(FOLDER / "server.mjs"),
            str(placement.client),
            str(placement.backend),
            str(placement.connections),
        ]
