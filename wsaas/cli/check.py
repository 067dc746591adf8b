"""The command `wsaas check`: prints what it finds, as lines or as one JSON document."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Final

import orjson
import uvloop

from wsaas import settings
from wsaas.check.context import Options
from wsaas.check.report import Finding, Report, Status, secrets_of
from wsaas.check.run import check
from wsaas.cli.command_options import CheckOptions
from wsaas.cli.signals import HANGUP
from wsaas.errors import SettingError
from wsaas.settings import Settings
from wsaas.start_report import refuse, without_query

INTERRUPTED: Final = 128 + signal.SIGINT
_COLORS: Final = {Status.OK: "32", Status.WARN: "33", Status.FAIL: "31"}
"""SGR parameters of the colors green, yellow and red."""


def run(flags: Mapping[str, str | None], environment: Mapping[str, str], given: CheckOptions) -> int:
    """Check the backend; return the exit status."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANGUP)
    try:
        return _run(flags, environment, given)
    except SettingError as error:
        return refuse(error)
    except (KeyboardInterrupt, asyncio.CancelledError):
        return INTERRUPTED
    except BrokenPipeError:
        # Python would try to write the rest when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(flags: Mapping[str, str | None], environment: Mapping[str, str], given: CheckOptions) -> int:
    chosen = settings.load(flags, environment)
    if chosen.event_format != "native":
        raise SettingError(
            f"EVENT_FORMAT={chosen.event_format!r}: wsaas check sends requests in the native format only"
        )
    started = time.monotonic()
    is_colored = sys.stdout.isatty() and not environment.get("NO_COLOR")
    report = make_report(chosen, given, shows=not given.is_json, is_colored=is_colored)
    client = given.client
    options = Options(client.path, client.headers, given.message, given.rate, given.timeout)
    if not given.is_json:
        print(f"Checking {without_query(chosen.api_uri)} for WS_HOSTNAME={chosen.ws_hostname.text}", flush=True)
    uvloop.run(_check(chosen, report, options))
    seconds = time.monotonic() - started
    print(as_json(chosen, report, seconds) if given.is_json else summary(report), flush=True)
    return 1 if report.worst is Status.FAIL else 0


async def _check(chosen: Settings, report: Report, options: Options) -> None:
    """Check until SIGINT, which raises `CancelledError`. Python 3.10 would raise `KeyboardInterrupt` in any task."""
    checking = asyncio.ensure_future(check(chosen, report, options))
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, checking.cancel)
    await checking


def make_report(chosen: Settings, given: CheckOptions, *, shows: bool, is_colored: bool) -> Report:
    """Return a report that prints each finding if it `shows` them."""

    def show(finding: Finding) -> None:
        line = finding.line()
        if is_colored:
            end = len(finding.status.value)
            line = f"\x1b[{_COLORS[finding.status]}m{line[:end]}\x1b[0m{line[end:]}"
        print(line, flush=True)

    client = given.client
    secrets = secrets_of(chosen, client.path.partition("?")[2], client.headers)
    return Report(show if shows else _show_nothing, secrets)


def summary(report: Report) -> str:
    """Return the number of findings with each status."""
    counts = ", ".join(f"{report.count(status)} {status.value}" for status in Status)
    return counts if report.is_complete else f"{counts}; the other checks were not tried"


def as_json(chosen: Settings, report: Report, seconds: float) -> str:
    """Return all findings as one JSON document."""
    document = {
        "api_uri": without_query(chosen.api_uri),
        "ws_hostname": chosen.ws_hostname.text,
        "status": report.worst.value,
        "complete": report.is_complete,
        "seconds": round(seconds, 3),
        "findings": [{**asdict(each), "status": each.status.value} for each in report.findings],
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2).decode()


def _show_nothing(_finding: Finding) -> None:
    """Print nothing."""
