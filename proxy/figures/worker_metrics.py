"""The metrics of several workers as those of one process.

Counters and histograms are added up, as are the gauges of what each worker has for itself.
Everything else is of something that all share, or of the worker that was asked.

A sum that falls would be a restart to Prometheus, and its whole value an increase. So a worker
that takes the place of a dead one counts on from what that one told last, and while a worker is
missing nothing is added up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client.metrics_core import Metric

ADDED_GAUGES = frozenset((
    "terrace_clients", "terrace_output_unread_bytes", "terrace_l2_private_connections",
    "terrace_l3_queued", "terrace_memory_bytes", "terrace_memory_max_bytes",
    "terrace_memory_shedding", "terrace_tasks",
))  # fmt: skip
SHARED_COUNTERS = frozenset(("terrace_l1_evictions", "terrace_l1_invalidations"))

Packed = list[list[Any]]
"""[name, [[sample, labels, value], ...]] of each metric that is added up."""


def packed(metrics: Iterable[Metric]) -> Packed:
    """What of a worker's metrics others need, ready for JSON."""
    return [
        [metric.name, [[s.name, dict(s.labels), s.value] for s in metric.samples]]
        for metric in metrics
        if is_total(metric) or metric.name in ADDED_GAUGES
    ]


def is_total(metric: Metric) -> bool:
    """Whether it only grows, in each worker by itself."""
    return metric.type in ("counter", "histogram") and metric.name not in SHARED_COUNTERS


def added(own: Iterable[Metric], others: Iterable[Packed]) -> Iterator[Metric]:
    """The own metrics, with what the others have added."""
    samples_of: dict[str, list[list[Any]]] = {}
    for each in others:
        for name, samples in each:
            samples_of.setdefault(name, []).extend(samples)
    for metric in own:
        if theirs := samples_of.get(metric.name):
            metric.samples = _sum(metric, theirs)
        yield metric


def _sum(metric: Metric, theirs: list[list[Any]]) -> list[Any]:
    summed = Metric(metric.name, metric.documentation, metric.type)
    values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    mine = [[sample.name, sample.labels, sample.value] for sample in metric.samples]
    for name, labels, value in [*mine, *theirs]:
        at = (name, tuple(labels.items()))
        values[at] = values.get(at, 0) + value
    for (name, items), value in values.items():
        summed.add_sample(name, dict(items), value)
    return list(summed.samples)
