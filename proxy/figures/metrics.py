"""Exports the table of figures as Prometheus metrics, at each scrape of the admin port.

Labels come from fixed sets (levels, commands of the table), never from keys or clients.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING, Any, cast

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from tiers import Size, TierUnavailable

from ..stats import BUCKETS_S, Histogram
from .reading import Reading
from .row import Figure, Kind, Row
from .table import ROWS
from .worker_metrics import Packed, combined, is_total, packed

if TYPE_CHECKING:
    from tiers.proxy_door import ViewStatus

    from ..client.host import Host


MEASURE_TIMEOUT_S = 0.5  # the longest wait of a scrape for a tier

_FAMILIES: dict[Kind, Any] = {
    Kind.COUNTER: CounterMetricFamily,
    Kind.GAUGE: GaugeMetricFamily,
    Kind.HISTOGRAM: HistogramMetricFamily,
}


class TerraceCollector(Collector):
    """Yields every metric of one worker."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._measured: dict[str, Size] = {}
        self._views: list[ViewStatus] = []
        self._others: list[Packed] = []

    async def measure(self) -> None:
        """Ask the tiers for their sizes (none without an answer), and the other workers for their
        share."""
        self._others = await self._host.siblings.ask("metrics")
        self._measured = {}
        stack = self._host.stack
        for name, tier in (("l2", stack.l2), ("l3", stack.l3)):
            with contextlib.suppress(TierUnavailable, TimeoutError):
                if tier is not None:
                    async with asyncio.timeout(MEASURE_TIMEOUT_S):
                        self._measured[name] = await tier.size()
        self._views = []
        with contextlib.suppress(TierUnavailable, TimeoutError):
            if stack.l3 is not None:
                async with asyncio.timeout(MEASURE_TIMEOUT_S):
                    self._views = await stack.l3.views()

    def collect(self) -> Iterator[Metric]:
        own = self._counted_on()
        if len(self._others) < self._host.siblings.expected:
            own = [metric for metric in own if not is_total(metric)]
        return combined(own, self._others)

    def share(self) -> Packed:
        """This worker's share of the metrics of all workers."""
        return packed(self._counted_on())

    def _counted_on(self) -> list[Metric]:
        """The own metrics plus those of the replaced worker, and kept for the next one."""
        siblings = self._host.siblings
        own = list(combined(self._own(), [siblings.retired]))
        if siblings.expected:
            siblings.keep(packed(filter(is_total, own)))
        return own

    def _own(self) -> Iterator[Metric]:
        reading = Reading(self._host, self._measured, self._views)
        rows: dict[Figure, list[Row]] = {}
        for row in ROWS:
            if row.figure.name and row.metric_part in reading.parts:
                rows.setdefault(row.figure, []).append(row)
        for figure, series in rows.items():
            yield _family(figure, series, reading)


def _family(figure: Figure, rows: list[Row], reading: Reading) -> Metric:
    family = _FAMILIES[figure.kind](figure.name, figure.help, labels=figure.labels)
    for row in rows:
        assert row.read is not None
        value = row.read(reading)
        if isinstance(value, Histogram):
            family.add_metric(row.at, _buckets(value), value.sum_s)
        elif isinstance(value, Mapping):
            for at, each in value.items():
                family.add_metric(at, each)
        elif value is not None:
            family.add_metric(row.at, value)
    return cast(Metric, family)


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    bounds = [*(f"{bound:g}" for bound in BUCKETS_S), "+Inf"]
    return list(zip(bounds, accumulate(histogram.counts), strict=True))
