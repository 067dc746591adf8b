#!/usr/bin/env python3
"""Print the section of CHANGELOG.md about a release; fail unless the tag, the version and the changelog agree."""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent


class ReleaseError(Exception):
    """The repository is not ready for this tag."""


def notes(tag: str, pyproject: str, changelog: str) -> str:
    """Return the text under the heading of the version that `tag` names. Raises `ReleaseError`."""
    found = re.search(r'^version = "(.+)"$', pyproject, re.MULTILINE)
    version = found[1] if found else "missing"
    if tag != f"v{version}":
        raise ReleaseError(f"the tag is {tag}, but the version in pyproject.toml is {version}")
    section = re.search(rf"^## \[{re.escape(version)}\].*\n((?:(?!## ).*\n?)*)", changelog, re.MULTILINE)
    if section is None or not section[1].strip():
        raise ReleaseError(f"CHANGELOG.md says nothing under ## [{version}]")
    return section[1].strip()


def main(arguments: Sequence[str]) -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tag", help="v and the version, such as v1.2.3")
    tag = parser.parse_args(arguments).tag
    try:
        print(notes(tag, (ROOT / "pyproject.toml").read_text(), (ROOT / "CHANGELOG.md").read_text()))
    except ReleaseError as error:
        print(f"cannot release {tag}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
