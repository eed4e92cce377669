"""Combines the metrics of several workers, by the rules in the table of figures.

Prometheus takes a falling sum for a restart, and its whole value for an increase. So a worker
that replaces a dead one continues from its last report, and while a worker is missing no
counter is summed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client.metrics_core import Metric

from .row import Across
from .table import METRICS

Packed = list[list[Any]]
"""[name, [[sample, labels, value], ...]] of each metric with a value per worker."""


def packed(metrics: Iterable[Metric]) -> Packed:
    """The metrics that other workers need, in a form for JSON."""
    return [
        [metric.name, [[s.name, dict(s.labels), s.value] for s in metric.samples]]
        for metric in metrics
        if METRICS[metric.name].across.combines
    ]


def is_total(metric: Metric) -> bool:
    """Whether it only grows, in each worker separately."""
    return METRICS[metric.name].is_total


def combined(own: Iterable[Metric], others: Iterable[Packed]) -> Iterator[Metric]:
    """The own metrics combined with those of the others."""
    samples_of: dict[str, list[list[Any]]] = {}
    for each in others:
        for name, samples in each:
            samples_of.setdefault(name, []).extend(samples)
    for metric in own:
        if theirs := samples_of.get(metric.name):
            metric.samples = _combined(metric, theirs, METRICS[metric.name].across)
        yield metric


def _combined(metric: Metric, theirs: list[list[Any]], across: Across) -> list[Any]:
    found = Metric(metric.name, metric.documentation, metric.type)
    values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    mine = [[sample.name, sample.labels, sample.value] for sample in metric.samples]
    for name, labels, value in [*mine, *theirs]:
        at = (name, tuple(labels.items()))
        values[at] = across.combined(values[at], value) if at in values else value
    for (name, items), value in values.items():
        found.add_sample(name, dict(items), value)
    return list(found.samples)
