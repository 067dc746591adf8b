"""Logging set up once: the standard library's, to standard error, as text or as one JSON object a line."""

import logging
import sys
from collections.abc import Mapping

import orjson

from wsaas.clock import rfc3339

LEVELS: Mapping[str, int] = {
    "ERROR": logging.ERROR,
    "WARN": logging.WARNING,
    "INFO": logging.INFO,
    "DEBUG": logging.DEBUG,
}
_NAMES = {level: name for name, level in LEVELS.items()} | {logging.CRITICAL: "ERROR"}

logger = logging.getLogger("wsaas")


class TextFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.123Z INFO message`, with control characters escaped so that a line stays one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback follows on lines of its own."""
        message = record.getMessage()
        if not message.isprintable():
            message = message.encode("unicode_escape").decode("ascii")
        line = f"{rfc3339(record.created)} {_NAMES[record.levelno]} {message}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(logging.Formatter):
    """`{"time", "level", "message"}`, and `"exception"` where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one JSON object on one line."""
        entry = {
            "time": rfc3339(record.created),
            "level": _NAMES[record.levelno],
            "message": _encodable(record.getMessage()),
        }
        if record.exc_info:
            entry["exception"] = _encodable(self.formatException(record.exc_info))
        return orjson.dumps(entry).decode()


def _encodable(text: str) -> str:
    """Escape lone surrogates: they stand for bytes that are not UTF-8 in paths and variables, and JSON has none."""
    return text.encode("utf-8", "backslashreplace").decode()


def configure(level: str, style: str) -> None:
    """Send the logs of `wsaas` and of asyncio at `level` (a key of `LEVELS`) and above to standard error as `style`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    for name in ("wsaas", "asyncio"):
        target = logging.getLogger(name)
        target.handlers[:] = [handler]
        target.setLevel(LEVELS[level])
        target.propagate = False
