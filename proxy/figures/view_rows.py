"""The rows of single mapped views, only on /metrics; the labels are configured views."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from .levels import BREAKER_STATES
from .reading import Part, Reading
from .row import Across, Figure, Kind, LabelValues, Row, row

if TYPE_CHECKING:
    from tiers.proxy_door import LaneStatistics


def _of_each(name: str, text: str, attribute: str, *, unit: str = "", worry: str = "") -> Row:
    """A figure of each view for which PostgreSQL reports it."""

    def read(reading: Reading) -> Mapping[LabelValues, float]:
        found = ((status.view, getattr(status, attribute)) for status in reading.views)
        return {(view,): value for view, value in found if value is not None}

    return _row(name, Kind.GAUGE, text, read, Across.SHARED, unit, worry)


def _of_lane(
    name: str, kind: Kind, text: str, value: Callable[[LaneStatistics], float], worry: str = ""
) -> Row:
    """A figure of each view's loads, in this process."""

    def read(reading: Reading) -> Mapping[LabelValues, float]:
        return {(view,): value(lane) for view, lane in reading.lanes.items()}

    across = Across.SUM if kind is Kind.COUNTER else Across.FIRST
    return _row(name, kind, text, read, across, "", worry)


def _row(
    name: str, kind: Kind, text: str, read: Callable[[Reading], Mapping[LabelValues, float]],
    across: Across, unit: str, worry: str,
) -> Row:  # fmt: skip
    figure = Figure(f"terrace_view_{name}", kind, text, across, unit, ("view",), worry)
    return row(figure, read, part=Part.L3)


def _served(reading: Reading) -> Mapping[LabelValues, float]:
    """Always known; the other figures only while PostgreSQL answers."""
    return {(view,): float(is_served) for view, is_served in reading.l3.served().items()}


ROWS: tuple[Row, ...] = (
    _row(
        "served", Kind.GAUGE, "1 while rows of the view can be read", _served, Across.FIRST, "",
        "It is 0: see `TIER.VIEWS` for the reason.",
    ),
    _of_lane(
        "limit", Kind.GAUGE, "Maximum number of concurrent batches of the view in L3",
        lambda lane: lane.admission.limit, "It stays at 1: the view is slow.",
    ),
    _of_lane(
        "breaker_state", Kind.GAUGE, "0 closed, 1 half-open, 2 open",
        lambda lane: BREAKER_STATES.index(lane.breaker.state), "It stays above 0.",
    ),
    _of_lane(
        "breaker_opened", Kind.COUNTER, "Times the view did not answer in time",
        lambda lane: lane.breaker.opened, "It grows.",
    ),
    _of_each("rows", "Estimated rows", "rows"),
    _of_each("size_bytes", "Bytes on disk, indexes included", "size_bytes", unit="bytes"),
    _of_each("epoch", "Changes logged", "epoch"),
    _of_each(
        "refresh_age_seconds", "Time since the last refresh", "refreshed_s", unit="seconds",
        worry="It is far above the interval of the view.",
    ),
    _of_each(
        "refresh_seconds", "Duration of the last refresh", "duration_s", unit="seconds",
        worry="It comes near the interval of the view.",
    ),
    _of_each("changed_keys", "Keys that the last refresh found changed", "changed"),
    _of_each(
        "lag_seconds", "Time for which a refresh has not reached Redis", "lag_s", unit="seconds",
        worry="It grows: keys of the view in Redis are outdated.",
    ),
    _of_each(
        "refresh_due_seconds", "Time to the next refresh; negative: late", "due_s", unit="seconds",
        worry="It stays negative.",
    ),
    _of_each("replaced", "Times that another relation got the name", "replaced"),
)  # fmt: skip
