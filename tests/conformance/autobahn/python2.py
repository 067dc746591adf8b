"""Installs the suite's client in an environment of Python 2.7, which it needs."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

HOW_TO_GET_IT = """\
The Autobahn test suite needs Python 2.7, and there is none here: no `python2.7` on the PATH, none of pyenv's.
With pyenv, `pyenv install 2.7.18` is all; Debian 11 and Ubuntu 22.04 have the packages python2.7 and python2.7-dev;
elsewhere, `conda create -n python2 python=2.7` makes one to put on the PATH."""

REQUIREMENTS = Path(__file__).parent / "requirements.txt"

ACCELERATION = "wsaccel==0.6.6"
"""Makes the suite's masking and UTF-8 validation ten times as fast, but needs a compiler."""

_PROBE = "import sys; assert sys.version_info[:2] == (2, 7); print(sys.executable)"


def find() -> str | None:
    """Return the Python 2.7 of this machine."""
    for candidate in _candidates():
        # The PATH may have a shim of pyenv for a version that is not selected.
        probe = subprocess.run([candidate, "-c", _PROBE], capture_output=True, text=True, check=False)
        if probe.returncode == 0:
            return probe.stdout.strip()
    return None


def _candidates() -> Iterator[str]:
    if on_path := shutil.which("python2.7"):
        yield on_path
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from map(str, sorted(pyenv.glob("versions/2.7*/bin/python2.7")))


def commands(python: str, folder: Path) -> Path:
    """Return the folder of the suite's commands; install them in an environment in `folder` if needed."""
    made_of = folder / "made-of"
    wanted = f"{python}\n{REQUIREMENTS.read_text()}{ACCELERATION}\n"
    if not made_of.exists() or made_of.read_text() != wanted:
        print(f"installing the suite for {python}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        _run([sys.executable, "-m", "virtualenv", "--python", python, str(folder)])
        pip = [str(folder / "bin" / "pip"), "install", "--disable-pip-version-check"]
        _run([*pip, "--requirement", str(REQUIREMENTS)])
        try:
            _run([*pip, ACCELERATION])
        except RuntimeError as error:
            print(f"continuing without acceleration, which could not be compiled:\n{error}", flush=True)
        made_of.write_text(wanted)
    return folder / "bin"


def environment() -> dict[str, str]:
    """Return this process's environment without the variables of Python."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def _run(command: list[str]) -> None:
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment(), check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout[-4000:]}")
