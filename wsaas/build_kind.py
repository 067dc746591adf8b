"""Whether the hot modules of this installation are compiled (see CONTRIBUTING.md)."""

from typing import Final

from wsaas import clock

PURE: Final = "pure Python"
COMPILED: Final = "compiled"


def build_kind(module_file: str) -> str:
    """Return the kind of build to which a hot module with this `__file__` belongs."""
    return PURE if module_file.endswith(".py") else COMPILED


BUILD: Final = build_kind(clock.__file__)
"""All hot modules are compiled, or none, so one of them shows it."""
