"""The pages of the documentation, for tests that compare them with the code."""

import re
from pathlib import Path

from wsaas import errors

REFERENCE = (Path(__file__).parents[2] / "docs" / "reference.md").read_text()


def section(title: str, page: str = REFERENCE) -> str:
    """Return the text under a heading, with the sections below it, up to the next heading of its level or above."""
    heading = re.search(rf"^(##+) {re.escape(title)}\n", page, re.MULTILINE)
    assert heading, title
    rest = page[heading.end() :]
    end = re.search(rf"^#{{2,{len(heading[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def faults(parent: type[errors.HTTPError] = errors.HTTPError) -> set[tuple[int, str]]:
    """Return status and code of each kind of fault."""
    return {(each.status, each.code) for each in parent.__subclasses__()}
