"""The two formats of a line: text, and one JSON object.

Arguments of a line that are a mapping are its fields, which JSON shows beside the message:

    logger.warning("%(ws_uri)s: message not delivered: %(why)s", {"ws_uri": ws_uri, "why": why})

A message without placeholders does not say what the fields are, so they follow it in the text format too.
"""

import json
import logging
from collections.abc import Mapping
from typing import Any, Final

import orjson

from wsaas.clock import rfc3339

LEVELS: Final[Mapping[str, int]] = {
    "ERROR": logging.ERROR,
    "WARN": logging.WARNING,
    "INFO": logging.INFO,
    "DEBUG": logging.DEBUG,
}
_LEVEL_NAMES: Final = {level: name for name, level in LEVELS.items()} | {logging.CRITICAL: "ERROR"}

_PRIORITIES: Final = {logging.ERROR: "<3>", logging.WARNING: "<4>", logging.INFO: "<6>", logging.DEBUG: "<7>"}
"""Those of syslog(3)."""

_DEFAULT_PRIORITY: Final = "<3>"

_quote: Final = json.JSONEncoder(ensure_ascii=False).encode
"""Made once, as `json.dumps` would make an encoder for each call."""

EVENT: Final = "event"
"""The field that names a kind of line for programs. The message does so for people, so the text format omits it."""


class TextFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.123Z INFO message`, with control characters escaped so that a line stays one line.

    With several processes, `process` names this one before the message.
    """

    def __init__(self, process: str = "") -> None:
        """Format the lines of `process`."""
        super().__init__()
        self._prefix = f"{process}: " if process else ""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, followed by the lines of a traceback if there is one."""
        message = record.getMessage()
        fields = record.args
        if isinstance(fields, Mapping) and "%(" not in record.msg:
            parts = [message]
            for name, value in fields.items():
                if name != EVENT:
                    parts.append(f"{name}={value if isinstance(value, int) else _spelled(str(value))}")
            message = " ".join(parts)
        if not message.isprintable():
            message = message.encode("unicode_escape").decode("ascii")
        line = f"{rfc3339(record.created)} {_LEVEL_NAMES.get(record.levelno, record.levelname)} {self._prefix}{message}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(logging.Formatter):
    """`{"time", "level", "message"}`, the fields if there are any, and `"exception"` if there is one.

    With several processes, `"process"` names this one.
    """

    def __init__(self, process: str = "") -> None:
        """Format the lines of `process`."""
        super().__init__()
        self._more = {"process": process} if process else {}

    def format(self, record: logging.LogRecord) -> str:
        """Return one JSON object on one line."""
        entry: dict[str, Any] = {
            "time": rfc3339(record.created),
            "level": _LEVEL_NAMES.get(record.levelno, record.levelname),
            **self._more,
            "message": record.getMessage(),
        }
        if isinstance(record.args, Mapping):
            entry.update(record.args)
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        try:
            return orjson.dumps(entry, default=str).decode()
        except orjson.JSONEncodeError:
            return orjson.dumps({name: _encodable(value) for name, value in entry.items()}).decode()


class JournalFormatter(logging.Formatter):
    """The lines of another formatter, each with its priority in front, as journald expects it (sd-daemon(3)): `<6>`."""

    def __init__(self, inner: logging.Formatter) -> None:
        """Format as `inner`."""
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines. journald takes each for an entry of its own, and does not show the priority in it."""
        prefix = _PRIORITIES.get(record.levelno, _DEFAULT_PRIORITY)
        return prefix + self._inner.format(record).replace("\n", f"\n{prefix}")


def _encodable(value: object) -> object:
    """Escape lone surrogates, which JSON does not allow. Python uses them for bytes of paths that are not UTF-8."""
    return value if isinstance(value, (int, float)) else str(value).encode("utf-8", "backslashreplace").decode()


def _spelled(text: str) -> str:
    """Return `text` as a word, in quotes if it is none. Other white space than a blank is escaped later."""
    return _quote(text) if not text or " " in text or '"' in text or "=" in text else text
