"""HTTP clients that others wrote, which push to a client, ask about it and close it."""

from pathlib import Path

import pytest

from tests.support.compatibility import environment, words
from tests.support.stage import Stage, received_close
from tests.support.tools import run_tool
from tests.support.waiting import with_timeout

CALLERS = {
    "use_httpx.py": "python",
    "use_requests.py": "python",
    "use_urllib3.py": "python",
    "use_axios.mjs": "node",
    "use_got.mjs": "node",
}


@pytest.mark.parametrize("script", CALLERS)
async def test_a_caller_sends_text_json_and_bytes_asks_and_closes(
    stage: Stage, request: pytest.FixtureRequest, scripts: Path, script: str
) -> None:
    if script.endswith(".mjs"):
        request.getfixturevalue("npm_packages")
    node = await stage.node()
    client, name = await node.admit()
    uri = f"127.0.0.1:{node.port}/{name}"
    await run_tool(*words(CALLERS[script]), script, uri, cwd=scripts / "callers", env=environment(scripts))
    received = [await with_timeout(client.recv()) for _ in range(3)]
    assert received[0] == "Grüße"
    assert isinstance(received[1], str)
    assert received[1].replace(" ", "") == '{"n":1}'
    assert received[2] == b"\xff\0"
    assert await received_close(client) == (4000, "bye")
