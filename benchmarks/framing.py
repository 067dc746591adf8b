"""What the fast lane of `websocket.decoder` is worth: the same frames by it and by wsproto, in turn, in one run."""

import os
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from statistics import median

from websockets.speedups import apply_mask

from wsaas.websocket.decoder import FrameDecoder

FIN_TEXT = b"\x81"
MASKED = 0x80
LIMIT = 1 << 20


def frame(size: int) -> bytes:
    """Return one masked text frame of `size` bytes (below 65,536)."""
    mask = os.urandom(4)
    head = bytes([MASKED | size]) if size < 126 else bytes([MASKED | 126]) + size.to_bytes(2, "big")  # noqa: PLR2004
    return FIN_TEXT + head + mask + apply_mask(b"x" * size, mask)


def per_frame(stream: FrameDecoder, data: bytes, times: int) -> float:
    """Return the CPU time of one frame, in microseconds."""
    begin = time.process_time()
    for _ in range(times):
        stream.receive(data)
        while stream.next() is not None:
            pass
    return (time.process_time() - begin) / times * 1e6


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the case."""
    parser = ArgumentParser(prog="python -m benchmarks framing", description="The fast lane against wsproto.")
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=5)
    chosen = parser.parse_args(arguments)
    print("| payload | fast lane | wsproto | ratio |\n| --- | --- | --- | --- |")
    for size in (16, 128, 1024, 16_384):
        data = frame(size)
        pairs = [
            tuple(per_frame(FrameDecoder(LIMIT, fast=fast), data, chosen.frames) for fast in (True, False))
            for _ in range(chosen.repeats)
        ]
        fast, plain = (median(column) for column in zip(*pairs, strict=True))
        print(f"| {size} B | {fast:.2f} µs | {plain:.2f} µs | {median(b / a for a, b in pairs):.1f} |")
