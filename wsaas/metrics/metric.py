"""What a metric is, and the figures that it is read from."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Final

from wsaas.counters import Counters
from wsaas.metrics.process import ProcessFigures
from wsaas.statistics import Statistics

Value = float | None
"""None: there is no value, as what it is about is not in use."""

Row = list[Value]


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything that a process knows about itself."""

    counters: Counters
    gauges: Statistics
    process: ProcessFigures


class Kind(Enum):
    """What Prometheus does with a metric."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


COUNTER: Final = Kind.COUNTER
GAUGE: Final = Kind.GAUGE
HISTOGRAM: Final = Kind.HISTOGRAM

Merge = Callable[[Iterable[float]], float]
"""How the values of several workers become one."""


@dataclass(frozen=True)
class Metric:
    """A metric. `name`: as it is exported, for a histogram without `_bucket`, `_sum` and `_count`.

    `labels`: the names of its labels, and `series`: their values. `read` returns the values of all series in this
    order; for a histogram, the counts of its buckets and the sum, one series after the other. `bounds`: of a histogram.
    """

    name: str
    kind: Kind
    help: str
    read: Callable[[Figures], Sequence[Value]]
    labels: tuple[str, ...] = ()
    series: tuple[tuple[str, ...], ...] = ((),)
    bounds: tuple[float, ...] = ()
    merge: Merge = sum

    @property
    def is_monotonic(self) -> bool:
        """Whether its values only rise, so that they go on from those of a worker that ended."""
        return self.kind is not GAUGE

    @cached_property
    def width(self) -> int:
        """The number of values in a row."""
        return len(self.series) * (len(self.bounds) + 2 if self.kind is HISTOGRAM else 1)

    @property
    def unit(self) -> str:
        """Its unit, which is also in its name, or an empty string."""
        words = self.name.removesuffix("_total").rsplit("_", 1)
        return words[-1] if words[-1] in {"seconds", "bytes"} else ""
