"""Packages of npm for tests."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.tools import TOOL_TIMEOUT_S

OPTIONS = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--fetch-retries=1", "--loglevel=error")


def npm_install(folder: Path, *packages: str) -> None:
    """Install `packages` into `folder`. Skips the test if that is not possible here."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    command = [npm, "install", *OPTIONS, *packages]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TOOL_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("npm did not get the packages in time")
    if done.returncode:
        pytest.skip(f"npm cannot get the packages: {done.stderr.strip()[-200:]}")
