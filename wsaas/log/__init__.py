"""Logging that never blocks the event loop. `logger` is the one logger of the package."""

import logging

logger = logging.getLogger("wsaas")
