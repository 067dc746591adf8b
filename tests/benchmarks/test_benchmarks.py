"""The load generator counts the errors of a gateway, which are injected here."""

import asyncio
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from contextlib import asynccontextmanager, closing, suppress
from itertools import count
from pathlib import Path

import pytest

from benchmarks import processes
from benchmarks.cases import CASES
from benchmarks.comparison.histogram import merged, percentile
from benchmarks.comparison.measurement import FAULTS
from benchmarks.comparison.workloads import WORKLOADS
from benchmarks.in_process.parts import PARTS
from benchmarks.load_generator import LoadError, LoadGenerator
from benchmarks.machine import undisturbed
from benchmarks.report import in_turn
from benchmarks.targets.base import Placement, Target
from benchmarks.targets.workers import free_ports
from benchmarks.targets.wsaas import Wsaas

pytestmark = [
    pytest.mark.skipif(shutil.which("cc") is None, reason="the load generator needs a C compiler"),
    pytest.mark.slow,
]

HOST = "127.0.0.1"
ROOT = Path(__file__).parents[2]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


def frame(payload, opcode=1):
    size = len(payload)
    length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big") if size < 65536 else None
    return bytes([0x80 | opcode]) + (length or b"\x7f" + size.to_bytes(8, "big")) + payload


async def read_request(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    size = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return head, await reader.readexactly(int(size or b"0"))


async def read_frame(reader):
    first, second = await reader.readexactly(2)
    size = second & 127
    if size > 125:
        size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8), "big")
    key = await reader.readexactly(4)
    data = await reader.readexactly(size)
    mask = int.from_bytes((key * (size // 4 + 1))[:size], "big")
    return first & 15, (int.from_bytes(data, "big") ^ mask).to_bytes(size, "big")


async def closed(writer):
    """Close `writer`, and wait until its transport is closed."""
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


class Gateway:
    """A correct gateway, with one request to the backend at a time. Subclasses inject errors in the two hooks."""

    ports = 1
    """Consecutive ports that it takes pushes on."""

    def __init__(self):
        self.clients = {}
        self.ids = count()
        self.numbers = range(0)

    async def start(self, backend_port):
        self.backend = await asyncio.open_connection(HOST, backend_port)
        self.turn = asyncio.Lock()

    async def tell(self, method, client_id, body):
        reader, writer = self.backend
        uri = f"{self.host(client_id)}/{client_id}"
        head = f"{method} / HTTP/1.1\r\nWs-Uri: {uri}\r\nContent-Length: {len(body)}\r\n\r\n"
        async with self.turn:
            writer.write(head.encode() + body)
            await read_request(reader)

    def host(self, _client_id):
        return HOST

    async def inward(self, client_id, payload):
        await self.tell("PUT", client_id, payload)

    async def outward(self, client_id, payload):
        self.clients[client_id].write(frame(payload))

    async def pushed(self, client_id, writer):
        pass

    async def publish(self, client_ids, payload):
        for client_id in client_ids:
            await self.outward(client_id, payload)

    def answer(self, writer):
        writer.write(OK)

    async def serve(self, reader, writer):
        try:
            head, body = await read_request(reader)
            if b"Upgrade" in head:
                await self.socket(head, reader, writer)
            while True:
                client_id = head.split()[1].decode()[1:]
                if client_id == "groups/all":
                    await self.publish(list(self.clients), body)
                elif client_id == "send":
                    for line in map(json.loads, body.splitlines()):
                        await self.publish([path[1:] for path in line["to"]], line["text"].encode())
                else:
                    await self.pushed(client_id, writer)
                    await self.outward(client_id, body)
                self.answer(writer)
                head, body = await read_request(reader)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            await closed(writer)

    async def socket(self, head, reader, writer):
        client_id = f"id{next(self.ids)}"
        await self.tell("POST", client_id, head.split()[1])
        self.clients[client_id] = writer
        writer.write(SWITCHING)
        opcode, payload = await read_frame(reader)
        while opcode != 8:
            await self.inward(client_id, payload)
            opcode, payload = await read_frame(reader)
        writer.write(frame(payload, 8))
        await self.tell("DELETE", client_id, b"")
        raise ConnectionResetError


class Fake(Target):
    publish = Wsaas.publish
    send = Wsaas.send

    def __init__(self, ports):
        self.ports = ports

    def control_address(self, place):
        return f"{super().control_address(place)}-{self.ports[-1]}"

    def command(self, _place):
        raise AssertionError("it runs in this process: there is nothing to start")


@asynccontextmanager
async def loaded(gateway, clients):
    with socket.create_server((HOST, 0)) as listener:
        backend_port = listener.getsockname()[1]
    writers = []

    def accept(reader, writer):
        writers.append(writer)
        return gateway.serve(reader, writer)

    ports = gateway.numbers = free_ports(gateway.ports)
    servers = [await asyncio.start_server(accept, HOST, port) for port in ports]
    settings = Fake(ports).load_settings(Placement(backend_port, ports[0], ports[0], Path(), 1))
    with closing(await asyncio.to_thread(LoadGenerator, [*settings, "timeout=0.5"])) as load:
        await gateway.start(backend_port)
        try:
            await asyncio.to_thread(load.open, clients)
            yield load
        finally:
            load.close()
            await closed(gateway.backend[1])
            while others := asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.wait_for(asyncio.gather(*others), 10)
            # If a server is closed between accepting a connection and the first step of its task, asyncio leaves the
            # transport open. There is no such task now, and no turn of the loop in between.
            for server in servers:
                server.close()
            for writer in writers:
                writer.transport.abort()
            # An aborted transport closes its socket in the next turn.
            for _ in range(3):
                await asyncio.sleep(0)


def answer_of(gateway, case, clients=3, **options):
    """Return the load generator's answer for one run."""

    async def perform():
        async with loaded(gateway, clients) as load:
            return await asyncio.to_thread(lambda: load.run(case, **options))

    return asyncio.run(perform())


def run(gateway, case, **options):
    """Return how many messages were finished, and the faults."""
    answer = answer_of(gateway, case, **{"count": 60, "window": 4, "connections": 4, **options})
    return answer["messages"], {fault: answer[fault] for fault in FAULTS if answer[fault]}


@pytest.mark.parametrize("case", ["push", "message", "echo", "connect"])
def test_a_correct_gateway_has_no_faults(case):
    assert run(Gateway(), case) == (60, {})


@pytest.mark.parametrize("size", [16, 125, 126, 5000, 65535, 65536, 1 << 20])
@pytest.mark.parametrize("case", ["push", "message"])
def test_messages_of_any_size_are_counted_correctly(case, size):
    assert run(Gateway(), case, size=size, count=8) == (8, {})


def test_frames_and_requests_may_arrive_in_pieces():
    class InPieces(Gateway):
        async def outward(self, client_id, payload):
            for byte in frame(payload):
                self.clients[client_id].write(bytes([byte]))
                await asyncio.sleep(0)

        def answer(self, writer):
            writer.write(OK[:30])
            asyncio.get_running_loop().call_later(0.001, writer.write, OK[30:])

        async def inward(self, client_id, payload):
            reader, writer = self.backend
            head = f"PUT / HTTP/1.1\r\nWs-Uri: {HOST}/{client_id}\r\nContent-Length: {len(payload)}\r\n\r\n"
            async with self.turn:
                for byte in head.encode() + payload:
                    writer.write(bytes([byte]))
                    await asyncio.sleep(0)
                await read_request(reader)

    assert run(InPieces(), "echo", count=20) == (20, {})


class Nth(Gateway):
    """Errs once, in the method that a test overrides."""

    def __init__(self):
        super().__init__()
        self.calls = count(1)

    async def outward(self, client_id, payload):
        if next(self.calls) == 30:
            await self.err_outward(client_id, payload)
        else:
            await super().outward(client_id, payload)

    async def inward(self, client_id, payload):
        if next(self.calls) == 30:
            await self.err_inward(client_id, payload)
        else:
            await super().inward(client_id, payload)

    async def err_outward(self, client_id, payload):
        await super().outward(client_id, payload)

    async def err_inward(self, client_id, payload):
        await super().inward(client_id, payload)


def test_a_push_that_is_answered_but_never_arrives_is_lost():
    class Drops(Nth):
        async def err_outward(self, client_id, payload):
            pass

    assert run(Drops(), "push")[1] == {"lost": 1}


def test_a_push_that_arrives_twice_is_seen():
    class Repeats(Nth):
        async def err_outward(self, client_id, payload):
            self.clients[client_id].write(2 * frame(payload))

    assert run(Repeats(), "push") == (60, {"unexpected": 1})


def test_a_push_to_the_wrong_client_is_seen():
    class Confuses(Nth):
        async def err_outward(self, client_id, payload):
            other = next(one for one in self.clients if one != client_id)
            await Gateway.outward(self, other, payload)

    assert run(Confuses(), "push")[1] == {"unexpected": 1, "lost": 1}


def test_a_push_that_was_altered_is_seen():
    class Alters(Nth):
        async def err_outward(self, client_id, payload):
            await Gateway.outward(self, client_id, payload[:-1] + b"!")

    assert run(Alters(), "push")[1] == {"corrupted": 1, "lost": 1}


def test_a_push_that_was_refused_is_seen():
    class Refuses(Nth):
        async def err_outward(self, _client_id, _payload):
            self.refuse = True

        refuse = False

        def answer(self, writer):
            writer.write(OK.replace(b"200", b"429") if self.refuse else OK)
            self.refuse = False

    assert run(Refuses(), "push") == (60, {"refused": 1})


def test_a_push_that_a_later_one_overtakes_is_reordered():
    class Overtakes(Gateway):
        held = None

        async def outward(self, client_id, payload):
            number = int(payload[5:12], 16)
            if number == 10:
                self.held = payload
                return
            await super().outward(client_id, payload)
            if number == 20:
                await super().outward(client_id, self.held)

    messages, faults = run(Overtakes(), "push", clients=1)
    assert (messages, faults) == (60, {"reordered": 1})


@pytest.mark.parametrize(
    ("case", "options", "frames"), [("fanout", {}, 5), ("send", {"batch": 3}, 3), ("send", {"batch": 3, "lines": 1}, 3)]
)
def test_each_frame_of_a_request_to_many_clients_counts(case, options, frames):
    answer = answer_of(Gateway(), case, clients=5, count=20, **options)
    assert answer["messages"] == 20 * frames
    assert sum(number for _, number in answer["latency"]) == 20
    assert not any(answer[fault] for fault in FAULTS)


def test_messages_beside_publishes_are_timed_by_themselves():
    answer = answer_of(Gateway(), "fanout", clients=5, seconds=0.5, rate=20, beside=200)
    assert not any(answer[fault] for fault in FAULTS)
    publishes, messages = (sum(number for _, number in answer[name]) for name in ("latency", "beside"))
    assert answer["messages"] == 5 * publishes
    assert publishes < messages < 200


def test_a_publish_that_misses_a_client_is_seen():
    class Misses(Nth):
        async def err_outward(self, client_id, payload):
            pass

    messages, faults = run(Misses(), "fanout", clients=5)
    assert (messages, faults) == (29, {"lost": 1})


def test_a_publish_that_reaches_a_client_twice_is_seen():
    class Repeats(Nth):
        async def err_outward(self, client_id, payload):
            self.clients[client_id].write(2 * frame(payload))

    assert run(Repeats(), "fanout", clients=5, count=10) == (50, {"unexpected": 1})


def test_a_send_that_reaches_a_client_that_it_does_not_name_is_seen():
    class Confuses(Nth):
        async def err_outward(self, client_id, payload):
            await Gateway.outward(self, client_id, payload)
            await Gateway.outward(self, "id0" if client_id != "id0" else "id4", payload)

    assert run(Confuses(), "send", clients=5, count=20, batch=2)[1] == {"unexpected": 1}


def test_a_publish_that_was_refused_is_seen():
    class Refuses(Gateway):
        async def publish(self, client_ids, payload):
            pass

        def answer(self, writer):
            writer.write(OK.replace(b"200", b"429"))

    assert run(Refuses(), "fanout", count=3)[1] == {"refused": 3}


def test_a_publish_that_was_altered_is_seen():
    class Alters(Nth):
        async def err_outward(self, client_id, payload):
            await Gateway.outward(self, client_id, payload[:-1] + b"!")

    assert run(Alters(), "fanout", clients=5)[1] == {"corrupted": 1, "lost": 1}


def test_a_message_that_the_backend_never_gets_is_lost():
    class Drops(Nth):
        async def err_inward(self, client_id, payload):
            pass

    _, faults = run(Drops(), "message", clients=4)
    assert faults["lost"] == 1


def test_a_message_that_the_backend_gets_twice_is_seen():
    class Repeats(Nth):
        async def err_inward(self, client_id, payload):
            await self.tell("PUT", client_id, payload)
            await self.tell("PUT", client_id, payload)

    assert run(Repeats(), "message") == (60, {"unexpected": 1})


def test_messages_of_one_client_that_change_places_are_reordered():
    class Swaps(Gateway):
        held = None

        async def inward(self, client_id, payload):
            if int(payload[5:12], 16) == 10:
                self.held = payload
                return
            await super().inward(client_id, payload)
            if self.held:
                await super().inward(client_id, self.held)
                self.held = None

    messages, faults = run(Swaps(), "message", clients=1)
    assert (messages, faults) == (60, {"reordered": 1})


def test_a_message_of_the_wrong_client_is_seen():
    class Confuses(Nth):
        async def err_inward(self, client_id, payload):
            await self.tell("PUT", next(one for one in self.clients if one != client_id), payload)

    assert run(Confuses(), "message")[1] == {"unexpected": 1, "lost": 1}


def test_a_client_that_is_closed_is_seen():
    class Closes(Nth):
        async def err_outward(self, client_id, _payload):
            self.clients[client_id].write(frame(b"\x03\xf3", 8))

    assert run(Closes(), "push")[1]["broken"] == 1


def test_a_ping_is_answered():
    class Pings(Gateway):
        pongs = 0

        async def outward(self, client_id, payload):
            self.clients[client_id].write(frame(b"hello", 9))
            await super().outward(client_id, payload)

        async def inward(self, _client_id, payload):
            assert payload == b"hello"
            self.pongs += 1

    gateway = Pings()
    answer_of(gateway, "push", clients=1, count=20, window=1, connections=1)
    assert gateway.pongs >= 19


class TwoPorts(Gateway):
    """Names one of two ports in the ws_uri of each client, and notes which pushes arrive there."""

    ports = 2

    def __init__(self):
        super().__init__()
        self.at_the_right_port = []

    def host(self, client_id):
        return f"{HOST}:{self.numbers[int(client_id[2:]) % 2]}"

    async def pushed(self, client_id, writer):
        self.at_the_right_port.append(self.host(client_id).endswith(str(writer.get_extra_info("sockname")[1])))


@pytest.mark.parametrize("case", ["push", "echo"])
@pytest.mark.parametrize("misdirect", [0, 1])
def test_pushes_go_to_the_port_that_the_ws_uri_names_or_to_the_other_one(case, misdirect):
    gateway = TwoPorts()
    assert run(gateway, case, misdirect=misdirect) == (60, {})
    assert gateway.at_the_right_port == [not misdirect] * 60


def test_an_open_loop_keeps_its_rate_whatever_the_answers():
    answer = answer_of(Gateway(), "push", seconds=0.5, rate=200)
    assert 50 < answer["messages"] < 200
    assert not answer["lost"]


def test_the_backend_can_be_slow():
    answer = answer_of(Gateway(), "echo", count=5, window=1, delay=0.02)
    assert answer["messages"] == 5
    assert min(value for value, _ in answer["latency"]) > 20e6


def test_the_load_generator_says_when_clients_cannot_connect():
    class Mute(Gateway):
        async def socket(self, _head, _reader, _writer):
            raise ConnectionResetError

    with pytest.raises(LoadError):
        answer_of(Mute(), "push")


def test_the_load_generator_refuses_a_case_that_it_does_not_know():
    with pytest.raises(LoadError):
        answer_of(Gateway(), "nonsense")


def test_percentiles_are_of_all_that_was_counted():
    histogram = [(1000, 90), (2000, 9), (9000, 1)]
    assert percentile(histogram, 0.5) == 1
    assert percentile(histogram, 0.99) == 2
    assert percentile(histogram, 0.999) == 9
    assert merged([histogram, [(2000, 1)]]) == [(1000, 90), (2000, 10), (9000, 1)]


def test_a_tree_of_processes_is_counted_whole():
    child = "print(sum(range(10**7)), flush=True); input()"
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', '{child}'])"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdin
        process.stdout.readline()
        tree = processes.tree(process.pid)
        assert len(tree) == 2
        assert processes.cpu(tree) > processes.cpu(tree[:1])
        assert processes.memory(tree) > processes.memory(tree[:1]) > 1 << 20
        process.stdin.close()


def test_targets_that_are_compared_are_run_in_turn():
    numbers = count()
    results = in_turn({"first": lambda: next(numbers), "second": lambda: next(numbers)}, 3)
    assert results == {"first": [0, 2, 4], "second": [1, 3, 5]}


def test_a_disturbed_run_is_repeated_and_the_least_disturbed_one_kept():
    shares = iter([0.5, 0.0, 0.4])
    assert undisturbed(lambda: next(shares), lambda share: share, calm=1, tries=3) == 0.5
    shares = iter([2.5, 1.5, 2.0, 0.0])
    assert undisturbed(lambda: next(shares), lambda share: share, calm=1, tries=3) == 1.5
    assert next(shares) == 0.0


def suite(*arguments):
    """Run `python -m benchmarks` with `arguments`."""
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def test_every_case_is_listed_with_a_line_about_it():
    ended = suite("--help")
    assert ended.returncode == 0
    for name, case in CASES.items():
        assert re.search(rf"^  {name} +{re.escape(case.summary)}$", ended.stdout, re.MULTILINE)
    assert set(WORKLOADS) <= set(CASES)
    files = {path.stem for path in (ROOT / "benchmarks" / "cases").glob("*.py")}
    assert files - {"__init__", "compare"} <= set(CASES)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["push,micro"],
        ["micro", "--target=nchan"],
        ["workers", "--workers=0"],
        ["workers", "--target=node"],
        ["nodes", "--target=node"],
    ],
)
def test_a_command_that_names_no_case_is_an_error(arguments):
    ended = suite(*arguments)
    assert ended.returncode
    assert "usage: python -m benchmarks" in ended.stderr


TWO_CORES = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core for the gateway, one for the load")


@TWO_CORES
def test_the_code_of_two_checkouts_is_compared_without_sockets():
    ended = suite("micro", "--target", f"wsaas,wsaas@{ROOT}", "--times=20", "--batches=2", "--repeats=1")
    assert ended.returncode == 0, ended.stderr
    assert "left out" not in ended.stderr
    rows = [line.split(" | ") for line in ended.stdout.splitlines()[2:]]
    names = ["| push: PUT in, frame and response out", "| message: frame in, PUT out, response in"]
    names += [f"| {part}" for part in PARTS]
    for name in names:
        assert [row[1] for row in rows if row[0] == name] == ["wsaas", f"wsaas@{ROOT.name}"]


@TWO_CORES
def test_the_code_is_measured_with_recorded_traces():
    options = ["--times=20", "--batches=2", "--repeats=1"]
    ended = suite("micro", "--target", "wsaas", "--traces", "recorded", *options)
    assert ended.returncode == 0, ended.stderr
    costs = {row[0]: float(row[2].split()[0]) for row in (line.split(" | ") for line in ended.stdout.splitlines()[2:])}
    # To record a span takes longer than everything else that a message takes.
    assert costs["| message: frame in, PUT out, response in"] > 2 * costs["| push: PUT in, frame and response out"]


@pytest.mark.parametrize(
    "command",
    [
        "connects --clients=64 --repeats=1",
        "paths --clients=5 --messages=320 --repeats=1",
        "idle --clients=10 --talk --size=300 --compression",
        "outage --clients=5 --seconds=1",
        "slow --megabytes=1",
        "stalls --connections=5 --timeout=300",
        "pauses --clients=50 --seconds=0.2",
        "pauses --clients=50 --seconds=0.2 --group",
        "framing --frames=20 --repeats=1",
    ],
)
def test_a_case_runs_without_the_load_generator(command):
    ended = suite(*command.split())
    assert ended.returncode == 0, ended.stderr
    assert not ended.stderr
    assert ended.stdout.strip()


@TWO_CORES
def test_publishes_are_measured_for_targets_that_have_them(tmp_path):
    path = tmp_path / "all.json"
    options = ["--clients=120", "--repeats=1", "--seconds=0.1", "--warmup=0.1", "--json", str(path)]
    ended = suite("fanout,beside,send", *options)
    assert ended.returncode == 0, ended.stderr
    measurements = json.loads(path.read_text())["measurements"]
    assert [one["case"] for one in measurements] == [
        "fanout to 100",
        "fanout to 120",
        "message alone",
        "message beside a publish each second",
        "message beside publishes without a pause",
        "push",
        "send one text to 100",
        "send 100 lines",
    ]
    assert all(one["cpu"] > 0 and not one["faults"] for one in measurements)


@TWO_CORES
def test_workers_are_measured_on_shared_ports_and_on_their_own(tmp_path):
    path = tmp_path / "all.json"
    options = ["--clients=20", "--repeats=1", "--seconds=0.1", "--warmup=0.1", "--no-quota", "--json", str(path)]
    ended = suite("workers", "--workers=1,2", *options)
    assert ended.returncode == 0, ended.stderr
    measurements = json.loads(path.read_text())["measurements"]
    assert [(one["case"], one["target"]) for one in measurements] == [
        ("message", "1 worker"),
        ("push", "1 worker"),
        ("message", "2 workers"),
        ("push", "2 workers"),
        ("push to the right worker", "1 worker"),
        ("push to a wrong worker", "1 worker"),
        ("push to the right worker", "2 workers"),
        ("push to a wrong worker", "2 workers"),
    ]
    assert all(one["cpu"] > 0 and not one["faults"] for one in measurements)
    assert ended.stdout.count("| 1.00 (1.00 to 1.00) |") == 4


@TWO_CORES
def test_pushes_are_measured_at_the_node_of_the_client_and_at_another_one(tmp_path):
    path = tmp_path / "all.json"
    options = ["--clients=20", "--repeats=1", "--seconds=0.1", "--warmup=0.1", "--json", str(path)]
    ended = suite("nodes", *options)
    assert ended.returncode == 0, ended.stderr
    measurements = json.loads(path.read_text())["measurements"]
    assert [(one["case"], one["target"]) for one in measurements] == [
        (case, target)
        for target in ("1 node", "2 nodes")
        for case in ("message", "push to the node of the client", "push to another node")
    ]
    assert all(one["cpu"] > 0 and not one["faults"] for one in measurements)


@TWO_CORES
def test_the_gateway_is_measured_by_one_command(tmp_path):
    path = tmp_path / "all.json"
    options = ["--clients=20", "--repeats=1", "--seconds=0.1", "--warmup=0.1", "--json"]
    ended = suite("push,message,echo,connect", *options, str(path))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("| wsaas |") == 4
    measurements = json.loads(path.read_text())["measurements"]
    assert [one["case"] for one in measurements] == ["push", "message", "echo", "connect"]
    assert all(one["cpu"] > 0 and one["memory"] > 0 and not one["faults"] for one in measurements)
