"""Memory that the code of the project takes, by `tracemalloc`."""

import tracemalloc
from pathlib import Path

import wsaas

_TESTS = Path(__file__).parents[1]
_FILTERS = [tracemalloc.Filter(True, f"{folder}/*") for folder in (_TESTS, Path(wsaas.__file__).parent)]


def traced_memory() -> int:
    """Return how many bytes the project's code holds that it took since `tracemalloc.start`.

    What the threads of the test runner take meanwhile does not count. Memory that compiled code takes is that of the
    test that calls it.
    """
    traces = tracemalloc.take_snapshot().filter_traces(_FILTERS).traces
    return sum(trace.size for trace in traces)
