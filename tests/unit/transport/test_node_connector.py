"""What a node remembers about the addresses of others. `tests/faults/test_nodes.py` opens real connections."""

import asyncio

from tests.support.ports import free_port
from tests.support.stage import Stage
from wsaas.transport.node_connector import NodeConnectors, explain


async def test_only_what_is_in_use_is_remembered(stage: Stage) -> None:  # noqa: ARG001 - it runs the loop
    connectors = NodeConnectors(asyncio.get_running_loop(), lambda: None)
    errors: asyncio.Queue[Exception] = asyncio.Queue()
    addresses = [f"http://127.0.0.1:{free_port()}" for _ in range(2)]
    for address in addresses:
        connectors.to(address)(asyncio.Protocol, errors.put_nowait)
    connectors.retain([])
    assert len(connectors._connectors) == 2
    for _ in addresses:
        assert isinstance(await errors.get(), ConnectionRefusedError)
    await asyncio.sleep(0)
    connectors.retain(addresses[:1])
    assert [*connectors._connectors] == addresses[:1]
    await connectors.close()


async def test_a_node_has_no_unix_socket(stage: Stage) -> None:  # noqa: ARG001 - it runs the loop
    connectors = NodeConnectors(asyncio.get_running_loop(), lambda: None)
    errors: asyncio.Queue[Exception] = asyncio.Queue()
    connectors.to("unix:/run/app.sock")(asyncio.Protocol, errors.put_nowait)
    assert str(await errors.get()) == "this is not the address of a node"
    await connectors.close()


def test_only_errors_of_tls_are_explained() -> None:
    other = ConnectionRefusedError()
    assert explain(other) is other
