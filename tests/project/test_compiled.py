"""The modules that `WSAAS_COMPILE=1` compiles: what the compiler does not check, and what the documents say of them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.compiled import BUILD_SCRIPT, COMPILED, HOOK, PYPROJECT, ROOT, dotted
from tests.support.documentation import section

MODULES = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "wsaas").rglob("*.py"))]
C_KEYWORDS = set(
    """auto break case char const continue default do double else enum extern float for goto if inline int long register
    restrict return short signed sizeof static struct switch typedef union unsigned void volatile while
    _thread""".split()  # noqa: SIM905 - the shorter way to write them
)
"""mypyc puts an underscore before the name of an attribute, and `__thread` is one too."""


def imported_names(tree: ast.Module) -> dict[str, str]:
    """Return what each name of a module stands for, by its imports."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names |= {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
    return names


def classes() -> Iterator[tuple[str, ast.ClassDef, list[str]]]:
    """Yield each class of the package: its file, and the full names of its base classes."""
    for path in MODULES:
        tree = ast.parse((ROOT / path).read_text())
        names = imported_names(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                bases = [ast.unparse(base).partition("[")[0] for base in node.bases]
                found = []
                for base in bases:
                    first, dot, rest = base.partition(".")
                    found.append(names.get(first, f"{dotted(path)}.{first}") + dot + rest)
                yield path, node, found


def test_each_module_is_compiled_or_is_left_out_for_a_reason() -> None:
    left_out = [path for path in MODULES if path not in COMPILED and not path.endswith("__init__.py")]
    unexplained = [
        path for path in left_out if not any(Path(path).is_relative_to(each) for each in HOOK["interpreted"])
    ]
    assert unexplained == []
    assert [name for name in HOOK["interpreted"] if not any(Path(path).is_relative_to(name) for path in left_out)] == []
    assert set(COMPILED) <= set(MODULES)
    assert len(COMPILED) == len(set(COMPILED))


def test_no_interpreted_class_is_a_subclass_of_a_compiled_one() -> None:
    # It would fail when its module is imported, which may be late, and the compiler does not see it.
    compiled = {f"{dotted(path)}.{node.name}" for path, node, _ in classes() if path in COMPILED}
    found = {f"{path}: {node.name}" for path, node, bases in classes() if path not in COMPILED and {*bases} & compiled}
    assert found == set()


def test_a_compiled_class_has_no_attribute_that_is_a_keyword_of_c() -> None:
    attributes = {
        (path, node.attr)
        for path in COMPILED
        for node in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
    }
    assert {each for each in attributes if each[1] in C_KEYWORDS} == set()


def test_compiled_exceptions_and_enumerations_have_no_constructor_and_no_defaults() -> None:
    # mypyc never sets the defaults of an exception, and cannot call the constructor of a member.
    found = {
        f"{path}: {node.name}"
        for path, node, bases in classes()
        if path in COMPILED
        and any(base.endswith(("Exception", "Error", "enum.Enum")) for base in bases)
        and any(
            isinstance(each, ast.AnnAssign)
            or (isinstance(each, ast.FunctionDef) and each.name in {"__new__", "__init__"} and "enum.Enum" in bases)
            for each in node.body
        )
    }
    assert found == set()


def test_a_compiled_function_that_returns_something_has_a_body() -> None:
    # mypyc compiles a body without a statement as one that is never reached: the process would end.
    found = {
        f"{path}: {node.name}.{method.name}"
        for path, node, bases in classes()
        if path in COMPILED and "typing.Protocol" not in bases
        for method in node.body
        if isinstance(method, ast.FunctionDef)
        and len(method.body) == 1
        and isinstance(method.body[0], ast.Expr)
        and ast.unparse(method.returns or ast.Constant(None)) != "None"
        and not any(ast.unparse(each) == "abstractmethod" for each in method.decorator_list)
    }
    assert found == set()


def test_no_compiled_module_needs_a_generator_expression_to_be_lazy() -> None:
    # mypyc makes a list of each.
    lazy = {"islice", "takewhile", "dropwhile", "zip_longest", "chain"}
    found = {
        f"{path}:{node.lineno}"
        for path in COMPILED
        for node in ast.walk(ast.parse((ROOT / path).read_text()))
        if (isinstance(node, ast.Return) and isinstance(node.value, ast.GeneratorExp))
        or (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).rpartition(".")[2] in lazy
            and any(isinstance(each, ast.GeneratorExp) for each in node.args)
        )
    }
    assert found == set()


def test_there_is_no_coroutine_in_a_compiled_module() -> None:
    # Those that mypyc makes are cancelled in a way that Python has deprecated.
    found = [path for path in COMPILED if "async def" in (ROOT / path).read_text()]
    assert found == []


def test_the_document_lists_the_modules_that_are_left_out() -> None:
    rows = [f"| `{name.removeprefix('wsaas/')}` | {reason} |" for name, reason in HOOK["interpreted"].items()]
    listed = section("Modules that are not compiled", (ROOT / "docs" / "compiled.md").read_text())
    assert [line for line in listed.splitlines() if line.startswith("| `")] == rows


def test_the_compiler_is_the_version_of_mypy_that_checks_the_types() -> None:
    (checker,) = [each for each in PYPROJECT["dependency-groups"]["types"] if str(each).startswith("mypy")]
    assert checker in HOOK["requires"]


@pytest.mark.parametrize(("value", "wanted"), [("1", True), ("0", False), ("", False), (None, False)])
def test_compiling_is_asked_for_by_a_variable(monkeypatch: pytest.MonkeyPatch, value: str | None, wanted: bool) -> None:
    monkeypatch.delenv("WSAAS_COMPILE", raising=False)
    if value is not None:
        monkeypatch.setenv("WSAAS_COMPILE", value)
    assert BUILD_SCRIPT["is_wanted"]() is wanted


def test_another_value_of_the_variable_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSAAS_COMPILE", "yes")
    with pytest.raises(ValueError, match="WSAAS_COMPILE=yes: expected 1 or 0"):
        BUILD_SCRIPT["is_wanted"]()
