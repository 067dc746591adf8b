"""Checks of shell: each command is one that exists, with arguments that its program takes."""

import re
import shutil
import subprocess
from collections.abc import Callable
from configparser import ConfigParser
from dataclasses import fields
from itertools import pairwise

import pytest

from benchmarks.cases import CASES
from tests.docs.check_requests import check_curl
from tests.docs.code_blocks import ROOT, Block
from tests.docs.shell_commands import ASSIGNMENT, Command, commands, without_placeholders
from wsaas import settings
from wsaas.cli import arguments

SETTINGS = {settings.variable(each): each.name for each in fields(settings.Settings)}
OTHER_VARIABLES = {
    "AWS_ACCESS_KEY_ID": "of the SDKs of AWS",
    "AWS_DEFAULT_REGION": "of the SDKs of AWS",
    "AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI": "of the SDKs of AWS",
    "AWS_REGION": "of the SDKs of AWS",
    "AWS_SECRET_ACCESS_KEY": "of the SDKs of AWS",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "of OpenTelemetry",
    "WSAAS_COMPILE": "of hatch_build.py",
    "WebPubSubConnectionString": "read by the program beside it",
}
"""Variables that are no settings, and whose they are."""

OF_OTHERS = {
    name: reason
    for names, reason in [
        ("apt apt-get npm npx pipx uv uvx", "installs or runs software of others"),
        (". [ awk base64 cat cd chmod chown cp date echo eval grep head install kill ln ls man mkdir mv", "POSIX"),
        ("printf rm sed", "POSIX"),
        ("set sleep sort source tail tee test tr trap true ulimit umask wait wc xargs", "POSIX"),
        ("journalctl systemctl systemd-analyze systemd-creds systemd-run systemd-sysusers systemd-tmpfiles", "systemd"),
        ("groupadd id ip open ss ssh sysctl useradd", "of the operating system"),
        ("docker helm kubectl podman", "containers: the tests of deploy/ check its files"),
        ("caddy haproxy nginx", "proxies: the tests of deploy/ run them"),
        ("aws flask go gunicorn node php uvicorn", "runs a program that the page shows"),
        ("websocat websockets wscat", "clients that connect to any path"),
        ("git jq nats-server openssl prometheus promtool python2.7", "software of others"),
    ]
    for name in names.split()
}
"""Programs whose arguments are not checked, and why: the shell's grammar and the paths are."""

PREFIXES = {"sudo", "exec", "env", "nohup", "command"}
PATH = re.compile(r"(?:\./)?((?:deploy|docs|examples|clients|tests|benchmarks|\.ci|\.github)/[\w./-]+)")


def check_shell(block: Block) -> None:
    """Raise unless the shell can parse the block, and each of its commands exists."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is missing, which parses the block")
    text = re.sub(r"^\$ ", "", without_placeholders(block.text), flags=re.MULTILINE)
    done = subprocess.run([bash, "-n"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    exported: dict[str, str] = {}
    for command in commands(block.text):
        check_command(command, exported, block)


def check_command(command: Command, exported: dict[str, str], block: Block) -> None:
    """Raise unless a command exists; `exported` are the variables that earlier commands set."""
    while command.program in PREFIXES:
        command.words.pop(0)
        while command.words and (found := ASSIGNMENT.fullmatch(command.words[0])):
            command.assigned[found[1]] = found[2]
            command.words.pop(0)
    if command.program == "export":
        exported |= {name: value for name, _, value in (word.partition("=") for word in command.words[1:])}
        command = Command(dict(exported))
    for name in command.assigned:
        known = name in SETTINGS or name in OTHER_VARIABLES or is_used(name, block)
        assert known, f"{name} is neither a setting nor among OTHER_VARIABLES, and the page does not explain it"
    for found in filter(None, map(PATH.fullmatch, command.words)):
        assert (ROOT / found[1]).exists(), f"{found[1]} is not in the repository"
    check_program(command, {**exported, **command.assigned}, block)


def is_used(name: str, block: Block) -> bool:
    """Tell whether a block itself uses a variable, or its page explains it."""
    return f"${name}" in block.text or f"`{name}" in block.page_text.replace(block.text, "")


def check_program(command: Command, environment: dict[str, str], block: Block) -> None:
    """Raise unless the program of a command exists, and takes its arguments."""
    program = re.sub(r"^(python|pip)3(\.\d+)?$", r"\1", command.program)
    if not command.words:
        check_settings({}, environment)
    elif program == "wsaas":
        check_wsaas(command.words[1:], environment)
    elif check := CHECKS.get(program):
        check(command.words[1:], block)
    else:
        assert program in OF_OTHERS, f"no check covers {program}: add one, or a word to OF_OTHERS"


def check_wsaas(words: list[str], environment: dict[str, str]) -> None:
    """Raise unless the command `wsaas` accepts its arguments and the variables."""
    try:
        parsed = arguments.parse(words)
    except SystemExit as ended:
        if ended.code == 0:
            return
        raise AssertionError(f"wsaas refuses its arguments: {' '.join(words)}") from ended
    check_settings({name: value for name, value in parsed.flags.items() if value is not None}, environment)


def check_settings(flags: dict[str, str], environment: dict[str, str]) -> None:
    """Raise unless these are valid settings. Files that they name are not read, and API_URI may be set elsewhere."""
    given = {SETTINGS[name]: value for name, value in environment.items() if name in SETTINGS} | flags
    parts = {name: value for name, value in given.items() if name in _PARTS}
    if not given.keys() - parts.keys():
        return
    values = {name: _whole(value) for name, value in given.items() if not _is_file(name)}
    settings.load({"api_uri": "localhost:8000", **values}, {})


_PARTS = {"api_secret", "control_token", "workers", "control_listen", "node_address", "subprotocols", "allowed_origins"}
"""Settings that a block may give alone, although they need others."""


def _is_file(name: str) -> bool:
    return name.endswith(("_file", "_ca", "_cert", "_key", "_credentials"))


def _whole(value: str) -> str:
    return re.sub(r"\$\{?\w+\}?", "A" * 32, value)


def check_python(words: list[str], block: Block) -> None:
    """Raise unless Python runs a module or a file that there is."""
    if words[:1] == ["-m"]:
        check = {"pip": check_pip, "pytest": check_pytest, "benchmarks": check_benchmarks}.get(words[1])
        if check:
            check(words[2:], block)
        else:
            known = {"venv", "http.server"} | {"tests.browser.screenshots", "tests.docs.generated"}
            assert words[1] in known or (ROOT / words[1].replace(".", "/")).exists(), words[1]
    elif words and not words[0].startswith("-"):
        assert (ROOT / words[0]).exists() or f"`{words[0]}`" in block.page_text, f"{words[0]} is not on the page"


def check_pip(words: list[str], _block: Block) -> None:
    """Raise unless extras and groups are those of pyproject.toml."""
    project = (ROOT / "pyproject.toml").read_text()
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if found := re.fullmatch(r"(?:wsaas|\.)\[([\w,-]+)\]", word):
            for extra in found[1].split(","):
                assert re.search(rf"^{extra} = \[", project, re.MULTILINE), f"there is no extra {extra}"
        if word == "--group":
            assert re.search(rf"^{following} = \[", project, re.MULTILINE), f"there is no group {following}"


def check_tox(words: list[str], _block: Block) -> None:
    """Raise unless the environments are those of tox.ini."""
    config = ConfigParser()
    config.read_string((ROOT / "tox.ini").read_text())
    named = [following for word, following in pairwise(words) if word == "-e"]
    for name in [each for group in named for each in group.split(",")]:
        in_matrix = re.fullmatch(r"(compiled-)?py3\d+", name)
        assert in_matrix or f"testenv:{name}" in config, f"tox.ini has no environment {name}"


def check_pytest(words: list[str], _block: Block) -> None:
    """Raise unless files and folders exist."""
    for word in words:
        if word.startswith("tests"):
            assert (ROOT / word.partition("::")[0]).exists(), word


def check_benchmarks(words: list[str], _block: Block) -> None:
    """Raise unless the cases exist, and the flags are those of the benchmarks."""
    sources = "".join(path.read_text() for path in (ROOT / "benchmarks").rglob("*.py"))
    if words and not words[0].startswith("-"):
        for case in words[0].split(","):
            assert case in CASES, f"there is no case {case}"
    for word in words:
        if word.startswith("--"):
            assert f'"{word.partition("=")[0]}"' in sources, f"the benchmarks have no flag {word}"


def check_pre_commit(words: list[str], _block: Block) -> None:
    """Raise unless it is the installation of the hooks."""
    assert words == ["install"]


CHECKS: dict[str, Callable[[list[str], Block], None]] = {
    "curl": check_curl,
    "pip": check_pip,
    "pre-commit": check_pre_commit,
    "pytest": check_pytest,
    "python": check_python,
    "tox": check_tox,
}
