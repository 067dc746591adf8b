"""Fields of a line, in both formats."""

import json
import logging
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.strategies import examples
from wsaas.log import EventRecord, about, log_event
from wsaas.log.formats import JournalFormatter, JsonFormatter, TextFormatter

AT = 1769860800.125
START = "2026-01-31T12:00:00.125Z INFO "


def record(message, fields):
    entry = logging.LogRecord("wsaas", logging.INFO, "file.py", 1, message, (fields,), None)
    entry.created = AT
    return entry


def test_fields_are_in_the_message_of_text_and_beside_that_of_json():
    entry = record("%(ws_uri)s: refused with %(status)d", about("a.test/abc", status=403))
    assert TextFormatter().format(entry) == f"{START}a.test/abc: refused with 403"
    assert json.loads(JsonFormatter().format(entry)) == {
        "time": "2026-01-31T12:00:00.125Z",
        "level": "INFO",
        "message": "a.test/abc: refused with 403",
        "id": "abc",
        "ws_uri": "a.test/abc",
        "status": 403,
    }


def test_fields_follow_a_message_without_placeholders_in_text():
    entry = record("connection closed", {"event": "closed", "reason": "client closed", "code": 1000, "path": "/a"})
    assert TextFormatter("worker 2").format(entry) == (
        f'{START}worker 2: connection closed reason="client closed" code=1000 path=/a'
    )
    assert list(json.loads(JsonFormatter("worker 2").format(entry))) == [
        *("time", "level", "process", "message", "event", "reason", "code", "path")
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [("", '""'), ("a b", '"a b"'), ('"', r'"\""'), ("id=1", '"id=1"'), ("a\nb", r"a\nb"), ("é", "é"), (None, "None")],
)
def test_a_value_is_quoted_where_it_could_be_mistaken(value, text):
    assert TextFormatter().format(record("x", {"path": value})) == f"{START}x path={text}"


@examples(200)
@given(st.text(st.characters(exclude_categories=()), max_size=20), st.text(max_size=20))
def test_no_value_can_forge_a_field_or_a_line_of_text(first, second):
    line = TextFormatter().format(record("x", {"a": first, "b": second}))
    assert line.isprintable()
    printable = f"{first}{second}".isprintable()
    if printable and "\\" not in line and "'" not in line:
        assert shlex.split(line[len(START) :]) == ["x", f"a={first}", f"b={second}"]


@examples(200)
@given(st.dictionaries(st.sampled_from("abc"), st.text(st.characters(exclude_categories=())) | st.integers(0, 99)))
def test_any_fields_are_one_line_of_json(fields):
    line = JsonFormatter().format(record("x", {"d": 1.5, **fields}))
    assert "\n" not in line
    read = json.loads(line)
    for name, value in fields.items():
        assert read[name] == (value if isinstance(value, int) else value.encode("utf-8", "backslashreplace").decode())
    assert read["d"] == 1.5


def test_other_values_are_text_in_json():
    assert json.loads(JsonFormatter().format(record("x", {"error": OSError(2, "gone")})))["error"] == "[Errno 2] gone"


def test_an_event_is_logged_at_info_and_only_there(caplog):
    caplog.set_level("INFO", "wsaas")
    log_event("connection closed", {"code": 1000})
    caplog.set_level("WARNING", "wsaas")
    log_event("connection closed", {"code": 1001})
    (entry,) = caplog.records
    assert (entry.levelname, entry.getMessage(), entry.args) == ("INFO", "connection closed", {"code": 1000})


def test_the_record_of_an_event_is_that_of_the_standard_library():
    fields = {"event": "closed", "reason": "client closed", "code": 1000}
    made, plain = EventRecord("connection closed", fields), logging.LogRecord("wsaas", 20, "", 0, "", (), None)
    plain.msg, plain.args = "connection closed", fields
    assert vars(made).keys() == vars(plain).keys()
    assert 0 <= plain.created - made.created < 60
    assert made.msecs == pytest.approx(made.created % 1 * 1000, abs=1)
    made.created = plain.created
    for formatter in (TextFormatter(), JsonFormatter("worker 1")):
        assert formatter.format(made) == formatter.format(plain)


@pytest.mark.parametrize(
    ("level", "priority"),
    [
        (logging.DEBUG, "<7>"),
        (logging.INFO, "<6>"),
        (logging.WARNING, "<4>"),
        (logging.ERROR, "<3>"),
        (logging.CRITICAL, "<3>"),
    ],
)
@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_the_journal_gets_the_priority_of_each_line(level, priority, formatter):
    entry = record("%(why)s", {"why": "x"})
    entry.levelno = level
    assert JournalFormatter(formatter).format(entry) == priority + formatter.format(entry)


def test_each_line_of_a_traceback_has_a_priority():
    entry = record("%(why)s", {"why": "x"})
    entry.exc_info = (ValueError, ValueError("bad"), None)
    assert JournalFormatter(TextFormatter()).format(entry) == f"<6>{START}x\n<6>ValueError: bad"
