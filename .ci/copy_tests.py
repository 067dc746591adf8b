#!/usr/bin/env python3
"""Copy the repository without the package into a folder: tests that run there use the wheel that is installed."""

import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
LEFT_OUT = {"wsaas", "build", "dist"}


def copy_tests(root: Path, folder: Path) -> None:
    """Copy what is visible in `root`, and replace what is in `folder`."""
    for source in root.iterdir():
        target = folder / source.name
        if source.name in LEFT_OUT or source.name.startswith("."):
            continue
        if source.is_dir():
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
        else:
            shutil.copy(source, target)


if __name__ == "__main__":
    copy_tests(ROOT, Path(sys.argv[1]))
