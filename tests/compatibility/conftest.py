"""The tests of compatibility have the marker `compatibility`.

Without Tornado they are not collected: only the tox environment `compatibility` installs the packages of
pyproject.toml's group of this name, and fails without tests. A test whose program or npm package cannot be had is
skipped.
"""

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.compatibility import copy_of_scripts
from tests.support.npm import npm_install

HERE = Path(__file__).parent

collect_ignore_glob = [] if find_spec("tornado") else ["test_*.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give all tests here their marker."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.compatibility)


@pytest.fixture(scope="session")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the scripts in this folder."""
    return copy_of_scripts(tmp_path_factory.mktemp("scripts"))


@pytest.fixture(scope="session")
def npm_packages(scripts: Path) -> Path:
    """The same, with the packages of npm."""
    npm_install(scripts)
    return scripts
