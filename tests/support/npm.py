"""Packages of npm for tests."""

import shutil
import subprocess
from functools import lru_cache
from pathlib import Path

import pytest

OPTIONS = (
    "--ignore-scripts",
    "--no-audit",
    "--no-fund",
    "--no-package-lock",
    "--prefer-offline",
    "--fetch-retries=1",
    "--loglevel=error",
)
NPM_TIMEOUT_S = 120


def npm_install(folder: Path, *packages: str) -> None:
    """Install `packages`, or else what package.json names, into `folder`. Skips the test if that fails."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    if (reason := _why_unreachable(npm)) is not None:
        pytest.skip(f"npm cannot get packages: {reason}")
    command = [npm, "install", *OPTIONS, *packages]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=NPM_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm did not get the packages of {folder.name} in {NPM_TIMEOUT_S} s")
    if done.returncode:
        pytest.skip(f"npm cannot get the packages of {folder.name}: {done.stderr.strip()[-200:]}")


@lru_cache
def _why_unreachable(npm: str) -> str | None:
    """Return why the registry cannot be used, None if it can. Asked once: otherwise every test would wait for it."""
    command = [npm, "view", "ws", "version", "--fetch-retries=0", "--fetch-timeout=20000", "--loglevel=error"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except subprocess.TimeoutExpired:
        return "the registry does not answer"
    return done.stderr.strip()[-200:] if done.returncode else None
