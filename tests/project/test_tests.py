"""The tests themselves: what they share is in one place, and what mypy does not check is explained."""

import ast
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "tests").rglob("*.py"))
EXPLAINED_IGNORE = re.compile(r"# type: ignore\[[a-z, -]+\]  # \w.*")


def imported_modules(path: Path) -> set[str]:
    """Return the names of the modules that a file imports, and of what it imports from them."""
    modules = set[str]()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module, *(f"{node.module}.{each.name}" for each in node.names)}
    return modules


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_nothing_from_a_test_module(path: Path) -> None:
    imported = {module for module in imported_modules(path) if module.startswith("tests.")}
    assert not {module for module in imported if re.search(r"\.(test_\w+|conftest)\b", module)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_gives_a_reason_for_each_type_that_is_not_checked(path: Path) -> None:
    with path.open() as file:
        comments = [token.string for token in tokenize.generate_tokens(file.readline) if token.type == tokenize.COMMENT]
    ignores = [comment for comment in comments if "type: ignore" in comment]
    assert [ignore for ignore in ignores if not EXPLAINED_IGNORE.fullmatch(ignore)] == []


def test_private_attributes_are_allowed_in_unit_tests_only() -> None:
    settings = (ROOT / "pyproject.toml").read_text()
    allowed = re.findall(r'^"(\S+)" = \[.*"SLF001"', settings, re.MULTILINE)
    assert allowed == ["tests/unit/**"]
