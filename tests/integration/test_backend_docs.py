"""docs/backend.md: its examples are run, and its tables are compared with the code."""

import asyncio
import inspect
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import httpx2
import pytest
import websockets

from tests.support.backend_requests import SECRET, WS_URI
from tests.support.documentation import section
from tests.support.ports import free_port
from tests.support.stage import Node, Stage
from tests.support.tools import run_tool
from tests.support.waiting import wait_until, with_timeout
from wsaas import backend
from wsaas.backend import AsyncClient, Client, Gone, SlowClient, Unknown
from wsaas.backend.events import BaseEvent
from wsaas.backend.sending import FIRST_DELAY_S, MAX_DELAY_S, TIMEOUT_S, Options
from wsaas.backend_setting_type import backend as backend_type
from wsaas.cli.dev import wait_for_listener

PAGE = (Path(__file__).parents[2] / "docs" / "backend.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
SLOW = SlowClient("", retry_after=0.001)
APP, PUSH, PUBLISH, NOTIFY, TEST = EXAMPLES


@asynccontextmanager
async def running_app(folder: Path) -> AsyncIterator[str]:
    """Run the first example, and return its `API_URI`."""
    port = free_port()
    assert APP.count("8000") == 1
    script = folder / "app.py"
    script.write_text(APP.replace("8000", str(port)))
    app = await asyncio.create_subprocess_exec(
        sys.executable, script, env={**os.environ, "API_SECRET": SECRET}, stderr=subprocess.DEVNULL
    )
    try:
        assert await wait_for_listener(backend_type.parse(f"127.0.0.1:{port}"))
        yield f"127.0.0.1:{port}/websocket"
    finally:
        app.kill()
        await app.wait()


async def run_example(source: str, folder: Path, node: Node, *arguments: str) -> list[str]:
    """Return the lines that an example prints."""
    assert source.count("localhost:8080") == 1
    script = folder / "example.py"
    script.write_text(source.replace("localhost:8080", node.settings.ws_hostname.text))
    done = await run_tool(sys.executable, str(script), *arguments)
    return done.stdout.decode().splitlines()


async def test_the_backend_and_the_examples_that_reach_its_clients(stage: Stage, tmp_path: Path) -> None:
    async with running_app(tmp_path) as uri:
        node = await stage.node(backend=None, api_uri=uri, api_secret=SECRET)
        client = await node.connect(additional_headers={"Authorization": "Bearer ada"})
        for data in ("hello", b"\xff\x00"):
            await client.send(data)
            assert await with_timeout(client.recv()) == data
        with pytest.raises(websockets.InvalidStatus) as refused:
            await node.connect()
        assert refused.value.response.status_code == 401
        async with AsyncClient(node.settings.ws_hostname.text) as gateway:
            (found,) = (await gateway.connections()).connections
        assert await run_example(PUSH, tmp_path, node, found.ws_uri) == ["3"]
        assert await with_timeout(client.recv()) == "hello"
        assert await run_example(PUBLISH, tmp_path, node) == [f"{found.id} ada", "1"]
        assert await with_timeout(client.recv()) == "hello, lobby"
        assert await with_timeout(client.recv()) == b"bytes become a binary message"
        await client.close()
        await wait_until(lambda: node.statistics.clients == 0)
        await wait_until(lambda: node.statistics.disconnects_owed == 0)


@pytest.mark.usefixtures("stage")
async def test_the_backend_answers_400_to_what_it_cannot_read_and_401_to_what_is_not_signed(tmp_path: Path) -> None:
    signed = backend.sign("c1:1", b"hello", SECRET)
    async with running_app(tmp_path) as uri, httpx2.AsyncClient(trust_env=False) as sender:
        unread = await sender.put(f"http://{uri}", content=b"hello", headers=signed)
        unsigned = await sender.put(f"http://{uri}", content=b"hello")
    message = "ce-type is missing: expected wsaas.message"
    assert (unread.status_code, unread.json()) == (400, {"code": "BAD_REQUEST", "message": message})
    assert unsigned.status_code == 401


@pytest.mark.usefixtures("stage")
async def test_the_check_of_backends_finds_nothing_wrong_with_the_backend(tmp_path: Path) -> None:
    async with running_app(tmp_path) as uri:
        assert "wsaas dev --header 'Authorization: Bearer ada' -- python app.py" in PAGE
        flags = ("--header", "Authorization: Bearer ada", "--api-secret", SECRET)
        hostname = f"--ws-hostname=localhost:{free_port()}"
        done = await run_tool(sys.executable, "-m", "wsaas", "check", uri, hostname, *flags)
    said = done.stdout.decode()
    assert "signature: requests with a wrong, missing or old signature are refused" in said
    # The WSGI server closes its connections, and nothing is pushed.
    assert {line.split(": ")[0] for line in said.splitlines() if not line.startswith(("OK", "Checking"))} == {
        "WARN  push",
        "WARN  keep-alive",
        said.splitlines()[-1],
    }
    assert "0 FAIL" in said.splitlines()[-1]


@pytest.mark.parametrize(
    ("errors", "expected"),
    [([None], True), ([Gone("")], False), ([Unknown("")], True), ([SLOW, None], True), ([SLOW, SLOW, SLOW], False)],
)
def test_the_example_of_errors_decides_for_each_of_them(errors: list[Exception | None], expected: bool) -> None:
    errors = [*errors]

    class Gateway:
        def push(self, *_: object) -> None:
            if (error := errors.pop(0)) is not None:
                raise error

    names: dict[str, Any] = {}
    exec(NOTIFY, names)  # noqa: S102 - it is on our own page
    assert names["notify"](Gateway(), WS_URI, "hi") is expected


def test_the_example_of_a_test_passes(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "test_app.py").write_text(TEST)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_app.py"],
        cwd=tmp_path,
        env={**os.environ, "API_SECRET": SECRET},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def first_cells(title: str, heading: str) -> set[str]:
    """Return the names in the first column of the table that begins with `heading`."""
    table = section(title, PAGE).split(f"| {heading} |", 1)[1].split("\n\n", 1)[0]
    cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(\w+)", cell)}


def public_methods(kind: type[Any]) -> set[str]:
    return {name for name, _ in inspect.getmembers(kind, inspect.isfunction) if name[0] != "_"}


def test_all_attributes_of_events_are_listed() -> None:
    common = {each.name for each in fields(BaseEvent)}
    assert first_cells("Events", "attribute") == common
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", section("Events", PAGE), re.MULTILINE))
    for kind in get_args(backend.Event):
        own = {each.name for each in fields(kind)} - common
        own |= {name for name, value in vars(kind).items() if isinstance(value, property) or name == "json"}
        assert own <= set(re.findall(r"`(\w+)", rows[kind.__name__])), kind
    for each in fields(backend.ClientRequest):
        assert f"`{each.name}`" in rows["Connect"]


def test_all_methods_options_and_errors_of_the_clients_are_listed() -> None:
    methods = first_cells("Reaching clients", "method") - {"AsyncClient"}
    assert methods == public_methods(Client) | public_methods(AsyncClient)
    parameters = inspect.signature(Client).parameters.keys() - {"options"}
    assert first_cells("Reaching clients", "option") == parameters | Options.__annotations__.keys()
    classes = {name: found for name in backend.__all__ if inspect.isclass(found := getattr(backend, name))}
    errors = {name for name, found in classes.items() if issubclass(found, backend.GatewayError)}
    assert first_cells("Errors", "error") == errors - {"GatewayError"}


def test_times_are_as_said() -> None:
    assert f"double\nfrom {FIRST_DELAY_S:g} s to {MAX_DELAY_S:g} s" in PAGE
    assert f"by default {TIMEOUT_S:g}, or" in PAGE
