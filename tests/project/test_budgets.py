"""The budgets of the house: small files, small classes, small functions."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "wsaas"
FILES = sorted(ROOT.rglob("*.py"))
FILE, CLASS, FUNCTION = 400, 250, 50


def length(node: ast.stmt) -> int:
    assert node.end_lineno
    return node.end_lineno - node.lineno + 1


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_keeps_to_the_budgets(path):
    source = path.read_text()
    assert len(source.splitlines()) <= FILE
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef):
            assert length(node) <= CLASS, node.name
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert length(node) <= FUNCTION, node.name


def test_there_are_files_to_hold_to_the_budgets():
    assert ROOT / "websocket" / "decoder.py" in FILES
