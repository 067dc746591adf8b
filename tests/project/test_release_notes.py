"""`.ci/release_notes.py` finds what CHANGELOG.md says about the version that a tag names."""

import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / ".ci" / "release_notes.py"
MODULE = runpy.run_path(str(SCRIPT))

PYPROJECT = '[project]\nname = "wsaas"\nversion = "1.2.0"\n'
CHANGELOG = """\
# Changelog

## [Unreleased]

## [1.2.0] - 2026-02-03

### Added

- A thing, see [docs](docs).

### Fixed

- Another.

## [1.1.0] - 2026-01-02

- Old.
"""


def test_the_section_of_the_version_is_returned():
    expected = "### Added\n\n- A thing, see [docs](docs).\n\n### Fixed\n\n- Another."
    assert MODULE["notes"]("v1.2.0", PYPROJECT, CHANGELOG) == expected


def test_the_last_section_ends_with_the_file():
    assert MODULE["notes"]("v1.1.0", PYPROJECT.replace("1.2.0", "1.1.0"), CHANGELOG) == "- Old."


@pytest.mark.parametrize(
    ("tag", "changelog", "message"),
    [
        ("v1.1.0", CHANGELOG, "the tag is v1.1.0, but the version in pyproject.toml is 1.2.0"),
        ("1.2.0", CHANGELOG, "the tag is 1.2.0"),
        ("v1.2.0", CHANGELOG.replace("[1.2.0]", "[1.2.1]"), r"says nothing under ## \[1.2.0\]"),
        ("v1.2.0", "## [1.2.0] - 2026-02-03\n\n## [1.1.0]\n\n- Old.\n", r"says nothing under ## \[1.2.0\]"),
        ("v1.2.0", CHANGELOG.replace("1.2.0", "1x2.0"), "says nothing"),
    ],
)
def test_a_tag_that_does_not_fit_is_refused(tag, changelog, message):
    with pytest.raises(MODULE["ReleaseError"], match=message):
        MODULE["notes"](tag, PYPROJECT, changelog)


@pytest.mark.parametrize(("tag", "exit_code"), [("v1.2.0", 0), ("v9.9.9", 1)])
def test_the_exit_status_says_whether_the_tag_can_be_released(tmp_path, tag, exit_code):
    (tmp_path / ".ci").mkdir()
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    script = shutil.copy(SCRIPT, tmp_path / ".ci")
    done = subprocess.run([sys.executable, script, tag], capture_output=True, text=True, check=False)
    assert done.returncode == exit_code
    assert ("- A thing" in done.stdout) is (exit_code == 0)
    assert (f"cannot release {tag}: " in done.stderr) is (exit_code == 1)
