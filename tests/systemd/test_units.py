"""The units in deploy/systemd, as far as they can be checked without starting them."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.systemd.machine import DEPLOY
from wsaas.journals import DRAIN_GRACE_S
from wsaas.systemd.unit import STOP_MARGIN_S

DRAIN_TIMEOUT_S = 30.0
"""Its default."""

UNITS = ("wsaas.service", "wsaas.socket", "wsaas-control.socket")


def analyze(*arguments: str) -> "subprocess.CompletedProcess[str]":
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("needs systemd-analyze")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


def test_systemd_finds_no_mistake_in_the_units(tmp_path: Path) -> None:
    for name in UNITS:
        # The program that the unit starts does not exist here.
        text = (DEPLOY / name).read_text().replace("/opt/wsaas/bin/wsaas", "/bin/true")
        (tmp_path / name).write_text(text)
    done = analyze("verify", "--man=no", *(str(tmp_path / name) for name in UNITS))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_stop_may_take_as_long_as_the_gateway_says() -> None:
    (line,) = [each for each in (DEPLOY / UNITS[0]).read_text().splitlines() if each.startswith("TimeoutStopSec=")]
    assert line == f"TimeoutStopSec={DRAIN_TIMEOUT_S + DRAIN_GRACE_S + STOP_MARGIN_S:.0f}s"


def test_the_exposure_of_the_service_is_at_most_2() -> None:
    done = analyze("security", "--offline=yes", "--threshold=20", "--no-pager", str(DEPLOY / "wsaas.service"))
    assert done.returncode == 0, done.stdout[-2000:]
