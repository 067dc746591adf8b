"""Common command-line tools."""

import asyncio
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

TOOL_TIMEOUT_S = 60.0

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


async def run_tool(
    *command: str, cwd: Path | None = None, given: bytes = b"", env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run a command with the input `given`. Fails unless its exit status is 0. `env` replaces all variables."""
    done = await asyncio.to_thread(
        subprocess.run,
        command,
        cwd=cwd,
        env=env,
        input=given,
        capture_output=True,
        timeout=TOOL_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done
