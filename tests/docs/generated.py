"""The parts of the documentation that are generated. `python -m tests.docs.generated` writes them anew.

A generated part stands between two comments: `<!-- generated: NAME -->` and `<!-- end of NAME -->`.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from tests.docs.command_flags import described
from tests.docs.rest_operations import operations

DOCS = Path(__file__).parents[2] / "docs"
PARTS: dict[str, dict[str, Callable[[], Iterator[str]]]] = {
    "rest.md": {"operations": operations},
    "command-line.md": {"commands": described},
}
"""What writes each part of each page."""


def filled(page: str, text: str) -> str:
    """Return the text of a page with its generated parts as they have to be."""
    for name, write in PARTS[page].items():
        begin, end = f"<!-- generated: {name} -->\n", f"<!-- end of {name} -->\n"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise ValueError(f"{page} needs one place for the {name}, between {begin} and {end}")
        before, _, rest = text.partition(begin)
        content = "\n\n".join(write())
        text = f"{before}{begin}\n{content}\n\n{end}{rest.partition(end)[2]}"
    return text


def main() -> None:
    """Write all parts."""
    for page in PARTS:
        path = DOCS / page
        path.write_text(filled(page, path.read_text()))


if __name__ == "__main__":
    main()
