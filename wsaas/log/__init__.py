"""Logging that never blocks the event loop. `logger` is the one logger of the package."""

import logging

logger = logging.getLogger("wsaas")


def about(ws_uri: str, **more: object) -> dict[str, object]:
    """Return the fields of a line about the connection at `ws_uri`, with `more`."""
    return {"id": ws_uri.rpartition("/")[2], "ws_uri": ws_uri, **more}


def log_event(message: str, fields: dict[str, object]) -> None:
    """Log `message` with `fields` at INFO. Cheaper than `logger.info`, as it does not look for the calling line."""
    if logger.isEnabledFor(logging.INFO):
        logger.handle(logging.LogRecord(logger.name, logging.INFO, __file__, 0, message, (fields,), None))
