"""The command `wsaas`.

Exit status: 0 if everything was delivered before the stop; 1 if the gateway could not start or something was not
delivered; 2 for an invalid setting.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import uvloop

from wsaas import settings
from wsaas.access import is_unspecified_host
from wsaas.cli import arguments, demo_address
from wsaas.cli.command_options import CheckOptions, CompletionOptions, DemoOptions, DevOptions, LambdaOptions
from wsaas.cli.console_url import console_url
from wsaas.cli.demo_address import DemoAddress
from wsaas.cli.ports import free_port
from wsaas.cli.signals import HANGUP, signal_handlers
from wsaas.delivery.journal import JournalError
from wsaas.errors import SettingError
from wsaas.gateway import Gateway
from wsaas.journals import DRAIN_GRACE_S
from wsaas.log import output as log
from wsaas.memory import gc_scheduler, heap
from wsaas.start_report import refuse, report_start_failure
from wsaas.systemd.unit import NO_UNIT, Unit, take_unit

COMPLETIONS: Final = Path(__file__).parent / "completions"
"""Scripts for shells, which `python -m tests.project.command_files` makes of the parsers."""

DEMO_PORT: Final = 8080
DEMO_BACKEND_PORT: Final = 8000
REFUSED_BY_DEMO: Final = frozenset(
    {
        "api_uri",
        "api_tls_ca",
        "control_aws_keys",
        "control_aws_keys_file",
        "control_azure_keys",
        "control_azure_keys_file",
        "control_listen",
        "control_tls_ca",
        "control_token",
        "control_token_file",
        "event_format",
        "proxy_protocol",
        "tls_cert",
        "tls_key",
    }
)
"""Settings that would prevent the gateway and the page or backend of the demo from reaching each other."""


async def serve(chosen: settings.Settings, greeting: str = "", unit: Unit = NO_UNIT) -> int:
    """Run a gateway until it is stopped; return the exit status.

    `greeting`: text to print when it listens. `unit`: what systemd has passed.
    """
    loop = asyncio.get_running_loop()
    gateway = Gateway(chosen, loop)
    service = unit.service(gateway, chosen.drain_timeout + DRAIN_GRACE_S)
    # Only the demo has a greeting.
    with signal_handlers(loop, service, ends_with_terminal=bool(greeting)):
        service.starting()
        try:
            await gateway.start(unit.activation.sockets)
        except (SettingError, OSError, JournalError) as error:
            return report_start_failure(error)
        gc_scheduler.stop_full_collections()
        if greeting:
            log.announce(greeting)
        service.started()
        status = 0 if await gateway.run() else 1
        service.close()
        return status


def demo(flags: Mapping[str, str | None], environment: Mapping[str, str], options: DemoOptions) -> int:
    """Run a gateway, or a cluster, and the example backend until it is stopped; return the exit status.

    The environment is ignored, so that the demo works the same everywhere.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    if unusable := [settings.flag(name) for name in given if name in REFUSED_BY_DEMO]:
        return refuse(f"the demo brings its own backend and page: it cannot be used with {', '.join(unusable)}")
    if ignored := [each.upper() for each in flags if environment.get(each.upper())]:
        print(f"wsaas: the demo ignores the environment ({', '.join(ignored)}): use flags", file=sys.stderr)
    try:
        page = demo_address.choose(options, DEMO_BACKEND_PORT)
    except OSError as error:
        print(f"wsaas: cannot listen on {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    if options.nodes:
        from wsaas.cli import cluster_demo  # noqa: PLC0415 - one gateway needs none of it

        return cluster_demo.start(given, options.nodes, page, DEMO_PORT)
    return demo_of_one(given, page)


def demo_of_one(given: Mapping[str, str], page: DemoAddress) -> int:
    """Run a gateway and the example backend until it is stopped; return the exit status."""
    port = free_port(DEMO_BACKEND_PORT if page.port == DEMO_PORT else DEMO_PORT)
    name = given.get("ws_hostname") or f"localhost:{port}"
    try:
        chosen = settings.load({**given, "api_uri": "localhost:1/", "ws_hostname": name}, {})
    except SettingError as error:
        return refuse(error)
    console, upstream = console_url(chosen), settings.listen_address(chosen)
    command = [sys.executable, "-m", "wsaas.demo", "--gateway", name, "--with-parent", *page.flags()]
    if not upstream.path:
        host = "localhost" if not upstream.host or is_unspecified_host(upstream.host) else upstream.host
        command += ["--upstream", demo_address.authority(host, upstream.port)]
    if not page.names:
        # The console is on this machine only, so others get no link to it.
        command += ["--console", console]
    # In its own session, the backend gets no Ctrl-C. It has to outlive the gateway, which sends it DELETEs at the end.
    with subprocess.Popen(  # noqa: S603 - our own module, by our own interpreter
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as backend:
        # Leaving the block closes the standard input of the backend, which then stops.
        word, _, address = backend.stdout.readline().strip().partition(" ") if backend.stdout else ("", "", "")
        if word != "listening":
            print("wsaas: the example backend did not start", file=sys.stderr)
            return 1
        greeting = page.greeting("in two browser tabs", int(address.rpartition(":")[2]), console)
        flags = {"journal": state_file(f"demo-{upstream.port or port}.journal"), **given}
        return start({**flags, "api_uri": f"{address}/websocket", "ws_hostname": name}, {}, greeting)


def state_file(name: str) -> str | None:
    """Return the path of a file in the user's state folder (XDG); None if the folder cannot be created."""
    try:
        folder = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "wsaas"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return None
    return str(folder / name)


def start(flags: Mapping[str, str | None], environment: Mapping[str, str], greeting: str = "") -> int:
    """Read the settings and serve; return the exit status."""
    try:
        unit = take_unit(flags, environment)
        flags = {**flags, **unit.activation.flags}
        chosen = settings.load(flags, environment)
    except SettingError as error:
        return refuse(error)
    if chosen.workers > 1:
        from wsaas.cli import workers  # noqa: PLC0415 - one process needs none of it

        return workers.start(chosen, flags, environment, greeting, unit)
    log.configure(chosen.log_level, chosen.log_format)
    heap.keep_freed_memory()
    status = uvloop.run(serve(chosen, greeting, unit))
    log.flush()
    return status


def main(given: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """Run the command; return its exit status.

    SIGHUP is blocked except while the event loop handles it: its default action would end the process.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, HANGUP)
    _, flags, options = arguments.parse(given)
    if isinstance(options, CheckOptions):
        from wsaas.cli import check  # noqa: PLC0415 - a gateway needs none of it

        return check.run(flags, environment, options)
    if isinstance(options, DevOptions):
        from wsaas.cli import dev  # noqa: PLC0415 - as above

        return dev.run(flags, environment, options)
    if isinstance(options, LambdaOptions):
        from wsaas.cli import function  # noqa: PLC0415 - as above

        return function.run(flags, environment, options)
    if isinstance(options, CompletionOptions):
        print((COMPLETIONS / f"wsaas.{options.shell}").read_text(), end="")
        return 0
    if isinstance(options, DemoOptions):
        return demo(flags, environment, options)
    return start(flags, environment)
