"""Backends in several languages and frameworks, each run by `wsaas dev` as its first lines say."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.sync.client import ClientConnection, connect

from tests.support.backend_requests import SECRET
from tests.support.javascript_client import MIN_NODE, NODE_VERSION
from tests.support.npm import npm_install
from tests.support.ports import free_port
from tests.support.restartable import wait_until
from tests.support.tools import TOOL_TIMEOUT_S
from tests.support.waiting import TIMEOUT_S

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
TOKEN = "control-token-of-the-tests"
COMMAND = re.compile(r"\bwsaas ((?:dev|lambda) .+)$", re.MULTILINE)
"""How a backend is started, in one of its first lines."""


@dataclass(frozen=True)
class Example:
    """A backend: the file `main` in its `folder`. `programs` and `modules` (of Python) have to be installed."""

    folder: Path
    main: str
    programs: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def source(self) -> str:
        return (self.folder / self.main).read_text()

    @property
    def command(self) -> list[str]:
        """The arguments of `wsaas` that its first lines name."""
        found = COMMAND.search(self.source)
        assert found, self.main
        return shlex.split(found[1])

    def missing(self) -> list[str]:
        """Return what has to be installed before it can run."""
        programs = [each for each in self.programs if shutil.which(each) is None]
        if "node" in self.programs and NODE_VERSION < MIN_NODE:
            programs.append(f"Node {MIN_NODE}")
        return programs + [each for each in self.modules if find_spec(each) is None]

    def installed(self, folder: Path) -> Path:
        """Copy it into `folder` with the packages of npm that it needs; return where it is. Skips the test without."""
        if missing := self.missing():
            pytest.skip(f"{self.name}: {', '.join(missing)} not installed")
        copy = folder / self.name
        shutil.copytree(self.folder, copy, ignore=shutil.ignore_patterns("node_modules", "__pycache__"))
        if (copy / "package.json").exists():
            npm_install(copy)
        return copy


BACKENDS = [
    Example(EXAMPLES / "flask", "app.py", modules=("flask",)),
    Example(EXAMPLES / "fastapi", "app.py", modules=("fastapi", "uvicorn")),
    Example(EXAMPLES / "django", "views.py", modules=("django",)),
    Example(EXAMPLES / "express", "app.js", programs=("node", "npm")),
    Example(EXAMPLES / "fastify", "app.js", programs=("node", "npm")),
    Example(EXAMPLES / "php", "app.php", programs=("php",)),
    Example(EXAMPLES / "go", "main.go", programs=("go",)),
]
"""The examples that do all the same."""

FUNCTION = Example(EXAMPLES / "lambda", "app.py", modules=("boto3",))
"""The example of a Lambda function."""

CHAT = Example(EXAMPLES / "chat", "app.py", modules=("fastapi", "uvicorn"))
LOGINS = [
    Example(EXAMPLES / "login-fastapi", "app.py", modules=("fastapi", "uvicorn")),
    Example(EXAMPLES / "login-express", "app.js", programs=("node", "npm")),
]
FROM_SOCKETIO = Example(EXAMPLES / "from-socketio", "app.js", programs=("node", "npm"))
"""The complete programs of docs/guides."""


@dataclass
class RunningExample:
    """A gateway at `hostname`, and an example at `port` that runs in `folder`. Its output is in the file `log`."""

    example: Example
    folder: Path
    log: Path
    port: int = field(default_factory=free_port)
    hostname: str = field(default_factory=lambda: f"localhost:{free_port()}")
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def api_uri(self) -> str:
        return f"http://localhost:{self.port}/websocket"

    def said(self) -> str:
        """Return the output so far, of the gateway and of the example."""
        return self.log.read_text(errors="replace")

    def start(self, settings: Mapping[str, str]) -> None:
        """Start it; return once both listen."""
        variables = {
            **environment(),
            "API_SECRET": SECRET,
            "CONTROL_TOKEN": TOKEN,
            "PORT": str(self.port),
            "WS_HOSTNAME": self.hostname,
            **settings,
        }
        command = [sys.executable, "-m", "wsaas", *self.example.command]
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=variables, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        wait_until(lambda: "Ctrl-C ends both" in self.said() or self.has_ended, self.example.name, self.said)
        assert not self.has_ended, self.said()

    @property
    def has_ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def stop(self) -> int:
        """Stop it as a service manager does, by SIGTERM; return its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(TIMEOUT_S)

    def kill(self) -> None:
        """End it if it still runs."""
        if not self.has_ended:
            assert self.process is not None
            self.process.terminate()
            self.process.wait(TIMEOUT_S)

    def connect(self, authorization: str | None = None) -> ClientConnection:
        """Connect a client."""
        headers = {} if authorization is None else {"Authorization": authorization}
        return connect(
            f"ws://{self.hostname}/any/path",
            additional_headers=headers,
            open_timeout=TIMEOUT_S,
            compression=None,
            max_size=None,
        )

    def request(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> httpx2.Response:
        """Make a request to the example itself."""
        url = f"http://localhost:{self.port}{path}"
        encoded = {name.encode(): value.encode("latin-1") for name, value in (headers or {}).items()}
        return httpx2.request(method, url, content=body, headers=encoded, timeout=TIMEOUT_S, trust_env=False)

    def connections(self, path: str = "/groups/lobby") -> list[dict[str, Any]]:
        """Return what the gateway knows of the clients in the list at `path`."""
        answer = httpx2.get(
            f"http://{self.hostname}{path}",
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=TIMEOUT_S,
            trust_env=False,
        )
        found: list[dict[str, Any]] = answer.json()["connections"]
        return found

    def members(self) -> dict[str, str]:
        """Return the `ws_uri` of each member of the group `lobby`, by its context."""
        return {each["context"]: each["ws_uri"] for each in self.connections()}

    def listens(self) -> bool:
        """Return whether anything listens on the port of the example."""
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with socket.socket(family) as attempt:
                if attempt.connect_ex((host, self.port)) == 0:
                    return True
        return False


@contextmanager
def running_example(example: Example, folder: Path, **settings: str) -> Iterator[RunningExample]:
    """Install an example in `folder`, and run it with a gateway."""
    running = RunningExample(example, example.installed(folder), folder / f"{example.name}.log")
    try:
        running.start(settings)
        yield running
    finally:
        running.kill()


def environment() -> dict[str, str]:
    """Return variables for commands: the scripts of this Python come first, and no setting is inherited."""
    kept = {name: value for name, value in os.environ.items() if name in {"HOME", "LANG", "PATH", "PYTHONPATH"}}
    scripts = Path(sys.executable).parent
    return {**kept, "PATH": f"{scripts}{os.pathsep}{kept['PATH']}", "CGO_ENABLED": "0", "GOTOOLCHAIN": "local"}


def run(*command: str, cwd: Path) -> str:
    """Run a command; return what it prints."""
    done = subprocess.run(
        command, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=TOOL_TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
