"""Lists that the garbage collector does not visit."""

import ctypes
from collections.abc import Iterable
from typing import TypeVar

_Item = TypeVar("_Item")

_untrack = ctypes.pythonapi.PyObject_GC_UnTrack
_untrack.argtypes = [ctypes.py_object]
_untrack.restype = None


def untracked_list(items: Iterable[_Item]) -> list[_Item]:
    """Return `items` in a list that the garbage collector does not visit, like an object of a C extension.

    For a list of all clients that lives for a few turns of the loop. A new list is visited by the next two collections,
    with each of its items: with 100,000 clients, the loop would stand still for 5 ms each time (`python -m benchmarks
    pauses`). Its items are visited as before. What it refers to is not collected while it lives, so it must not be part
    of a reference cycle.
    """
    found = [*items]
    _untrack(found)
    return found
