"""Runs a supervisor or a worker. A gateway of one process imports nothing of this."""

import asyncio
import os
import signal
from collections.abc import Mapping

import uvloop

from wsaas.cli.signals import signal_handlers
from wsaas.errors import SettingError
from wsaas.journals import DRAIN_GRACE_S
from wsaas.log import logger
from wsaas.log import output as log
from wsaas.memory import heap
from wsaas.settings import Settings, control_address, of_worker
from wsaas.start_report import log_start, report_start_failure, start_warnings
from wsaas.systemd.unit import NO_UNIT, Unit
from wsaas.transport.certificates import Certificates
from wsaas.transport.listener import is_this_machine
from wsaas.worker_place import PLACE_VARIABLE, WorkerPlace, from_text
from wsaas.workers.launcher import Launcher
from wsaas.workers.supervisor import Supervisor
from wsaas.workers.worker import Worker


def start(
    chosen: Settings,
    flags: Mapping[str, str | None],
    environment: Mapping[str, str],
    greeting: str = "",
    unit: Unit = NO_UNIT,
) -> int:
    """Run a worker if a supervisor has started this process, or else a supervisor; return the exit status."""
    text = environment.get(PLACE_VARIABLE)
    place = from_text(text) if text else None
    log.configure(chosen.log_level, chosen.log_format, place.name if place else "")
    heap.keep_freed_memory()
    if place is None:
        status = uvloop.run(supervise(chosen, Launcher(flags, environment, os.environ), greeting, unit))
    else:
        status = uvloop.run(work(of_worker(chosen, place.index), place))
    log.flush()
    return status


async def supervise(chosen: Settings, launcher: Launcher, greeting: str = "", unit: Unit = NO_UNIT) -> int:
    """Run a supervisor and its workers until it is stopped; return the exit status.

    `greeting`: text to print when all workers listen. `unit`: what systemd has passed.
    """
    supervisor = Supervisor(chosen, launcher, unit.activation.sockets)
    service = unit.service(supervisor, chosen.drain_timeout + DRAIN_GRACE_S)
    # Only the demo has a greeting.
    with signal_handlers(asyncio.get_running_loop(), service, ends_with_terminal=bool(greeting)):
        service.starting()
        try:
            # Reported here, as each worker would report it otherwise.
            Certificates(of_worker(chosen, 0)).load()
            await supervisor.start()
        except (SettingError, OSError) as error:
            return report_start_failure(error)
        if not supervisor.is_stopping():
            report_start(chosen, supervisor)
            if greeting:
                log.announce(greeting)
            service.started()
        status = await supervisor.run()
        service.close()
        return status


async def work(settings: Settings, place: WorkerPlace) -> int:
    """Run a worker until the supervisor or SIGTERM stops it; return the exit status.

    `settings`: those of the worker.
    """
    loop = asyncio.get_running_loop()
    worker = Worker(settings, place, loop)
    # These are for the supervisor, which passes them on.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    loop.add_signal_handler(signal.SIGTERM, worker.terminate)
    return await worker.run()


def report_start(chosen: Settings, supervisor: Supervisor) -> None:
    """Log the addresses of a node, and warnings about its settings."""
    log_start(chosen, supervisor.addresses)
    first = of_worker(chosen, 0)
    control = supervisor.addresses[-1] if chosen.control_listen is None else control_address(first)
    for warning in start_warnings(first, control, is_this_machine):
        logger.warning("%s", warning)
