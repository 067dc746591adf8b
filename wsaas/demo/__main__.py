"""Runs the example backend and the page of the demo: `python -m wsaas.demo`."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from wsaas.demo.cluster import Cluster, ClusterError, ClusterOptions
from wsaas.demo.connections import Connections, possible_connections
from wsaas.demo.hosts import Hosts
from wsaas.demo.server import WEBHOOK, DemoServer

STOP: Final = {signal.SIGTERM, signal.SIGINT}
MAX_PORT: Final = 65535


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM, SIGINT or the end of the parent; return the exit status."""
    options = parse(arguments)
    host, port = options.listen
    # Block the signals before any thread starts, so that all threads inherit this and only `sigwait` gets a signal.
    # There is no handler that could interrupt anything, and further signals have no effect.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP)
    cluster = make_cluster(options) if options.nodes else None
    try:
        server = DemoServer(host, port, options.gateway, cluster)
    except OSError as error:
        print(f"wsaas demo: cannot listen on {host}:{port}: {error.strerror or error}", file=sys.stderr)
        return 1
    server.connections = Connections(possible_connections())
    server.hosts = Hosts(options.names)
    server.upstream = options.upstream or server.upstream
    if options.console:
        server.config["console"] = options.console
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="serve")
    thread.start()
    try:
        if options.with_parent:
            stop_at_end_of(sys.stdin.fileno())
        if cluster:
            cluster.start(f"{server.location}{WEBHOOK}", is_over=lambda: bool(signal.sigpending() & STOP))
        say(f"listening {server.location}")
        signal.sigwait(STOP)
    except ClusterError as error:
        print(f"wsaas demo: {error}", file=sys.stderr)
        return 1
    finally:
        if cluster:
            cluster.stop()
        server.close()
        thread.join()
    return 0


def make_cluster(options: argparse.Namespace) -> Cluster:
    """Return the cluster. The parent learns which processes run, so that it can end them if this process is killed."""
    chosen = ClusterOptions(options.folder, options.lease, options.nats_server, options.nodes, options.flags)
    return Cluster(chosen, lambda event, pid: say(f"{event} {pid}"))


def say(line: str) -> None:
    """Tell the parent something, if there is one. Threads may call this at the same time."""
    with suppress(OSError):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def stop_at_end_of(descriptor: int) -> None:
    """End the `sigwait` of the calling thread at the end of this file. A pipe ends when its writer does."""
    waiting = threading.get_ident()

    def watch() -> None:
        # Not sys.stdin.read(): if its lock is held when the interpreter ends, the process aborts.
        while os.read(descriptor, 4096):
            pass
        signal.pthread_kill(waiting, signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m wsaas.demo", description=__doc__)
    listen, gateway = "host:port to listen on; port 0 takes a free one", "host:port of the WebSockets"
    parser.add_argument("--listen", type=address, default="127.0.0.1:8000", help=listen)
    parser.add_argument("--gateway", default="localhost:8080", help=gateway)
    parser.add_argument("--upstream", default="", help="host:port where the gateway listens, if it is another")
    parser.add_argument("--names", type=words, default=(), help="host names of this machine, if others may connect")
    parser.add_argument("--console", default="", help="URL of the console of the gateway, if it has one")
    parser.add_argument("--with-parent", action="store_true", help="stop when stdin ends")
    parser.add_argument("--nodes", type=ports, help="ports of the nodes of a cluster to run, separated by commas")
    parser.add_argument("--nats-server", help="path of the program of NATS")
    parser.add_argument("--folder", type=Path, help="folder for the files of the cluster, removed at the end")
    parser.add_argument("--lease", type=int, help="CLUSTER_LEASE, to show it")
    parser.add_argument("flags", nargs="*", help="flags of each node")
    return parser.parse_args(arguments)


def address(text: str) -> tuple[str, int]:
    """Parse host:port, with an IPv6 host in brackets."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > MAX_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is not host:port")
    return host.strip("[]"), int(port)


def words(text: str) -> list[str]:
    """Parse words, separated by commas."""
    return text.split(",")


def ports(text: str) -> list[int]:
    """Parse ports."""
    return [int(each) for each in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
