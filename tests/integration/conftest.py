"""The fixtures of the tests of the command."""

import gc
import logging
import signal
import sys
import threading
from collections.abc import Iterator

import pytest

from tests.support.command import ThreadedBackend
from wsaas.log import output


@pytest.fixture
def _restored_process() -> Iterator[None]:
    """Restore logging, signals and the garbage collector, which the command sets up for good."""
    thresholds = gc.get_threshold()
    loggers = [logging.getLogger(name) for name in ("wsaas", "asyncio", "py.warnings")]
    before = [(each.handlers[:], each.level, each.propagate) for each in loggers]
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    signal_handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)}
    hooks = sys.excepthook, sys.unraisablehook, threading.excepthook, logging.lastResort
    yield
    for number, signal_handler in signal_handlers.items():
        signal.signal(number, signal_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    output.close()
    logging.captureWarnings(False)
    sys.excepthook, sys.unraisablehook, threading.excepthook, logging.lastResort = hooks
    for each, (handlers, level, propagate) in zip(loggers, before, strict=True):
        each.handlers[:] = handlers
        each.setLevel(level)
        each.propagate = propagate
    gc.set_threshold(*thresholds)
    gc.unfreeze()


@pytest.fixture
def backend() -> Iterator[ThreadedBackend]:
    with ThreadedBackend() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
