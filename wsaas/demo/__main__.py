"""Runs the example backend and the page as a process of its own: `python -m wsaas.demo`."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence

from wsaas.demo.server import DemoServer

STOP = {signal.SIGTERM, signal.SIGINT}
HIGHEST_PORT = 65535


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until SIGTERM, SIGINT or the end of the parent; returns the exit status."""
    options = parse(arguments)
    host, port = options.listen
    # Blocked before any thread starts, so that all inherit it and a signal can only come out of `sigwait`: no
    # handler, and nothing that it could interrupt half-way. One more while this ends does nothing.
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
    """Ends the calling thread's `sigwait` when this file ends, as a pipe does when its writer has died."""
    waiting = threading.get_ident()

    def watch() -> None:
        # Not sys.stdin.read(): its lock, still held when the interpreter ends, would abort the process.
        while os.read(descriptor, 4096):
            pass
        signal.pthread_kill(waiting, signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m wsaas.demo", description=__doc__)
    listen, gateway = "host:port to listen on; port 0 takes a free one", "host:port of the WebSockets"
    parser.add_argument("--listen", type=address, default="127.0.0.1:8000", help=listen)
    parser.add_argument("--gateway", default="localhost:8080", help=gateway)
    parser.add_argument("--with-parent", action="store_true", help="stop when stdin ends")
    return parser.parse_args(arguments)


def address(text: str) -> tuple[str, int]:
    """Reads host:port, where an IPv6 host stands in brackets."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > HIGHEST_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is not host:port")
    return host.strip("[]"), int(port)


if __name__ == "__main__":
    sys.exit(main())
