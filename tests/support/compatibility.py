"""Programs that others wrote, for the tests of compatibility: commands, the servers that they start, their versions."""

import asyncio
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.waiting import TIMEOUT_S, wait_until

FOLDER = Path(__file__).parents[1] / "compatibility"
EVERY_BYTE = bytes(range(256))
MESSAGES: tuple[str | bytes, ...] = ("Grüße 🎉", "", '{"n": 1}', EVERY_BYTE, b"", EVERY_BYTE * 4096)
"""The last one is as long as `MAX_MESSAGE_SIZE` allows by default."""

GO_PATH = "/usr/share/gocode"
LIBRARIES = {
    "anyevent.pl": "perl -MAnyEvent::WebSocket::Client -e 1",
    "faye.rb": "ruby -reventmachine -rfaye/websocket -e 1",
    "gorilla.go": f"test -d {GO_PATH}/src/github.com/gorilla/websocket",
    "mojo.pl": "perl -MMojolicious -MFuture::AsyncAwait -e 1",
    "mojolicious_app.pl": "perl -MMojolicious -e 1",
    "nhooyr.go": f"test -d {GO_PATH}/src/nhooyr.io/websocket",
    "sinatra_app.ru": "ruby -rsinatra/base -e 1",
}
"""Commands that fail where a library is missing."""

STOP_TIMEOUT_S = 5


def search_path() -> str:
    """Return the folders of programs: those of this Python first, and those of daemons."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin"])


def words(command: str) -> list[str]:
    """Split a command. Skips the test if its program is not installed."""
    program, *arguments = shlex.split(command)
    found = shutil.which(program, path=search_path())
    if found is None:
        pytest.skip(f"{program} is not installed")
    return [found, *arguments]


def skip_without_library(script: str) -> None:
    """Skip the test if a library of a script is not installed. Those of Python and npm always are."""
    check = LIBRARIES.get(script)
    if check is not None and subprocess.run(words(check), capture_output=True, check=False).returncode:
        pytest.skip(f"the library of {script} is not installed")


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Return the variables of a command. Nothing is configured by the user's files."""
    names = ("GOCACHE", "LANG", "PATH", "PYTHONPATH")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    go = {"CGO_ENABLED": "0", "GO111MODULE": "off", "GOPATH": GO_PATH, "GOTOOLCHAIN": "local"}
    return {
        "GOCACHE": str(folder / "go-cache"),
        **go,
        **kept,
        "PATH": search_path(),
        "HOME": str(folder),
        "LC_ALL": "C.UTF-8",
        **more,
    }


def copy_of_scripts(folder: Path) -> Path:
    """Copy the scripts into `folder`, where they find the packages of npm."""
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("*.pyc", "node_modules"), dirs_exist_ok=True)
    return folder


def filled(template: Path, values: Mapping[str, str]) -> str:
    """Return a configuration with `values` in the places of `@NAME@`."""
    return re.sub(r"@([A-Z]+)@", lambda match: values[match[1]], template.read_text())


def nginx_user() -> str:
    """Return a line of nginx's configuration: started by root, its workers may enter the folders of root, too."""
    return "user root;" if os.getuid() == 0 else ""


def listens(place: int | Path) -> bool:
    """Return whether anything listens on a port, or whether there is a Unix socket."""
    if isinstance(place, Path):
        return place.exists()
    with socket.socket() as attempt:
        return attempt.connect_ex(("127.0.0.1", place)) == 0


@asynccontextmanager
async def running(command: str, folder: Path, *places: int | Path, **variables: str) -> AsyncIterator[None]:
    """Run a server in `folder`, which listens at `places`. Its output is shown if it does not."""
    log = folder / f"{free_port()}.log"
    process = start(words(command), log, environment(folder, **variables))
    try:
        await wait_until(lambda: all(map(listens, places)) or process.poll() is not None, command, log.read_text)
        assert process.poll() is None, log.read_text()
        yield
    finally:
        await asyncio.to_thread(stop, process)


def start(command: list[str], log: Path, variables: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    """Start a command in the folder of `log`, its output, with its own process group."""
    with log.open("wb") as file:
        return subprocess.Popen(
            command,
            cwd=log.parent,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Stop a process and all that it has started."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_TIMEOUT_S)
    # Its workers may outlive it.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(TIMEOUT_S)
