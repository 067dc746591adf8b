"""Cuts a stream into pieces, in a way that is chosen by one byte."""

from collections.abc import Iterator
from itertools import cycle
from random import Random

_SIZES = [[Random(seed).choice([1, 1, 2, 3, 5, 8, 13, 40, 200, 1000]) for _ in range(8)] for seed in range(256)]
_SIZES[0] = [1]


def pieces(data: bytes, how: int) -> Iterator[bytes]:
    """Cut `data` into pieces. `how`: 0 cuts it into single bytes."""
    at = 0
    for size in cycle(_SIZES[how]):
        if at >= len(data):
            return
        yield data[at : at + size]
        at += size
