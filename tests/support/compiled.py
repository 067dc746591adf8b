"""The modules that are compiled, and those that are left out, as pyproject.toml lists them."""

import runpy
import sys
from pathlib import Path
from typing import Any

import wsaas

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
HOOK: dict[str, Any] = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]
PACKAGE = Path(wsaas.__file__).parent.parent
BUILD_SCRIPT = runpy.run_path(str(ROOT / "hatch_build.py"))
COMPILED: list[str] = BUILD_SCRIPT["compiled_modules"](PACKAGE, HOOK["compiled"], HOOK["interpreted"])


def dotted(path: str) -> str:
    """Return the name of the module in a file."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
