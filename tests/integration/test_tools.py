"""Common tools: curl, and Node with `ws` and its own `fetch`. Skipped where they are not installed."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.backend import Call
from tests.support.frames import BINARY, TEXT
from tests.support.npm import npm_install
from tests.support.stage import Stage
from tests.support.tools import TOOL_TIMEOUT_S, needs_curl, run_tool
from tests.support.waiting import with_timeout

SCRIPTS = Path(__file__).parents[1] / "support" / "node"


@pytest.fixture(scope="session")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the scripts and their packages."""
    if shutil.which("node") is None:
        pytest.skip("Node is not installed")
    folder = tmp_path_factory.mktemp("node")
    for file in SCRIPTS.iterdir():
        if file.is_file():
            shutil.copy(file, folder)
    npm_install(folder)
    return folder


@needs_curl
async def test_curl_pushes_gets_and_closes(stage: Stage) -> None:
    node = await stage.node(send_buffer=10_000_000)
    raw = await node.upgraded()
    name = (await stage.backend.take("POST")).client
    uri = f"127.0.0.1:{node.port}/{name}"
    done = await run_tool("curl", "-sS", "-X", "PUT", uri, "-H", "Content-Type: text/plain", "-d", "from curl")
    assert json.loads(done.stdout) == {"code": "OK"}
    assert await raw.frame() == (TEXT, b"from curl")
    done = await run_tool("curl", "-sS", uri)
    assert json.loads(done.stdout)["state"] == "open"
    done = await run_tool("curl", "-sS", "-I", uri)
    assert done.stdout.startswith(b"HTTP/1.1 200 ")
    done = await run_tool("curl", "-sS", "-X", "DELETE", uri, "-d", '{"code": 4000, "reason": "bye"}')
    assert json.loads(done.stdout) == {"code": "OK"}
    assert await raw.closing() == (4000, "bye")


@needs_curl
async def test_curl_expects_100_continue_for_a_large_body(stage: Stage, tmp_path: Path) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    name = (await stage.backend.take("POST")).client
    file = tmp_path / "large"
    file.write_bytes(bytes(range(256)) * 4096)
    options = ("-sS", "-v", "-T", str(file), "-H", "Expect: 100-continue", "--expect100-timeout", "20")
    done = await run_tool("curl", *options, f"127.0.0.1:{node.port}/{name}", "-H", "Content-Type: image/png")
    assert b"HTTP/1.1 100 Continue" in done.stderr
    assert b"HTTP/1.1 200 " in done.stderr
    assert json.loads(done.stdout) == {"code": "OK"}
    assert await raw.frame() == (BINARY, file.read_bytes())
    # Refused before the body is sent.
    with file.open("ab") as more:
        more.write(b"x")
    done = await run_tool("curl", *options, f"127.0.0.1:{node.port}/{name}")
    assert b"HTTP/1.1 413 " in done.stderr
    assert b"HTTP/1.1 100" not in done.stderr


@needs_curl
async def test_curl_sends_chunks_from_a_pipe(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.upgraded()
    name = (await stage.backend.take("POST")).client
    await run_tool("curl", "-sS", "-T", "-", f"127.0.0.1:{node.port}/{name}", given=b"x" * 300_000)
    assert await raw.frame() == (TEXT, b"x" * 300_000)


@needs_curl
async def test_curl_through_a_unix_socket(stage: Stage, tmp_path: Path) -> None:
    path = str(tmp_path / "control.sock")
    node = await stage.node(control_listen=f"unix:{path}")
    client, name = await node.admit()
    await run_tool("curl", "-sS", "-f", "--unix-socket", path, "-X", "PUT", f"http://any/{name}", "-d", "")
    assert await with_timeout(client.recv()) == ""


@needs_curl
async def test_curl_sends_text_without_further_options(stage: Stage, tmp_path: Path) -> None:
    node = await stage.node()
    client, name = await node.admit()
    image = tmp_path / "image"
    image.write_bytes(b"\x89PNG\r\n\x1a\n")
    # curl labels the first two as forms, and the third not at all.
    for option, value, expected in (
        ("-d", "grüße", "grüße"),
        ("--data-binary", f"@{image}", image.read_bytes()),
        ("-T", str(image), image.read_bytes()),
    ):
        await run_tool("curl", "-sS", "-f", "-X", "PUT", option, value, f"http://127.0.0.1:{node.port}/{name}")
        assert await with_timeout(client.recv()) == expected


@pytest.mark.parametrize(("compression", "extensions"), [("off", ""), ("on", "permessage-deflate")])
async def test_the_ws_package_of_node(stage: Stage, node_folder: Path, compression: str, extensions: str) -> None:
    def echo(call: Call) -> None:
        kind = "text" if call.headers["content-type"].startswith("text/") else "binary"
        call.answer(200, call.body, Ws_Reply=kind)

    stage.backend.on["POST"] = lambda call: call.ok(subprotocol="soap")
    stage.backend.on["PUT"] = echo
    node = await stage.node(compression=compression)
    done = await run_tool("node", "echo.mjs", f"ws://127.0.0.1:{node.port}/path?query=1", cwd=node_folder)
    seen: Any = json.loads(done.stdout)
    assert seen == {
        "protocol": "soap",
        "extensions": extensions,
        "same": ["text:hello", "text:Grüße 🎉", "text:", "binary:4", "binary:1048576", "text:fragmented"],
        "pong": "payload",
        "close": [4000, "done"],
    }
    delete = await stage.backend.take("DELETE")
    assert (delete.json["code"], delete.json["reason"]) == (4000, "done")
    assert (delete.json["messages_in"], delete.json["messages_out"]) == (6, 6)


async def test_the_ws_package_of_node_is_refused(stage: Stage, node_folder: Path) -> None:
    stage.backend.on["POST"] = lambda call: call.answer(429, Retry_After="3")
    node = await stage.node()
    done = await run_tool("node", "echo.mjs", f"ws://127.0.0.1:{node.port}/", cwd=node_folder)
    assert json.loads(done.stdout) == {"refused": 429, "retryAfter": "3"}


async def test_the_fetch_of_node(stage: Stage, node_folder: Path) -> None:
    node = await stage.node()
    async with aiohttp.ClientSession() as http, http.ws_connect(f"http://127.0.0.1:{node.port}/") as socket:
        name = (await stage.backend.take("POST")).client
        running = asyncio.ensure_future(
            run_tool("node", "push.mjs", f"http://127.0.0.1:{node.port}/{name}", cwd=node_folder)
        )
        kinds = [await with_timeout(socket.receive(), TOOL_TIMEOUT_S) for _ in range(4)]
        assert [message.data for message in kinds] == ["text", '{"json":true}', b"\0\1\2", 4000]
        done = await running
        assert json.loads(done.stdout) == [200, 200, 200, "open", 200, 410]
