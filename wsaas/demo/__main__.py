"""Runs the example backend and the page of the demo: `python -m wsaas.demo`."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence

from wsaas.demo.server import DemoServer

STOP = {signal.SIGTERM, signal.SIGINT}
MAX_PORT = 65535


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM, SIGINT or the end of the parent; return the exit status."""
    options = parse(arguments)
    host, port = options.listen
    # Block the signals before any thread starts, so that all threads inherit this and only `sigwait` gets a signal.
    # There is no handler that could interrupt anything, and further signals have no effect.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP)
    try:
        server = DemoServer(host, port, options.gateway)
    except OSError as error:
        print(f"wsaas demo: cannot listen on {host}:{port}: {error.strerror or error}", file=sys.stderr)
        return 1
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="serve")
    thread.start()
    try:
        print(f"listening {server.location}", flush=True)
        if options.with_parent:
            stop_at_end_of(sys.stdin.fileno())
        signal.sigwait(STOP)
    finally:
        server.close()
        thread.join()
    return 0


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
    parser.add_argument("--with-parent", action="store_true", help="stop when stdin ends")
    return parser.parse_args(arguments)


def address(text: str) -> tuple[str, int]:
    """Parse host:port, with an IPv6 host in brackets."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > MAX_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is not host:port")
    return host.strip("[]"), int(port)


if __name__ == "__main__":
    sys.exit(main())
