"""What is installed has the versions that docs/compatibility.md names."""

import json
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.support.compatibility import words
from tests.support.compatibility_table import Package, rows

PACKAGES = sorted({package for row in rows() for package in row.packages})


def numbers(text: str) -> list[int]:
    """Return the numbers of a version, for comparisons."""
    return [int(number) for number in re.findall(r"\d+", text)]


def of(source: str) -> list[Package]:
    return [package for package in PACKAGES if package.source == source]


def is_debian_12() -> bool:
    file = Path("/etc/os-release")
    return file.exists() and {"ID=debian", 'VERSION_ID="12"'} <= set(file.read_text().splitlines())


def debian_version(name: str) -> str:
    """Return the upstream version of a package of Debian, empty if it is not installed."""
    command = ["dpkg-query", "--show", "--showformat", "${db:Status-Status} ${Version}", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    status, _, installed = done.stdout.partition(" ")
    return re.sub(r"^\d+:|-[^-]*$|\+.*$", "", installed) if status == "installed" else ""


@pytest.mark.parametrize("package", of("PyPI"), ids=lambda package: package.name)
def test_a_package_of_pypi(package: Package) -> None:
    installed = version(package.name)
    if package.or_later:
        assert numbers(installed) >= numbers(package.version)
    else:
        assert installed == package.version


@pytest.mark.parametrize("package", of("npm"), ids=lambda package: package.name)
def test_a_package_of_npm(package: Package, npm_packages: Path) -> None:
    file = npm_packages / "node_modules" / package.name / "package.json"
    if not file.exists():
        pytest.skip("the tests of another environment install it")
    assert json.loads(file.read_text())["version"] == package.version


@pytest.mark.parametrize("package", of("Node.js"), ids=lambda package: package.name)
def test_node(package: Package) -> None:
    done = subprocess.run([*words("node"), "--version"], capture_output=True, text=True, check=True)
    assert numbers(done.stdout) >= numbers(package.version)


@pytest.mark.skipif(not is_debian_12(), reason="the versions are those of Debian 12")
@pytest.mark.parametrize("package", of("Debian"), ids=lambda package: package.name)
def test_a_package_of_debian(package: Package) -> None:
    installed = debian_version(package.name)
    if not installed:
        pytest.skip(f"{package.name} is not installed")
    assert numbers(installed) >= numbers(package.version)
