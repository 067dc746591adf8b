import json
import logging
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples

from wsaas import log
from wsaas.clock import rfc3339
from wsaas.events import Opened
from wsaas.handshake import Handshake
from wsaas.journal import Entry

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
def stderr(capsys):
    """Return what was written to standard error; leave the loggers as they were."""
    loggers = [logging.getLogger(name) for name in ("wsaas", "asyncio")]
    before = [(each, each.handlers[:], each.level, each.propagate) for each in loggers]
    yield lambda: capsys.readouterr().err
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
    assert log.TextFormatter().format(entry) == f"2026-01-31T12:00:00.125Z {name} one of 2"
    assert json.loads(log.JsonFormatter().format(entry)) == {
        "time": "2026-01-31T12:00:00.125Z",
        "level": name,
        "message": "one of 2",
    }


def test_a_message_in_any_language_is_shown_as_it_is():
    assert log.TextFormatter().format(record("schöne Grüße, 你好")).endswith(" INFO schöne Grüße, 你好")


@examples(200)
@given(any_text)
def test_no_message_can_forge_a_line_of_text(message):
    line = log.TextFormatter().format(record("%s", message))
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
    line = log.JsonFormatter().format(record("%s", message))
    assert "\n" not in line
    line.encode()
    read = json.loads(line)["message"]
    assert read == message.encode("utf-8", "backslashreplace").decode()


def test_a_traceback_follows_its_line_of_text():
    line, *traceback = log.TextFormatter().format(record("failed", error=ValueError("why"))).splitlines()
    assert line.endswith(" INFO failed")
    assert traceback[0].startswith("Traceback")
    assert traceback[-1] == "ValueError: why"


def test_a_traceback_is_part_of_its_line_of_json():
    entry = json.loads(log.JsonFormatter().format(record("failed", error=ValueError("why \udcff"))))
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
def test_only_what_is_severe_enough_is_logged(stderr, name, level, shown):
    log.configure(level, "json")
    logger = logging.getLogger(name)
    for severity in (logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG):
        logger.log(severity, "x")
    assert [json.loads(line)["level"] for line in stderr().splitlines()] == shown


def test_configuring_again_replaces_what_was_there(stderr):
    log.configure("INFO", "json")
    log.configure("INFO", "text")
    log.logger.info("once")
    (line,) = stderr().splitlines()
    assert line.endswith("Z INFO once")


def test_the_logs_of_others_are_left_alone(stderr, caplog):
    log.configure("INFO", "text")
    log.logger.info("ours")
    logging.getLogger("other").error("theirs")
    assert [entry.message for entry in caplog.records] == ["theirs"]
    assert "theirs" not in stderr()


@pytest.mark.parametrize(
    "thing",
    [
        Handshake(b"key", "/", "t=s3cret", {"cookie": "s3cret"}, [], b"s3cret"),
        Opened(b"s3cret", 0.0),
        Entry("id", "uri", b"s3cret", "s3cret", 0.0),
    ],
)
def test_what_is_shown_of_a_client_is_nothing_secret(thing):
    # Tracebacks and the loop's own messages show what a call was given.
    assert "s3cret" not in repr(thing)
