import re
from pathlib import Path

import pytest

from wsaas.log import wording
from wsaas.log.wording import counted

ROOT = Path(wording.__file__).parents[1]


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 clients"), (1, "1 client"), (2, "2 clients"), (-1, "-1 clients"), (1000, "1000 clients")]
)
def test_one_is_singular_and_other_numbers_are_plural(count, said):
    assert counted(count, "client") == said


def test_a_plural_may_be_irregular():
    assert [counted(n, "entry was", "entries were") for n in (1, 2)] == ["1 entry was", "2 entries were"]


def test_all_log_lines_use_counted():
    number = re.compile(r"%d (?!MiB\b)[a-z]+s\b|\} times\b")
    for path in ROOT.rglob("*.py"):
        assert not number.search(path.read_text()), path
