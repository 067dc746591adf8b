"""The benchmark of hostile clients: the bytes of each kind, and the tables of the measurements."""

import asyncio
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cases import hostile
from benchmarks.hostile import attacks
from benchmarks.hostile.attacks import FAILING, FLOODING, KINDS
from benchmarks.hostile.backend import TreatingBackend
from benchmarks.hostile.probes import Echo, Latencies, RequestProbe
from benchmarks.hostile.tables import milliseconds, tables
from benchmarks.hostile.trial import Measurement
from benchmarks.rig import BackendState, gateway
from benchmarks.targets.wsaas import Wsaas
from wsaas.events import Message
from wsaas.websocket.decoder import FrameDecoder
from wsaas.websocket.frames import Ping, Pong

pytestmark = pytest.mark.slow

TWO_CORES = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core for the gateway, one for the load")


def received(flood, deflated=False):
    """Return the frames or requests that a gateway reads in `flood`."""
    stream = FrameDecoder(1 << 20, deflated=deflated)
    stream.receive(flood)
    found = []
    while (one := stream.next()) is not None or stream.pending:
        if one is not None:
            found.append(one)
    return found


@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind].group == FLOODING])
def test_a_flood_is_made_of_valid_frames_or_requests(kind):
    attack = KINDS[kind].attack
    assert len(attack.flood) > 1000
    if not attack.shakes_hands:
        assert attack.flood.startswith((b"GET /", b"PUT /"))
        return
    found = received(attack.flood, deflated=kind == "compressed")
    types = {"pings": {Ping}, "pongs": {Pong}, "abrupt": {Ping, Message}}.get(kind, {Message})
    assert {type(one) for one in found} == types
    expected = b"" if kind.startswith("fragments") else b"x"
    assert all(one.data in (expected, b"") for one in found if isinstance(one, Message))


def test_empty_messages_have_the_named_number_of_fragments():
    assert len(received(attacks.EMPTY_TWO * 3)) == 3
    assert len(received(attacks.EMPTY_THOUSAND * 3)) == 3
    assert len(attacks.EMPTY_THOUSAND) == 6 * 1000


def test_a_parked_body_lacks_its_last_byte():
    head, _, body = KINDS["parked-unknown"].attack.once.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body) + 1}\r\n".encode() in head + b"\r\n"
    assert len(body) + 2 == 1 << 20


def test_percentiles_include_requests_that_were_never_answered():
    latencies = Latencies()
    assert math.isnan(latencies.percentile(0.5))
    latencies.taken = [0.001 * number for number in range(1, 101)]
    assert latencies.percentile(0.5) == pytest.approx(0.051)
    assert latencies.percentile(1) == pytest.approx(0.1)
    assert milliseconds(latencies.taken) == ["51.0", "100.0", "100.0"]
    assert milliseconds([0.001] * 98, 2) == ["1.0", "never", "never"]
    assert milliseconds([]) == ["-", "-", "-"]


def test_a_table_for_each_group_has_a_row_without_hostile_clients_for_each_target():
    one: dict[str, Any] = {
        "alone": {"echo": [0.001]},
        "beside": {"echo": [0.5, 0.5]},
        "failed": {"echo": 1},
        "closed": 1,
    }
    results = [
        Measurement("wsaas", "pings", FLOODING, 50, **one),
        Measurement("wsaas@base", "pings", FLOODING, 50, **one),
        Measurement("wsaas", "post-500", FAILING, 60, error="the gateway ended with status -9"),
    ]
    flooding, failing = tables(results).split("\n\nFailing (ms):")
    for table in (flooding, failing):
        assert len({line.count("|") for line in table.splitlines() if line.startswith("|")}) == 1
    assert "| none | wsaas | 1.0 | 1.0 | 1.0 | - |" in flooding
    assert "| none | wsaas@base | 1.0 | 1.0 | 1.0 | - |" in flooding
    assert "| 50 x `pings` | wsaas | 500.0 | never | never | 1 |" in flooding
    assert "the healthy client was closed 1 times" in flooding
    assert "the gateway ended with status -9" in failing


@pytest.mark.parametrize("options", [["--kinds=nobody"], ["--target=node"], ["--target=nothing"]])
def test_an_unknown_kind_or_target_is_refused(options, capsys):
    with pytest.raises(SystemExit):
        hostile.parse(options)
    assert "error" in capsys.readouterr().err


@pytest.mark.parametrize("treatment", ["500", "reset", "garbage", "close"])
def test_the_authorization_of_a_client_selects_how_the_backend_treats_it(treatment):
    """A message that fails is retried; a closed client disconnects. The messages of another client come back."""

    async def perform():
        async with gateway(Wsaas(settings={"API_RETRY": "200"}), TreatingBackend) as rig:
            closed: list[str] = []
            rig.state.on_close = closed.append
            echo = Echo(rig)
            await echo.open()
            hostile_client = RequestProbe(
                rig.port, attacks.handshake(f"PUT {treatment}") + attacks.TINY, b"HTTP/1.1 101"
            )
            answered = await hostile_client.run(0.02)
            found = await echo.run(0.1)
            echo.close()
            assert not answered.failed
            assert len(found.taken) == 10
            assert not found.failed
            return closed

    closed = asyncio.run(perform())
    assert len(closed) == (treatment == "close")


def test_a_close_is_ignored_by_default():
    BackendState().on_close("anything")


@TWO_CORES
def test_hostile_clients_are_measured_by_one_command(tmp_path):
    path = tmp_path / "all.json"
    kinds = ["pings", "closing", "abrupt", "chunks", "post-500", "full-clients", "parked-live", "ended-502"]
    options = [f"--kinds={','.join(kinds)}", "--seconds=0.2", "--clients=2", f"--json={path}"]
    command = [sys.executable, "-m", "benchmarks", "hostile", *options]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    assert ended.returncode == 0, ended.stderr
    measurements = {one["kind"]: one for one in json.loads(path.read_text())}
    assert list(measurements) == kinds
    for one in measurements.values():
        assert not one["error"]
        assert one["connections"] > 0
        assert one["target_busy"] > 0
        assert one["alone"]["echo"]
        assert one["alone"]["/healthz"]
        assert f"`{one['kind']}` | wsaas |" in ended.stdout
    assert measurements["pings"]["written"] > 0
    assert measurements["full-clients"]["beside"]["push"]
    assert measurements["post-500"]["beside"]["handshake"]
