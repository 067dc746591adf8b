"""The tests of the examples have the marker `examples`.

Without Flask they are not collected: only the tox environment `examples` installs the frameworks, and fails without
tests.
"""

import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.examples import environment

HERE = Path(__file__).parent

collect_ignore_glob = [] if find_spec("flask") else ["test_*.py"]

PACKAGES = ("boto3", "Django", "djangorestframework", "fastapi", "Flask", "gunicorn", "starlette", "uvicorn")
PROGRAMS = (("go", "version"), ("node", "--version"), ("php", "--version"))


def pytest_report_header() -> str:
    """Say with which versions the examples are tested."""
    found = [f"{name} {installed_version(name)}" for name in PACKAGES]
    for name, flag in PROGRAMS:
        path = shutil.which(name)
        command = [path, flag] if path else ["echo", "missing"]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
        found.append(f"{name} {done.stdout.partition(chr(10))[0]}")
    return f"versions: {', '.join(found)}"


def installed_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give all tests here their marker."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.examples)
