from pathlib import Path

import pytest

from wsaas import build_kind as module
from wsaas.build_kind import BUILD, build_kind


@pytest.mark.parametrize(
    ("file", "kind"),
    [("/lib/wsaas/clock.py", "pure Python"), ("/lib/wsaas/clock.cpython-313-x86_64-linux-gnu.so", "compiled")],
)
def test_a_build_is_compiled_where_its_hot_modules_are_shared_objects(file: str, kind: str) -> None:
    assert build_kind(file) == kind


def test_the_build_of_this_installation_is_known() -> None:
    shared_objects = list(Path(module.__file__).parent.glob("clock.*.so"))
    assert (BUILD == "compiled") == bool(shared_objects)
