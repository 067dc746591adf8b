import asyncio
from pathlib import Path

import uvloop

from wsaas.cluster.unix_connector import UnixConnector


def test_an_attempt_under_way_is_cancelled_at_the_end(tmp_path: Path):
    async def check():
        connector = UnixConnector(asyncio.get_running_loop())
        results: list[object] = []
        connector.open(str(tmp_path / "none"), asyncio.Protocol, results.append)
        await connector.close()
        assert results == []
        await connector.close()

    uvloop.run(check())


def test_the_error_of_a_failed_attempt_is_reported(tmp_path: Path):
    async def check():
        connector = UnixConnector(asyncio.get_running_loop())
        failed: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        connector.open(str(tmp_path / "none"), asyncio.Protocol, failed.set_result)
        assert isinstance(await asyncio.wait_for(failed, 10), FileNotFoundError)

    uvloop.run(check())
