"""The command `wsaas dev`: runs a gateway and the command of a backend together."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import uvloop

from wsaas import settings
from wsaas.access import UNIX
from wsaas.backend_setting_type import Backend
from wsaas.check.context import Options
from wsaas.check.network import try_connection
from wsaas.check.report import Finding, Report, Status, secrets_of
from wsaas.check.run import check
from wsaas.cli.backend_process import NOT_EXECUTABLE, NOT_FOUND, BackendProcess
from wsaas.cli.command_options import DevOptions
from wsaas.cli.console_url import console_url
from wsaas.cli.ports import free_port
from wsaas.cli.signals import signal_handlers
from wsaas.delivery.journal import JournalError
from wsaas.errors import SettingError
from wsaas.gateway import Gateway
from wsaas.log import output as log
from wsaas.membership.tasks import end_tasks
from wsaas.memory import gc_scheduler, heap
from wsaas.settings import Settings, listen_address
from wsaas.start_report import refuse, report_start_failure, without_query
from wsaas.transport.connector import Destination

GATEWAY_PORT: Final = 8080
BACKEND_PORT: Final = 8000
BACKEND_PATH: Final = "/websocket"
DRAIN_TIMEOUT_MS: Final = 3000
"""Default for DRAIN_TIMEOUT: a developer waits for it."""

LISTEN_TIMEOUT_S: Final = 30.0
"""Seconds that the command may take to listen, before the gateway starts without it."""

POLL_S: Final = 0.05
CONNECT_TIMEOUT_S: Final = 1.0
PORT_PLACEHOLDER: Final = "{port}"
PASSED_ON: Final = ("api_secret", "api_secret_file", "control_token", "control_token_file")
"""Settings that the backend needs too. Flags for them become variables of the command."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What distinguishes the command of a backend from others that run together with a gateway.

    `command`: that of `wsaas`. `name`: that of the process, in front of its output.
    `path`: of `API_URI`, unless that is set. `needs_port`: whether `API_URI` may be neither a Unix socket nor https.
    `variables`: returns more variables for the process, unless they are set; `rows`: more rows of the greeting.
    """

    command: str
    name: str
    path: str
    variables: Callable[[Settings, Mapping[str, str]], Mapping[str, str]]
    rows: Callable[[Settings], Sequence[tuple[str, str]]]
    needs_port: bool = False


BACKEND: Final = Profile("dev", "backend", BACKEND_PATH, lambda _settings, _environment: {}, lambda _settings: ())


def run(
    flags: Mapping[str, str | None], environment: Mapping[str, str], given: DevOptions, profile: Profile = BACKEND
) -> int:
    """Run both until one of them ends; return the exit status."""
    try:
        chosen = settings.load(flags, {**_defaults(flags, environment, profile.path), **_non_empty(environment)})
    except SettingError as error:
        return refuse(error)
    if chosen.workers > 1:
        return refuse(f"wsaas {profile.command} runs one process: it cannot be used with WORKERS")
    if profile.needs_port and (chosen.api_uri.socket or chosen.api_uri.scheme != "http"):
        shown = without_query(chosen.api_uri)
        return refuse(f"wsaas {profile.command} needs a port without TLS: it cannot be used with API_URI={shown}")
    log.configure(chosen.log_level, chosen.log_format)
    if chosen.log_format == "text":
        _prefix_log()
    heap.keep_freed_memory()
    if chosen.api_uri.socket and any(PORT_PLACEHOLDER in word for word in given.command):
        return refuse(
            f"the command contains {PORT_PLACEHOLDER}, but API_URI={without_query(chosen.api_uri)} has no port"
        )
    port = str(chosen.api_uri.port)
    command = [word.replace(PORT_PLACEHOLDER, port) for word in given.command]
    variables = {**profile.variables(chosen, environment), **_variables(chosen, flags, environment)}
    backend = BackendProcess(command, variables, lambda line: _print(profile.name, line), log.is_congested)
    status = uvloop.run(Development(chosen, backend, given, profile).run())
    log.flush()
    return status


class Development:
    """A gateway and a backend. `stop` ends both, a second time at once."""

    def __init__(
        self, chosen: Settings, backend: BackendProcess, given: DevOptions, profile: Profile = BACKEND
    ) -> None:
        """Run a gateway with the settings `chosen` for `backend`."""
        self._backend = backend
        self._chosen = chosen
        self._given = given
        self._gateway: Gateway | None = None
        self._profile = profile
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """Drain the gateway, then end the backend. A second call cuts both short."""
        if self._gateway is not None:
            self._gateway.stop()
        if self._stopped.is_set():
            self._backend.kill()
        self._stopped.set()

    def reload(self) -> None:
        """Reload the files of the gateway."""
        if self._gateway is not None:
            self._gateway.reload()

    async def run(self) -> int:
        """Run both; return the exit status."""
        command = self._given.command[0]
        with signal_handlers(asyncio.get_running_loop(), self, ends_with_terminal=True):
            try:
                await self._backend.start()
            except OSError as error:
                is_missing = isinstance(error, FileNotFoundError)
                refuse(f"cannot run {command}: {error.strerror}")
                return NOT_FOUND if is_missing else NOT_EXECUTABLE
            ended = asyncio.ensure_future(self._backend.wait())
            try:
                return await self._run(ended)
            finally:
                await self._backend.stop()
                ended.cancel()

    async def _run(self, ended: "asyncio.Future[int]") -> int:
        """Run the gateway once the backend listens. `ended`: the exit status of the backend."""
        await self._until_end(ended, self._prepare())
        if not (ended.done() or self._stopped.is_set()):
            self._gateway = Gateway(self._chosen, asyncio.get_running_loop())
            try:
                await self._gateway.start()
            except (SettingError, OSError, JournalError) as error:
                return report_start_failure(error)
            gc_scheduler.stop_full_collections()
            log.announce(greeting(self._chosen, console_url(self._chosen), self._profile))
            return await self._serve(self._gateway, ended)
        return self._report_end(ended)

    async def _serve(self, gateway: Gateway, ended: "asyncio.Future[int]") -> int:
        """Run until the gateway is stopped, or the backend has ended."""
        served = asyncio.ensure_future(gateway.run())
        await asyncio.wait((served, ended), return_when=asyncio.FIRST_COMPLETED)
        if not served.done():
            # Nobody takes the DELETEs any more.
            gateway.hurry()
        is_delivered = await served
        if self._stopped.is_set():
            return 0 if is_delivered else 1
        return self._report_end(ended)

    def _report_end(self, ended: "asyncio.Future[int]") -> int:
        """Return the exit status of the backend, 0 if it was not the first to end."""
        if self._stopped.is_set() or not ended.done():
            return 0
        status = ended.result()
        _print(self._profile.name, f"ended with exit status {status}")
        return status

    async def _prepare(self) -> None:
        """Wait until the backend listens, and check it."""
        uri = self._chosen.api_uri
        if not await wait_for_listener(uri):
            place, variable = (f"{UNIX}{uri.socket}", "API_URI") if uri.socket else (f"{uri.host}:{uri.port}", "PORT")
            _print("check", f"WARN  nothing listens on {place} yet; let the command use the variable {variable}")
        elif self._given.has_check and self._chosen.event_format == "native":
            await check_quickly(self._chosen, self._given)

    async def _until_end(self, ended: "asyncio.Future[int]", work: Coroutine[Any, Any, None]) -> None:
        """Do `work`, unless the backend ends or `stop` is called before it is done."""
        task, stopped = asyncio.ensure_future(work), asyncio.ensure_future(self._stopped.wait())
        await asyncio.wait((task, stopped, ended), return_when=asyncio.FIRST_COMPLETED)
        await end_tasks([task, stopped])
        if not task.cancelled():
            task.result()


def greeting(chosen: Settings, console: str = "", profile: Profile = BACKEND) -> str:
    """Return what is printed when both listen. `console`: URL of the page that shows what happens, if there is one."""
    address = listen_address(chosen)
    clients = f"localhost:{address.port}" if not (address.host or address.path) else str(address)
    rows = [
        ("clients", f"{'wss' if chosen.tls_cert else 'ws'}://{clients}/any/path"),
        (profile.name, without_query(chosen.api_uri)),
        *profile.rows(chosen),
    ]
    if console:
        rows.append(("console", console))
    return "\n".join(["", *(f"  {name:<9}{value}" for name, value in rows), "", "  Ctrl-C ends both.", ""])


async def check_quickly(chosen: Settings, given: DevOptions) -> None:
    """Check the backend, and print what is wrong."""

    def show(finding: Finding) -> None:
        if finding.status is not Status.OK:
            _print("check", finding.line())

    client = given.client
    report = Report(show, secrets_of(chosen, client.path.partition("?")[2], client.headers))
    # Starting the gateway reports TLS files that cannot be used.
    with suppress(SettingError):
        await check(chosen, report, Options(client.path, client.headers, is_quick=True))
    if report.is_complete and report.worst is Status.OK:
        _print("check", "OK    the backend accepts a client, its message, and its end; wsaas check tries more")


async def wait_for_listener(backend: Backend) -> bool:
    """Wait until a connection can be opened, for at most `LISTEN_TIMEOUT_S`; return whether one was."""
    loop = asyncio.get_running_loop()
    destination = Destination(backend.host, backend.port, lambda: None, CONNECT_TIMEOUT_S, backend.socket)
    deadline = loop.time() + LISTEN_TIMEOUT_S
    while isinstance(await try_connection(loop, destination), Exception):
        if loop.time() >= deadline:
            return False
        await asyncio.sleep(POLL_S)
    return True


def _defaults(flags: Mapping[str, str | None], environment: Mapping[str, str], path: str) -> dict[str, str]:
    """Return the variables that development needs, unless they are set. `path`: of the backend."""

    def is_set(name: str) -> bool:
        return flags.get(name) is not None or bool(environment.get(name.upper()))

    found = {"DRAIN_TIMEOUT": str(DRAIN_TIMEOUT_MS)}
    if not any(map(is_set, ("ws_hostname", "listen", "control_listen"))):
        found["WS_HOSTNAME"] = f"localhost:{free_port(GATEWAY_PORT)}"
    if not is_set("api_uri"):
        found["API_URI"] = f"localhost:{environment.get('PORT') or free_port(BACKEND_PORT)}{path}"
    return found


def _non_empty(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if value}


def _variables(chosen: Settings, flags: Mapping[str, str | None], environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of the command: those of this process, and what it needs of the settings."""
    uri = chosen.api_uri
    given = {name.upper(): value for name in PASSED_ON if (value := flags.get(name)) is not None}
    own = {"API_URI": f"{uri.place}{uri.target}", "WS_HOSTNAME": chosen.ws_hostname.text}
    if not uri.socket:
        own["PORT"] = str(uri.port)
    # Python would keep the output of a pipe back.
    return {"PYTHONUNBUFFERED": "1", **environment, **given, **own}


class _Prefixed(logging.Formatter):
    """Puts a prefix before the lines of another formatter."""

    def __init__(self, prefix: str, formatter: logging.Formatter) -> None:
        super().__init__()
        self._formatter = formatter
        self._prefix = prefix

    def format(self, record: logging.LogRecord) -> str:
        return self._prefix + self._formatter.format(record)


def _prefix_log() -> None:
    for handler in logging.getLogger("wsaas").handlers:
        handler.setFormatter(_Prefixed(_prefix("gateway"), handler.formatter or logging.Formatter()))


def _print(who: str, line: str) -> None:
    log.announce(_prefix(who) + line)


def _prefix(who: str) -> str:
    return f"{who:<7} | "
