"""The wheel that these tests run against."""

import importlib

import pytest

from tests.support.compiled import COMPILED, dotted
from tests.support.expected_build import check_build
from wsaas.build_kind import BUILD
from wsaas.build_kind import COMPILED as COMPILED_BUILD


@pytest.mark.parametrize("path", COMPILED)
def test_all_modules_that_can_be_compiled_are_of_the_same_build(path: str) -> None:
    module = importlib.import_module(dotted(path))
    assert module.__file__
    assert module.__file__.endswith(".so" if BUILD == COMPILED_BUILD else ".py")


def test_another_build_than_the_expected_one_ends_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPECTED_BUILD", "another one")
    with pytest.raises(SystemExit, match="EXPECTED_BUILD=another one, but the wsaas that is imported is "):
        check_build()
