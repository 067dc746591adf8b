"""The fast path of the WebSocket decoder: the same frames decoded by it and by wsproto, in turn."""

import time
from argparse import ArgumentParser
from collections.abc import Sequence
from functools import partial
from statistics import median

from benchmarks.report import in_turn, markdown
from benchmarks.wire import text
from wsaas.websocket.decoder import FrameDecoder

LIMIT = 1 << 20
"""Bytes that a message may have."""

SIZES = (16, 128, 1024, 16_384)


def cost(data: bytes, times: int, *, fast: bool) -> float:
    """Return the CPU time of decoding the frame `data`, in microseconds."""
    decoder = FrameDecoder(LIMIT, fast=fast)
    begin = time.process_time()
    for _ in range(times):
        decoder.receive(data)
        while decoder.next() is not None:
            pass
    return (time.process_time() - begin) / times * 1e6


def main(arguments: Sequence[str]) -> None:
    """Run the case."""
    parser = ArgumentParser(prog="python -m benchmarks framing", description=__doc__)
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=5)
    chosen = parser.parse_args(arguments)
    rows = []
    for size in SIZES:
        runs = {fast: partial(cost, text(size), chosen.frames, fast=fast) for fast in (True, False)}
        fast, plain = in_turn(runs, chosen.repeats).values()
        ratio = median(b / a for a, b in zip(fast, plain, strict=True))
        rows.append([f"{size} B", f"{median(fast):.2f} µs", f"{median(plain):.2f} µs", f"{ratio:.1f}"])
    print(markdown(["payload", "fast path", "wsproto", "ratio"], rows))
