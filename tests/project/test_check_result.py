"""`.ci/check_result.py` judges a run of tox by the JSON that tox wrote."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / ".ci" / "check_result.py"


def result(*, exit_code: int = 0, skipped: bool = False) -> dict[str, object]:
    """Return an entry under `testenvs` as tox 4.67 writes it, without the parts that are not read."""
    success = exit_code == 0
    return {"result": {"success": success, "exit_code": exit_code, "duration": 12.3, "skipped": skipped}}


PASSED, FAILED, SKIPPED = result(), result(exit_code=3), result(skipped=True)
NOT_RUN: dict[str, object] = {}
PACKAGING: dict[str, object] = {"setup": []}


def check(file: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), str(file), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("environments", "arguments", "exit_code", "printed"),
    [
        ({"lint": PASSED, "py311": PASSED}, [], 0, "py311  passed in 12 s"),
        ({"lint": PASSED, "py311": FAILED}, [], 1, "py311  FAILED with exit code 3"),
        ({"lint": PASSED, "py311": SKIPPED}, [], 1, "py311  SKIPPED, although it can run on this machine"),
        ({"lint": PASSED, "py311": SKIPPED}, ["--may-skip", "py311"], 0, "py311  skipped"),
        ({"lint": SKIPPED, "py311": SKIPPED}, ["--may-skip", "py311"], 1, "lint   SKIPPED"),
        ({"lint": PASSED, "py311": FAILED}, ["--may-skip", "py311"], 1, "py311  FAILED"),
        ({"lint": PASSED}, [], 1, "py311  DID NOT RUN"),
        ({"lint": PASSED}, ["--may-skip", "py311"], 1, "py311  DID NOT RUN"),
        ({"lint": PASSED, "py311": NOT_RUN}, [], 1, "py311  DID NOT RUN"),
        ({"lint": PASSED, "py311": PASSED, "chaos": NOT_RUN, ".pkg": PACKAGING}, [], 0, "lint   passed"),
        ({"lint": PASSED, "py311": PASSED, "chaos": FAILED}, [], 1, "chaos  FAILED"),
    ],
)
def test_every_expected_environment_must_run_and_pass(tmp_path, environments, arguments, exit_code, printed):
    file = tmp_path / "result.json"
    file.write_text(json.dumps({"reportversion": "1", "testenvs": environments}))
    done = check(file, "lint", "py311", *arguments)
    assert done.returncode == exit_code
    assert printed in done.stdout
    assert not done.stderr


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"testenvs": '])
def test_a_file_that_is_missing_or_broken_fails(tmp_path, content):
    file = tmp_path / "result.json"
    if content is not None:
        file.write_text(content)
    done = check(file, "lint")
    assert done.returncode == 1
    assert f"{file}: not a result of tox" in done.stderr


def test_no_expected_environment_fails(tmp_path):
    file = tmp_path / "result.json"
    file.write_text(json.dumps({"testenvs": {"lint": PASSED}}))
    assert check(file).returncode != 0


def test_the_end_of_the_output_of_a_failed_command_is_printed_again(tmp_path):
    def command(name: str, exit_code: int, output: str) -> dict[str, object]:
        return {"command": [name, "-q"], "output": output, "err": f"stderr of {name}\n", "retcode": exit_code}

    long = "".join(f"line {number}\n" for number in range(300))
    py311 = {
        **FAILED,
        "setup": [command("pip", 0, "installed\n")],
        "test": [command("first", 0, "fine\n"), command("second", 3, long)],
    }
    docs = {**FAILED, "setup": [command("build", 1, "no wheel\n")]}
    file = tmp_path / "result.json"
    file.write_text(json.dumps({"testenvs": {"lint": PASSED, "py311": py311, "docs": docs}}))
    done = check(file, "lint", "py311", "docs")
    lines = done.stdout.splitlines()
    assert lines[0] == "py311: failed with exit code 3: second -q"
    assert lines[1:201] == [*(f"line {number}" for number in range(101, 300)), "stderr of second"]
    assert lines[201:-3] == ["", "docs: failed with exit code 1: build -q", "no wheel", "stderr of build", ""]
    assert done.returncode == 1
