"""The rows of L3: PostgreSQL, its queues, refreshes, the store, and warming from it."""

from __future__ import annotations

from tiers.proxy_door import BreakerState

from .l2_rows import size_rows
from .levels import HITS, MISSES, SECONDS, TIER_UP, breaker_rows
from .reading import Part, Reading
from .row import Across, Row, counter, gauge, row, text

L3, ALL, STORE = Part.L3, Part.ALL, Part.STORE


def _limit_decreases(reading: Reading) -> float:
    return sum(lane.admission.decreases for lane in reading.lanes.values())


def _views_failing(reading: Reading) -> str:
    lanes = reading.lanes.items()
    return ", ".join(n for n, lane in lanes if lane.breaker.state is not BreakerState.CLOSED)


ROWS: tuple[Row, ...] = (
    *size_rows("l3"),
    row(
        TIER_UP, lambda r: float(r.l3.ready), "l3",
        info="l3_state", show=lambda r: r.l3.state, part=L3,
    ),
    *breaker_rows("l3", L3, lambda r: r.l3_breaker),
    counter(
        "", "Times the share of a slow view in L3 was reduced", _limit_decreases,
        info="l3_limit_decreases", part=L3, worry="It grows: PostgreSQL is overloaded.",
    ),
    text(
        "l3_views_failing", "Views whose breaker is not closed", _views_failing, L3,
        worry="It is not empty.",
    ),
    gauge(
        "terrace_l3_queued", "Keys that wait for a load", lambda r: r.queues.queued,
        across=Across.SUM, info="l3_queued", part=L3,
        worry="It stays high: PostgreSQL is slower than the misses.",
    ),
    counter(
        "terrace_l3_rejected", "Loads refused because of overload", lambda r: r.queues.rejected,
        info="l3_rejected", part=L3, worry="It grows.",
    ),
    counter(
        "terrace_l3_expired", "Loads that waited too long", lambda r: r.queues.expired,
        info="l3_expired", part=L3, worry="It grows.",
    ),
    gauge("", "Mapped views", lambda r: len(r.l3.mappings), info="l3_views", part=L3),
    row(HITS, lambda r: r.stats.l3.hits, "l3", info="l3_hits", part=L3, metric_part=ALL),
    row(MISSES, lambda r: r.stats.l3.misses, "l3", info="l3_misses", part=L3, metric_part=ALL),
    row(SECONDS, lambda r: r.stats.l3.seconds, "l3"),
    counter(
        "terrace_l3_rows_brought",
        "Rows loaded again: Redis lacked a mapped key when its command ran",
        lambda r: r.stats.rows_brought, info="l3_rows_brought", part=L3, metric_part=ALL,
        worry="It grows as fast as the commands: Redis evicts mapped keys immediately.",
    ),
    counter("terrace_l3_queries", "Queries for rows", lambda r: r.l3_counts.queries,
            info="l3_queries", part=L3),
    counter("terrace_l3_rows", "Rows loaded", lambda r: r.l3_counts.rows, info="l3_rows", part=L3),
    counter(
        "terrace_l3_errors", "Queries that failed", lambda r: r.l3_counts.errors,
        info="l3_errors", part=L3, worry="It grows; the log has the reason.",
    ),
    gauge(
        "", "Keys known to have no row", lambda r: r.l3_counts.negative_entries,
        across=Across.SUM, info="l3_negative_entries", part=L3,
    ),
    counter(
        "terrace_l3_refreshes", "Views refreshed by this process", lambda r: r.l3_counts.refreshes,
        info="l3_refreshes", part=L3,
    ),
    counter(
        "terrace_l3_refresh_failures", "Refreshes that failed",
        lambda r: r.l3_counts.refresh_failures, info="l3_refresh_failures", part=L3,
        worry="It grows; the log has the reason.",
    ),
    counter(
        "terrace_l3_foreign_refreshes", "Detected refreshes by other programs",
        lambda r: r.l3_counts.foreign_refreshes, info="l3_foreign_refreshes", part=L3,
    ),
    counter(
        "terrace_l3_replaced_views", "Detected views whose name belongs to another relation now",
        lambda r: r.l3_counts.replaced, info="l3_replaced_views", part=L3,
    ),
    gauge(
        "", "Whether this proxy refreshes views and invalidates changed keys in Redis",
        lambda r: r.l3_counts.is_leader, across=Across.SUM, info="l3_is_refresher", part=L3,
        worry="It is 0 on all proxies of a fleet.",
    ),
    counter(
        "terrace_store_commits", "Keys whose writes reached PostgreSQL",
        lambda r: r.store.commits, info="store_commits", part=STORE,
    ),
    counter(
        "terrace_store_failures", "Keys whose writes had an unknown outcome",
        lambda r: r.store.failures, info="store_failures", part=STORE, worry="It grows.",
    ),
    gauge(
        "", "Keys with pending writes to PostgreSQL", lambda r: r.store.queued, across=Across.SUM,
        info="store_queued", part=STORE,
    ),
    gauge(
        "", "Keys to remove from Redis because their writes failed",
        lambda r: r.store.unsettled, across=Across.SUM, info="store_unsettled", part=STORE,
        worry="It stays above 0: Redis does not answer.",
    ),
    gauge(
        "terrace_l3_warming", "Running warm-ups", lambda r: r.warm.running,
        info="l3_warming", part=L3,
    ),
    counter(
        "terrace_l3_warm_rows", "Rows read to warm L2", lambda r: r.warm.rows,
        info="l3_warm_rows", part=L3,
    ),
    counter(
        "terrace_l3_warm_stored", "Rows stored in Redis by warm-ups", lambda r: r.warm.stored,
        info="l3_warm_stored", part=L3,
    ),
)  # fmt: skip
