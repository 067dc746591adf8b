"""Checks of Python: it compiles, what it imports exists, and a whole program is executed by a test."""

import ast
import builtins
import re
import sys
from importlib import import_module
from importlib.util import find_spec

from tests.docs.code_blocks import ROOT, Block

STDLIB = sys.stdlib_module_names


def check_python(block: Block) -> None:
    """Raise unless the block compiles, and its imports resolve."""
    tree = ast.parse(block.text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                check_module(each.name, block)
        elif isinstance(node, ast.ImportFrom) and node.module:
            check_module(node.module, block)
            if node.module.split(".")[0] == "wsaas":
                check_names(node.module, [each.name for each in node.names])
    for module in _modules_of_wsaas(tree):
        used = re.findall(rf"(?<![\w.]){module}\.(\w+)", block.text)
        check_names(f"wsaas.{module}", used)
    if block.elsewhere is None and not block.is_example:
        assert undefined(tree), "this is a whole program: add the test that executes it to ELSEWHERE in code_blocks.py"


def check_module(name: str, block: Block) -> None:
    """Raise unless a module exists: in Python, here, on the page, or in a package that pyproject.toml names."""
    top = name.split(".", maxsplit=1)[0]
    if top in STDLIB or find_spec(top):
        return
    declared = {"itsdangerous": "flask", "rest_framework": "djangorestframework"}.get(top, top)
    in_project = re.search(rf'"{declared}\b', (ROOT / "pyproject.toml").read_text())
    assert in_project or f"{top}.py" in block.page_text, f"there is no module {name}"


def check_names(module: str, names: list[str]) -> None:
    """Raise unless a module of this project has these names."""
    found = import_module(module)
    for name in names:
        assert hasattr(found, name) or find_spec(f"{module}.{name}"), f"{module} has no {name}"


def _modules_of_wsaas(tree: ast.Module) -> list[str]:
    imported = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "wsaas"]
    return [each.asname or each.name for node in imported for each in node.names]


def undefined(tree: ast.Module) -> set[str]:
    """Return the names that a block uses and does not define: with one, it is a part of a program."""
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    defined = {each.id for each in names if not isinstance(each.ctx, ast.Load)} | set(dir(builtins)) | {"__name__"}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.arg):
            defined.add(node.arg)
        elif isinstance(node, ast.alias):
            defined.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            defined.add(node.name)
    return {each.id for each in names if isinstance(each.ctx, ast.Load)} - defined
