"""The JavaScript client in Node: its own tests, its types, its size, its package, and restarts of what it talks to."""

import gzip
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.documentation import section
from tests.support.javascript_client import CLIENT, needs_node, node_stream
from tests.support.npm import npm_install
from tests.support.restartable import Restartable, once_each, restartable, wait_until
from tests.support.tools import TOOL_TIMEOUT_S

pytestmark = needs_node

DOCS = Path(__file__).parents[2] / "docs"
MAX_GZIPPED_KB = 3.0
QUICK = {"minDelay": 50, "maxDelay": 500}


def run(*command: str, cwd: Path = CLIENT) -> str:
    """Run a command; return its output."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=TOOL_TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the client with the tools and the package `ws` that its tests use."""
    folder = tmp_path_factory.mktemp("client") / "js"
    shutil.copytree(CLIENT, folder, ignore=shutil.ignore_patterns("node_modules"))
    npm_install(folder)
    return folder


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[Restartable]:
    """A gateway and its backend."""
    with restartable(tmp_path) as running:
        yield running


@pytest.fixture(params=["ws", "built-in"])
def sockets(request: pytest.FixtureRequest) -> Path | None:
    """The package whose sockets are used, None for those of Node."""
    if request.param == "built-in":
        return None
    folder: Path = request.getfixturevalue("installed")
    return folder / "node_modules" / "ws"


def test_its_own_tests_pass() -> None:
    said = run("node", "--test", "--test-reporter=tap", *map(str, sorted(CLIENT.glob("test/*.test.js"))))
    assert "\n# tests 0\n" not in said
    assert "\n# fail 0\n" in said
    assert "\n# skipped 0\n" in said


def test_its_types_are_those_that_the_compiler_expects(installed: Path) -> None:
    run("npm", "run", "types", cwd=installed)


def test_it_is_small(installed: Path) -> None:
    run("npm", "run", "size", cwd=installed)
    minified = (installed / "minified.js").read_bytes()
    sizes = [len(minified) / 1000, len(gzip.compress(minified)) / 1000]
    assert sizes[1] <= MAX_GZIPPED_KB, f"{sizes[0]:.1f} KB minified, {sizes[1]:.1f} KB gzipped"
    (said,) = re.findall(r"([\d.]+) KB minified, ([\d.]+) KB gzipped", (CLIENT / "README.md").read_text())
    # Not every zlib compresses equally well.
    assert [float(each) for each in said] == pytest.approx(sizes, abs=0.1)


def test_the_package_has_what_its_users_need_and_no_more(installed: Path) -> None:
    (packed,) = json.loads(run("npm", "pack", "--dry-run", "--json", cwd=installed))
    assert packed["name"] == "wsaas-client"
    paths = sorted(file["path"] for file in packed["files"])
    assert paths == ["LICENSE", "README.md", "index.d.ts", "index.js", "package.json"]


def test_the_packed_package_can_be_imported(installed: Path, tmp_path: Path) -> None:
    (packed,) = json.loads(run("npm", "pack", "--json", "--pack-destination", str(tmp_path), cwd=installed))
    (tmp_path / "package.json").write_text('{"private": true}')
    run("npm", "install", "--offline", "--no-audit", "--no-fund", f"./{packed['filename']}", cwd=tmp_path)
    script = "import('wsaas-client').then((all) => console.log(Object.keys(all).sort().join()))"
    assert run("node", "-e", script, cwd=tmp_path) == "QueueFullError,ReconnectingWebSocket,shouldReconnect\n"


def test_the_table_of_close_codes_is_what_the_client_does() -> None:
    table = section("When it reconnects", (DOCS / "javascript.md").read_text())
    rows = re.findall(r"^\| ([^|]+) \| .* \| (ends|reconnects)[^|]* \|$", table, re.MULTILINE)
    expected = {code: does == "reconnects" for codes, does in rows for code in map(int, re.findall(r"\d+", codes))}
    assert len(expected) == 16
    script = f"""import {{ shouldReconnect }} from "./index.js";
        console.log(JSON.stringify({list(expected)}.map((code) => [code, shouldReconnect({{ code }})])))"""
    assert dict(json.loads(run("node", "--input-type=module", "--eval", script))) == expected


def test_the_defaults_are_those_of_the_documentation() -> None:
    (defaults,) = re.findall(r"const DEFAULTS = \{(.*?)\}", (CLIENT / "index.js").read_text(), re.DOTALL)
    numbers = {name: int(number) for name, number in re.findall(r"(\w+): ([\d_]+),", defaults)}
    assert len(numbers) == 5
    for name, number in numbers.items():
        words = "1 MiB" if number == 1 << 20 else f"{number:,} ms"
        assert f"| `{name}` | {words} |" in (CLIENT / "README.md").read_text()
        (comment,) = re.findall(rf"/\*\* (.*) \*/\n  {name}\?:", (CLIENT / "index.d.ts").read_text())
        assert comment.endswith(f"Default: {words.removesuffix(' ms')}.")


def check(ends: Restartable, seen: dict[str, Any]) -> None:
    """Check that each number arrives, in order."""
    assert seen["pending"] == []
    # The gateway may still deliver what the client has sent.
    wait_until(lambda: len(once_each(ends.messages())) >= seen["sent"], "the last messages", ends.messages)
    assert once_each(ends.messages()) == list(range(seen["sent"]))


def check_no_repetitions(ends: Restartable, seen: dict[str, Any]) -> None:
    """Check the same, and that nothing arrives twice."""
    check(ends, seen)
    assert len(ends.messages()) == seen["sent"]


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_restart_of_the_backend_loses_and_repeats_nothing(
    ends: Restartable, sockets: Path | None, tmp_path: Path, how: str
) -> None:
    with node_stream(ends.url, QUICK, sockets, tmp_path / "seen") as stream:
        for _ in range(2):
            ends.wait_for_more()
            ends.stop(ends.backend) if how == "stop" else ends.backend.kill()
            ends.start(ends.backend)
        ends.wait_for_more()
        seen = stream.finish()
    check_no_repetitions(ends, seen)
    assert seen["closes"] == [1000], "the gateway waited for the backend"


def test_a_stop_of_the_gateway_loses_and_repeats_nothing(
    ends: Restartable, sockets: Path | None, tmp_path: Path
) -> None:
    with node_stream(ends.url, QUICK, sockets, tmp_path / "seen") as stream:
        for _ in range(2):
            ends.wait_for_more()
            ends.stop(ends.gateway)
            ends.start(ends.gateway)
        ends.wait_for_more()
        seen = stream.finish()
    check_no_repetitions(ends, seen)
    assert seen["closes"][0] == 1001
    assert seen["closes"][-1] == 1000
    assert seen["opens"] == 3


def test_what_is_sent_while_the_gateway_is_down_arrives(
    ends: Restartable, sockets: Path | None, tmp_path: Path
) -> None:
    ends.gateway.kill()
    with node_stream(ends.url, QUICK, sockets, tmp_path / "seen") as stream:
        ends.start(ends.gateway)
        ends.wait_for_more()
        seen = stream.finish()
    check_no_repetitions(ends, seen)


def test_with_acknowledgements_no_kill_loses_anything(ends: Restartable, sockets: Path | None, tmp_path: Path) -> None:
    with node_stream(ends.url, {**QUICK, "acknowledgements": True}, sockets, tmp_path / "seen") as stream:
        for program in (ends.backend, ends.gateway, ends.backend, ends.gateway):
            ends.wait_for_more()
            program.kill()
            ends.start(program)
        ends.wait_for_more()
        seen = stream.finish()
    check(ends, seen)
    assert seen["closes"].count(1006) >= 2
    assert seen["opens"] == 3


def test_a_gateway_that_hangs_is_noticed_by_the_heartbeat(
    ends: Restartable, sockets: Path | None, tmp_path: Path
) -> None:
    heartbeat = {"interval": 50, "timeout": 200}
    options = {**QUICK, "acknowledgements": True, "connectTimeout": 500, "heartbeat": heartbeat}
    with node_stream(ends.url, options, sockets, tmp_path / "seen") as stream:
        ends.wait_for_more()
        os.kill(ends.gateway.pid, signal.SIGSTOP)
        stream.wait_for_loss("heartbeat timeout")
        stream.wait_for_loss("connect timeout")
        os.kill(ends.gateway.pid, signal.SIGCONT)
        ends.wait_for_more()
        seen = stream.finish()
    check(ends, seen)


def test_a_close_of_the_backend_with_a_code_of_its_own_is_final(
    ends: Restartable, sockets: Path | None, tmp_path: Path
) -> None:
    with node_stream(ends.url, QUICK, sockets, tmp_path / "seen") as stream:
        ends.wait_for_more()
        stream.send("close 4403 forbidden")
        seen = stream.ended()
    assert (seen["closes"], seen["reason"]) == ([4403], "forbidden")
