"""CPU quotas for processes, by control groups of version 1 or 2."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PERIOD_US = 10_000
"""A process that has used up its quota waits for the next period. The kernel's default of 100 ms is long compared with
the messages that the load generator has under way: the other workers would run out of them meanwhile."""

PROC = Path("/proc/self")


class QuotaError(Exception):
    """No quotas can be set here. The text says why."""


@dataclass(frozen=True)
class Hierarchy:
    """The control groups that have the controller `cpu`. `own`: the group of this process, in the group `root`."""

    version: int
    root: Path
    own: Path

    def parent(self) -> Path:
        """Return a group that can have further groups with quotas. Raises `OSError`."""
        if self.version == 1:
            return self.own
        # In version 2, a group that has processes of its own cannot give controllers to groups in it, unless it is the
        # root of the system.
        groups = [self.own, *self.own.parents]
        for group in groups[: groups.index(self.root) + 1]:
            with suppress(OSError):
                switches = group / "cgroup.subtree_control"
                if "cpu" not in switches.read_text().split():
                    switches.write_text("+cpu")
                return group
        raise PermissionError(f"no group from {self.own} up to {self.root} can give the controller cpu to others")

    def limit(self, group: Path, share: float) -> None:
        """Allow the processes in `group` this share of one core. Raises `OSError`."""
        quota = round(share * PERIOD_US)
        if self.version == 1:
            (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (group / "cpu.cfs_quota_us").write_text(str(quota))
        else:
            (group / "cpu.max").write_text(f"{quota} {PERIOD_US}")


def find_hierarchy(proc: Path = PROC) -> Hierarchy:
    """Return the control groups of this process. `proc`: its folder in `/proc`. Raises `QuotaError`."""
    paths = {}
    for line in (proc / "cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        paths.update(dict.fromkeys(controllers.split(","), path))
    for line in (proc / "mountinfo").read_text().splitlines():
        mount, _, source = line.partition(" - ")
        _, _, _, top, point, *_ = mount.split()
        kind, _, options = source.split(" ", 2)
        root = Path(point)
        if kind == "cgroup" and "cpu" in options.split(",") and "cpu" in paths:
            return Hierarchy(1, root, _below(root, top, paths["cpu"]))
        if kind == "cgroup2" and "cpu" in (root / "cgroup.controllers").read_text().split() and "" in paths:
            return Hierarchy(2, root, _below(root, top, paths[""]))
    raise QuotaError(
        "CPU quotas need control groups, and none with the controller cpu are mounted (/proc/self/mountinfo)"
    )


def _below(root: Path, top: str, path: str) -> Path:
    """Return the folder of the group `path`. `top`: the group that is mounted at `root`."""
    relative = os.path.relpath(path, top)
    return root if relative.startswith("..") else root / relative


@contextmanager
def cpu_quota(processes: Sequence[int], share: float) -> Iterator[None]:
    """Allow each of `processes` this share of one core inside the block. Raises `QuotaError`."""
    with ExitStack() as stack:
        try:
            hierarchy = find_hierarchy()
            parent = hierarchy.parent()
            for process in processes:
                group = parent / f"wsaas-benchmarks-{process}"
                group.mkdir(exist_ok=True)
                stack.callback(group.rmdir)
                hierarchy.limit(group, share)
                (group / "cgroup.procs").write_text(str(process))
                stack.callback(_move, process, hierarchy.own)
        except OSError as error:
            raise QuotaError(f"CPU quotas need control groups that can be changed, usually by root: {error}") from error
        yield


def _move(process: int, group: Path) -> None:
    with suppress(ProcessLookupError):
        (group / "cgroup.procs").write_text(str(process))
