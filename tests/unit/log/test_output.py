import fcntl
import gc
import json
import logging
import os
import re
import select
import sys
import termios
import threading
import time
import warnings
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fakes import make_opened
from tests.support.strategies import examples
from wsaas.clock import rfc3339
from wsaas.delivery.journal import Entry
from wsaas.log import log_event, logger
from wsaas.log import output as log
from wsaas.log.formats import JsonFormatter, TextFormatter
from wsaas.websocket.handshake import Handshake

AT = 1769860800.125
any_text = st.text(st.characters(exclude_categories=()), max_size=40)


def record(message, *arguments, level=logging.INFO, error=None):
    entry = logging.LogRecord("wsaas", level, "file.py", 1, message, arguments, None)
    entry.created = AT
    if error is not None:
        try:
            raise error
        except type(error):
            entry.exc_info = sys.exc_info()
    return entry


@pytest.fixture
def stderr(capfd):
    """Return the lines on standard error; restore the loggers and hooks."""
    loggers = [logging.getLogger(name) for name in ("wsaas", "asyncio", "py.warnings")]
    before = [(each, each.handlers[:], each.level, each.propagate) for each in loggers]
    hooks = sys.excepthook, sys.unraisablehook, threading.excepthook, logging.lastResort

    def read():
        log.flush()
        return capfd.readouterr().err

    yield read
    log.close()
    logging.captureWarnings(False)
    sys.excepthook, sys.unraisablehook, threading.excepthook, logging.lastResort = hooks
    for each, handlers, level, propagate in before:
        each.handlers[:] = handlers
        each.setLevel(level)
        each.propagate = propagate


@pytest.mark.parametrize(
    ("level", "name"),
    [
        (logging.DEBUG, "DEBUG"),
        (logging.INFO, "INFO"),
        (logging.WARNING, "WARN"),
        (logging.ERROR, "ERROR"),
        (logging.CRITICAL, "ERROR"),
    ],
)
def test_a_line_has_time_level_and_message(level, name):
    entry = record("%s of %d", "one", 2, level=level)
    assert TextFormatter().format(entry) == f"2026-01-31T12:00:00.125Z {name} one of 2"
    assert json.loads(JsonFormatter().format(entry)) == {
        "time": "2026-01-31T12:00:00.125Z",
        "level": name,
        "message": "one of 2",
    }


def test_a_message_in_any_language_is_logged_unchanged():
    assert TextFormatter().format(record("schöne Grüße, 你好")).endswith(" INFO schöne Grüße, 你好")


@examples(200)
@given(any_text)
def test_no_message_can_forge_a_line_of_text(message):
    line = TextFormatter().format(record("%s", message))
    assert line.isprintable()
    prefix = f"{rfc3339(AT)} INFO "
    assert line.startswith(prefix)
    if message.isprintable():
        assert line == prefix + message
    else:
        assert line[len(prefix) :].encode("ascii").decode("unicode_escape") == message


@examples(200)
@given(any_text)
def test_any_message_is_one_line_of_json(message):
    line = JsonFormatter().format(record("%s", message))
    assert "\n" not in line
    line.encode()
    read = json.loads(line)["message"]
    assert read == message.encode("utf-8", "backslashreplace").decode()


def test_a_traceback_follows_its_line_of_text():
    line, *traceback = TextFormatter().format(record("failed", error=ValueError("why"))).splitlines()
    assert line.endswith(" INFO failed")
    assert traceback[0].startswith("Traceback")
    assert traceback[-1] == "ValueError: why"


def test_a_traceback_is_part_of_its_line_of_json():
    entry = json.loads(JsonFormatter().format(record("failed", error=ValueError("why \udcff"))))
    assert entry["message"] == "failed"
    assert entry["exception"].startswith("Traceback")
    assert entry["exception"].endswith("ValueError: why \\udcff")


@pytest.mark.parametrize("name", ["wsaas", "asyncio"])
@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("ERROR", ["ERROR"]),
        ("WARN", ["ERROR", "WARN"]),
        ("INFO", ["ERROR", "WARN", "INFO"]),
        ("DEBUG", ["ERROR", "WARN", "INFO", "DEBUG"]),
    ],
)
def test_only_records_at_the_level_or_above_are_logged(stderr, name, level, shown):
    log.configure(level, "json")
    logger = logging.getLogger(name)
    for severity in (logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG):
        logger.log(severity, "x")
    assert [json.loads(line)["level"] for line in stderr().splitlines()] == shown


def test_configuring_again_replaces_the_handler(stderr):
    log.configure("INFO", "json")
    log.configure("INFO", "text")
    logger.info("once")
    (line,) = stderr().splitlines()
    assert line.endswith("Z INFO once")


def test_lines_that_journald_reads_have_their_priority(stderr, monkeypatch):
    status = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
    log.configure("INFO", "json")
    logger.warning("careful")
    line = stderr()
    assert line.startswith("<4>{")
    # Standard error may be something else than what systemd has opened.
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino + 1}")
    log.configure("INFO", "json")
    logger.warning("careful")
    assert stderr().startswith("{")


def test_the_loggers_of_other_libraries_are_not_changed(stderr, caplog):
    log.configure("INFO", "text")
    logger.info("ours")
    logging.getLogger("other").error("theirs")
    assert [entry.message for entry in caplog.records] == ["theirs"]
    assert "theirs" not in stderr()


@pytest.mark.parametrize(
    "thing",
    [
        Handshake(b"key", "/", "t=s3cret", {"cookie": "s3cret"}, [], b"s3cret"),
        make_opened(query="t=s3cret", headers={"cookie": "s3cret"}),
        Entry("id", "uri", b"s3cret", "s3cret", 0.0),
    ],
)
def test_secrets_of_a_client_are_not_logged(thing):
    # Tracebacks and messages of the loop show the arguments of calls.
    assert "s3cret" not in repr(thing)


# A standard error that nobody reads.

PATIENCE = 20.0
PIPE = 4096


class Pipe:
    """A pipe of `PIPE` bytes that a writer fills, and that the test reads."""

    def __init__(self):
        self.reader, self.descriptor = os.pipe()
        fcntl.fcntl(self.descriptor, fcntl.F_SETPIPE_SZ, PIPE)
        self.data = b""

    def read(self):
        """Read once; return whether the pipe has ended."""
        piece = os.read(self.reader, 1 << 16)
        self.data += piece
        return not piece

    def waiting(self):
        """Return how many bytes are in the pipe."""
        return int.from_bytes(fcntl.ioctl(self.reader, termios.FIONREAD, bytes(4)), sys.byteorder)

    def read_until(self, mark):
        while mark not in self.data:
            assert not self.read()

    def close(self):
        for descriptor in (self.reader, self.descriptor):
            if descriptor >= 0:
                os.close(descriptor)


def notice(count, why):
    return f"[{count}: {why}]\n".encode()


@contextmanager
def writing():
    pipe = Pipe()
    writer = log.BackgroundWriter(notice, pipe.descriptor)
    writer.start()
    try:
        yield pipe, writer
    finally:
        writer.close()
        os.close(pipe.reader)
        # Further writes fail now.
        writer.flush(PATIENCE)
        pipe.reader = -1
        pipe.close()


@pytest.fixture
def blocked():
    """A full pipe and its writer, which waits for a reader and has an empty queue."""
    with writing() as (pipe, writer):
        writer.put(b"." * (PIPE + 1) + b"\n")
        deadline = time.monotonic() + PATIENCE
        while pipe.waiting() < PIPE:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        yield pipe, writer


def test_lines_are_written_in_order():
    with writing() as (pipe, writer):
        for number in range(100):
            writer.put(b"%d\n" % number)
        writer.flush(PATIENCE)
        pipe.read()
        assert pipe.data.split() == [b"%d" % number for number in range(100)]


@pytest.mark.parametrize("limit", ["MAX_QUEUED_LINES", "MAX_QUEUED_BYTES"])
def test_lines_that_do_not_fit_into_the_queue_are_replaced_by_a_notice(blocked, monkeypatch, limit):
    pipe, writer = blocked
    monkeypatch.setattr(log, limit, {"MAX_QUEUED_LINES": 4, "MAX_QUEUED_BYTES": PIPE + 2 + 3 * 3}[limit])
    for number in range(10, 18):
        writer.put(b"%d\n" % number)
    assert writer._count == 4
    pipe.read_until(b"12\n[5: standard error was not read]\n")
    writer.flush(PATIENCE)
    writer.put(b"18\n")
    pipe.read_until(b"18\n")
    assert pipe.data.split(b"\n", 1)[1] == b"10\n11\n12\n[5: standard error was not read]\n18\n"


def test_lines_that_are_not_important_leave_a_quarter_of_the_queue_free(blocked, monkeypatch):
    pipe, writer = blocked
    monkeypatch.setattr(log, "MAX_QUEUED_LINES", 8)
    for number in range(10, 20):
        writer.put(b"%d\n" % number, is_important=False)
    writer.put(b"a warning\n")
    writer.put(b"20\n", is_important=False)
    pipe.read_until(b"[1: standard error was not read]\n")
    # The line of the blocked pipe is in the queue, too.
    kept = [b"10", b"11", b"12", b"13", b"14", b"[5: standard error was not read]", b"a warning"]
    assert pipe.data.split(b"\n")[1:-1] == [*kept, b"[1: standard error was not read]"]


@pytest.mark.parametrize("limit", ["MAX_QUEUED_LINES", "MAX_QUEUED_BYTES"])
def test_a_queue_that_is_half_full_is_congested(blocked, monkeypatch, limit):
    pipe, writer = blocked
    monkeypatch.setattr(log, limit, {"MAX_QUEUED_LINES": 6, "MAX_QUEUED_BYTES": 2 * (PIPE + 2 + 2 * 3)}[limit])
    writer.put(b"10\n")
    assert not writer.is_congested
    writer.put(b"11\n")
    assert writer.is_congested
    pipe.read_until(b"11\n")
    writer.flush(PATIENCE)
    assert not writer.is_congested


@pytest.mark.usefixtures("stderr")
def test_warnings_and_errors_survive_ten_thousand_closes_a_second(monkeypatch):
    pipe = Pipe()
    monkeypatch.setattr(log, "_standard_error", lambda: pipe.descriptor)
    log.configure("INFO", "json")
    fields = {"event": "closed", "id": "x" * 30, "reason": "client closed", "code": 1000, "path": "/chat"}
    for number in range(100):
        for _ in range(100):
            log_event("connection closed", fields)
        logger.log(logging.ERROR if number % 2 else logging.WARNING, "%(number)d", {"number": number})
    # Nobody has read so far: the queue is full.
    reader = threading.Thread(target=lambda: [None for _ in iter(pipe.read, True)])
    reader.start()
    log.close()
    os.close(pipe.descriptor)
    pipe.descriptor = -1
    reader.join(PATIENCE)
    lines = [json.loads(line) for line in pipe.data.splitlines()]
    assert [line["number"] for line in lines if "number" in line] == [*range(100)]
    dropped = [int(line["message"].split()[0]) for line in lines if "dropped" in line["message"]]
    closed = [line for line in lines if line.get("event") == "closed"]
    assert len(closed) + sum(dropped) == 10_000
    assert sum(dropped) > 1000
    pipe.close()


def test_lines_of_several_processes_do_not_mix_in_a_pipe():
    pipe = Pipe()
    writers = [log.BackgroundWriter(notice, pipe.descriptor, is_shared=True) for _ in range(3)]
    for name, writer in zip(b"abc", writers, strict=True):
        for length in range(1, 300):
            writer.put(bytes([name]) * length + b"\n")
    # Each starts with more than a pipe can hold.
    for writer in writers:
        writer.start()
    while pipe.data.count(b"\n") < 3 * 299:
        pipe.read()
    for writer in writers:
        writer.close()
    lengths = {name: [len(line) for line in pipe.data.split() if line[0] == name] for name in b"abc"}
    assert lengths == {name: [*range(1, 300)] for name in b"abc"}
    assert all(len(set(line)) == 1 for line in pipe.data.split())
    pipe.close()


def test_one_line_always_fits(monkeypatch):
    monkeypatch.setattr(log, "MAX_QUEUED_BYTES", 10)
    with writing() as (pipe, writer):
        writer.put(b"x" * 1000 + b"\n")
        pipe.read_until(b"\n")
        assert len(pipe.data) == 1001


def test_the_queue_has_the_documented_size():
    assert (log.MAX_QUEUED_LINES, log.MAX_QUEUED_BYTES) == (10_000, 1 << 20)


def test_flush_waits_for_a_bounded_time_once_while_nobody_reads(blocked):
    pipe, writer = blocked
    start = time.monotonic()
    writer.flush(0.05)
    assert time.monotonic() - start >= 0.05
    again = time.monotonic()
    writer.flush(PATIENCE)
    assert time.monotonic() - again < 1
    writer.put(b"more\n")
    pipe.read_until(b"more")
    writer.flush(PATIENCE)
    assert writer._count == 0


def test_a_closed_writer_writes_what_is_queued_and_its_thread_ends():
    before = set(threading.enumerate())
    with writing() as (pipe, writer):
        (thread,) = set(threading.enumerate()) - before
        writer.put(b"last\n")
        writer.close()
        thread.join(PATIENCE)
        assert not thread.is_alive()
        pipe.read()
        assert pipe.data == b"last\n"


def test_the_writer_waits_for_a_non_blocking_descriptor(monkeypatch):
    polled = threading.Event()
    real = select.poll

    def poll():
        polled.set()
        return real()

    monkeypatch.setattr(select, "poll", poll)
    with writing() as (pipe, writer):
        os.set_blocking(pipe.descriptor, False)
        writer.put(b"x" * 3 * PIPE + b"\n")
        assert polled.wait(PATIENCE)
        pipe.read_until(b"\n")
        assert len(pipe.data) == 3 * PIPE + 1


def test_lost_lines_are_reported_when_writing_works_again(monkeypatch):
    answers = iter([6, OSError(28, "No space left on device"), OSError(28, "No space left on device")])
    real = os.write

    def write(descriptor, data):
        answer = next(answers, len(data))
        if isinstance(answer, OSError):
            raise answer
        return real(descriptor, data[:answer])

    with writing() as (pipe, writer):
        monkeypatch.setattr(os, "write", write)
        with writer._changed:
            for word in (b"one\n", b"two\n", b"three\n"):
                writer._add(log._Line(pipe.descriptor, word, 1))
            writer._changed.notify_all()
        writer.flush(PATIENCE)
        # The notice is lost too, but not its count.
        writer.put(b"four\n")
        writer.flush(PATIENCE)
        writer.put(b"five\n")
        pipe.read_until(b"five\n")
    assert pipe.data == b"one\ntw[3: standard error could not be written: No space left on device]\nfive\n"


@examples(30)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 2000), st.booleans()), max_size=20))
def test_each_line_is_written_in_order_or_counted_in_its_place(steps):
    with pytest.MonkeyPatch.context() as patch, writing() as (pipe, writer):
        patch.setattr(log, "MAX_QUEUED_LINES", 10)
        number = 0
        for count, size, reads in steps:
            for _ in range(count):
                writer.put(b"%d %s\n" % (number, b"." * size))
                number += 1
            if reads and pipe.waiting():
                pipe.read()
        reader = threading.Thread(target=lambda: [None for _ in iter(pipe.read, True)])
        reader.start()
        writer.flush(PATIENCE)
        writer.close()
        os.close(pipe.descriptor)
        pipe.descriptor = -1
        reader.join(PATIENCE)
    expected = 0
    for line in pipe.data.splitlines():
        if line.startswith(b"["):
            expected += int(line[1:].partition(b":")[0])
        else:
            assert int(line.split()[0]) == expected
            expected += 1
    assert expected == number


@pytest.mark.usefixtures("stderr")
def test_the_notice_of_lost_lines_is_formatted_like_other_lines():
    log.configure("INFO", "json")
    line = json.loads(log._handlers[0]._notice(7, "standard error was not read"))
    assert (line["level"], line["message"]) == ("WARN", "7 log lines were dropped because standard error was not read")


# Everything else that Python would write to standard error.


def test_a_record_that_cannot_be_formatted_is_logged_and_nothing_raised(stderr):
    log.configure("INFO", "text")
    logger.info("%d clients", "many")
    assert re.search(r" ERROR .*test_output\.py:\d+: a log record could not be formatted: '%d clients'", stderr())


def test_warnings_are_logged(stderr):
    log.configure("INFO", "text")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("old ways", DeprecationWarning, stacklevel=1)
        logging.captureWarnings(False)
    assert re.search(r"Z WARN .*old ways", stderr())


def test_an_uncaught_exception_is_logged(stderr):
    log.configure("INFO", "text")
    sys.excepthook(*raised(ValueError("why")))
    lines = stderr().splitlines()
    assert lines[0].endswith(" ERROR the gateway ended with an uncaught exception")
    assert lines[-1] == "ValueError: why"


def test_the_exception_of_a_thread_is_logged(stderr):
    log.configure("INFO", "text")
    thread = threading.Thread(target=lambda: 1 / 0, name="divider")
    thread.start()
    thread.join()
    text = stderr()
    assert " ERROR the thread divider ended with an uncaught exception" in text
    assert "ZeroDivisionError" in text


def test_an_exception_that_cannot_be_raised_is_logged(stderr):
    log.configure("INFO", "text")

    class Thing:
        def __del__(self):
            raise ValueError("at the end")

    Thing()
    gc.collect()
    text = stderr()
    assert re.search(r" ERROR .*__del__", text)
    assert "ValueError: at the end" in text


def raised(error):
    try:
        raise error
    except type(error):
        return sys.exc_info()


def test_a_closed_standard_error_is_not_written_to(stderr, monkeypatch):
    monkeypatch.setattr(sys, "__stderr__", None)
    log.configure("INFO", "text")
    logger.info("unheard")
    assert stderr() == ""
    os.close(log._handlers[0].writer._descriptor)


@pytest.mark.usefixtures("stderr")
def test_an_announcement_goes_to_standard_output(capfd):
    log.announce("before there is a writer")
    log.configure("INFO", "text")
    log.announce("listening")
    log.flush()
    assert capfd.readouterr().out == "listening\n"


def test_without_a_standard_output_nothing_is_announced(stderr, monkeypatch):
    monkeypatch.setattr(sys, "__stdout__", None)
    log.configure("INFO", "text")
    log.announce("unheard")
    assert stderr() == ""


def test_a_line_names_the_process_if_there_are_several(stderr):
    log.configure("INFO", "text", "worker 2")
    logger.info("hello")
    assert stderr().endswith(" INFO worker 2: hello\n")
    log.configure("INFO", "json", "worker 2")
    logger.info("hello")
    line = json.loads(stderr())
    assert (line["process"], line["message"]) == ("worker 2", "hello")
    log.configure("INFO", "json")
    logger.info("hello")
    assert "process" not in json.loads(stderr())
