"""Fake programs for the demo of a cluster: they start faster than NATS and a node, and can misbehave."""

import stat
import sys
from pathlib import Path

from tests.support.ports import free_port
from wsaas.demo.cluster import ClusterOptions

NATS = """
import json, os, pathlib, signal, socket, sys
assert "--jetstream" in sys.argv
folder = pathlib.Path(sys.argv[sys.argv.index("--ports_file_dir") + 1])
listener = socket.create_server(("127.0.0.1", 0))
path = folder / f"nats-server_{os.getpid()}.ports"
path.write_text("{")  # half of the file
path.write_text(json.dumps({"nats": [f"nats://127.0.0.1:{listener.getsockname()[1]}"]}))
signal.pause()
"""

NODE = """
import signal, socket, sys
flags = dict(each[2:].split("=", 1) for each in sys.argv[1:])
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
listener = socket.create_server(("127.0.0.1", int(flags["ws-hostname"].partition(":")[2])))
print("started with", *sys.argv[1:], flush=True)
for answer in ["503 Service Unavailable", *["200 OK"] * 100]:
    client, _ = listener.accept()
    client.recv(1000)
    client.sendall(f"HTTP/1.1 {answer}\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n".encode())
    client.close()
"""

SLEEPER = "import signal; signal.pause()"


def program(path: Path, source: str) -> str:
    """Write a program in Python; return its path."""
    path.write_text(f"#!{sys.executable} -IS\n{source}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def options(tmp_path: Path, *, nats: str = NATS, node: str = NODE, count: int = 2) -> ClusterOptions:
    """Return options for a cluster of fake programs."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    return ClusterOptions(
        folder,
        lease_ms=5000,
        nats_server=program(tmp_path / "nats-server", nats),
        ports=[free_port() for _ in range(count)],
        flags=["--log-level=DEBUG"],
        program=[program(tmp_path / "node", node)],
    )
