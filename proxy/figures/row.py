"""What a row of the table of figures says: name, kind, unit, help, labels, source, workers, worry.

A `Figure` is one family of /metrics, or one field of INFO and TIER.STATS, or both. Its `Row`s are
where it is read: one for each label (the levels) or for each field that shows a part of it, and
for most figures a single one. This module and the rows know nothing of the metrics library: a
proxy without admin port does not load it.
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
    """What the figure of all workers together is, from those of each."""

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
    """`name` is the metric's, without the `_total` of a counter; "": it is no metric."""

    name: str
    kind: Kind
    help: str
    across: Across
    unit: str = ""
    labels: tuple[str, ...] = ()
    worry: str = ""  # when an operator should

    @property
    def metric(self) -> str:
        """The name as /metrics shows it."""
        return f"{self.name}_total" if self.name and self.kind is Kind.COUNTER else self.name

    @property
    def is_total(self) -> bool:
        """Whether it only grows, in each worker by itself."""
        return self.kind in (Kind.COUNTER, Kind.HISTOGRAM) and self.across is Across.SUM


@dataclass(frozen=True, eq=False, slots=True)
class Row:
    """Where a figure, or one series of it, is read.

    `read` gives the value of the series with the labels `at`, or those of all series by their
    labels; None: it is not known now. `info` is the name in INFO and TIER.STATS ("": it is not
    there) and `show` what is said there, where that is not the value. `part` must be in use for
    INFO to have the field, and `metric_part` for /metrics to have the series.
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
    """A field of INFO that is no number."""
    return row(
        Figure("", Kind.TEXT, help, Across.FIRST, worry=worry), info=info, show=show, part=part
    )
