"""SIGHUP reloads the files of secrets, each completely or not at all, and ends no gateway."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from tests.support.clients import RawClient
from tests.support.ports import free_port
from tests.support.stage import Node, Stage
from tests.support.waiting import TIMEOUT_S, wait_until
from wsaas.cli.signals import install_signal_handlers

OLD, NEW = (f"whsec_{b64encode(bytes([byte]) * 32).decode()}" for byte in b"on")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "secret"


async def hang_up(stage: Stage, expected: str) -> None:
    """Send SIGHUP to this process; wait until the log contains `expected`."""
    os.kill(os.getpid(), signal.SIGHUP)
    await wait_until(lambda: any(expected in text for text in stage.messages(logging.INFO)), expected)


async def status(raw: RawClient, token: str) -> int:
    """Return the status of a request with `token` on the open connection `raw`."""
    raw.send(f"GET /connections HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    return (await raw.answer()).status


async def listening(stage: Stage, **chosen: object) -> Node:
    node = await stage.node(**chosen)
    install_signal_handlers(asyncio.get_running_loop(), node.gateway)
    return node


async def test_new_tokens_apply_from_the_next_request_on_an_open_connection(stage: Stage, file: Path) -> None:
    await asyncio.to_thread(file.write_text, "old")
    node = await listening(stage, control_token_file=file)
    raw = await node.raw()
    assert [await status(raw, "old"), await status(raw, "new")] == [200, 401]
    await asyncio.to_thread(file.write_text, "new\nother")
    assert [await status(raw, "old"), await status(raw, "new")] == [200, 401]
    await hang_up(stage, f"reloaded: CONTROL_TOKEN_FILE='{file}'")
    assert [await status(raw, token) for token in ("old", "new", "other")] == [401, 200, 200]
    _, name = await node.admit()
    assert (await node.rest("PUT", name, "x", Authorization="Bearer old")).status == 401
    assert (await node.rest("PUT", name, "x", Authorization="Bearer new")).status == 200


async def test_new_secrets_sign_from_the_next_request_on(stage: Stage, file: Path) -> None:
    await asyncio.to_thread(file.write_text, OLD)
    node = await listening(stage, api_secret_file=file)
    client = await node.connect()
    post = await stage.backend.take("POST")
    await asyncio.to_thread(file.write_text, NEW)
    await hang_up(stage, f"reloaded: API_SECRET_FILE='{file}'")
    await client.send("hello")
    put = await stage.backend.take("PUT")
    Webhook(OLD).verify(post.body, post.headers, json_parse=False)
    Webhook(NEW).verify(put.body, put.headers, json_parse=False)
    with pytest.raises(WebhookVerificationError):
        Webhook(OLD).verify(put.body, put.headers, json_parse=False)


@pytest.mark.parametrize("content", [None, b"", b"two words", b"\xff"])
async def test_a_file_that_cannot_be_used_changes_nothing(stage: Stage, file: Path, content: bytes | None) -> None:
    await asyncio.to_thread(file.write_text, "old")
    node = await listening(stage, control_token_file=file)
    raw = await node.raw()
    if content is None:
        await asyncio.to_thread(file.unlink)
    else:
        await asyncio.to_thread(file.write_bytes, content)
    stage.expected_errors = [f"cannot reload CONTROL_TOKEN_FILE='{file}': "]
    await hang_up(stage, "; the previous content stays in use")
    assert len(stage.messages(logging.ERROR)) == 1
    assert await status(raw, "old") == 200


async def test_a_file_that_cannot_be_used_does_not_keep_another_from_being_loaded(
    stage: Stage, file: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    await asyncio.to_thread(file.write_text, "old")
    await asyncio.to_thread(other.write_text, OLD)
    node = await listening(stage, control_token_file=file, api_secret_file=other)
    await asyncio.to_thread(file.unlink)
    await asyncio.to_thread(other.write_text, NEW)
    stage.expected_errors = ["cannot reload CONTROL_TOKEN_FILE"]
    await hang_up(stage, f"reloaded: API_SECRET_FILE='{other}'")
    await node.connect()
    post = await stage.backend.take("POST")
    Webhook(NEW).verify(post.body, post.headers, json_parse=False)


@pytest.mark.parametrize("chosen", [{}, {"control_token": "secret", "api_secret": OLD}])
async def test_sighup_without_files_logs_that_there_is_nothing_to_load(stage: Stage, chosen: dict[str, str]) -> None:
    node = await listening(stage, **chosen)
    await hang_up(stage, "SIGHUP: nothing to reload, as none of these is set: TLS_CERT, ")
    (said,) = [text for text in stage.messages(logging.INFO) if "SIGHUP" in text]
    assert said.endswith(
        "CONTROL_TOKEN_FILE, API_SECRET_FILE, CONTROL_AWS_KEYS_FILE, CONTROL_AZURE_KEYS_FILE, CLUSTER_SECRET_FILE"
    )
    assert (await node.rest("GET", "/healthz")).status == 200


# In another process: before and after the loop runs.

WITH_HANGUPS = """
import os, signal, sys
from pathlib import Path
from wsaas.cli import main as command
from wsaas.__main__ import main

def hang_up_before(function):
    def changed(*given):
        os.kill(os.getpid(), signal.SIGHUP)
        return function(*given)
    return changed

def replace_token(before=command.heap.keep_freed_memory):
    Path(os.environ["CONTROL_TOKEN_FILE"]).write_text("new")
    before()

command.heap.keep_freed_memory = hang_up_before(replace_token)
command.settings.load = hang_up_before(command.settings.load)
command.log.flush = hang_up_before(command.log.flush)
sys.exit(main())
"""


@contextmanager
def program(*command: str, **variables: str) -> Iterator["subprocess.Popen[str]"]:
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "PYTHONPATH", "LANG"}}
    with subprocess.Popen(
        [sys.executable, *command], env={**kept, **variables}, stdout=-1, stderr=-1, text=True
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def ask(port: int, token: str) -> int:
    """Return the status of a single request with `token`."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/connections", headers={"Authorization": f"Bearer {token}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310 - a URL of this test
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_sighup_before_the_loop_runs_is_kept_and_after_it_is_ignored(file: Path) -> None:
    port = free_port()
    file.write_text("old")
    variables = {"API_URI": "localhost:9/", "WS_HOSTNAME": f"127.0.0.1:{port}", "CONTROL_TOKEN_FILE": str(file)}
    with program("-c", WITH_HANGUPS, **variables) as process:
        assert process.stderr is not None
        said = ""
        while "listening" not in said or "reloaded" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        assert f"reloaded: CONTROL_TOKEN_FILE='{file}'" in said
        assert [ask(port, "old"), ask(port, "new")] == [401, 200]
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, err


FIRST_IMPORTS = """
import os, signal, sys
from importlib.abc import MetaPathFinder
from wsaas.__main__ import main

class HangUp(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "wsaas.cli.main":
            os.kill(os.getpid(), signal.SIGHUP)

sys.meta_path.insert(0, HangUp())
sys.exit(main())
"""


def test_sighup_is_ignored_while_the_program_is_imported() -> None:
    with program("-c", FIRST_IMPORTS, "--version") as process:
        out, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, err) == (0, "")
    assert out.startswith("wsaas ")


def demo_command() -> list[str]:
    """Return the arguments of a demo on ports that no other test uses."""
    return ["-m", "wsaas", "demo", "--ws-hostname", f"localhost:{free_port()}", "--port", str(free_port())]


def test_a_demo_ends_with_its_terminal(tmp_path: Path) -> None:
    with program(*demo_command(), XDG_STATE_HOME=str(tmp_path)) as process:
        assert process.stdout is not None
        while "Open" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGHUP)
        _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, err
    assert err.rstrip().endswith("stopped")


def test_sighup_does_not_end_a_demo_behind_nohup(tmp_path: Path) -> None:
    ignoring = "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); "
    run = f"os.execv(sys.executable, [sys.executable, *{demo_command()}])"
    with program("-c", ignoring + run, XDG_STATE_HOME=str(tmp_path)) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while "Open" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGHUP)
        while "SIGHUP: nothing to reload" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, err
