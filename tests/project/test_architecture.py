"""docs/architecture.md names files, functions, packages and states: they exist, and none is missing."""

import ast
import re
from pathlib import Path

import pytest

from tests.project.state_tables import MACHINES, PAGE, fill, table

ROOT = Path(__file__).parents[2]
WSAAS = ROOT / "wsaas"
TEXT = PAGE.read_text()

STEPS = re.findall(r"^\| [^|]+ \| `([\w/]+\.py)` \| ([^|]+) \|$", TEXT, re.MULTILINE)
"""File and functions of each step of the two paths."""

FILES = sorted(set(re.findall(r"`([\w/]+\.py)`", TEXT)))


def names_in(path: Path) -> set[str]:
    """Return the functions, classes, methods and assigned names of a module, methods as `Class.method`."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
    return found


def test_both_paths_are_described_step_by_step():
    assert len(STEPS) >= 15


@pytest.mark.parametrize(("file", "functions"), STEPS)
def test_each_step_names_functions_of_its_file(file, functions):
    names = names_in(WSAAS / file)
    # A step may name where something else is found, such as the method of another class that it stands for.
    first = re.findall(r"`([\w.]+)`", functions)[0]
    assert first in names


@pytest.mark.parametrize("file", FILES)
def test_each_file_that_is_named_exists(file):
    assert (WSAAS / file).exists() or (ROOT / file).exists() or list(WSAAS.rglob(file))


def test_each_package_is_in_the_table():
    section = TEXT.split("\n## Packages\n")[1].split("\n## ")[0]
    packages = {each.parent.name for each in WSAAS.glob("*/__init__.py")}
    assert packages == {name for name in re.findall(r"`(\w+)`", section) if (WSAAS / name).is_dir()}


def test_the_state_tables_are_those_of_the_code():
    assert fill(TEXT) == TEXT


def test_each_machine_has_a_table_and_each_transition_a_reason():
    assert re.findall(r"<!-- states of (\S+) -->", TEXT) == list(MACHINES)
    for machine in MACHINES.values():
        assert table(machine).count("\n") > len(machine)
        assert all(reason for following in machine.values() for reason in following.values())


def test_every_table_of_transitions_is_on_the_page():
    tables = {
        str(path.relative_to(WSAAS))
        for path in WSAAS.rglob("*.py")
        if re.search(r"^TRANSITIONS\b", path.read_text(), re.MULTILINE)
    }
    assert tables == set(MACHINES)
