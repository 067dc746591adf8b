"""Each requirement has a test, and each test names its requirements."""

import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest

from tests.conformance.requirements import REQUIREMENTS, covers

MODULES = sorted(path.stem for path in Path(__file__).parent.glob("test_section*.py"))
SECTION = re.compile(r"(\d+)((?:\.\d+)*)-\d+")


def collected(module: str) -> Iterator[Callable[..., object]]:
    """Yield the tests of one file of this folder."""
    names = vars(import_module(f".{module}", __package__))
    yield from (value for name, value in names.items() if name.startswith("test_"))


COVERED = {number for module in MODULES for test in collected(module) for number in getattr(test, "covers", ())}


@pytest.mark.parametrize("number", REQUIREMENTS)
def test_a_requirement_has_a_test(number: str) -> None:
    assert number in COVERED


@pytest.mark.parametrize("module", MODULES)
def test_a_test_names_its_requirements_and_is_in_the_file_of_their_section(module: str) -> None:
    found = list(collected(module))
    assert found
    for test in found:
        numbers = getattr(test, "covers", ())
        assert numbers, f"{test} covers nothing"
        sections = {number.partition(".")[0].partition("-")[0] for number in numbers}
        assert sections & set(re.findall(r"\d+", module)), f"{test} is about sections {sections}"


def test_a_requirement_has_a_unique_number_and_text() -> None:
    assert len(set(REQUIREMENTS.values())) == len(REQUIREMENTS)
    for number, words in REQUIREMENTS.items():
        assert SECTION.fullmatch(number), number
        assert words.endswith("."), words


def test_the_numbers_of_a_section_have_no_gaps() -> None:
    last: dict[str, int] = {}
    for number in REQUIREMENTS:
        section, _, place = number.rpartition("-")
        assert int(place) == last.get(section, 0) + 1, number
        last[section] = int(place)


def test_an_unknown_number_cannot_be_covered() -> None:
    with pytest.raises(KeyError):
        covers("5.1-1", "5.9-1")
