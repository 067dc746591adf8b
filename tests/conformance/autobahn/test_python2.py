"""Python 2.7 is found, or the command says how to get it."""

import sys

import pytest

from tests.conformance.autobahn import python2
from tests.conformance.autobahn.__main__ import main

WORKS = "#!/bin/sh\necho {path}\n"
FAILS = "#!/bin/sh\necho 'the command exists in these versions: 2.7.18' >&2\nexit 127\n"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Hide all installed Python 2.7; return a function that installs a script."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))

    def put(place: str, script: str) -> str:
        path = tmp_path / place
        path.parent.mkdir(parents=True)
        path.write_text(script.format(path=path))
        path.chmod(0o755)
        return str(path)

    return put


@pytest.mark.usefixtures("machine")
def test_nothing_is_found_without_a_python_2():
    assert python2.find() is None


def test_a_python_2_on_the_path_is_found(machine):
    path = machine("bin/python2.7", WORKS)
    machine("pyenv/versions/2.7.18/bin/python2.7", WORKS)
    assert python2.find() == path


def test_a_python_2_of_pyenv_is_found_behind_a_shim_that_fails(machine):
    machine("bin/python2.7", FAILS)
    machine("pyenv/versions/3.11.7/bin/python3.11", WORKS)
    path = machine("pyenv/versions/2.7.18/bin/python2.7", WORKS)
    assert python2.find() == path


def test_a_python_3_named_python2_does_not_count(machine):
    machine("bin/python2.7", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    assert python2.find() is None


@pytest.mark.usefixtures("machine")
def test_without_a_python_2_the_command_fails_and_says_how_to_get_it(capsys):
    assert main([]) == 1
    assert "pyenv install 2.7.18" in capsys.readouterr().err
