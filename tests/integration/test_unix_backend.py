"""Backends on a Unix socket: real servers, sockets that are missing or refuse, and a listener whose queue is full."""

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from tests.support.checked import run_check
from tests.support.clients import upgrade
from tests.support.gateway_process import gateway_process
from tests.support.javascript_client import needs_node
from tests.support.ports import free_port
from tests.support.stage import Stage, load_settings
from tests.support.waiting import TIMEOUT_S, wait_until, with_timeout
from wsaas.backend_setting_type import backend
from wsaas.check.context import Options
from wsaas.cli import dev
from wsaas.cli.main import main

NODE_BACKEND = Path(__file__).parents[1] / "support" / "node" / "unix_backend.mjs"

MAY_READ_ALL = os.geteuid() == 0
"""root ignores the permissions of files, unless it gives this capability up."""

WITHOUT_CAPABILITY = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if MAY_READ_ALL else []


async def aiohttp_server(path: Path, stack: contextlib.AsyncExitStack) -> None:
    async def answer(request: web.Request) -> web.Response:
        body = await request.read()
        if request.method == "PUT":
            reply = f"{request.method} {request.path_qs} {request.headers['Host']} {body.decode()}"
            return web.Response(text=reply, headers={"Ws-Reply": "text"})
        return web.json_response({"code": "OK"})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.UnixSite(runner, str(path)).start()


async def node_server(path: Path, stack: contextlib.AsyncExitStack) -> None:
    command = [str(shutil.which("node")), str(NODE_BACKEND), str(path)]
    process = subprocess.Popen(command)  # noqa: ASYNC220 - it returns at once
    stack.callback(process.wait, TIMEOUT_S)
    stack.callback(process.kill)
    await wait_until(path.exists, "Node's server")


Server = Callable[[Path, contextlib.AsyncExitStack], Awaitable[None]]


@pytest.mark.parametrize("server", [aiohttp_server, pytest.param(node_server, marks=needs_node)])
async def test_a_real_server_on_a_unix_socket(stage: Stage, tmp_path: Path, server: Server) -> None:
    path = tmp_path / "app.sock"
    await server(path, stage.stack)
    node = await stage.node(api_uri=f"unix:{path}:/ws/{{id}}?a=b", backend=None)
    client = await node.connect()
    await client.send("hello")
    (session,) = node.gateway.sessions.live()
    assert await with_timeout(client.recv()) == f"PUT /ws/{session.id}?a=b localhost hello"
    assert (await node.rest("PUT", session.id, "push")).status == 200
    assert await with_timeout(client.recv()) == "push"
    await client.close()
    await wait_until(lambda: not node.statistics.disconnects_owed)
    assert node.statistics.backend_connections_idle == 1
    assert await node.drain()
    assert stage.messages() == []


@contextlib.asynccontextmanager
async def missing(_folder: Path) -> AsyncIterator[str]:
    yield "no such file or directory"


@contextlib.asynccontextmanager
async def left(folder: Path) -> AsyncIterator[str]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(folder / "app.sock"))
    yield "connection refused"
    (folder / "app.sock").unlink()


@pytest.mark.parametrize("broken", [missing, left])
async def test_a_backend_that_does_not_listen_is_the_same_as_over_tcp(
    stage: Stage, tmp_path: Path, broken: Callable[[Path], contextlib.AbstractAsyncContextManager[str]]
) -> None:
    path = tmp_path / "app.sock"
    node = await stage.node(api_uri=f"unix:{path}:/hook", backend=None)
    async with broken(tmp_path) as cause:
        raw = await node.raw()
        raw.send(upgrade())
        answer = await raw.answer()
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert node.statistics.circuit_breaker_state == "open"
        expected = f"cannot connect to the backend: {cause} (unix:{path}); start it, or correct API_URI"
        assert expected in stage.messages()
    await stage.backend.start_at(str(path))
    _, name = await node.admit()
    assert stage.backend.of(name)[0].headers["host"] == "localhost"
    assert node.statistics.circuit_breaker_state == "closed"


async def test_messages_wait_for_a_backend_that_restarts(stage: Stage, tmp_path: Path) -> None:
    path = str(tmp_path / "app.sock")
    await stage.backend.start_at(path)
    node = await stage.node(api_uri=f"unix:{path}:/hook", backend=None)
    client, name = await node.admit()
    await stage.backend.stop()
    (tmp_path / "app.sock").unlink(missing_ok=True)
    for number in range(10):
        await client.send(str(number))
    await wait_until(lambda: node.statistics.circuit_breaker_state == "open")
    await stage.backend.start_at(path)
    received = [(await stage.backend.take("PUT", client=name)).text for _ in range(10)]
    assert received == [str(number) for number in range(10)]


@pytest.mark.skipif(MAY_READ_ALL and not shutil.which("setpriv"), reason="root cannot give its capability up here")
async def test_a_socket_that_may_not_be_written_is_explained(stage: Stage, tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    await stage.backend.start_at(str(path))
    path.chmod(0)
    chosen = {"api_uri": f"unix:{path}:/hook", "prefix": WITHOUT_CAPABILITY}
    async with gateway_process(stage, tmp_path / "log", **chosen) as gateway:
        assert f" API_URI=unix:{path}:/hook " in gateway.program.said()
        _, status = await gateway.try_upgrade()
        assert status == 503
        line = (
            f"cannot connect to the backend: permission denied (unix:{path}); the gateway needs permission to write to "
            "the Unix socket in API_URI and to enter its folders"
        )
        await wait_until(lambda: line in gateway.program.said(), line, gateway.program.said)
        path.chmod(0o600)
        _, status = await gateway.try_upgrade()
        assert status == 101


async def test_a_connection_waits_while_the_queue_of_the_listener_is_full(stage: Stage, tmp_path: Path) -> None:
    path = str(tmp_path / "app.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        with socket.socket(socket.AF_UNIX) as other:
            other.connect(path)
            node = await stage.node(api_uri=f"unix:{path}:/hook", backend=None)
            raw = await node.raw()
            raw.send(upgrade())
            # Some attempts are refused.
            await asyncio.sleep(0.05)
            assert node.statistics.backend_connections_opening == 1
            accepted, _ = listener.accept()
            accepted.close()
        listener.setblocking(False)
        connection, _ = await with_timeout(asyncio.get_running_loop().sock_accept(listener))
        reader, writer = await asyncio.open_connection(sock=connection)
        assert (await with_timeout(reader.readline())).startswith(b"POST /hook ")
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{"code": "OK"}')
        assert (await raw.answer()).status == 101
        raw.close()
        await with_timeout(reader.readuntil(b"DELETE /hook "))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await wait_until(lambda: node.statistics.disconnects_owed == 0)
        writer.close()
    assert stage.messages() == []


async def test_a_listener_that_accepts_nothing_is_a_time_out(stage: Stage, tmp_path: Path) -> None:
    path = str(tmp_path / "app.sock")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as other:
        listener.bind(path)
        listener.listen(0)
        other.connect(path)
        node = await stage.node(api_uri=f"unix:{path}:/hook", backend=None, api_timeout=200)
        raw = await node.raw()
        raw.send(upgrade())
        assert (await raw.answer()).status in {503, 504}
        expected = f"no connection within 0.2 s: the listener does not accept it (unix:{path})"
        await wait_until(lambda: any(expected in text for text in stage.messages()), expected, stage.messages)


async def test_the_check_tells_that_it_connected_to_a_socket(stage: Stage, tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    checked = await run_check(f"unix:{path}:/hook")
    assert [each.line() for each in checked.findings] == [
        f"FAIL  Unix socket: no such file or directory (unix:{path}); start it, or correct API_URI"
    ]
    await stage.backend.start_at(str(path))
    checked = await run_check(f"unix:{path}:/hook", Options(is_quick=True))
    assert checked.of("Unix socket").message.startswith(f"connected to unix:{path} in ")
    assert checked.is_complete
    assert not [each for each in checked.findings if each.check in {"DNS", "TCP"}]


# wsaas dev


async def test_dev_waits_for_a_socket(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = backend.parse(f"unix:{tmp_path}/app.sock:/hook")
    monkeypatch.setattr(dev, "LISTEN_TIMEOUT_S", 0.05)
    assert not await dev.wait_for_listener(uri)
    await stage.backend.start_at(uri.socket)
    assert await dev.wait_for_listener(uri)
    settings = load_settings(api_uri=f"unix:{uri.socket}:/hook?key=s3cret")
    assert f"\n  backend  unix:{uri.socket}:/hook?(hidden)\n" in dev.greeting(settings)


@pytest.mark.usefixtures("_restored_process")
def test_dev_names_a_socket_on_which_nobody_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dev, "LISTEN_TIMEOUT_S", 0.05)
    socket_path = tmp_path / "app.sock"
    command = ["sh", "-c", "echo API_URI is $API_URI, PORT is ${PORT-not set}; sleep 0.3"]
    flags = ["--api-uri", f"unix:{socket_path}:/hook", "--ws-hostname", f"127.0.0.1:{free_port()}"]
    monkeypatch.delenv("PORT", raising=False)
    main(["dev", *flags, "--", *command], {"PATH": os.environ["PATH"]})
    out, _ = capfd.readouterr()
    assert f"backend | API_URI is unix:{socket_path}:/hook, PORT is not set\n" in out
    assert (
        f"check   | WARN  nothing listens on unix:{socket_path} yet; let the command use the variable API_URI\n" in out
    )


@pytest.mark.usefixtures("_restored_process")
def test_dev_has_no_port_for_a_command_with_a_socket(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dev", "--api-uri", "unix:/run/app.sock", "--", "app", "--port={port}"], {}) == 2
    assert capsys.readouterr().err == (
        "wsaas: the command contains {port}, but API_URI=unix:/run/app.sock:/ has no port\n"
    )
