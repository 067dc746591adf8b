"""The way to the backend: name, connection, certificate."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.backend import Backend, Call
from tests.support.certificate_authority import CertificateAuthority
from tests.support.checked import run_check
from tests.support.ports import free_port
from tests.support.stage import Stage
from wsaas.errors import SettingError

pytestmark = pytest.mark.usefixtures("stage")


@contextmanager
def listening() -> Iterator[socket.socket]:
    """Accept connections on a port, and never answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


async def test_a_name_that_does_not_resolve_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    checked = await run_check("backend.test/hook")
    assert checked.wrong() == [("FAIL", "DNS")]
    assert checked.of("DNS").line() == (
        "FAIL  DNS: name does not resolve: backend.test; correct the host in API_URI, or its DNS entry"
    )
    assert not checked.is_complete


async def test_a_name_that_no_dns_server_answers_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: done.wait())
    checked = await run_check("backend.test/hook", api_timeout=50)
    done.set()
    assert checked.wrong() == [("FAIL", "DNS")]
    assert checked.of("DNS").message == "no DNS server answers for backend.test"


async def test_some_of_the_addresses_of_a_name_are_shown(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = await stage.backend.start()
    infos = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{number}", backend.port)) for number in range(1, 7)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: infos)
    checked = await run_check(f"backend.test:{backend.port}/hook")
    assert checked.of("DNS").message == "backend.test is 127.0.0.1, 127.0.0.2, 127.0.0.3, 127.0.0.4 and 2 more"


async def test_the_address_that_was_connected_is_shown(stage: Stage) -> None:
    backend = await stage.backend.start()
    checked = await run_check(f"localhost:{backend.port}/hook")
    assert checked.of("DNS").message.startswith("localhost is ")
    assert checked.of("TCP").message.startswith(f"connected to 127.0.0.1:{backend.port} in ")


async def test_a_backend_that_does_not_listen_is_a_failure() -> None:
    port = free_port()
    checked = await run_check(f"127.0.0.1:{port}/hook")
    assert checked.wrong() == [("FAIL", "TCP")]
    assert checked.of("TCP").line() == (
        f"FAIL  TCP: connection refused (127.0.0.1:{port}); start it, or correct API_URI"
    )


async def test_a_backend_that_ends_within_the_check_is_a_failure() -> None:
    server = await asyncio.start_server(lambda _reader, writer: stop(writer), "127.0.0.1", 0)

    def stop(writer: asyncio.StreamWriter) -> None:
        server.close()
        writer.close()

    checked = await run_check(f"127.0.0.1:{server.sockets[0].getsockname()[1]}/hook")
    assert checked.wrong() == [("FAIL", "POST")]
    assert "the backend cannot be reached: connection refused" in checked.of("POST").message
    assert checked.of("POST").advice == "start it, or correct API_URI"


async def test_a_backend_that_ends_after_the_first_request_is_a_failure(stage: Stage) -> None:
    async def end(call: Call) -> None:
        call.answer(200, {"code": "OK"}, Connection="close")
        backend.stop_listening()

    backend = await stage.backend.start()
    backend.on["POST"] = end
    checked = await run_check(backend)
    assert checked.wrong() == [("FAIL", "PUT")]
    assert checked.of("PUT").message == (f"the backend cannot be reached: connection refused ({backend.authority})")
    assert checked.of("PUT").advice == "start it, or correct API_URI"


async def test_a_valid_certificate_is_named(stage: Stage, tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path)
    stage.backend = await Backend(tls=authority.server("localhost")).start()
    checked = await run_check(f"https://localhost:{stage.backend.port}/hook", api_tls_ca=authority.path)
    assert checked.of("TLS").message.startswith("the certificate is valid for localhost; handshake done in ")
    assert checked.is_complete


async def test_tls_to_a_server_without_it_is_a_failure() -> None:
    with listening() as listener:
        port = listener.getsockname()[1]
        checked = await run_check(f"https://127.0.0.1:{port}/hook", api_timeout=100)
    assert checked.wrong() == [("FAIL", "TLS")]
    assert "no connection within 0.1 s: the TLS handshake is not done" in checked.of("TLS").message
    assert checked.of("TLS").advice == "API_URI starts with https://: it has to lead to a server that speaks TLS"


async def test_a_tls_file_that_cannot_be_used_raises_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="API_TLS_CA"):
        await run_check("https://localhost/hook", api_tls_ca=tmp_path / "missing")


async def test_the_settings_of_a_cluster_do_not_matter(stage: Stage) -> None:
    backend = await stage.backend.start()
    settings: dict[str, Any] = {
        "cluster": "tls://127.0.0.1:9",
        "cluster_tls_ca": "/missing",
        "node_address": "127.0.0.1:9",
    }
    assert (await run_check(backend, **settings)).is_complete


async def test_warnings_about_settings_are_findings(stage: Stage) -> None:
    backend = await stage.backend.start()
    listen, name = free_port(), free_port()
    checked = await run_check(backend, listen=f"127.0.0.1:{listen}", ws_hostname=f"127.0.0.1:{name}")
    found = checked.of("settings")
    assert found.message.endswith(f"but this node serves REST requests on 127.0.0.1:{listen}")
    assert found.advice.startswith(f"set the port of WS_HOSTNAME to {listen}")
