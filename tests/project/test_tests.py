"""The tests themselves: what they share is in one place, and what mypy does not check is explained."""

import ast
import re
import tokenize
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "tests").rglob("*.py"))
TEST_MODULE = re.compile(r"\.(test_\w+|conftest)\b")
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


def comments(path: Path) -> list[str]:
    """Return the comments in a file."""
    with path.open() as file:
        return [token.string for token in tokenize.generate_tokens(file.readline) if token.type == tokenize.COMMENT]


def test_no_file_imports_from_a_test_module() -> None:
    imports = {path: {each for each in imported_modules(path) if each.startswith("tests.")} for path in FILES}
    assert any(imports.values())
    found = {path: {each for each in modules if TEST_MODULE.search(each)} for path, modules in imports.items()}
    assert {path: modules for path, modules in found.items() if modules} == {}


def test_each_type_that_is_not_checked_has_a_reason() -> None:
    ignores = [(path, comment) for path in FILES for comment in comments(path) if "type: ignore" in comment]
    assert ignores
    assert [(path, comment) for path, comment in ignores if not EXPLAINED_IGNORE.fullmatch(comment)] == []


def test_private_attributes_are_allowed_in_unit_tests_only() -> None:
    settings = (ROOT / "pyproject.toml").read_text()
    allowed = re.findall(r'^"(\S+)" = \[.*"SLF001"', settings, re.MULTILINE)
    assert allowed == ["tests/unit/**"]
