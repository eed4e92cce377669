"""A row of the table of figures: name, kind, unit, help, labels, source, workers, worry.

A `Figure` is one family of /metrics, or one field of INFO and TIER.STATS, or both. Its `Row`s
read its values: most figures have one row; others have one per label (the levels) or per field.
This module and the rows do not use the metrics library: a proxy without an admin port does not
load it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeAlias

from .reading import Part, Reading

if TYPE_CHECKING:
    from ..stats import Histogram


class Kind(Enum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    TEXT = "text"  # not a number: INFO and TIER.STATS only


class Across(Enum):
    """How the figures of single workers become the figure of all workers."""

    SUM = "sum"
    MAX = "highest"
    FIRST = "of the worker that is asked"
    SHARED = "shared by all"

    @property
    def combines(self) -> bool:
        return self in (Across.SUM, Across.MAX)

    def combined(self, one: Any, other: Any) -> Any:
        return one + other if self is Across.SUM else max(one, other)


LabelValues: TypeAlias = tuple[str, ...]
Read: TypeAlias = "Callable[[Reading], float | Histogram | Mapping[LabelValues, float] | None]"
Show: TypeAlias = Callable[[Reading], object]


@dataclass(frozen=True, eq=False, slots=True)
class Figure:
    """A figure; `name` is the metric's without the `_total` of a counter; "": not a metric."""

    name: str
    kind: Kind
    help: str
    across: Across
    unit: str = ""
    labels: tuple[str, ...] = ()
    worry: str = ""  # a state that an operator should look at

    @property
    def metric(self) -> str:
        """The name in /metrics."""
        return f"{self.name}_total" if self.name and self.kind is Kind.COUNTER else self.name

    @property
    def is_total(self) -> bool:
        """Whether it only grows, in each worker separately."""
        return self.kind in (Kind.COUNTER, Kind.HISTOGRAM) and self.across is Across.SUM


@dataclass(frozen=True, eq=False, slots=True)
class Row:
    """The source of a figure, or of one series of it.

    `read` returns the value of the series with the labels `at`, or the values of all series by
    their labels; None: unknown now. `info` is the name in INFO and TIER.STATS ("": none), and
    `show` its text there if it is not the value. INFO has the field if `part` is in use, and
    /metrics has the series if `metric_part` is in use.
    """

    figure: Figure
    read: Read | None
    at: LabelValues
    info: str
    show: Show | None
    part: Part
    metric_part: Part


def row(
    figure: Figure,
    read: Read | None = None,
    *at: str,
    info: str = "",
    show: Show | None = None,
    part: Part = Part.ALL,
    metric_part: Part | None = None,
) -> Row:
    """One series of a figure; `metric_part` is `part` unless it differs."""
    return Row(figure, read, at, info, show, part, part if metric_part is None else metric_part)


def counter(
    name: str,
    text: str,
    read: Read,
    *,
    across: Across = Across.SUM,
    unit: str = "",
    worry: str = "",
    **more: Any,
) -> Row:
    return row(Figure(name, Kind.COUNTER, text, across, unit, worry=worry), read, **more)


def gauge(
    name: str,
    text: str,
    read: Read,
    *,
    across: Across = Across.FIRST,
    unit: str = "",
    worry: str = "",
    **more: Any,
) -> Row:
    return row(Figure(name, Kind.GAUGE, text, across, unit, worry=worry), read, **more)


def text(info: str, help: str, show: Show, part: Part = Part.ALL, *, worry: str = "") -> Row:
    """A field of INFO that is not a number."""
    return row(
        Figure("", Kind.TEXT, help, Across.FIRST, worry=worry), info=info, show=show, part=part
    )
