"""The pages of the documentation, for tests that compare them with the code."""

import re
from pathlib import Path

from wsaas import errors

DOCS = Path(__file__).parents[2] / "docs"
END_OF_PAGE = "\f"
REFERENCE = f"{END_OF_PAGE}\n".join(
    (DOCS / f"{name}.md").read_text() for name in ("contract", "settings", "rest", "close-codes", "limits")
)


def section(title: str, page: str = REFERENCE) -> str:
    """Return the text under a heading, with the sections below it, up to the next heading of its level or above."""
    heading = re.search(rf"^(#+) {re.escape(title)}\n", page, re.MULTILINE)
    assert heading, title
    rest = page[heading.end() :].partition(END_OF_PAGE)[0]
    # A line with one # is a comment in a code block: the title of a page is in its first line.
    end = re.search(rf"^#{{2,{len(heading[1])}}} ", rest, re.MULTILINE) if len(heading[1]) > 1 else None
    return rest[: end.start()] if end else rest


def faults(parent: type[errors.HTTPError] = errors.HTTPError) -> set[tuple[int, str]]:
    """Return status and code of each kind of fault."""
    return {(each.status, each.code) for each in parent.__subclasses__()}
