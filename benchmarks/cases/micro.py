"""CPU time of the Python code of both paths and of their parts, without sockets, for one or more checkouts.

Each checkout runs in a process of its own, all on one core, in turn. The processes are started afresh for each repeat.
Within a repeat the fastest of several batches counts; the table has the medians of the repeats, and the median of the
ratios to the first checkout within a repeat.
"""

import json
import os
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from statistics import median
from threading import Thread
from typing import Any

from benchmarks.machine import cores, pinned
from benchmarks.report import markdown, progress
from benchmarks.targets import add_checkouts_option
from benchmarks.targets.wsaas import ROOT, Wsaas

Costs = dict[tuple[str, str], list[float]]
"""Microseconds in each repeat, by step and target."""


class Worker:
    """A process that measures one checkout."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        """Wait until `process` is ready. Raises `SystemExit` if it ends."""
        self._process = process
        self.steps: list[str] = self._read()

    def cost(self, step: str, times: int) -> float:
        """Return the CPU time of one `step` in microseconds."""
        assert self._process.stdin is not None  # noqa: S101 - it has a pipe
        self._process.stdin.write(json.dumps([step, times]) + "\n")
        self._process.stdin.flush()
        return float(self._read())

    def _read(self) -> Any:
        assert self._process.stdout is not None  # noqa: S101 - it has a pipe
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("a checkout could not be measured: see above")
        return json.loads(line)


class Collector(BaseHTTPRequestHandler):
    """Accepts spans, and drops them."""

    def do_POST(self) -> None:
        """Answer an export."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Do nothing."""


@contextmanager
def collector() -> Iterator[str]:
    """Serve a collector in this process; yield its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@contextmanager
def worker(target: Wsaas, chosen: Namespace, core: int) -> Iterator[Worker]:
    """Run a worker for `target` on `core`. Its hash seed is fixed, so that all of them have the same dictionaries."""
    arguments = [str(target.checkout), str(chosen.size), chosen.traces]
    command = [sys.executable, "-m", "benchmarks.in_process.worker", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"}
    environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = chosen.collector
    with pinned(core):
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
    with process:
        yield Worker(process)


def repeat(chosen: Namespace, costs: Costs) -> None:
    """Start a worker for each target, and add the fastest batch of each step to `costs`."""
    core, _ = cores()
    with ExitStack() as stack:
        workers = {target.name: stack.enter_context(worker(target, chosen, core)) for target in chosen.targets}
        for step in dict.fromkeys(step for each in workers.values() for step in each.steps):
            able = [(name, each) for name, each in workers.items() if step in each.steps]
            batches: dict[str, list[float]] = {name: [] for name, _ in able}
            for number in range(chosen.batches):
                # Neither checkout always follows the other one.
                for name, each in able if number % 2 else reversed(able):
                    batches[name].append(each.cost(step, chosen.times))
            for name, found in batches.items():
                costs.setdefault((step, name), []).append(min(found))


def table(costs: Costs, first: str) -> str:
    """Return a Markdown table. `first`: the target that the others are compared with."""
    rows = []
    for (step, name), values in costs.items():
        base = costs.get((step, first), [])
        ratio = median(value / other for value, other in zip(values, base, strict=True)) if base else float("nan")
        rows.append(
            [step, name, f"{median(values):.2f} µs", f"{min(values):.2f}", f"{max(values):.2f}", f"{ratio:.3f}"]
        )
    return markdown(["step", "target", "CPU time", "least", "most", "times the first"], rows)


def main(arguments: Sequence[str]) -> None:
    """Run the case."""
    parser = ArgumentParser(prog="python -m benchmarks micro", description=__doc__)
    add_checkouts_option(parser)
    parser.add_argument("--size", type=int, default=128, help="bytes of a message")
    parser.add_argument("--times", type=int, default=2000, help="steps in a batch")
    parser.add_argument("--batches", type=int, default=10, help="in each repeat; the fastest one counts")
    parser.add_argument("--repeats", type=int, default=5, help="with new processes each time")
    parser.add_argument(
        "--traces",
        choices=("off", "passed", "recorded"),
        default="off",
        help="passed: all clients have a sampled trace; recorded: with TRACES=on. The CPU time is that of all threads",
    )
    chosen = parser.parse_args(arguments)
    costs: Costs = {}
    with collector() as chosen.collector:
        for number in range(chosen.repeats):
            progress(f"[{number + 1}/{chosen.repeats}]")
            repeat(chosen, costs)
    print(table(costs, chosen.targets[0].name))
