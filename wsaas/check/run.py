"""Runs all checks in order, within a time limit."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from wsaas.check.capacity import check_capacity
from wsaas.check.connects import check_accepted, check_refused, check_subprotocol
from wsaas.check.context import Context, Options, Stop
from wsaas.check.disconnects import check_disconnect
from wsaas.check.messages import check_keep_alive, check_messages, check_repeat
from wsaas.check.network import check_certificate, check_connection, check_name
from wsaas.check.observed_gateway import ObservedGateway
from wsaas.check.pushes import check_pushes, listen
from wsaas.check.report import Report
from wsaas.check.signatures import check_signatures
from wsaas.log import logger
from wsaas.log.throttle import throttle
from wsaas.membership.tasks import wait_for
from wsaas.settings import Settings, control_address, of_worker
from wsaas.start_report import start_warnings
from wsaas.transport.listener import is_this_machine


async def check(settings: Settings, report: Report, options: Options) -> None:
    """Check the backend in `settings`, and add the findings to `report`. Raises `SettingError` for TLS files."""
    gateway = ObservedGateway(of_worker(settings, 0) if settings.workers > 1 else settings, asyncio.get_running_loop())
    gateway.start()
    context = Context(gateway, report, options, settings.api_connections)
    with _silent_log():
        try:
            await wait_for(_run(context), options.timeout)
        except asyncio.TimeoutError:
            report.fail(
                "time",
                f"the checks were not done within {options.timeout:g} s",
                "see why the backend is slow, or raise --timeout",
            )
        finally:
            await gateway.close()


async def _run(context: Context) -> None:
    """Run the checks until one of them stops the others."""
    with suppress(Stop):
        await _run_all(context)
        context.report.is_complete = True


async def _run_all(context: Context) -> None:
    is_quick = context.options.is_quick
    if not is_quick:
        for warning in start_warnings(context.settings, control_address(context.settings), is_this_machine):
            context.report.warn("settings", *_parts(warning))
    await check_name(context)
    await check_connection(context)
    await check_certificate(context)
    await listen(context)
    await check_accepted(context)
    await check_messages(context)
    if not is_quick:
        await check_repeat(context)
        await check_capacity(context)
        await check_pushes(context)
    check_keep_alive(context)
    await check_disconnect(context)
    if not is_quick:
        # Each of these sends DELETEs, which may leave a connection unusable.
        await check_refused(context)
        await check_subprotocol(context)
        await check_signatures(context)


def _parts(warning: str) -> tuple[str, str]:
    """Return a warning about a setting as what is wrong, and what to do."""
    what, _, mend = warning.partition(": ")
    return what, mend


@contextmanager
def _silent_log() -> Iterator[None]:
    """Log nothing meanwhile: the findings say the same."""
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        # What was counted would otherwise be logged later.
        throttle.flush()
        logger.disabled = before
