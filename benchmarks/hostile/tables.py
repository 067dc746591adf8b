"""Tables of what was measured beside hostile clients. Latencies are in milliseconds."""

import math
from collections.abc import Sequence

from benchmarks.hostile.attacks import KINDS
from benchmarks.hostile.probes import Latencies
from benchmarks.hostile.trial import Measurement
from benchmarks.report import MEBIBYTE, markdown

COLUMNS = ("gateway busy", "load busy", "others", "load late p99", "MB/s", "memory", "remarks")


def milliseconds(taken: Sequence[float], failed: int = 0) -> list[str]:
    """Return three cells: median, 99th percentile and maximum. The `failed` count as slower than all others."""
    latencies = Latencies()
    latencies.taken = [*taken, *[math.inf] * failed]
    cells = (latencies.percentile(share) for share in (0.5, 0.99, 1))
    return ["-" if math.isnan(each) else "never" if math.isinf(each) else f"{each * 1e3:,.1f}" for each in cells]


def heads(probes: Sequence[str]) -> list[str]:
    """Return the heads of a table."""
    each = [f"{probe} {what}" for probe in probes for what in ("p50", "p99", "max", "failed")]
    return ["hostile clients", "target", *each, *COLUMNS]


def row(one: Measurement, probes: Sequence[str]) -> list[str]:
    """Return the cells of one measurement."""
    rate = KINDS[one.kind].attack.rate
    cells = [f"{rate} a second, `{one.kind}`" if rate else f"{one.clients} x `{one.kind}`", one.target]
    for probe in probes:
        failed = one.failed.get(probe, 0)
        cells += [*milliseconds(one.beside.get(probe, []), failed), str(failed) if probe in one.failed else "-"]
    return [
        *cells,
        f"{one.target_busy:.0%}",
        f"{one.load_busy + one.own_busy:.0%}",
        f"{one.others:.0%}",
        f"{one.lateness * 1e3:.1f}",
        f"{one.written / 1e6:.1f}",
        f"{one.growth / MEBIBYTE:+.1f} MiB",
        remarks(one),
    ]


def row_alone(measured: Sequence[Measurement], target: str, probes: Sequence[str]) -> list[str]:
    """Return the row of a target without hostile clients: all latencies from before they came."""
    cells = ["none", target]
    for probe in probes:
        cells += [*milliseconds([each for one in measured for each in one.alone.get(probe, [])]), "-"]
    return [*cells, *["-"] * (len(COLUMNS) - 1), ""]


def remarks(one: Measurement) -> str:
    """Return what the figures do not say."""
    found = [one.error] if one.error else []
    if one.closed:
        found.append(f"the healthy client was closed {one.closed} times")
    if KINDS[one.kind].attack.rate and one.connections:
        found.append(f"{one.connections} clients ended, {one.kept / one.connections:,.0f} bytes kept for each")
    return "; ".join(found)


def summary(one: Measurement) -> str:
    """Return a measurement in one line."""
    found = []
    for probe, taken in one.beside.items():
        _, p99, most = milliseconds(taken, one.failed[probe])
        found.append(f"{probe} p99 {p99}, max {most} ms, {one.failed[probe]} failed")
    return "; ".join([*found, f"{one.growth / MEBIBYTE:+.1f} MiB", remarks(one)])


def tables(results: Sequence[Measurement]) -> str:
    """Return a Markdown table for each group of kinds."""
    texts = []
    for group in dict.fromkeys(one.group for one in results):
        own = [one for one in results if one.group == group]
        probes = list(dict.fromkeys(probe for one in own for probe in one.alone))
        targets = dict.fromkeys(one.target for one in own)
        rows = [row_alone([one for one in own if one.target == target], target, probes) for target in targets]
        rows += [row(one, probes) for one in own]
        texts.append(f"{group.capitalize()} (ms):\n\n{markdown(heads(probes), rows)}")
    return "\n\n".join(texts)
