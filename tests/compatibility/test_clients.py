"""Clients that others wrote: each of them does the same, in its own language."""

import json
from pathlib import Path

import pytest

from tests.support.compatibility import environment, skip_without_library, words
from tests.support.echo import serve
from tests.support.stage import Stage
from tests.support.tools import run_tool
from tests.support.waiting import with_timeout

CLIENTS = {
    "aiohttp_client.py": "python",
    "autobahn_client.py": "python",
    "httpx_ws_client.py": "python",
    "lomond_client.py": "python",
    "picows_client.py": "python",
    "simple_websocket_client.py": "python",
    "tornado_client.py": "python",
    "trio_websocket_client.py": "python",
    "websocket_client.py": "python",
    "websockets_asyncio.py": "python",
    "websockets_sync.py": "python",
    "faye_websocket.mjs": "node",
    "node_built_in.mjs": "node --no-warnings --experimental-websocket",
    "partysocket.mjs": "node",
    "reconnecting_websocket.mjs": "node",
    "rxjs.mjs": "node",
    "undici.mjs": "node",
    "websocket.mjs": "node",
    "ws.mjs": "node",
    "gorilla.go": "go run",
    "nhooyr.go": "go run",
    "faye.rb": "ruby",
    "anyevent.pl": "perl",
    "mojo.pl": "perl",
}
WITHOUT_STATUS = {name for name in CLIENTS if name.endswith(".mjs")} - {"ws.mjs"}
"""Clients with the API of browsers, and others: they hide the status of a refused handshake."""


@pytest.mark.parametrize("script", CLIENTS)
async def test_a_client_gets_all_that_it_is_sent_and_the_reason_of_its_end(
    stage: Stage, request: pytest.FixtureRequest, scripts: Path, script: str
) -> None:
    command = words(CLIENTS[script])
    skip_without_library(script)
    if script.endswith(".mjs"):
        request.getfixturevalue("npm_packages")
    node = await serve(stage)
    done = await run_tool(
        *command, script, f"ws://127.0.0.1:{node.port}/", cwd=scripts / "clients", env=environment(scripts)
    )
    seen = json.loads(done.stdout)
    assert (seen.pop("refused") != 401) is (script in WITHOUT_STATUS)
    assert seen == {"subprotocol": "chat", "same": [True] * 5, "pushed": "pushed", "close": [4000, "done"]}
    delete = await stage.backend.take("DELETE")
    assert (delete.json["code"], delete.json["reason"]) == (4000, "done")


async def test_wscat_prints_a_reply(stage: Stage, npm_packages: Path) -> None:
    node = await serve(stage)
    command = [
        "-c",
        f"ws://127.0.0.1:{node.port}/",
        "-H",
        "Authorization: Bearer ada",
        "-s",
        "chat",
        "-x",
        "Grüße",
        "-w",
        "1",
    ]
    wscat = npm_packages / "node_modules" / ".bin" / "wscat"
    # It ends with its input.
    command = ["sh", "-c", 'sleep 1.5 | "$@"', "sh", str(wscat), *command]
    done = await run_tool(*command, env=environment(npm_packages))
    assert "Grüße" in done.stdout.decode()
    await with_timeout(stage.backend.take("DELETE"))
