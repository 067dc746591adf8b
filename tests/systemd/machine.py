"""A machine for tests: systemd as the first process of namespaces of its own, with the units in deploy/systemd.

It has a root file system of its own (see boot.sh) and the network of this machine, so clients and backends are in the
process of the test.
"""

import os
import shutil
import site
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

import wsaas
from tests.support.ports import free_port
from tests.support.waiting import TIMEOUT_S

HERE = Path(__file__).parent
DEPLOY = HERE.parents[1] / "deploy" / "systemd"
UNITS = "etc/systemd/system"
NAMESPACES = ("--mount", "--pid", "--ipc", "--uts", "--cgroup", "--fork", "--kill-child")
JOURNAL_UNITS = ("systemd-journald.service", "systemd-journald.socket", "systemd-journald-dev-log.socket")
DISTRIBUTION = Path("/usr/lib/systemd/system")
TARGETS = ("sysinit", "sockets", "shutdown", "multi-user", "network-online", "umount")
POLL_S = 0.02

WSAAS = f"""#!/bin/sh
export PYTHONHOME=/opt/python LD_LIBRARY_PATH=/opt/python/lib
export PYTHONPATH=/opt/wsaas/package:/opt/wsaas/lib PYTHONDONTWRITEBYTECODE=1
exec /opt/python/bin/python{sysconfig.get_python_version()} -m wsaas "$@"
"""


def skip_unless_possible() -> None:
    """Skip the test where no machine can be started, and say why."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to make namespaces and mounts")
    for program in ("/usr/lib/systemd/systemd", "systemctl", "unshare", "nsenter", "pivot_root"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}")
    if cgroups() is None:
        pytest.skip("needs a cgroup2 file system that can be written")
    command = [shutil.which("unshare") or "", *NAMESPACES, "true"]
    tried = subprocess.run(command, capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"namespaces are not allowed here: {tried.stderr.strip()}")


def cgroups() -> Path | None:
    """Return where the cgroups of version 2 are mounted."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            tried = Path(place, f"wsaas-tried-{os.getpid()}")
            with suppress(OSError):
                tried.mkdir()
                tried.rmdir()
                return Path(place)
    return None


class Machine:
    """A machine whose files are in `folder`. Call `boot`, and `kill` at the end.

    `is_empty`: the units are not installed yet, and it has a network of its own.
    """

    def __init__(self, folder: Path, *, is_empty: bool = False) -> None:
        self.control_port = free_port()
        self.port = free_port()
        self._cgroup = (cgroups() or folder) / f"wsaas-tests-{os.getpid()}"
        self._files = folder / "files"
        self._folder = folder
        self._namespaces = [*NAMESPACES, "--net"] if is_empty else [*NAMESPACES]
        self._pid = 0
        self._unshare: subprocess.Popen[bytes] | None = None
        self._install()
        if is_empty:
            self.put("etc/passwd", "root:x:0:0::/root:/bin/sh\n")
            self.put("etc/group", "root:x:0:\n")
            shutil.copytree(DEPLOY, self._files / "root" / "deploy" / "systemd")
        else:
            self._install_units()

    def put(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file before the machine boots."""
        file = self._files / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def boot(self) -> None:
        """Start it."""
        (self._folder / "new").mkdir()
        self._cgroup.mkdir()
        folders = self._folder, self._files, sys.base_prefix, site.getsitepackages()[0], Path(wsaas.__file__).parent
        command = ["unshare", *self._namespaces, *map(str, [HERE / "boot.sh", *folders])]
        joined = ["sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', str(self._cgroup), *command]
        with (self._folder / "output").open("wb") as output:
            self._unshare = subprocess.Popen(joined, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        children = Path(f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children")
        self.wait(children.read_text, "systemd to be started")
        self._pid = int(children.read_text())
        self.wait(lambda: self.run("systemctl", "is-system-running", ok=False).strip() == "running", "it to boot")

    def kill(self) -> None:
        """End all of its processes."""
        if self._unshare is not None:
            self._unshare.kill()
            self._unshare.wait()
        for folder, _, _ in os.walk(self._cgroup, topdown=False):
            # Processes that were killed are still in it for a moment.
            self.wait(partial(_is_removed, folder), f"{folder} to be empty")

    def run(self, *command: str, ok: bool = True, text: str = "") -> str:
        """Run a command in it, with `text` as input; return what it writes. With `ok`, it has to succeed."""
        entered = ["nsenter", "--target", str(self._pid), "--mount", "--pid", "--ipc", "--uts", "--cgroup"]
        entered += ["--net", *command]
        done = subprocess.run(entered, input=text, capture_output=True, text=True, check=False, timeout=90)
        assert not (ok and done.returncode), f"{command}: {done.stdout}{done.stderr}{self.journal()}"
        return done.stdout

    def show(self, name: str, unit: str = "wsaas.service") -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "show", "--property", name, "--value", unit).strip()

    def write(self, path: str, text: str) -> None:
        """Write a file while it runs."""
        self.run("sh", "-c", 'mkdir -p "${0%/*}" && cat >"$0"', path, text=text)

    def journal(self, *options: str) -> str:
        """Return the journal."""
        return self.run("journalctl", "--no-pager", *options, ok=False)

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """Wait until `condition` is true."""
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            output = self._folder / "output"
            assert time.monotonic() < deadline, f"timed out waiting for {what}: {output.read_text()}"
            time.sleep(POLL_S)

    def _install(self) -> None:
        """Put all files of the machine in place."""
        self.put("etc/passwd", "root:x:0:0::/root:/bin/sh\nwsaas:x:990:990::/var/lib/wsaas:/usr/sbin/nologin\n")
        self.put("etc/group", "root:x:0:\nwsaas:x:990:\nsystemd-journal:x:991:\n")
        self.put("etc/machine-id", "0123456789abcdef0123456789abcdef\n")
        self.put("etc/systemd/journald.conf", "[Journal]\nStorage=volatile\n")
        self.put("opt/wsaas/bin/wsaas", WSAAS, 0o755)
        for name in TARGETS:
            self.put(f"{UNITS}/{name}.target", "[Unit]\nDefaultDependencies=no\n")
        needed = "sysinit.target sockets.target systemd-journald.service"
        for name in ("basic", "default"):
            self.put(f"{UNITS}/{name}.target", f"[Unit]\nDefaultDependencies=no\nRequires={needed}\nAfter={needed}\n")
        for name in JOURNAL_UNITS:
            self.put(f"{UNITS}/{name}", (DISTRIBUTION / name).read_text())

    def _install_units(self) -> None:
        for file in DEPLOY.glob("wsaas*.s*"):
            if file.is_file():
                text = file.read_text().replace("ListenStream=8080", f"ListenStream=127.0.0.1:{self.port}")
                self.put(f"{UNITS}/{file.name}", text.replace(":8081", f":{self.control_port}"))

    def configure(self, **settings: object) -> None:
        """Write the settings before it boots."""
        given = {"WS_HOSTNAME": f"127.0.0.1:{self.control_port}", **settings}
        self.put("etc/wsaas/wsaas.env", "".join(f"{name}={value}\n" for name, value in given.items()))


def _is_removed(folder: str) -> bool:
    with suppress(OSError):
        Path(folder).rmdir()
    return not Path(folder).exists()
