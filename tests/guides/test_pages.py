"""The guides include complete programs as they are, and the overview leads to each page."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
INCLUDED = re.compile(r"\[(examples/[\w./-]+)\]\(([^)]+)\):\n\n```\w+\n(.*?)^```", re.DOTALL | re.MULTILINE)
PROGRAMS = [found for page in sorted((DOCS / "guides").glob("*.md")) for found in INCLUDED.findall(page.read_text())]


@pytest.mark.parametrize(("name", "target", "code"), PROGRAMS, ids=[name for name, _, _ in PROGRAMS])
def test_a_program_is_the_file_that_is_tested(name: str, target: str, code: str) -> None:
    path = (DOCS / "guides" / target).resolve()
    assert path == ROOT / name
    assert code == path.read_text()


def test_all_programs_of_the_guides_are_included() -> None:
    assert {name for name, _, _ in PROGRAMS} == {
        "examples/chat/app.py",
        "examples/chat/index.html",
        "examples/from-socketio/app.js",
        "examples/from-socketio/events.js",
        "examples/login-express/app.js",
        "examples/login-fastapi/app.py",
    }


def test_the_overview_leads_to_each_guide_and_to_the_pages_for_operators() -> None:
    linked = set(re.findall(r"\]\(([\w/-]+\.md)\)", (DOCS / "index.md").read_text()))
    guides = {f"guides/{page.name}" for page in (DOCS / "guides").glob("*.md")}
    assert len(guides) >= 9
    assert guides | {"alerts.md", "quickstart.md", "security.md", "sizing.md", "troubleshooting.md"} <= linked
