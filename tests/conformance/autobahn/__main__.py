"""Runs the Autobahn test suite against the gateway: `python -m tests.conformance.autobahn [CASE...]`.

The suite's fuzzing client connects to a gateway in another process. The backend in this process echoes each message,
each case once in each of `WAYS`. A CASE is a name or a pattern (`9.1.6`, `6.*`); without one, all cases are run.
"""

import argparse
import json
import sys
from pathlib import Path

import uvloop

from tests.conformance.autobahn import python2
from tests.conformance.autobahn.backend import WAYS, Backend
from tests.conformance.autobahn.client import Client
from tests.conformance.autobahn.verdict import judge, section, table
from tests.support.expected_build import check_build
from tests.support.ports import free_port
from tests.support.program import gateway_program

FOLDER = Path(__file__).parents[3] / ".tox" / "autobahn-suite"

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""The longest message of section 9. The buffers keep their defaults: one message always fits."""

COMPRESSION = ["off", "on"]

NEED_COMPRESSION = ["12.*", "13.*"]


def compressions(cases: list[str]) -> list[str]:
    """Return the values of `COMPRESSION` for which `cases` can be run."""
    needed = {section(pattern) for pattern in NEED_COMPRESSION}
    return ["on"] if all(section(case) in needed for case in cases) else COMPRESSION


def spec(compression: str, cases: list[str], port: int, folder: Path) -> dict[str, object]:
    """Return the specification of the client: `cases`, in each of `WAYS`."""
    return {
        "outdir": str(folder),
        "servers": [{"agent": way, "url": f"ws://127.0.0.1:{port}/{way}"} for way in WAYS],
        "cases": cases,
        "exclude-cases": NEED_COMPRESSION if compression == "off" else [],
    }


def check_gateway(command: Path, compression: str, cases: list[str], folder: Path) -> list[str]:
    """Run `command` against a gateway with this `COMPRESSION`; print the results; return the problems."""
    folder.mkdir(parents=True, exist_ok=True)
    index, log = folder / "index.json", folder / "gateway.log"
    for old in (index, log):
        old.unlink(missing_ok=True)
    title = f"COMPRESSION={compression}, echo by"
    client = Client([str(command)], folder, lambda at: print(title, at, flush=True))
    port = free_port()
    wrong = uvloop.run(run_cases(client, spec(compression, cases, port, folder), compression, port, log))
    reports = json.loads(index.read_text()) if index.exists() else {}
    for way in WAYS:
        report = reports.get(way, {})
        print(f"\n{title} {way}\n{table(report, client.cases)}\n", flush=True)
        wrong += [f"echo by {way}: {each}" for each in judge(report, client.cases)]
    print(f"more about each case: {folder / 'index.html'}", flush=True)
    return [f"COMPRESSION={compression}: {each}" for each in wrong]


async def run_cases(client: Client, test_plan: dict[str, object], compression: str, port: int, log: Path) -> list[str]:
    """Start a backend and a gateway, run the client with `test_plan`; return the problems outside its report."""
    backend = Backend()
    await backend.start()
    settings = {"max_message_size": MAX_MESSAGE_BYTES, "compression": compression}
    node = gateway_program(f"127.0.0.1:{backend.port}/", port, log, settings)
    try:
        await node.start()
        wrong = await client.run(test_plan)
        node.terminate()
        if status := await node.wait():
            wrong.append(f"the gateway ended with exit status {status}")
    finally:
        node.kill()
        await backend.stop()
    wrong += [f"the gateway said: {line}" for line in node.said().splitlines() if " INFO " not in line]
    return [*wrong, *backend.surprises, *(f"no DELETE came for {ws_uri}" for ws_uri in backend.open)]


def main(arguments: list[str]) -> int:
    """Return the exit status: 0 without problems."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.autobahn")
    parser.add_argument("--compression", choices=COMPRESSION, action="append", help="both, unless one is given")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where environment and reports are kept")
    parser.add_argument("cases", nargs="*", default=["*"], metavar="CASE")
    options = parser.parse_args(arguments)
    check_build()
    python = python2.find()
    if python is None:
        print(python2.HOW_TO_GET_IT, file=sys.stderr)
        return 1
    folder = options.folder.resolve()
    command = python2.commands(python, folder / "python2.7") / "wstest"
    wrong = []
    for compression in options.compression or compressions(options.cases):
        wrong += check_gateway(command, compression, options.cases, folder / f"compression-{compression}")
    print("\n".join(wrong) or "no problems were found", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
