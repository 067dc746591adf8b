"""The code blocks of the documentation, and which test executes or compares a block that has no check here."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [ROOT / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md", "examples/README.md")]
    + [*(ROOT / "clients" / "js").glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")]
)
FENCE = re.compile(r"^( *)(`{3,})([^`\n]*)\n(.*?)^ *\2`*$", re.DOTALL | re.MULTILINE)

ELSEWHERE = {
    ("README.md", "python"): "tests/project/test_docs.py",
    ("clients/js/README.md", "js"): "tests/integration/test_javascript_client.py",
    ("docs/aws.md", "json"): "tests/integration/test_aws.py",
    ("docs/aws.md", "python"): "tests/integration/test_command_lambda.py",
    ("docs/backend.md", "python"): "tests/integration/test_backend_docs.py",
    ("docs/check.md", ""): "tests/integration/check/test_docs.py",
    ("docs/guides/browser-authentication.md", "python"): "tests/examples/test_sessions.py",
    ("docs/guides/reconnecting.md", "python"): "tests/guides/test_code.py",
    ("docs/guides/retries.md", "python"): "tests/guides/test_code.py",
    ("docs/log.md", ""): "tests/faults/test_log.py",
    ("docs/log.md", "json"): "tests/faults/test_log.py",
    ("docs/quickstart.md", "python"): "tests/examples/test_guides.py",
}
"""Page and language: the test that runs these blocks, or compares them with what a program prints."""


@dataclass(frozen=True)
class Block:
    """A code block: its page, language, text without indentation, and the number of its first line."""

    page: str
    language: str
    text: str
    line: int

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def page_text(self) -> str:
        """The page that it is on."""
        return (ROOT / self.page).read_text()

    @property
    def is_example(self) -> bool:
        """Whether it is a file in examples/, all of which are run by tests."""
        return self.text in examples()

    @property
    def elsewhere(self) -> str | None:
        """The test that executes or compares it, if there is one."""
        return ELSEWHERE.get((self.page, self.language))


@cache
def examples() -> set[str]:
    """Return the texts of the programs in examples/."""
    found = [path for path in (ROOT / "examples").rglob("*.*") if path.suffix in {".html", ".js", ".mjs", ".py"}]
    return {path.read_text() for path in found if "node_modules" not in path.parts}


def blocks() -> Iterator[Block]:
    """Yield all code blocks."""
    for path in PAGES:
        yield from blocks_of(str(path.relative_to(ROOT)), path.read_text())


def blocks_of(page: str, text: str) -> Iterator[Block]:
    """Yield the code blocks of a page."""
    for found in FENCE.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        yield Block(page, found[3].strip(), dedent(found[4]), line)


def unclosed_fences(text: str) -> list[str]:
    """Return the fences that begin or end no block."""
    return re.findall(r"^ *`{3,}.*$", FENCE.sub("", text), re.MULTILINE)
