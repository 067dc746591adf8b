"""The gateway as a whole: its listeners, its warnings, its stop and its limits."""

import asyncio
import logging
import os
import resource
import signal
import socket
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import Mock

import pytest

from tests.support.clients import upgrade
from tests.support.ports import free_port
from tests.support.stage import Node, Stage, load_settings
from tests.support.waiting import wait_until
from wsaas import __version__, gateway
from wsaas.build_kind import BUILD
from wsaas.cli.signals import install_signal_handlers
from wsaas.setting_types import Address
from wsaas.transport import server_listeners
from wsaas.transport.descriptors import DescriptorBudget
from wsaas.transport.listener import ACCEPTORS


async def test_port_0_is_chosen_once_for_all_families(stage: Stage) -> None:
    node = await stage.node(listen="localhost:0")
    (address,) = node.gateway.addresses
    assert address.host == "localhost"
    assert address.port > 0
    raw = await node.raw(address.port)
    raw.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await raw.answer()).status == 200
    assert any(f"listening on localhost:{address.port}" in text for text in stage.messages(logging.INFO))


async def test_the_addresses_of_two_listeners_are_reported_in_order(stage: Stage, tmp_path: Path) -> None:
    path = str(tmp_path / "rest.sock")
    node = await stage.node(listen="127.0.0.1:0", control_listen=f"unix:{path}")
    clients, rest = node.gateway.addresses
    assert clients.host == "127.0.0.1"
    assert rest == Address(path=path)


async def test_one_line_is_logged_once_everything_listens(stage: Stage) -> None:
    control = free_port()
    node = await stage.node(
        listen="127.0.0.1:0", control_listen=f"127.0.0.1:{control}", ws_hostname=f"a.test:{control}"
    )
    (line,) = stage.messages(logging.INFO)
    assert line == (
        f"wsaas {__version__} ({BUILD}) listening on 127.0.0.1:{node.gateway.addresses[0].port} for clients, "
        f"listening on 127.0.0.1:{control} for REST requests; "
        f"API_URI=http://{stage.backend.authority}/hook WS_HOSTNAME=a.test:{control} JOURNAL=none CLUSTER=none "
        "WORKERS=1"
    )


async def test_a_node_that_cannot_listen_logs_no_start(stage: Stage) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        node = Node(stage, load_settings(listen="127.0.0.1:0", control_listen=f"127.0.0.1:{taken.getsockname()[1]}"))
        stage.nodes.append(node)
        with pytest.raises(OSError, match="in use"):
            await node.gateway.start()
    assert not any("listening" in text for text in stage.messages(logging.INFO))


async def test_a_ws_hostname_with_the_port_of_clients_is_a_warning(stage: Stage) -> None:
    node = await stage.node(control_listen="127.0.0.1:0")
    (warning,) = stage.messages()
    assert warning.startswith(
        f"WS_HOSTNAME=127.0.0.1:{node.port} is the start of every ws_uri, but this node serves REST requests"
    )
    assert f"set the port of WS_HOSTNAME to {node.gateway.addresses[1].port}, unless" in warning


async def test_a_name_that_is_not_loopback_means_every_interface_and_a_warning(stage: Stage) -> None:
    node = await stage.node(ws_hostname=f"gateway.example:{free_port()}")
    assert node.gateway.addresses[0].host == ""
    assert (await node.rest("GET", "/healthz")).status == 200
    assert any("CONTROL_TOKEN" in text for text in stage.messages())


@pytest.mark.parametrize(
    "safe", [{"control_token": "secret"}, {"control_listen": "127.0.0.1:0"}, {"listen": "127.0.0.1:0"}]
)
async def test_no_warning_where_the_rest_api_is_protected(stage: Stage, safe: dict[str, str]) -> None:
    await stage.node(ws_hostname=f"gateway.example:{free_port()}", **safe)
    assert not stage.messages()


async def turns_to_accept(node: Node, crowd: int) -> int:
    """Return the turns of the loop until `crowd` waiting connections are accepted."""
    with ExitStack() as stack:
        for _ in range(crowd):
            # The kernel completes the connection without a turn of the loop.
            stack.enter_context(socket.create_connection(("127.0.0.1", node.gateway.addresses[0].port)))
        turns = 0
        while node.statistics.accepted_connections < crowd:
            await asyncio.sleep(0)
            turns += 1
        return turns


async def test_many_connections_are_accepted_in_few_turns_of_the_loop(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd = 4 * ACCEPTORS
    quick = await turns_to_accept(await stage.node(), crowd)
    monkeypatch.setattr(server_listeners, "ACCEPTORS", 1)
    assert quick <= await turns_to_accept(await stage.node(), crowd) // 2


async def test_a_taken_port_is_an_os_error(stage: Stage) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for chosen in (
            {"listen": f"127.0.0.1:{port}"},
            {"listen": "127.0.0.1:0", "control_listen": f"127.0.0.1:{port}"},
        ):
            node = Node(stage, load_settings(**chosen))
            stage.nodes.append(node)
            with pytest.raises(OSError, match="in use"):
                await node.gateway.start()


async def test_an_address_of_another_machine_is_an_os_error(stage: Stage) -> None:
    node = Node(stage, load_settings(listen="203.0.113.1:0"))
    stage.nodes.append(node)
    with pytest.raises(OSError, match="assign"):
        await node.gateway.start()


async def test_run_ends_with_a_signal(stage: Stage) -> None:
    node = await stage.node()
    client, _ = await node.admit()
    install_signal_handlers(asyncio.get_running_loop(), node.gateway)
    running = asyncio.ensure_future(node.gateway.run())
    await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGTERM)
    assert await asyncio.wait_for(running, 10)
    node.drained = True
    assert client.close_code == 1001
    assert stage.backend.count("DELETE") == 1


async def test_a_second_signal_ends_the_wait_for_deletes(stage: Stage) -> None:
    stage.expected_errors = ["stopped before the DELETE was delivered (0 messages lost)"]
    node = await stage.node(drain_timeout=60_000)
    stage.backend.hold("DELETE")
    for _ in range(5):
        await node.connect()
    install_signal_handlers(asyncio.get_running_loop(), node.gateway)
    running = asyncio.ensure_future(node.gateway.run())
    await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGINT)
    await stage.backend.take("DELETE")
    os.kill(os.getpid(), signal.SIGINT)
    assert not await asyncio.wait_for(running, 10)
    node.drained = True


async def test_a_drain_before_any_start_or_client(stage: Stage) -> None:
    node = Node(stage, load_settings())
    assert await node.drain()
    assert stage.nodes == []


async def test_past_the_limit_of_descriptors_every_connection_is_answered_503(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "divide_descriptors", lambda *_: DescriptorBudget(3, 1, 1, 1))
    node = await stage.node(control_listen="127.0.0.1:0")
    inside = [await node.upgraded() for _ in range(3)]
    raw = await node.raw()
    answer = await raw.answer()
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    await raw.end()
    raw.close()
    inside.pop().close()
    await wait_until(lambda: node.statistics.accepted_connections == 2)
    last = await node.raw()
    last.send(upgrade())
    assert (await last.answer()).status == 101
    assert len(inside) == 2


async def test_the_soft_limit_of_descriptors_is_raised(stage: Stage) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    try:
        await stage.node()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_signal_before_run_stops_the_node(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    node = await stage.node()
    stop = Mock(side_effect=node.gateway.stop)
    monkeypatch.setattr(node.gateway, "stop", stop)
    install_signal_handlers(asyncio.get_running_loop(), node.gateway)
    os.kill(os.getpid(), signal.SIGTERM)
    await wait_until(lambda: stop.called)
    assert await asyncio.wait_for(node.gateway.run(), 10)
    node.drained = True
