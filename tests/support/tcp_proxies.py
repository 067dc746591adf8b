"""HAProxy and nginx, which pass TCP connections on with a header of the PROXY protocol."""

import asyncio
import csv
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.waiting import TIMEOUT_S, wait_until

_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin"
HAPROXY = shutil.which("haproxy", path=_PATH)
NGINX = shutil.which("nginx", path=_PATH)
NGINX_STREAM = Path("/usr/lib/nginx/modules/ngx_stream_module.so")

HAS_IPV6 = Path("/proc/net/if_inet6").exists()

needs_haproxy = pytest.mark.skipif(HAPROXY is None, reason="HAProxy is not installed")
needs_nginx = pytest.mark.skipif(
    NGINX is None or not NGINX_STREAM.exists(), reason="nginx is not installed with its module stream"
)


class Proxy:
    """A running proxy. `port`: where clients connect; `socket`: a Unix socket for them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.socket = folder / "clients.sock"
        self.admin = folder / "admin.sock"

    async def servers(self) -> list[dict[str, str]]:
        """Return the rows of HAProxy's statistics about its servers, by the names of the columns."""
        reader, writer = await asyncio.open_unix_connection(str(self.admin))
        writer.write(b"show stat\n")
        said = (await reader.read()).decode().removeprefix("# ")
        writer.close()
        return [row for row in csv.DictReader(said.splitlines()) if row["svname"] not in {"FRONTEND", "BACKEND"}]


@asynccontextmanager
async def haproxy(folder: Path, gateway: str, server: str, *more: str) -> AsyncIterator[Proxy]:
    """Run HAProxy before the gateway at `gateway`. `server`: options of it; `more`: lines of the back end."""
    proxy = Proxy(folder)
    file = folder / "haproxy.cfg"
    lines = [
        "global",
        f"  stats socket {proxy.admin} level admin",
        "defaults",
        "  mode tcp",
        "  timeout connect 5s",
        "  timeout client 30s",
        "  timeout server 30s",
        "frontend clients",
        f"  bind {proxy.socket}",
        f"  bind 127.0.0.1:{proxy.port}",
        *([f"  bind [::1]:{proxy.port} v6only"] if HAS_IPV6 else []),
        "  default_backend gateways",
        "backend gateways",
        *(f"  {line}" for line in more),
        f"  server gateway {gateway} {server}",
        "",
    ]
    file.write_text("\n".join(lines))
    async with _running(proxy, [str(HAPROXY), "-db", "-f", str(file)]):
        yield proxy


@asynccontextmanager
async def nginx(folder: Path, gateway: str) -> AsyncIterator[Proxy]:
    """Run nginx before the gateway at `gateway`."""
    proxy = Proxy(folder)
    file = folder / "nginx.conf"
    file.write_text(
        f"""
        load_module {NGINX_STREAM};
        daemon off;
        master_process off;
        pid {folder}/nginx.pid;
        error_log stderr warn;
        events {{ }}
        stream {{
            server {{
                listen unix:{proxy.socket};
                listen 127.0.0.1:{proxy.port};
                proxy_pass {gateway};
                proxy_protocol on;
            }}
        }}
        """
    )
    async with _running(proxy, [str(NGINX), "-c", str(file), "-p", str(folder), "-e", "stderr"]):
        yield proxy


@asynccontextmanager
async def _running(proxy: Proxy, command: Sequence[str]) -> AsyncIterator[None]:
    log = proxy.folder / "proxy.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        # Its sockets are bound before it listens on the first.
        await wait_until(lambda: process.poll() is not None or proxy.socket.exists(), "the proxy", log.read_text)
        await wait_until(lambda: process.poll() is not None or _listens(proxy.socket), "the proxy", log.read_text)
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.kill()
        process.wait(TIMEOUT_S)


def _listens(path: Path) -> bool:
    """Return whether the kernel has a listener at `path`: asking does not open a connection."""
    lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    # Flag 0x10000 is that of a listener. HAProxy binds a temporary name and renames it.
    return any(words[3] == "00010000" and words[-1].startswith(str(path)) for words in lines if len(words) > 7)
