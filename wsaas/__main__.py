"""The command `wsaas`: arguments and environment in, a gateway running, an exit status out.

Exit status: 0 stopped with everything delivered; 1 could not listen, or something was left undelivered; 2 a setting
is wrong.
"""

import asyncio
import os
import sys
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence

import uvloop

from wsaas import __version__, log, settings
from wsaas.errors import SettingError
from wsaas.gateway import Gateway


async def serve(chosen: settings.Settings) -> int:
    """Run a gateway until it is stopped; return the exit status."""
    gateway = Gateway(chosen, asyncio.get_running_loop())
    try:
        await gateway.start()
    except OSError as error:
        log.logger.error("cannot listen: %s", error)
        return 1
    return 0 if await gateway.run() else 1


def main(arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """Run the command; return its exit status."""
    parser = ArgumentParser(
        prog="wsaas", description="WebSocket as a Service: holds WebSockets for plain HTTP backends."
    )
    parser.add_argument("--version", action="version", version=f"wsaas {__version__}")
    settings.add_flags(parser)
    flags = vars(parser.parse_args(arguments))
    try:
        chosen = settings.load(flags, environment)
    except SettingError as error:
        print(f"wsaas: {error}", file=sys.stderr)
        return 2
    log.configure(chosen.log_level, chosen.log_format)
    return uvloop.run(serve(chosen))


if __name__ == "__main__":
    sys.exit(main())
