"""The JavaScript client in `clients/js`, and Node to run it."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.restartable import wait_until
from tests.support.tools import TOOL_TIMEOUT_S

CLIENT = Path(__file__).parents[2] / "clients" / "js"
STREAM = Path(__file__).parent / "node" / "reconnecting.mjs"
MIN_NODE = 20
BUILT_IN_WEBSOCKET = 22
"""The first version of Node with a global `WebSocket`. The one before has it behind a flag."""


def node_version() -> int:
    """Return the major version of Node, 0 if it is not installed."""
    if (node := shutil.which("node")) is None:
        return 0
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=True, timeout=TOOL_TIMEOUT_S)
    found = re.match(r"v(\d+)\.", said.stdout)
    assert found, said.stdout
    return int(found[1])


NODE_VERSION = node_version()

needs_node = pytest.mark.skipif(NODE_VERSION < MIN_NODE, reason=f"Node {MIN_NODE} or later is not installed")


class NodeStream:
    """A Node process that sends numbers, one after the other. Its output is in the file `output`."""

    def __init__(self, process: "subprocess.Popen[str]", output: Path) -> None:
        self._process = process
        self._output = output

    def send(self, text: str) -> None:
        """Send a message among the numbers."""
        print(text, file=self._process.stdin, flush=True)

    def wait_for_loss(self, reason: str) -> None:
        """Wait until it has lost a connection for this reason."""
        wait_until(lambda: f"lost 1006 {reason}\n" in self._output.read_text(), reason)

    def finish(self) -> dict[str, Any]:
        """Stop sending, wait until nothing is pending and the process has ended; return what it has seen."""
        assert self._process.stdin
        self._process.stdin.close()
        return self.ended()

    def ended(self) -> dict[str, Any]:
        """Wait until the process has ended by itself; return what it has seen."""
        status = self._process.wait(TOOL_TIMEOUT_S)
        output = self._output.read_text()
        assert status == 0, output
        seen: dict[str, Any] = json.loads(output.splitlines()[-1])
        return seen


@contextmanager
def node_stream(url: str, options: Mapping[str, object], ws: Path | None, output: Path) -> Iterator[NodeStream]:
    """Start sending. `ws`: the package with the sockets, instead of those of Node."""
    flags = [] if ws or NODE_VERSION >= BUILT_IN_WEBSOCKET else ["--no-warnings", "--experimental-websocket"]
    node = shutil.which("node")
    assert node is not None
    environment = {**os.environ, "RECONNECTING": str(CLIENT / "index.js"), "WS": str(ws / "wrapper.mjs") if ws else ""}
    command = [node, *flags, str(STREAM), url, json.dumps(options)]
    with (
        output.open("w") as file,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=file, stderr=file, text=True, env=environment
        ) as process,
    ):
        try:
            yield NodeStream(process, output)
        finally:
            process.kill()
