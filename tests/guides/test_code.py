"""The pieces of code in docs/guides do what the text around them says."""

import json
import re
import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from wsaas import backend

GUIDES = Path(__file__).parents[2] / "docs" / "guides"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (GUIDES / page).read_text(), re.DOTALL | re.MULTILINE)


class Code:
    """Runs the block of Python of a page that has a name in it; `run` returns what it defines."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "code.py"

    def run(self, page: str, name: str) -> dict[str, Any]:
        (source,) = (block for block in blocks(page, "python") if name in block)
        self.path.write_text(source)
        return runpy.run_path(str(self.path))


@pytest.fixture
def code(tmp_path: Path) -> Code:
    return Code(tmp_path)


def message(text: str, number: int = 1) -> backend.Message:
    name = "A" * 30
    headers = {
        "ce-id": f"{name}:{number}",
        "ce-subject": name,
        "ce-time": "2026-01-31T12:00:00.000Z",
        "ce-type": "wsaas.message",
        "content-type": "text/plain; charset=utf-8",
        "ws-uri": f"localhost:8080/{name}",
    }
    event = backend.parse("PUT", headers, text.encode())
    assert isinstance(event, backend.Message)
    return event


def test_a_poison_message_is_answered_and_not_repeated(code: Code) -> None:
    handle = code.run("retries.md", "divisor")["handle"]
    for poison in ("no JSON", "[]", "{}", '{"divisor": 0}', '{"divisor": "x"}'):
        answer = handle(message(poison))
        assert answer.status == 200
        assert "error" in json.loads(answer.body)
    assert json.loads(handle(message('{"divisor": 2}')).body) == {"result": 0.5}


def test_a_message_that_fails_again_and_again_becomes_a_dead_letter(code: Code) -> None:
    defined = code.run("retries.md", "dead_letters")

    def fail(_: backend.Message) -> backend.Answer:
        raise LookupError

    event = message("hello")
    statuses = [defined["guarded"](fail, event).status for _ in range(5)]
    assert statuses == [503, 503, 503, 503, 200]
    assert defined["dead_letters"] == [event]
    assert defined["guarded"](lambda _: backend.ok("done"), event).body == b"done"


def test_an_event_that_comes_twice_is_stored_once(code: Code) -> None:
    defined = code.run("retries.md", "sqlite3")
    try:
        for number in (1, 1, 2):
            assert defined["handle"](message("tea", number)).body == b"ordered"
        assert defined["database"].execute("SELECT count(*) FROM orders").fetchone() == (2,)
    finally:
        defined["database"].close()


def test_a_number_that_was_handled_is_acknowledged_and_ignored(code: Code) -> None:
    defined = code.run("reconnecting.md", "acknowledged")
    saved: list[int] = []
    defined["handle"].__globals__["save"] = lambda each: saved.append(each["number"])
    for number in (1, 2, 2, 1, 3):
        answer = defined["handle"](message(json.dumps({"device": "d", "number": number})))
        assert json.loads(answer.body) == {"acknowledged": number}
    assert saved == [1, 2, 3]


CLIENT = """
const sockets = [], delays = [];
let now = 1;
globalThis.WebSocket = class { constructor(url) { this.url = url; sockets.push(this); } };
globalThis.setTimeout = (call, delay, url) => { delays.push([call.name, delay, url]); };
Date.now = () => now;
Math.random = () => 1;
%s
for (const code of [1006, 1001, 1012, 1011]) connect('ws://localhost').onclose({ code });
for (const code of [1000, 4401, 1002, 1007, 1009]) connect('ws://localhost').onclose({ code });
const last = connect('ws://localhost');
last.onopen();
now = 10_002;
last.onclose({ code: 1006 });
process.stdout.write(JSON.stringify(delays));
"""


def test_the_client_waits_for_longer_each_time_and_obeys_a_final_code() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node is not installed")
    (source,) = (block for block in blocks("reconnecting.md", "js") if "function connect" in block)
    done = subprocess.run([node, "-"], input=CLIENT % source, capture_output=True, text=True, timeout=20, check=True)
    delays = [["connect", delay, "ws://localhost"] for delay in (1000, 2000, 4000, 8000, 1000)]
    assert json.loads(done.stdout) == delays
