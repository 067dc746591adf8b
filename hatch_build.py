"""A build hook for hatchling. With `WSAAS_COMPILE=1` it compiles the hot modules with mypyc, into a platform wheel.

Without it, the wheel is pure Python. `[tool.hatch.build.targets.wheel.hooks.custom]` in pyproject.toml says what is
compiled. The wheel has the source of these modules, too.
"""

import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

VARIABLE = "WSAAS_COMPILE"

MYPY_OPTIONS = ["--config-file=", "--ignore-missing-imports", "--no-incremental"]
"""Not those of pyproject.toml, which are for the tests, too, and stricter than a compiler has to be."""


class CompileHook(BuildHookInterface):  # type: ignore[type-arg]  # of a configuration that is not used
    """Adds shared objects to the wheel."""

    def dependencies(self) -> list[str]:
        """Return what has to be installed to build: the compiler, and the packages whose types it has to know."""
        return [*self.config["requires"], *self.metadata.core.dependencies] if is_wanted() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile. An editable installation stays pure Python: its source may change."""
        if not is_wanted() or version == "editable":
            return
        self._folder = tempfile.TemporaryDirectory()
        modules = compiled_modules(Path(self.root), self.config["compiled"], self.config["interpreted"])
        before = Path.cwd()
        os.chdir(self.root)  # mypy derives the names of the modules from it
        try:
            built = compile_modules(modules, Path(self._folder.name))
        finally:
            os.chdir(before)
        if not built:
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["force_include"].update({str(path): name for name, path in built.items()})

    def finalize(self, _version: str, _build_data: dict[str, Any], _artifact_path: str) -> None:
        """Remove what was built outside of the wheel."""
        if folder := getattr(self, "_folder", None):
            folder.cleanup()


def is_wanted() -> bool:
    """Return whether to compile."""
    value = os.environ.get(VARIABLE, "0")
    if value not in {"", "0", "1"}:
        raise ValueError(f"{VARIABLE}={value}: expected 1 or 0")
    return value == "1"


def compiled_modules(root: Path, compiled: Iterable[str], interpreted: Iterable[str]) -> list[str]:
    """Return the modules in `compiled`. Those in `interpreted` are left out of its folders."""
    modules: list[str] = []
    for name in compiled:
        if (root / name).is_file():
            modules.append(name)
            continue
        left_out = [root / each for each in interpreted]
        modules += [
            path.relative_to(root).as_posix()
            for path in sorted((root / name).rglob("*.py"))
            if path.name != "__init__.py" and not any(path.is_relative_to(each) for each in left_out)
        ]
    return modules


def compile_modules(modules: list[str], folder: Path) -> dict[str, Path]:
    """Compile `modules` in `folder`; return what was built by its place in the wheel, nothing without a C compiler.

    Exits if mypy or mypyc reports an error: that is an error in the source.
    """
    from mypyc.build import mypycify  # noqa: PLC0415 - only there when something is compiled
    from setuptools import Distribution, errors  # noqa: PLC0415 - as above

    options = [*MYPY_OPTIONS, f"--cache-dir={folder / 'cache'}"]
    source = str(folder / "source")
    extensions = mypycify([*options, *modules], opt_level="2", debug_level="0", group_name="wsaas", target_dir=source)
    command = Distribution({"name": "wsaas", "ext_modules": extensions}).get_command_obj("build_ext")
    command.build_lib, command.build_temp = str(folder / "built"), str(folder / "objects")
    command.ensure_finalized()
    try:
        command.run()
    except (errors.CCompilerError, errors.BaseError) as error:
        print(f"WARNING: wsaas is built as pure Python, as the C compiler failed: {error}", file=sys.stderr)
        return {}
    return {path.relative_to(folder / "built").as_posix(): path for path in map(Path, command.get_outputs())}
