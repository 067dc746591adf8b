"""docs/compatibility.md names tests that exist, all scripts of these tests, and the versions that are installed."""

import ast
import json
import re
from pathlib import Path

import pytest

from tests.support.compatibility_table import PAGE, ROOT, Package, Row, rows

ROWS = rows()
PACKAGES = sorted({package for row in ROWS for package in row.packages})
FOLDER = ROOT / "tests" / "compatibility"
PYPROJECT = (ROOT / "pyproject.toml").read_text()
DEBIAN = (FOLDER / "debian.txt").read_text().split()
HELPERS = {"scenario.py", "scenario.mjs", "php_fpm.conf", "php_fpm_nginx.conf", "traefik_routes.yml"}
INSTALLED_BY_CI = {"chromium", "curl", "firefox-esr", "node", "prometheus"}
"""What other tests need, too, and Firefox, which Ubuntu does not have."""


def named(function: str, path: Path) -> bool:
    """Return whether a file defines a function."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return any(isinstance(node, kinds) and node.name == function for node in ast.walk(ast.parse(path.read_text())))


def npm_versions(name: str) -> set[str]:
    """Return the versions of a package of npm that the tests install."""
    found = set[str]()
    for path in [*(ROOT / "tests").rglob("package.json"), *(ROOT / "clients").rglob("package.json")]:
        if "node_modules" not in path.parts:
            package = json.loads(path.read_text())
            installed = {**package.get("dependencies", {}), **package.get("devDependencies", {})}
            if name in installed:
                found.add(installed[name])
            if package["name"] == name:
                found.add(package["version"])
    return found


def is_installed_by_a_test(package: Package) -> bool:
    """Return whether a Python file names a package of npm, with its version, as the argument of `npm install`."""
    argument = f'"{package.name}@{package.version}"'
    return any(argument in path.read_text() for path in (ROOT / "tests").rglob("*.py"))


def test_at_least_forty_things_are_listed_and_no_row_is_repeated() -> None:
    assert len({row.name for row in ROWS}) >= 40
    assert len(set(ROWS)) == len(ROWS)


def test_every_row_of_the_tables_can_be_read() -> None:
    lines = [
        line for line in PAGE.splitlines() if line.startswith("| ") and not re.match(r"\| (---|\w+ \| version)", line)
    ]
    assert len(lines) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_names_tests_that_exist_and_a_version(row: Row) -> None:
    assert row.tests
    for name, path in row.tests:
        assert named(name, path), name
    for script in row.scripts:
        assert script.is_file()
        # It is one of the cases of the test.
        assert any(script.name in path.read_text() for _, path in row.tests), script
    assert row.packages or row.version == "the example in the README"


def test_every_script_has_a_row() -> None:
    scripts = {path.name for path in FOLDER.glob("*/*.*") if path.suffix != ".pyc"}
    assert scripts - HELPERS == {script.name for row in ROWS for script in row.scripts}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_a_version_is_the_one_that_the_tests_install(package: Package) -> None:
    if package.source == "PyPI":
        sign = ">=" if package.or_later else "=="
        assert f'"{package.name}{sign}{package.version}' in PYPROJECT.replace("[nkeys]", "")
    elif package.source == "npm":
        assert package.version in npm_versions(package.name) or is_installed_by_a_test(package)
    else:
        # Their versions are compared by tests/compatibility/test_versions.py, where they are installed.
        assert package.name in {*DEBIAN, *INSTALLED_BY_CI}


def test_every_pinned_package_has_a_row() -> None:
    (group,) = re.findall(r"^compatibility = \[\n(.*?)^\]", PYPROJECT, re.DOTALL | re.MULTILINE)
    pinned = set(re.findall(r'^    "([\w-]+)==', group, re.MULTILINE))
    assert pinned - {package.name for package in PACKAGES if package.source == "PyPI"} == set()
    dependencies = json.loads((FOLDER / "package.json").read_text())["dependencies"]
    assert dependencies.keys() - {package.name for package in PACKAGES if package.source == "npm"} == set()
