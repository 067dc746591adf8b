"""The completion scripts and the man page: made of the parsers, and used by real shells."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.project.command_files import MAN_PAGE, files
from wsaas.cli.arguments import SHELLS
from wsaas.cli.main import COMPLETIONS, main

MADE = files()

BASH = """\
source "$1"
COMP_WORDS=("${@:2}"); COMP_CWORD=$(($# - 2)); COMP_LINE="${*:2}"; COMP_POINT=${#COMP_LINE}
function=$(complete -p wsaas); function=${function##*-F }; function=${function%% *}
"$function" wsaas "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""
FISH = "source $argv[1]; complete --do-complete (string join ' ' -- $argv[2..])"
ZSH = """\
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell 'PS1=; autoload -Uz compinit; compinit -u -D; eval "$(<'$1')"; echo REA""DY'
zpty -r -m shell line '*READY*'
zpty -w -n shell "${*:2}"$'\\t'
zpty -r -m shell line "*$last*" && print -- $line
"""
EXPECTED = [
    (("wsaas", "comp"), "completion"),
    (("wsaas", "check", "--api-u"), "--api-uri"),
    (("wsaas", "dev", "--no-c"), "--no-check"),
    (("wsaas", "dev", "--event-format", "az"), "azure"),
    (("wsaas", "lambda", "--aws-route-r"), "--aws-route-responses"),
    (("wsaas", "completion", "fi"), "fish"),
]


def run(*command: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end, which has to be a success."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done


def needs(*programs: str) -> pytest.MarkDecorator:
    missing = ", ".join(each for each in programs if shutil.which(each) is None)
    return pytest.mark.skipif(bool(missing), reason=f"{missing} is not installed")


@pytest.mark.parametrize("path", MADE, ids=lambda path: path.name)
def test_the_files_are_made_of_the_parsers(path: Path) -> None:
    assert path.read_text() == MADE[path], "run: python -m tests.project.command_files"


@pytest.mark.parametrize("shell", SHELLS)
def test_the_command_prints_the_script_of_a_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell], {}) == 0
    assert capsys.readouterr() == ((COMPLETIONS / f"wsaas.{shell}").read_text(), "")


@pytest.mark.parametrize(
    "shell",
    [
        pytest.param(("bash", "--norc", "-c", BASH, "-"), id="bash", marks=needs("bash")),
        pytest.param(("fish", "--no-config", "-c", FISH), id="fish", marks=needs("fish")),
    ],
)
@pytest.mark.parametrize(("words", "expected"), EXPECTED)
def test_a_shell_completes_commands_flags_and_values(
    shell: tuple[str, ...], words: tuple[str, ...], expected: str
) -> None:
    done = run(*shell, str(COMPLETIONS / f"wsaas.{shell[0]}"), *words)
    assert [line.partition("\t")[0] for line in done.stdout.decode().splitlines()] == [expected]


@needs("zsh")
def test_zsh_completes_flags() -> None:
    script = ZSH.replace("$last", "--api-uri")
    done = run("zsh", "-f", "-c", script, "-", str(COMPLETIONS / "wsaas.zsh"), "wsaas check --api-u")
    assert b"--api-uri" in done.stdout


@needs("mandoc")
def test_mandoc_accepts_the_man_page() -> None:
    # The page has no date: it would have to change with each release.
    done = run("mandoc", "-T", "lint", "-W", "error", str(MAN_PAGE))
    assert done.stdout == b""


@needs("man")
def test_man_shows_the_man_page_without_a_warning() -> None:
    done = run("man", "--warnings", "--encoding=UTF-8", "--local-file", str(MAN_PAGE))
    assert done.stderr == b""
    assert b"wsaas check [API_URI] [flags]" in done.stdout
