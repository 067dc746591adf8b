from argparse import ArgumentTypeError

import pytest

from benchmarks.targets import checkouts_named
from benchmarks.targets.wsaas import COMPILED, Wsaas


@pytest.fixture
def checkout(tmp_path):
    """A checkout, and the package that was compiled from it."""
    for folder in (tmp_path, tmp_path / COMPILED):
        (folder / "wsaas" / "http").mkdir(parents=True)
        (folder / "wsaas" / "http" / "request.py").write_text("MAX_TARGET = 8192\n")
    (tmp_path / COMPILED / "wsaas" / "http" / "request.cpython-311-x86_64-linux-gnu.so").touch()
    return tmp_path


def test_a_compiled_package_with_the_sources_of_the_checkout_is_measured(checkout):
    target = Wsaas(checkout, compiled=True)

    assert not target.missing()
    assert target.checkout == checkout / COMPILED


def test_a_package_that_was_compiled_from_other_sources_has_to_be_installed_again(checkout):
    (checkout / "wsaas" / "http" / "request.py").write_text("MAX_TARGET = 4096\n")

    assert Wsaas(checkout, compiled=True).missing()


def test_a_package_without_compiled_modules_has_to_be_installed_again(checkout):
    (checkout / COMPILED / "wsaas" / "http" / "request.cpython-311-x86_64-linux-gnu.so").unlink()

    assert Wsaas(checkout, compiled=True).missing()


def test_the_command_that_installs_the_compiled_package_is_named(tmp_path):
    with pytest.raises(ArgumentTypeError, match=f"WSAAS_COMPILE=1 .* --target {tmp_path / COMPILED} {tmp_path}"):
        checkouts_named(f"wsaas,wsaas+compiled@{tmp_path}")


def test_the_sources_themselves_are_never_missing(checkout):
    assert not Wsaas(checkout).missing()
    assert not Wsaas().missing()
