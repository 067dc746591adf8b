"""The cluster of the demo: a NATS server, and nodes that can be killed and started again."""

import json
import shutil
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from wsaas.demo.chat import Answer
from wsaas.demo.child_process import ChildProcess, Notify, print_with

Call = Callable[[str, str, bytes], Answer]

START_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 10.0
POLL_S: Final = 0.05
QUOTED_LINES: Final = 5
"""Lines of the output of NATS that an error quotes."""


class ClusterError(Exception):
    """The cluster does not start. The text says why, for people."""


@dataclass(frozen=True)
class ClusterOptions:
    """What to run. `folder`: for the files of NATS and the journals; `flags`: of each node; `lease_ms`: shown only."""

    folder: Path
    lease_ms: int
    nats_server: str
    ports: Sequence[int]
    flags: Sequence[str] = ()
    program: Sequence[str] = (sys.executable, "-m", "wsaas")


class NodeState(Enum):
    """What a node does."""

    STARTING = "starting"  # it does not accept clients yet
    RUNNING = "running"
    KILLED = "killed"
    STOPPED = "stopped"


class Node:
    """A node, which has one process after another at the same address. `number`: from 1 on."""

    def __init__(self, number: int, port: int) -> None:
        """Start nothing yet."""
        self.number = number
        self.address = f"localhost:{port}"
        self.since = 0.0
        self._has_joined = False
        self._process: ChildProcess | None = None

    @property
    def pid(self) -> int | None:
        """The process, also when it has ended; None before the first."""
        return None if self._process is None else self._process.pid

    def state(self) -> NodeState:
        """Return what it does now. A node that starts is asked whether it has joined the cluster."""
        process = self._process
        if process is None or process.status is not None:
            killed = process is not None and process.status == -signal.SIGKILL
            return NodeState.KILLED if killed else NodeState.STOPPED
        self._has_joined = self._has_joined or self._is_ready()
        return NodeState.RUNNING if self._has_joined else NodeState.STARTING

    def start(self, command: Sequence[str], notify: Notify) -> None:
        """Start a process."""
        self._has_joined = False
        self._process = ChildProcess(command, print_with(f"node {self.number}: "), notify)
        self.since = time.time()

    def send_signal(self, number: int) -> bool:
        """Send a signal to the process if it runs; return whether it does."""
        return self._process is not None and self._process.send_signal(number)

    def end(self, timeout: float) -> None:
        """Wait for the end of the process, and kill it after `timeout` seconds."""
        if self._process is not None:
            self._process.end(timeout)

    def _is_ready(self) -> bool:
        with suppress(OSError, HTTPException), closing(HTTPConnection(self.address, timeout=1)) as connection:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == HTTPStatus.OK
        return False


class Cluster:
    """A NATS server and the nodes."""

    def __init__(self, options: ClusterOptions, notify: Notify = lambda *_: None) -> None:
        """Start nothing yet."""
        self.nats_address = ""
        self.nodes = {number: Node(number, port) for number, port in enumerate(options.ports, 1)}
        self._api_uri = ""
        self._is_stopping = False
        self._lock = threading.Lock()  # held while processes are started
        self._nats: ChildProcess | None = None
        self._nats_output: deque[str] = deque(maxlen=QUOTED_LINES)
        self._notify = notify
        self._options = options
        self._turn = 0

    def start(self, api_uri: str, is_over: Callable[[], bool] = lambda: False) -> None:
        """Start everything; return when all nodes have joined the cluster, or `is_over` is true.

        `api_uri`: of the backend. Raises `ClusterError`.
        """
        self._api_uri = api_uri
        deadline = time.monotonic() + START_TIMEOUT_S
        self._start_nats()
        while not self._nats_listens():
            if is_over():
                return
            if self._nats is None or self._nats.status is not None or time.monotonic() > deadline:
                raise ClusterError(f"the NATS server did not start: {' '.join(self._nats_output) or 'no output'}")
            time.sleep(POLL_S)
        for number in self.nodes:
            self.start_node(number)
        while states := self._states_but_running():
            if is_over():
                return
            if time.monotonic() > deadline or {*states.values()} - {NodeState.STARTING}:
                names = ", ".join(f"node {number} is {state.value}" for number, state in states.items())
                raise ClusterError(f"the cluster did not start: {names}")
            time.sleep(POLL_S)

    def start_node(self, number: int) -> bool:
        """Start a node if it does not run; return whether it was started."""
        node = self.nodes[number]
        with self._lock:
            if self._is_stopping or node.send_signal(0):
                return False
            node.start(self._command(node), self._notify)
            return True

    def kill_node(self, number: int) -> bool:
        """Kill a node (SIGKILL) if it runs; return whether it did."""
        return self.nodes[number].send_signal(signal.SIGKILL)

    def stop(self) -> None:
        """Stop the nodes, which send the DELETEs of their clients, then NATS; remove all files."""
        with self._lock:
            self._is_stopping = True
        for node in self.nodes.values():
            node.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for node in self.nodes.values():
            node.end(max(0.0, deadline - time.monotonic()))
        if self._nats is not None:
            self._nats.send_signal(signal.SIGTERM)
            self._nats.end(STOP_TIMEOUT_S)
        shutil.rmtree(self._options.folder, ignore_errors=True)

    def describe(self) -> dict[str, Any]:
        """Return what the page shows. Times are in milliseconds."""
        nodes = [
            {
                "number": node.number,
                "address": node.address,
                "state": node.state().value,
                "pid": node.pid,
                "since": round(node.since * 1000),
            }
            for node in self.nodes.values()
        ]
        return {"lease": self._options.lease_ms, "nats": self.nats_address, "nodes": nodes}

    def through_any_node(self, call: Call) -> Call:
        """Return a function that calls `call` with the address of one node after another, as a load balancer would.

        Any node takes a request about any client and any group.
        """

        def called(method: str, url: str, body: bytes) -> Answer:
            running = [node for node in self.nodes.values() if node.state() is NodeState.RUNNING]
            if running:
                self._turn += 1
                url = urlsplit(url)._replace(netloc=running[self._turn % len(running)].address).geturl()
            return call(method, url, body)

        return called

    def _start_nats(self) -> None:
        folder = str(self._options.folder)
        listen = ["--addr", "127.0.0.1", "--port", "-1", "--ports_file_dir", folder]
        command = [self._options.nats_server, *listen, "--jetstream", "--store_dir", folder]
        try:
            self._nats = ChildProcess(command, self._keep_line, self._notify)
        except OSError as error:
            raise ClusterError(f"cannot run {self._options.nats_server}: {error.strerror}") from None

    def _nats_listens(self) -> bool:
        """Return whether NATS has written down its port, and accepts connections."""
        with suppress(OSError, ValueError, LookupError):
            (path,) = self._options.folder.glob("*.ports")
            address = urlsplit(str(json.loads(path.read_text())["nats"][0])).netloc
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=1).close()
            self.nats_address = f"nats://{address}"
        return bool(self.nats_address)

    def _states_but_running(self) -> dict[int, NodeState]:
        states = {number: node.state() for number, node in self.nodes.items()}
        return {number: state for number, state in states.items() if state is not NodeState.RUNNING}

    def _keep_line(self, line: str) -> None:
        self._nats_output.append(line.strip())

    def _command(self, node: Node) -> list[str]:
        """Return the command of a node. The page knows the sender of a request by the query of its URL."""
        return [
            *self._options.program,
            f"--api-uri={self._api_uri}?node={node.number}",
            f"--ws-hostname={node.address}",
            f"--cluster={self.nats_address}",
            f"--node-address={node.address}",
            f"--journal={self._options.folder / f'node-{node.number}.journal'}",
            *self._options.flags,
        ]
