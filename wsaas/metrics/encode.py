"""Encodes a row for Prometheus, as text or as OpenMetrics."""

import platform
from collections.abc import Iterator
from itertools import accumulate
from typing import Final, cast

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.utils import floatToGoString

from wsaas import __version__
from wsaas.build_kind import BUILD
from wsaas.metrics.metric import COUNTER, HISTOGRAM, Metric, Row
from wsaas.metrics.table import METRICS

WORKERS_HELP: Final = (
    "Workers of this node, by whether they have answered for this scrape. If one is missing for long, look at the log "
    "of the supervisor. The totals go on with what a missing worker has stored; its gauges are left out."
)
BUILD_HELP: Final = "The version of the gateway, whether it is `compiled` or `pure Python`, and the version of Python."


def encode(row: Row, workers: tuple[int, int], accept: str) -> tuple[bytes, str]:
    """Return the exposition of `row` in the format that an `Accept` header asks for, and its content type.

    `workers`: how many have answered, and how many have not.
    """
    encoder, content_type = choose_encoder(accept)
    # All that an encoder does with a registry is to collect from it.
    return encoder(cast(CollectorRegistry, _Collection(row, workers))), content_type


class _Collection:
    """What a registry would collect."""

    def __init__(self, row: Row, workers: tuple[int, int]) -> None:
        self._row = row
        self._workers = workers

    def collect(self) -> Iterator[Family]:
        build = {"version": __version__, "build": BUILD, "python": platform.python_version()}
        yield InfoMetricFamily("wsaas_build", BUILD_HELP, build)
        workers = GaugeMetricFamily("wsaas_workers", WORKERS_HELP, labels=["state"])
        for state, number in zip(("answered", "missing"), self._workers, strict=True):
            workers.add_metric([state], number)
        yield workers
        at = 0
        for metric in METRICS:
            yield _family(metric, self._row[at : at + metric.width])
            at += metric.width


def _family(metric: Metric, values: Row) -> Family:
    if metric.kind is HISTOGRAM:
        return _histogram(metric, values)
    make = CounterMetricFamily if metric.kind is COUNTER else GaugeMetricFamily
    family = make(metric.name.removesuffix("_total"), metric.help, labels=metric.labels, unit=metric.unit)
    for labels, value in zip(metric.series, values, strict=True):
        if value is not None:
            family.add_metric(labels, value)
    return family


def _histogram(metric: Metric, values: Row) -> Family:
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels, unit=metric.unit)
    bounds = [*map(floatToGoString, metric.bounds), "+Inf"]
    size = len(bounds) + 1
    for number, labels in enumerate(metric.series):
        *counts, total = cast(list[float], values[number * size : (number + 1) * size])
        family.add_metric(labels, [*zip(bounds, accumulate(counts), strict=True)], total)
    return family
