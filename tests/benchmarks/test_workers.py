"""Workers are compared turn by turn, and get CPU quotas from control groups."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import processes
from benchmarks.cases.workers import LIMITED, MESSAGE, check_quotas
from benchmarks.comparison.measurement import Measurement
from benchmarks.comparison.ratios import table
from benchmarks.cpu_quota import Hierarchy, QuotaError, cpu_quota, find_hierarchy
from benchmarks.targets.base import placement, running
from benchmarks.targets.workers import Workers, free_ports
from benchmarks.targets.wsaas import Wsaas


def result(case, target, turn, cpu, rate):
    return Measurement(
        target=target,
        case=case,
        turn=turn,
        cpu=cpu,
        rate=rate,
        clients=1,
        size=128,
        user=0.2,
        p50=1,
        p99=2,
        p999=3,
        target_busy=1,
        load_busy=0.5,
        others=0,
        memory=1 << 20,
        behind=0,
        faults={},
    )


def test_workers_are_compared_with_one_worker_turn_by_turn():
    # The machine was half as fast in the second turn.
    results = [
        result(MESSAGE, "1 worker", 0, 10, 100),
        result(MESSAGE, "2 workers", 0, 11, 90),
        result(MESSAGE, "1 worker", 1, 20, 50),
        result(MESSAGE, "2 workers", 1, 22, 45),
    ]
    rows = table(results, (MESSAGE, LIMITED), "cpu").splitlines()
    assert len(rows) == 4
    assert rows[3].startswith("| message | 2 workers | 16.5 (11.0 to 22.0) | 1.10 (1.10 to 1.10) | 68 |")


def test_a_turn_without_one_worker_has_no_ratio():
    results = [result(LIMITED, "1 worker", 0, 10, 100), result(LIMITED, "2 workers", 1, 10, 200)]
    rows = table(results, (LIMITED,), "rate").splitlines()
    assert rows[3].startswith("| message under a quota | 2 workers | 200 (200 to 200) |  | 10.0 |")


def test_each_worker_has_a_port_of_its_own_if_it_is_named():
    with placement(64) as where:
        one, four = (Workers(number, Wsaas(), named=True) for number in (1, 4))
        first = four.control_port(where)
        assert four.control_address(where) == f"127.0.0.1:{first}-{first + 3}"
        assert four.environment(where)["CONTROL_LISTEN"] == four.control_address(where)
        assert four.environment(where)["WS_HOSTNAME"] == "127.0.0.1:{port}"
        assert one.control_address(where) == f"127.0.0.1:{one.control_port(where)}"
        shared = Workers(4, Wsaas())
        assert shared.control_port(where) == where.client
        assert "CONTROL_LISTEN" not in shared.environment(where)
    assert (one.name, four.name) == ("1 worker", "4 workers")


def test_the_ports_that_are_found_are_consecutive():
    ports = free_ports(4)
    assert len(ports) == 4
    assert ports[-1] == ports[0] + 3


def test_workers_end_with_the_supervisor():
    workers = Workers(2, Wsaas())
    # No backend is needed as long as there are no clients.
    with placement(64) as where:
        with running(workers, where, None, kill=True) as process:
            tree = processes.tree(process.pid)
            assert len(tree) == 3
        wait_until(lambda: not any(is_running(each) for each in tree))


def is_running(process):
    try:
        return "Z" not in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def proc(folder, groups, mounts):
    (folder / "cgroup").write_text("".join(f"{line}\n" for line in groups))
    (folder / "mountinfo").write_text("".join(f"{line}\n" for line in mounts))
    return folder


def test_version_1_is_found_by_its_controller(tmp_path):
    groups = ["3:cpuset:/", "2:cpu,cpuacct:/docker/a/b", "0::/"]
    mounts = [
        f"31 30 0:27 / {tmp_path}/cpuset rw,relatime - cgroup cgroup rw,cpuset",
        f"32 30 0:28 /docker/a {tmp_path}/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct",
    ]
    found = find_hierarchy(proc(tmp_path, groups, mounts))
    assert found == Hierarchy(1, tmp_path / "cpu", tmp_path / "cpu" / "b")
    assert found.parent() == found.own


def test_version_2_is_found_if_it_has_the_controller(tmp_path):
    mounts = [f"33 30 0:29 / {tmp_path} rw - cgroup2 cgroup2 rw"]
    place = proc(tmp_path, ["0::/user/session"], mounts)
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu memory\n")
    assert find_hierarchy(place) == Hierarchy(2, tmp_path, tmp_path / "user" / "session")
    (tmp_path / "cgroup.controllers").write_text("hugetlb\n")
    with pytest.raises(QuotaError, match="none with the controller cpu are mounted"):
        find_hierarchy(place)


def test_a_group_above_the_mounted_one_counts_as_the_mounted_one(tmp_path):
    mounts = [f"32 30 0:28 /docker/a {tmp_path} rw - cgroup cgroup rw,cpu"]
    assert find_hierarchy(proc(tmp_path, ["2:cpu:/"], mounts)).own == tmp_path


def test_in_version_2_the_nearest_group_that_can_give_the_controller_gets_the_new_groups(tmp_path):
    own = tmp_path / "user" / "session"
    own.mkdir(parents=True)
    hierarchy = Hierarchy(2, tmp_path, own)
    with pytest.raises(PermissionError, match="can give the controller cpu to others"):
        hierarchy.parent()
    (tmp_path / "cgroup.subtree_control").write_text("")
    assert hierarchy.parent() == tmp_path
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+cpu"
    (tmp_path / "user" / "cgroup.subtree_control").write_text("memory cpu\n")
    assert hierarchy.parent() == tmp_path / "user"


def test_a_quota_is_written_as_each_version_wants_it(tmp_path):
    Hierarchy(1, tmp_path, tmp_path).limit(tmp_path, 0.2)
    assert (tmp_path / "cpu.cfs_period_us").read_text() == "10000"
    assert (tmp_path / "cpu.cfs_quota_us").read_text() == "2000"
    Hierarchy(2, tmp_path, tmp_path).limit(tmp_path, 0.2)
    assert (tmp_path / "cpu.max").read_text() == "2000 10000"


def test_the_case_says_why_no_quotas_can_be_set(monkeypatch, tmp_path):
    missing = Hierarchy(2, tmp_path, tmp_path)
    monkeypatch.setattr("benchmarks.cpu_quota.find_hierarchy", lambda: missing)
    with pytest.raises(SystemExit, match=r"usually by root: no group .* --no-quota leaves out what needs them"):
        check_quotas()


BUSY = """
import sys, time
sys.stdin.readline()
end, cpu = time.monotonic() + 0.5, time.process_time()
while time.monotonic() < end: pass
print((time.process_time() - cpu) / 0.5)
"""


def test_a_process_gets_no_more_than_its_quota():
    with subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        try:
            with cpu_quota([process.pid], 0.2):
                process.stdin.write(b"\n")
                process.stdin.flush()
                share = float(process.stdout.readline())
        except QuotaError as error:
            process.stdin.close()
            pytest.skip(f"control groups cannot be changed here: {error}")
    assert 0.02 < share < 0.3
