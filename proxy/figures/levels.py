"""Figures with a series for each level (l1, l2, l3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from tiers.proxy_door import BreakerState, BreakerStatistics

from .reading import Part, Reading
from .row import Across, Figure, Kind, Row, counter, row

LEVEL = ("level",)
BreakerOf: TypeAlias = Callable[[Reading], BreakerStatistics]
BREAKER_STATES = (BreakerState.CLOSED, BreakerState.HALF_OPEN, BreakerState.OPEN)

HITS = Figure(
    "cache_hits", Kind.COUNTER, "Reads answered by a level", Across.SUM, labels=LEVEL,
    worry="The share of l1 falls under the same load: see the misses and `l1_mode`.",
)  # fmt: skip
MISSES = Figure("cache_misses", Kind.COUNTER, "Reads that a level missed", Across.SUM, labels=LEVEL)
SECONDS = Figure(
    "cache_access_seconds", Kind.HISTOGRAM, "Time to answer a read, by answering level",
    Across.SUM, "seconds", LEVEL,
    worry="The 99th percentile of l2 or l3 exceeds the timeout of your clients.",
)  # fmt: skip
SIZE = Figure(
    "cache_size_bytes", Kind.GAUGE, "Bytes held by a level", Across.SHARED, "bytes", LEVEL,
    worry="A level has no series: it did not answer in time.",
)  # fmt: skip
# The name ends in _total although it is a gauge: dashboards expect this name.
ENTRIES = Figure(
    "cache_entries_total", Kind.GAUGE, "Keys held by a level", Across.SHARED, labels=LEVEL
)
TIER_UP = Figure(
    "terrace_tier_up", Kind.GAUGE, "Whether a tier can answer", Across.FIRST, labels=LEVEL,
    worry="It is 0 for longer than a restart of that server takes.",
)  # fmt: skip
BREAKER_STATE = Figure(
    "terrace_breaker_state", Kind.GAUGE, "0 closed, 1 half-open, 2 open", Across.FIRST,
    labels=LEVEL, worry="It stays above 0: that level gets only probes.",
)  # fmt: skip
BREAKER_OPENED = Figure(
    "terrace_breaker_opened", Kind.COUNTER, "Times a breaker left closed", Across.SUM,
    labels=LEVEL, worry="It grows again and again: the server or the network is unstable.",
)  # fmt: skip


def breaker_rows(level: str, part: Part, of: BreakerOf) -> tuple[Row, ...]:
    def state(reading: Reading) -> float:
        return BREAKER_STATES.index(of(reading).state)

    def said(reading: Reading) -> str:
        breaker = of(reading)
        reason = f": {breaker.reason}" if breaker.state is not BreakerState.CLOSED else ""
        return f"{breaker.state.value}{reason}"

    return (
        row(BREAKER_STATE, state, level, info=f"{level}_breaker", show=said, part=part),
        row(
            BREAKER_OPENED, lambda r: of(r).opened, level,
            info=f"{level}_breaker_opened", part=part,
        ),
        counter(
            "", f"Probes of {level} while its breaker is open", lambda r: of(r).probes,
            info=f"{level}_breaker_probes", part=part,
        ),
    )  # fmt: skip
