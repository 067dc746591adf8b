"""Other nodes that are gone, unreachable, silent, or not who they should be."""

import asyncio
import json
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.certificate_authority import CertificateAuthority
from tests.support.cluster_view import make_member
from tests.support.network_namespace import full_backlog
from tests.support.ports import free_port
from tests.support.stage import Node, Stage, know, meet
from tests.support.waiting import wait_until, with_timeout
from wsaas.cluster.link_policy import LinkPolicy, node_policy
from wsaas.transport import node_connector, peering

REMOTE = "remote__" + "x" * 22


class SilentNode:
    """Another node, which accepts connections and answers nothing. `received`: what it got on all of them."""

    def __init__(self) -> None:
        self.accepted = 0
        self.received = b""
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self.writers.append(writer)
        # It is reset when the other node gives up.
        with suppress(ConnectionResetError):
            while data := await reader.read(65536):
                self.received += data


async def beside(stage: Stage, address: str, **chosen: Any) -> Node:
    """Start a node that knows another one at `address`."""
    (node,) = await stage.cluster(1, **chosen)
    remember(node, address)
    return node


def remember(node: Node, address: str | None) -> None:
    """Let the node know the other one, or that it is gone."""
    know(node, {} if address is None else {REMOTE[:8]: make_member("other", address=address)})


async def silent_node(stage: Stage) -> tuple[SilentNode, str]:
    """Start another node that never answers; return it and its address."""
    peer = SilentNode()
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)

    async def close() -> None:
        server.close()
        for writer in peer.writers:
            writer.close()
        await server.wait_closed()

    stage.stack.push_async_callback(close)
    return peer, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def short(monkeypatch: pytest.MonkeyPatch, **values: Any) -> None:
    """Let links to nodes have shorter time limits."""

    def policy(keep_alive_timeout: float) -> LinkPolicy:
        return replace(node_policy(keep_alive_timeout), **values)

    monkeypatch.setattr(peering, "node_policy", policy)


async def ask(node: Node, method: str = "PUT", target: str = REMOTE, body: str = "x") -> tuple[int, Any]:
    answer = await node.rest(method, target, body)
    return answer.status, answer.json


async def test_a_node_that_nobody_listens_for_is_unreachable_and_named(stage: Stage) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    node = await beside(stage, address)
    label = f"host-of-other ({address})"
    answer = await node.rest("PUT", REMOTE, "x")
    assert (answer.status, answer.json["code"], answer.headers["Retry-After"]) == (503, "UNAVAILABLE", "1")
    assert label in answer.json["message"]
    (text,) = stage.messages()
    assert text == f"cannot connect to {label}: connection refused ({address[7:]})"
    status, found = await ask(node, target="/groups/lobby")
    assert (status, found["code"], found["missing"]) == (200, "PARTIAL", [label])
    status, found = await ask(node, "POST", "/send", json.dumps({"to": [REMOTE], "text": "x"}))
    assert (found["code"], found["unreached"]) == ("PARTIAL", [REMOTE])
    _, found = await ask(node, "GET", "/connections?after=zzzzzzzz0")
    assert (found["code"], found["missing"]) == ("PARTIAL", [label])
    status, found = await ask(node, "GET", "/connections?after=remote__0")
    assert (status, found["code"], found["missing"], found["connections"]) == (200, "PARTIAL", [label], [])


async def test_a_node_that_cannot_be_connected_to_in_time_is_unreachable(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_connector, "CONNECT_TIMEOUT_S", 0.1)
    port = await stage.stack.enter_async_context(full_backlog())
    node = await beside(stage, f"http://127.0.0.1:{port}")
    assert (await ask(node))[0] == 503
    (text,) = stage.messages()
    assert text.endswith(f": no connection within 0.1 s: no answer (127.0.0.1:{port})")


async def test_a_node_that_does_not_listen_yet_is_not_missed(stage: Stage) -> None:
    node = await beside(stage, f"http://127.0.0.1:{free_port()}")
    node.view.members[REMOTE[:8]].is_listening = False
    _, found = await ask(node, target="/groups/lobby")
    assert (found["code"], found["missing"]) == ("OK", [])
    _, found = await ask(node, "GET", "/connections")
    assert (found["code"], found["missing"]) == ("OK", [])
    _, found = await ask(node, "POST", "/send", json.dumps({"to": [REMOTE], "text": "x"}))
    assert found["unreached"] == [REMOTE]


async def test_a_node_that_is_back_is_reached_again(stage: Stage) -> None:
    port = free_port()
    here = await beside(stage, f"http://127.0.0.1:{port}", handshake_timeout=200)
    assert (await ask(here))[0] == 503
    await stage.cluster(1, "other", listen=f"127.0.0.1:{port}")
    assert (await ask(here))[0] == 410


async def test_what_a_silent_node_may_have_received_is_unknown_and_is_not_sent_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    short(monkeypatch, timeout=0.3, silence=60.0)
    peer, address = await silent_node(stage)
    node = await beside(stage, address, handshake_timeout=200)
    status, found = await ask(node)
    assert (status, found["code"]) == (504, "UNKNOWN")
    status, found = await ask(node, target="/groups/lobby")
    assert (found["code"], found["missing"]) == ("PARTIAL", [f"host-of-other ({address})"])
    _, found = await ask(node, "POST", "/send", json.dumps({"to": [REMOTE], "text": "x"}))
    assert found["unreached"] == [REMOTE]
    assert peer.received.count(REMOTE.encode() + b" HTTP/1.1") == 1
    assert b"Ws-Node: other\r\n" in peer.received


async def test_what_waits_for_a_node_whose_lease_ends_is_gone_at_once(stage: Stage) -> None:
    peer, address = await silent_node(stage)
    node = await beside(stage, address)
    pushing = asyncio.ensure_future(ask(node))
    publishing = asyncio.ensure_future(ask(node, target="/groups/lobby"))
    await wait_until(lambda: peer.accepted == 2)
    remember(node, None)
    status, found = await with_timeout(pushing)
    assert (status, found["code"]) == (410, "GONE")
    status, found = await with_timeout(publishing)
    assert (found["code"], found["missing"]) == ("OK", [])
    assert (await ask(node))[0] == 410


async def test_a_connection_on_which_nothing_is_answered_is_replaced(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    short(monkeypatch, timeout=0.2, silence=0.2)
    peer, address = await silent_node(stage)
    node = await beside(stage, address, handshake_timeout=200)
    assert (await ask(node))[0] == 504
    await wait_until(lambda: any("it has not answered for too long" in each for each in stage.messages()))
    assert (await ask(node))[0] == 504
    assert peer.accepted == 2


async def test_an_idle_connection_is_closed_before_the_other_node_does(stage: Stage) -> None:
    here, there = await stage.cluster(2, keep_alive_timeout=400)
    client, name = await there.admit()
    for number in range(3):
        assert (await ask(here, target=name, body=str(number)))[0] == 200
        assert await with_timeout(client.recv()) == str(number)
        await wait_until(lambda: there.statistics.accepted_connections == 1)
    assert stage.messages() == []


async def test_what_was_sent_on_a_lost_connection_is_unknown_unless_the_node_stopped(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    short(monkeypatch, verdict=0.2)
    peer, address = await silent_node(stage)
    node = await beside(stage, address, handshake_timeout=200)
    for is_gone in (False, True):
        pushing = asyncio.ensure_future(ask(node))
        await wait_until(lambda: peer.received.endswith(b"x"))
        peer.writers[-1].close()
        if is_gone:
            remember(node, None)
        status, _ = await with_timeout(pushing)
        assert status == (410 if is_gone else 504)
        peer.received = b""


@pytest.mark.parametrize(("status", "expected"), [(404, 503), (502, 504)])
async def test_the_answer_of_a_proxy_is_not_taken_for_that_of_a_node(stage: Stage, status: int, expected: int) -> None:
    answer = b"HTTP/1.1 %d No\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\n<h1>" % status

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            writer.write(answer)
        writer.close()

    server = await stage.stack.enter_async_context(await asyncio.start_server(serve, "127.0.0.1", 0))
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    node = await beside(stage, address)
    assert (await ask(node))[0] == expected
    # In the form of AWS, the body of an error is read.
    answered, found = await ask(node, "POST", f"/@connections/{REMOTE}")
    assert (answered, [*found]) == (expected, ["message"])
    _, found = await ask(node, target="/groups/lobby")
    assert (found["code"], found["missing"]) == ("PARTIAL", [f"host-of-other ({address})"])
    advice = f"with {status}: is there a proxy in front of it?"
    assert stage.messages() == [f"something else than host-of-other ({address}) answers at its address, {advice}"]


@pytest.mark.parametrize("address", ["ftp://a:1", "http://", "nonsense nonsense"])
async def test_an_address_that_is_none_is_unreachable(stage: Stage, address: str) -> None:
    node = await beside(stage, address)
    assert (await ask(node))[0] == 503
    assert stage.messages() == [f"cannot connect to host-of-other ({address}): this is not the address of a node"]


# While a node does not know the others.


async def test_a_node_that_has_not_joined_says_that_it_does_not_know_the_others(stage: Stage) -> None:
    (node,) = await stage.cluster(1)
    _, name = await node.admit()
    assert (await ask(node, "GET", "/readyz", ""))[0] == 200
    node.view.is_ready = False
    status, found = await ask(node, "GET", "/readyz", "")
    assert (status, found["message"]) == (503, "This node has not joined its cluster yet.")
    status, found = await ask(node, target="/groups/lobby")
    assert (found["code"], found["missing"]) == ("PARTIAL", ["nodes that this one has not found yet"])
    _, found = await ask(node, "GET", "/connections")
    assert (found["code"], found["missing"]) == ("PARTIAL", ["nodes that this one has not found yet"])
    answer = await node.rest("PUT", REMOTE, "x")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert (await ask(node, target=node.prefix + "x" * 22))[0] == 410
    assert (await ask(node, target="/nothing"))[0] == 404
    to = [name, REMOTE, node.prefix + "x" * 22, "nonsense"]
    _, found = await ask(node, "POST", "/send", json.dumps({"to": to, "text": "x"}))
    assert (found["code"], found["sent"], found["unreached"], found["gone"]) == ("PARTIAL", 1, [REMOTE], to[2:])


async def test_a_caller_without_a_token_does_not_learn_what_is_known(stage: Stage) -> None:
    (node,) = await stage.cluster(1, control_token="a" * 32)
    node.view.is_in_contact = False
    assert (await ask(node))[0] == 401


# TLS.


async def test_nodes_reach_each_other_over_tls_with_client_certificates(stage: Stage, tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path)
    stage.tls = authority.client(signed_by=authority)
    files = authority.issue()
    nodes = []
    for name in ("here", "there"):
        port = free_port()
        chosen = {"control_listen": f"127.0.0.1:{port}", "node_address": f"https://127.0.0.1:{port}"}
        nodes += await stage.cluster(
            1, name, control_tls_ca=authority.path, node_tls_ca=authority.path, **chosen, **files
        )
    here, there = nodes
    meet(here, nodes)
    client, name = await there.admit()
    control = here.settings.control_listen
    assert control is not None
    assert (await here.rest("PUT", name, "x", port=control.port)).status == 200
    assert await with_timeout(client.recv()) == "x"
    assert stage.messages() == []


Certificate = Callable[[Path, CertificateAuthority], dict[str, Path]]


def of_another_authority(folder: Path, _authority: CertificateAuthority) -> dict[str, Path]:
    (folder / "other").mkdir()
    return CertificateAuthority(folder / "other").issue()


def of_another_name(_folder: Path, authority: CertificateAuthority) -> dict[str, Path]:
    return authority.issue("elsewhere.test")


@pytest.mark.parametrize("certificate", [of_another_authority, of_another_name])
async def test_a_certificate_that_is_not_accepted_is_explained(
    stage: Stage, tmp_path: Path, certificate: Certificate
) -> None:
    authority = CertificateAuthority(tmp_path)
    port = free_port()
    there = await stage.node(listen=f"127.0.0.1:{port}", **certificate(tmp_path, authority))
    address = f"https://localhost:{port}"
    here = await beside(stage, address, node_tls_ca=authority.path)
    status, _ = await ask(here)
    assert status == 503
    (text,) = [each for each in stage.messages() if "cannot connect" in each]
    assert text.startswith(f"cannot connect to host-of-other ({address}): its certificate is not accepted (")
    assert "NODE_TLS_CA of this node has to contain the authority of that node's TLS_CERT" in text
    assert there.statistics.accepted_connections == 0


async def test_a_node_that_wants_a_client_certificate_in_vain_is_explained(stage: Stage, tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path)
    port = free_port()
    await stage.node(control_listen=f"127.0.0.1:{port}", control_tls_ca=authority.path, **authority.issue())
    here = await beside(stage, f"https://127.0.0.1:{port}", node_tls_ca=authority.path)
    assert (await ask(here))[0] == 504
    (text,) = [each for each in stage.messages() if "was lost" in each]
    assert "if that node has CONTROL_TLS_CA, this one needs a TLS_CERT that is signed by it" in text


@pytest.mark.parametrize("has_tls", [False, True])
async def test_a_scheme_that_is_wrong_is_explained(stage: Stage, tmp_path: Path, *, has_tls: bool) -> None:
    authority = CertificateAuthority(tmp_path)
    port = free_port()
    files = authority.issue() if has_tls else {}
    await stage.node(listen=f"127.0.0.1:{port}", **files)
    address = f"{'http' if has_tls else 'https'}://127.0.0.1:{port}"
    here = await beside(stage, address, node_tls_ca=authority.path)
    assert (await ask(here))[0] == 503
    text = stage.messages()[-1]
    expected = "uses TLS: its NODE_ADDRESS has to begin with https://" if has_tls else "does it have TLS_CERT?"
    assert text.endswith(expected)


async def test_a_name_that_moves_is_looked_up_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    await stage.cluster(1, "other", listen=f"127.0.0.1:{port}", ws_hostname="other.test")
    here = await beside(stage, f"http://other.test:{port}", handshake_timeout=200)
    at = ["127.0.0.9"]

    def lookup(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (at[0], port))]

    monkeypatch.setattr("wsaas.transport.resolver.socket.getaddrinfo", lookup)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{here.port}") as http:
        for expected in (503, 410):
            async with http.put(f"/{REMOTE}", data=b"x") as answer:
                assert answer.status == expected
            at[0] = "127.0.0.1"
