"""A backend with TLS: without a valid certificate it receives no request."""

import asyncio
import logging
import ssl
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.support.backend import Backend
from tests.support.certificate_authority import CertificateAuthority
from tests.support.clients import upgrade
from tests.support.stage import Stage
from tests.support.waiting import with_timeout

YESTERDAY = datetime.now(timezone.utc) - timedelta(days=1)


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority(tmp_path)


async def start_backend(stage: Stage, context: ssl.SSLContext, host: str = "127.0.0.1") -> Backend:
    """Start a backend with TLS."""
    stage.backend = Backend(host, tls=context)
    return await stage.backend.start()


async def status(stage: Stage, **chosen: Any) -> int:
    """Return the status of a handshake with a node that has these settings."""
    node = await stage.node(**chosen)
    raw = await node.raw()
    raw.send(upgrade())
    return (await raw.answer()).status


async def test_a_private_authority_is_trusted(stage: Stage, authority: CertificateAuthority) -> None:
    context = authority.server("localhost")
    names: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    context.set_alpn_protocols(["h2", "http/1.1"])
    backend = await start_backend(stage, context)
    backend.on["PUT"] = lambda call: call.answer(200, call.body, Ws_Reply="binary")
    node = await stage.node(api_uri=f"https://localhost:{backend.port}/hook", api_tls_ca=authority.path)
    client, name = await node.admit(max_size=None)
    for message in (b"x", b"y" * 1_000_000):
        await client.send(message)
        assert await with_timeout(client.recv()) == message
    assert (await node.rest("PUT", name, "push")).status == 200
    assert await with_timeout(client.recv()) == "push"
    (connection,) = backend.connections
    assert connection.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
    await client.close()
    await backend.take("DELETE")
    # All requests used one connection, whose SNI named the backend.
    assert names == ["localhost"]
    assert await node.drain()


async def test_the_certificate_of_a_backend_at_an_address_is_verified_too(
    stage: Stage, authority: CertificateAuthority
) -> None:
    backend = await start_backend(stage, authority.server("localhost", "127.0.0.1"))
    assert await status(stage, api_uri=f"https://127.0.0.1:{backend.port}/", api_tls_ca=authority.path) == 101


async def test_an_intermediate_authority_is_trusted_by_itself(stage: Stage, authority: CertificateAuthority) -> None:
    below = authority.issuer.create_child_ca()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    below.issue_cert("localhost").configure_cert(context)
    backend = await start_backend(stage, context)
    below.cert_pem.write_to_path(authority.path)
    assert await status(stage, api_uri=f"https://localhost:{backend.port}/", api_tls_ca=authority.path) == 101


@pytest.mark.parametrize(
    "fault", ["another name", "another address", "expired", "another authority", "only the system's"]
)
async def test_a_backend_without_a_valid_certificate_gets_no_request(
    stage: Stage, authority: CertificateAuthority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    signer, host, names, not_after = authority, "localhost", ["localhost"], None
    if fault == "another name":
        names = ["elsewhere.test", "127.0.0.1"]
    elif fault == "another address":
        host, names = "127.0.0.1", ["127.0.0.2", "localhost"]
    elif fault == "expired":
        not_after = YESTERDAY
    else:
        (tmp_path / "other").mkdir()
        signer = CertificateAuthority(tmp_path / "other")
        if fault == "only the system's":
            monkeypatch.setenv("SSL_CERT_FILE", str(signer.path))
    backend = await start_backend(stage, signer.server(*names, not_after=not_after))
    assert await status(stage, api_uri=f"https://{host}:{backend.port}/hook", api_tls_ca=authority.path) == 503
    assert not backend.calls
    (line,) = [text for text in stage.messages(logging.WARNING) if "CERTIFICATE_VERIFY_FAILED" in text]
    assert f" (127.0.0.1:{backend.port}); " in line, "the address"
    assert line.endswith(
        "; its certificate has to be valid for the host in API_URI, and signed by an authority in API_TLS_CA"
    )


async def test_an_older_tls_version_is_not_supported(stage: Stage, authority: CertificateAuthority) -> None:
    context = authority.server("localhost")
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="deprecated"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.warns(DeprecationWarning, match="deprecated"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    backend = await start_backend(stage, context)
    assert await status(stage, api_uri=f"https://localhost:{backend.port}/hook", api_tls_ca=authority.path) == 503
    assert not backend.calls


async def test_a_reloaded_authority_applies_from_the_next_connection(
    stage: Stage, authority: CertificateAuthority, tmp_path: Path
) -> None:
    (tmp_path / "next").mkdir()
    following = CertificateAuthority(tmp_path / "next")
    backend = await start_backend(stage, following.server("localhost"))
    node = await stage.node(api_uri=f"https://localhost:{backend.port}/hook", api_tls_ca=authority.path)
    raw = await node.raw()
    raw.send(upgrade())
    assert (await raw.answer()).status == 503
    authority.path.write_bytes(following.path.read_bytes())
    node.gateway.reload()
    await node.upgraded()
    assert backend.count("POST") == 1


async def test_a_server_that_hangs_up_during_the_handshake_is_503(
    stage: Stage, authority: CertificateAuthority
) -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    stage.stack.callback(server.close)
    port = server.sockets[0].getsockname()[1]
    assert await status(stage, api_uri=f"https://localhost:{port}/", api_tls_ca=authority.path) == 503
    (line,) = [text for text in stage.messages(logging.WARNING) if text.startswith("cannot connect to the backend: ")]
    assert f" (127.0.0.1:{port}); " in line


async def test_the_error_of_a_server_without_tls_names_its_address(
    stage: Stage, authority: CertificateAuthority
) -> None:
    async def refuse(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 No\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    stage.stack.callback(server.close)
    port = server.sockets[0].getsockname()[1]
    assert await status(stage, api_uri=f"https://localhost:{port}/", api_tls_ca=authority.path) == 503
    (line,) = [text for text in stage.messages(logging.WARNING) if text.startswith("cannot connect to the backend: ")]
    assert line.endswith(
        f" (127.0.0.1:{port}); API_URI starts with https://: it has to lead to a server that speaks TLS"
    )


async def test_a_stop_does_not_wait_for_a_handshake(stage: Stage, authority: CertificateAuthority) -> None:
    stage.expected_errors = ["stopped before the DELETE was delivered"]
    await stage.backend.start()
    node = await stage.node(
        api_uri=f"https://localhost:{stage.backend.port}/", api_tls_ca=authority.path, drain_timeout=200
    )
    raw = await node.raw()
    raw.send(upgrade())
    await stage.backend.wait(lambda: stage.backend.accepted == 1)
    assert not await node.drain()
    assert not stage.backend.calls
