"""The configurations in `deploy`, run by the real proxies: with the addresses and files of a test instead of theirs."""

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.certificate_authority import CertificateAuthority
from tests.support.compatibility import environment, listens, nginx_user, start, stop, words
from tests.support.ports import free_port
from tests.support.waiting import TIMEOUT_S, wait_until

DEPLOY = Path(__file__).parents[2] / "deploy"
HTTP_FRONTS = ("nginx/front.conf", "haproxy/front.cfg", "caddy/front.Caddyfile")
FRONTS = (*HTTP_FRONTS, "haproxy/front-tcp.cfg")
BACKS = ("nginx/back.conf", "haproxy/back.cfg", "caddy/back.Caddyfile")

CHECK = {
    "nginx": "nginx -t -c {config}",
    "haproxy": "haproxy -c -f {config}",
    "caddy": "caddy validate --config {config} --adapter caddyfile",
}
RUN = {
    "nginx": "nginx -g 'daemon off;' -c {config}",
    "haproxy": "haproxy -W -db -f {config}",
    "caddy": "caddy run --config {config} --adapter caddyfile",
}
SHUTTING_DOWN = b"worker process is shutting down"


class DeployedProxy:
    """A proxy with a file of `deploy` as its configuration, in a folder of its own."""

    def __init__(self, file: str, folder: Path) -> None:
        self.kind = file.partition("/")[0]
        self.folder = folder
        self.config = folder / file.replace("/", "-")
        self.process: subprocess.Popen[bytes] | None = None
        self.ports: list[int] = []
        self._admin = free_port()
        self.text = (DEPLOY / file).read_text()
        self.replace(self._usual())

    def _usual(self) -> dict[str, str]:
        """Return what has to be replaced in any case."""
        if self.kind == "nginx":
            temporary = "".join(
                f"{name}_temp_path {self.folder}/{name}; " for name in ("proxy", "fastcgi", "uwsgi", "scgi")
            )
            return {
                "user www-data;": nginx_user(),
                "/run/nginx.pid": f"{self.folder}/nginx.pid",
                "error_log /var/log/nginx/error.log;": "error_log stderr notice;",
                "http {\n": f"http {{ client_body_temp_path {self.folder}/body; {temporary}\n",
            }
        if self.kind == "haproxy":
            # Only root may change them.
            maximum = "maxconn 20000" if "front" in self.config.name else "maxconn 2000"
            return {"user haproxy\n": "", "group haproxy\n": "", maximum: "maxconn 500"}
        return {"admin localhost:2019": f"admin 127.0.0.1:{self._admin}\n\tauto_https disable_redirects"}

    def replace(self, changes: Mapping[str, str]) -> None:
        """Replace parts of the configuration. Each of them must be in it."""
        for old, new in changes.items():
            assert old in self.text, old
            self.text = self.text.replace(old, new)

    def replace_if_there(self, changes: Mapping[str, str]) -> None:
        """The same for parts that only some of the proxies have."""
        for old, new in changes.items():
            self.text = self.text.replace(old, new)

    def write(self) -> None:
        """Write the configuration."""
        self.config.write_text(self.text)

    def _words(self, command: str) -> list[str]:
        return words(command.format(config=self.config))

    def faults(self) -> str:
        """Let the proxy check its configuration. Return what it says if there is a fault or a warning."""
        self.write()
        variables = environment(self.folder)
        command = self._words(CHECK[self.kind])
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        said = done.stdout + done.stderr
        return said if done.returncode or "warn" in said.lower() else ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the proxy. Its output is shown if it does not listen."""
        self.write()
        log = self.folder / "proxy.log"
        process = start(self._words(RUN[self.kind]), log, environment(self.folder))
        self.process = process
        try:
            await wait_until(
                lambda: all(map(listens, self.ports)) or process.poll() is not None, "the proxy", log.read_text
            )
            assert process.poll() is None, log.read_text()
            yield
        finally:
            await asyncio.to_thread(stop, process)

    async def reload(self) -> None:
        """Load the configuration anew; return when the proxy has done so."""
        assert self.process is not None
        self.write()
        if self.kind == "caddy":
            await self._run(
                "caddy reload --force --adapter caddyfile --config {config}", "--address", f"127.0.0.1:{self._admin}"
            )
            return
        pid = self.process.pid
        before = children(pid)
        if self.kind == "nginx":
            await self._run("nginx -s reload -c {config}")
        else:
            # After a start and after each reload, the master process ignores it for some milliseconds.
            await wait_until(lambda: catches_signal(pid, signal.SIGUSR2), "the master process")
            self.process.send_signal(signal.SIGUSR2)
        await wait_until(lambda: self._is_reloaded(before), "the reload", (self.folder / "proxy.log").read_text)

    def _is_reloaded(self, before: set[int]) -> bool:
        assert self.process is not None
        if not children(self.process.pid) - before:
            return False
        if self.kind == "nginx":
            return all(SHUTTING_DOWN in command_line(each) or not command_line(each) for each in before)
        # The old process gives up its addresses when the new one is ready.
        return all(not is_listening(each) for each in before)

    async def _run(self, command: str, *more: str) -> None:
        process = await asyncio.create_subprocess_exec(
            *self._words(command),
            *more,
            env=environment(self.folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        said, _ = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
        assert process.returncode == 0, said.decode()


def skip_without_proxy(file: str) -> None:
    """Skip the test if the proxy of a configuration is not installed."""
    words(CHECK[file.partition("/")[0]])


def front(
    file: str, folder: Path, authority: CertificateAuthority, gateways: Sequence[tuple[str, str]]
) -> DeployedProxy:
    """Return a proxy in front of `gateways`: the addresses for clients, and of the REST API, of one or two.

    A gateway that is alone takes both places. The ports of the proxy are for clients and, if the file has it, of the
    REST API.
    """
    proxy = DeployedProxy(file, folder)
    clients, control = free_port(), free_port()
    proxy.ports = [clients] if "-tcp" in file else [clients, control]
    certificate, key = authority.issue().values()
    both = folder / "both.pem"
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    for number, (address, control_address) in zip((1, 2), [*gateways, gateways[0]], strict=False):
        proxy.replace({f"10.0.0.1{number}:8080": address})
        proxy.replace_if_there({f"10.0.0.1{number}:8081": control_address})
    # The proxies check the gateways at one port.
    health = gateways[0][1].rpartition(":")[2]
    proxy.replace_if_there(
        {
            "10.0.0.10:8081": f"127.0.0.1:{control}",
            "bind 10.0.0.10": "bind 127.0.0.1",
            "health_port 8081": f"health_port {health}",
            "check port 8081": f"check port {health}",
            # Far more handshakes than a client makes.
            "rate=10r/s": "rate=1000r/s",
            "rate(0) gt 100": "rate(0) gt 10000",
        }
    )
    site = f"https://127.0.0.1:{clients} {{\n\tbind 127.0.0.1\n\ttls {certificate} {key}"
    proxy.replace(
        {
            "nginx": {
                "/etc/ssl/ws.example.com.pem": str(certificate),
                "/etc/ssl/ws.example.com.key": str(key),
                "listen 443 ssl": f"listen 127.0.0.1:{clients} ssl",
            },
            "haproxy": {
                "/etc/haproxy/ws.example.com.pem": str(both),
                "bind :443 ssl": f"bind 127.0.0.1:{clients} ssl",
                "inter 1s": "inter 100",
            },
            "caddy": {"ws.example.com {": site, "health_interval 1s": "health_interval 100ms"},
        }[proxy.kind]
    )
    return proxy


def back(file: str, folder: Path, backends: Sequence[str]) -> DeployedProxy:
    """Return a proxy in front of two backends, at these addresses."""
    proxy = DeployedProxy(file, folder)
    port = free_port()
    proxy.ports = [port]
    proxy.replace({"127.0.0.1:8000": f"127.0.0.1:{port}", "10.0.1.11:8000": backends[0], "10.0.1.12:8000": backends[1]})
    proxy.replace_if_there({"inter 1s": "inter 100", "fail_duration 2s": "fail_duration 200ms"})
    return proxy


def children(pid: int) -> set[int]:
    """Return the child processes of a process."""
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def command_line(pid: int) -> bytes:
    """Return the command line of a process; nothing if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def catches_signal(pid: int, number: int) -> bool:
    """Return whether a process handles a signal."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (mask,) = (int(line.split()[1], 16) for line in lines if line.startswith("SigCgt:"))
    return bool(mask >> number - 1 & 1)


def is_listening(pid: int) -> bool:
    """Return whether a process listens at a TCP port."""
    listeners = {
        line.split()[9] for line in Path("/proc/net/tcp").read_text().splitlines()[1:] if line.split()[3] == "0A"
    }
    try:
        links = [str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return False
    return any(link[8:-1] in listeners for link in links if link.startswith("socket:["))
