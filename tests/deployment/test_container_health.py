"""The command of the image's health check, against a gateway."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.certificate_authority import CertificateAuthority
from tests.support.ports import free_port
from tests.support.stage import Stage
from tests.support.tools import run_tool

SCRIPT = Path(__file__).parents[2] / "deploy" / "docker" / "healthcheck.py"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-I", str(SCRIPT), *arguments]


async def test_it_succeeds_while_the_gateway_is_alive_and_ready(stage: Stage) -> None:
    port = free_port()
    await stage.node(listen="127.0.0.1:0", control_listen=f":{port}", ws_hostname=f"127.0.0.1:{port}")
    for address in (f":{port}", f"0.0.0.0:{port}", f"127.0.0.1:{port}", f":{port}-{port + 3}"):
        variables = {"CONTROL_LISTEN": address, "LISTEN": "127.0.0.1:9"}
        await run_tool(*command(), env=variables)
        await run_tool(*command("/readyz"), env=variables)
    await run_tool(*command(), env={"LISTEN": f":{port}"})


@pytest.mark.parametrize("prefix", ["", "@"])
async def test_it_reaches_a_gateway_on_a_unix_socket(stage: Stage, tmp_path: Path, prefix: str) -> None:
    listen = f"unix:{prefix}{tmp_path / 'gateway.sock'}"
    await stage.node(listen=listen, ws_hostname="http://gateway.test")
    await run_tool(*command(), env={"LISTEN": listen})


async def test_it_reaches_a_gateway_with_tls(stage: Stage, tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path)
    stage.tls = authority.client()
    port = free_port()
    files = authority.issue()
    await stage.node(**files, ws_hostname=f"https://127.0.0.1:{port}", listen=f"127.0.0.1:{port}")
    variables = {"LISTEN": f":{port}", "TLS_CERT": str(files["tls_cert"])}
    await run_tool(*command(), env=variables)
    await run_tool(*command(), env={**variables, "CONTROL_TLS_CA": "/any.pem"})


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_it_fails_without_a_gateway(path):
    env = {**os.environ, "CONTROL_LISTEN": f":{free_port()}"}
    done = subprocess.run(command(path), env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{path}: ConnectionRefusedError")


async def test_it_fails_with_the_answer_of_a_gateway_that_has_no_such_path(stage: Stage) -> None:
    node = await stage.node()
    with pytest.raises(AssertionError, match=r"/nothing: 404 .*NOT_FOUND"):
        await run_tool(*command("/nothing"), env={"LISTEN": f":{node.port}"})
