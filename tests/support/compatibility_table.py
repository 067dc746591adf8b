"""The rows of docs/compatibility.md."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "compatibility.md").read_text()
SOURCES = ("PyPI", "npm", "Debian", "Node.js")


class Package(NamedTuple):
    """A package that a row names. `or_later`: its version is the oldest one that may be tested."""

    source: str
    name: str
    version: str
    or_later: bool


class Row(NamedTuple):
    """A row of one of the tables."""

    name: str
    version: str
    what_to_set: str
    test: str

    @property
    def packages(self) -> list[Package]:
        source, _, named = self.version.partition(" ")
        if source not in SOURCES:
            return []
        found = re.findall(r"`([^`]+)` ([\w.]+)( or later)?", named)
        return [Package(source, name, version, bool(later)) for name, version, later in found]

    @property
    def tests(self) -> list[tuple[str, Path]]:
        """The names of the tests and their files."""
        found = re.findall(r"\[`(test_\w+)`\]\(\.\./([^)]+)\)", self.test)
        return [(name, ROOT / path) for name, path in found]

    @property
    def scripts(self) -> list[Path]:
        """What the test runs."""
        return [ROOT / path for path in re.findall(r"\[[\w.]+\]\(\.\./([^)]+)\)", self.test)]


def rows() -> list[Row]:
    """Return the rows of all tables."""
    found = re.findall(r"^\| (.+) \| (.+) \| (.+) \| (\[`test_.+) \|$", PAGE, re.MULTILINE)
    return [Row(*cells) for cells in found]
