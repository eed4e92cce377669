"""Gauges of the mapped views: the labels are views of the configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from tiers import BreakerState

if TYPE_CHECKING:
    from tiers import LaneStatistics, ViewStatus

BREAKER_STATES = (BreakerState.CLOSED, BreakerState.HALF_OPEN, BreakerState.OPEN)

_ROWS = (
    ("view_rows", "Estimated rows", "rows"),
    ("view_size_bytes", "Bytes on disk, indexes included", "size_bytes"),
    ("view_epoch", "Changes logged", "epoch"),
    ("view_refresh_age_seconds", "Since the last refresh", "refreshed_s"),
    ("view_refresh_seconds", "Duration of the last refresh", "duration_s"),
    ("view_changed_keys", "Keys that the last refresh found changed", "changed"),
    ("view_lag_seconds", "How long a refresh has not been told to Redis", "lag_s"),
    ("view_refresh_due_seconds", "Until the next refresh; negative: late", "due_s"),
    ("view_replaced", "Times that another relation took the name", "replaced"),
)


def view_metrics(served: Mapping[str, bool], statuses: Sequence[ViewStatus]) -> Iterator[Metric]:
    """`served` is known at all times, the rest only while PostgreSQL answers."""
    can_be_read = GaugeMetricFamily(
        "terrace_view_served", "1 while rows of the view can be read", labels=["view"]
    )
    for view, is_served in served.items():
        can_be_read.add_metric([view], is_served)
    yield can_be_read
    for name, text, attribute in _ROWS:
        family = GaugeMetricFamily(f"terrace_{name}", text, labels=["view"])
        for status in statuses:
            value = getattr(status, attribute)
            if value is not None:
                family.add_metric([status.view], value)
        yield family


def lane_metrics(lanes: Mapping[str, LaneStatistics]) -> Iterator[Metric]:
    """How each view's loads fare, in this process."""
    limit = GaugeMetricFamily(
        "terrace_view_limit", "Batches of the view that L3 may be asked at once", labels=["view"]
    )
    state = GaugeMetricFamily(
        "terrace_view_breaker_state", "0 closed, 1 half-open, 2 open", labels=["view"]
    )
    opened = CounterMetricFamily(
        "terrace_view_breaker_opened", "Times the view did not answer in time", labels=["view"]
    )
    for name, lane in lanes.items():
        limit.add_metric([name], lane.admission.limit)
        state.add_metric([name], BREAKER_STATES.index(lane.breaker.state))
        opened.add_metric([name], lane.breaker.opened)
    yield from (limit, state, opened)
