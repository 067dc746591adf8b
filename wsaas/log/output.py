"""Writes the log to standard error, as text or as one JSON object per line.

The caller formats a line, and a thread writes it. So the event loop is not blocked when nobody reads standard error.
`logging.handlers.QueueListener` is not used, as its queue has no limit in bytes and its `stop` may wait forever.
"""

import logging
import os
import select
import stat
import sys
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, groupby
from operator import attrgetter
from types import TracebackType
from typing import Final, NamedTuple

from wsaas.log import logger
from wsaas.log.formats import LEVELS, JournalFormatter, JsonFormatter, TextFormatter
from wsaas.log.wording import counted

MAX_QUEUED_LINES: Final = 10_000
MAX_QUEUED_BYTES: Final = 1 << 20
"""Maximum lines and bytes in the queue, including those that are being written. One line always fits."""

RESERVE: Final = 0.25
"""Share of the queue that only important lines may use: those at WARN or above. The access log cannot displace them."""

CONGESTED: Final = 0.5
"""Share of the queue from which on `is_congested` is true."""

GATHER_S: Final = 0.05
GATHER_BYTES: Final = 1 << 16
"""Seconds that a line below WARN may wait for others, unless so many bytes wait already. To wake the thread for each
line would cost several times as much as the line itself (`python -m benchmarks connects`)."""

FLUSH_TIMEOUT_S: Final = 1.0
"""Maximum seconds that the process waits at its end for queued lines to be written."""

WRITE_SIZE: Final = 1 << 16
"""Maximum bytes per system call. A blocking call returns only when all of them are written."""

ATOMIC_WRITE_SIZE: Final = select.PIPE_BUF
"""Bytes that a pipe takes in one piece, even if other processes write to it too (POSIX)."""


class _Line(NamedTuple):
    """A line to write to `descriptor`. `lost`: the number of log lines that are lost if writing fails."""

    descriptor: int
    data: bytes
    lost: int


class BackgroundWriter:
    """Writes lines in a daemon thread, in their order.

    Lines that do not fit into the queue, or cannot be written, are dropped and counted. When writing works again,
    `notice(count, why)` returns a line that takes their place.
    """

    def __init__(self, notice: Callable[[int, str], bytes], descriptor: int, *, is_shared: bool = False) -> None:
        """Write to `descriptor`, which may block, after `start`.

        `is_shared`: other processes write to it too. If it is a pipe, no line of theirs ends up within one of these.
        """
        self._notice = notice
        self._descriptor = descriptor
        self._write_size = ATOMIC_WRITE_SIZE if is_shared and _is_pipe(descriptor) else WRITE_SIZE
        self._lines: list[_Line] = []
        self._count = 0
        self._bytes = 0
        self._overflow = 0
        self._failed = 0
        self._error = ""
        self._closed = False
        self._progress = 0
        self._stalled_at = -1
        self._is_urgent = False
        lock = threading.Lock()
        self._changed = threading.Condition(lock)
        self._urgent = threading.Condition(lock)
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def is_congested(self) -> bool:
        """Whether so much waits that lines may soon be dropped."""
        return self._count >= MAX_QUEUED_LINES * CONGESTED or self._bytes >= MAX_QUEUED_BYTES * CONGESTED

    def put(self, data: bytes, descriptor: int | None = None, *, is_important: bool = True) -> None:
        """Queue a line without blocking.

        `descriptor`: where to write it, by default the descriptor of the log. A line that is not `is_important` leaves
        the `RESERVE` of the queue free, and may wait for `GATHER_S`.
        """
        share = 1 if is_important else 1 - RESERVE
        with self._changed:
            if self._count and (
                self._count >= MAX_QUEUED_LINES * share or self._bytes + len(data) > MAX_QUEUED_BYTES * share
            ):
                self._overflow += 1
                return
            if not self._lines:
                self._changed.notify_all()
            self._add_overflow_notice()
            self._add(_Line(self._descriptor if descriptor is None else descriptor, data, 1))
            if is_important or self._bytes >= GATHER_BYTES:
                self._hurry()

    def flush(self, timeout: float = FLUSH_TIMEOUT_S) -> None:
        """Wait until the queue is empty, for at most `timeout` seconds.

        After a time-out, later calls do not wait until the thread makes progress again.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            self._hurry()
            while (self._count or self._overflow) and self._stalled_at != self._progress:
                seconds = deadline - time.monotonic()
                if seconds <= 0:
                    self._stalled_at = self._progress
                else:
                    self._changed.wait(seconds)

    def close(self) -> None:
        """Let the thread end when the queue is empty."""
        with self._changed:
            self._closed = True
            self._hurry()
            self._changed.notify_all()

    def _hurry(self) -> None:
        """Do not let lines wait for others."""
        self._is_urgent = True
        self._urgent.notify_all()

    def _add(self, line: _Line, *, first: bool = False) -> None:
        self._lines.insert(0 if first else len(self._lines), line)
        self._count += 1
        self._bytes += len(line.data)

    def _add_overflow_notice(self) -> None:
        """Queue a notice of the lines that did not fit."""
        if count := self._overflow:
            self._overflow = 0
            self._add(_Line(self._descriptor, self._notice(count, "standard error was not read"), count))

    # Called in the thread.

    def _run(self) -> None:
        while lines := self._take():
            for descriptor, group in groupby(lines, attrgetter("descriptor")):
                self._write(descriptor, list(group))
            with self._changed:
                self._count -= len(lines)
                self._bytes -= sum(len(line.data) for line in lines)
                self._changed.notify_all()

    def _take(self) -> list[_Line]:
        """Wait for lines and return them; return an empty list if the writer is closed."""
        with self._changed:
            while not (self._lines or self._overflow or self._closed):
                self._changed.wait()
            if not self._is_urgent:
                self._urgent.wait(GATHER_S)
            self._is_urgent = False
            self._add_overflow_notice()
            if self._lines and (count := self._failed):
                self._failed = 0
                why = f"standard error could not be written: {self._error}"
                self._add(_Line(self._descriptor, self._notice(count, why), count), first=True)
            lines, self._lines = self._lines, []
            return lines

    def _write(self, descriptor: int, lines: list[_Line]) -> None:
        # Make few system calls: each releases the GIL, and a busy event loop is slow to release it in turn.
        data = memoryview(b"".join(line.data for line in lines))
        ends = [*accumulate(len(line.data) for line in lines)]
        done = 0
        try:
            while done < len(data):
                done += _write_some(descriptor, data[done : _end_of_piece(ends, done, done + self._write_size)])
                self._progress += 1
        except OSError as error:
            self._error = error.strerror or str(error)
            for line in lines:
                done -= len(line.data)
                self._failed += line.lost if done < 0 else 0


def _is_pipe(descriptor: int) -> bool:
    return stat.S_ISFIFO(os.fstat(descriptor).st_mode)


def _end_of_piece(ends: Sequence[int], start: int, limit: int) -> int:
    """Return the last of the `ends` of lines up to `limit`; `limit` itself if the line at `start` is longer."""
    index = bisect_right(ends, limit)
    return ends[index - 1] if index and ends[index - 1] > start else limit


def _write_some(descriptor: int, data: memoryview) -> int:
    """Write to `descriptor`. If another process made it non-blocking, wait until it is writable."""
    try:
        return os.write(descriptor, data)
    except BlockingIOError:
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        poll.poll()
        return 0


class QueueHandler(logging.Handler):
    """Formats records and queues their lines to be written to `descriptor`."""

    def __init__(self, formatter: logging.Formatter, descriptor: int, *, is_shared: bool = False) -> None:
        """Prepare to write to `descriptor` after `start`. `is_shared`: see `BackgroundWriter`."""
        super().__init__()
        self.setFormatter(formatter)
        self.writer = BackgroundWriter(self._notice, descriptor, is_shared=is_shared)

    def start(self) -> None:
        """Start the thread that writes."""
        self.writer.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Format and queue `record`. Never blocks or raises."""
        is_important = record.levelno >= logging.WARNING
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 - whatever was passed to the logger
            where = f"{record.pathname}:{record.lineno}"
            line = self.format(_record(logging.ERROR, f"{where}: a log record could not be formatted: {record.msg!r}"))
            is_important = True
        self.writer.put(_line(line), is_important=is_important)

    def flush(self) -> None:
        """Wait until all lines are written, for at most `FLUSH_TIMEOUT_S`."""
        self.writer.flush()

    def close(self) -> None:
        """Write the queued lines, within `FLUSH_TIMEOUT_S`, and end the thread."""
        self.writer.flush()
        self.writer.close()
        super().close()

    def _notice(self, count: int, why: str) -> bytes:
        return _line(
            self.format(
                _record(logging.WARNING, f"{counted(count, 'log line was', 'log lines were')} dropped because {why}")
            )
        )


def _record(level: int, message: str) -> logging.LogRecord:
    return logging.LogRecord("wsaas", level, __file__, 0, message, None, None)


def _line(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace") + b"\n"


UNUSED_DETAILS: Final = ("logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks")
"""What `logging` looks up for each line unless it is told not to (see "Optimization" in its HOWTO). No line shows it.
"""

_handlers: list[QueueHandler] = []
"""The handler from the last call of `configure`, if any."""


def configure(level: str, style: str, process: str = "") -> None:
    """Write logs of `wsaas` and asyncio at `level` (a key of `LEVELS`) and above to standard error, without blocking.

    `style`: `text` or `json`. `process`: the name of this process if there are several. The same handler writes what
    Python itself would write to standard error: uncaught exceptions, warnings, and logs of other libraries without a
    handler. In a service of systemd, each line begins with its priority.
    """
    close()
    formatter: logging.Formatter = JsonFormatter(process) if style == "json" else TextFormatter(process)
    descriptor = _standard_error()
    if is_journal(descriptor, os.environ):
        formatter = JournalFormatter(formatter)
    handler = QueueHandler(formatter, descriptor, is_shared=bool(process))
    handler.start()
    _handlers.append(handler)
    for name in ("wsaas", "asyncio", "py.warnings"):
        target = logging.getLogger(name)
        target.handlers[:] = [handler]
        target.setLevel(LEVELS[level])
        target.propagate = False
    for name in UNUSED_DETAILS:
        setattr(logging, name, False)
    logging.captureWarnings(True)
    logging.lastResort = handler
    sys.excepthook = _uncaught
    sys.unraisablehook = _unraisable
    threading.excepthook = _uncaught_in_thread


def is_journal(descriptor: int, environment: Mapping[str, str]) -> bool:
    """Return whether journald reads what is written to `descriptor` (`JOURNAL_STREAM`, see systemd.exec(5))."""
    status = os.fstat(descriptor)
    return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _standard_error() -> int:
    # If standard error was closed at the start, a socket may have its descriptor by now.
    return os.open(os.devnull, os.O_WRONLY) if sys.__stderr__ is None else sys.__stderr__.fileno()


def announce(text: str) -> None:
    """Write `text` to standard output without blocking. Call `configure` first."""
    if _handlers and sys.__stdout__ is not None:
        _handlers[0].writer.put(_line(text), sys.__stdout__.fileno())


def is_congested() -> bool:
    """Return whether so much waits to be written that who can should `announce` later: lines may be dropped."""
    return any(handler.writer.is_congested for handler in _handlers)


def flush() -> None:
    """Wait until all log lines are written, for at most `FLUSH_TIMEOUT_S`."""
    for handler in _handlers:
        handler.flush()


def close() -> None:
    """Write all log lines, within `FLUSH_TIMEOUT_S`, and close the handler from `configure`."""
    while _handlers:
        _handlers.pop().close()


def _uncaught(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    logger.critical("the gateway ended with an uncaught exception", exc_info=(kind, error, traceback))


def _uncaught_in_thread(given: threading.ExceptHookArgs) -> None:
    name = given.thread.name if given.thread else "?"
    logger.error("the thread %s ended with an uncaught exception", name, exc_info=_exception(given))


def _unraisable(given: "sys.UnraisableHookArgs") -> None:
    logger.error("%s: %r", given.err_msg or "Exception ignored in", given.object, exc_info=_exception(given))


def _exception(given: "threading.ExceptHookArgs | sys.UnraisableHookArgs") -> BaseException | None:
    return given.exc_value.with_traceback(given.exc_traceback) if given.exc_value else None
