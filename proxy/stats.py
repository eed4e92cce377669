"""Counters and latency histograms of one worker; the admin port turns them into metrics.

Plain attributes that the hot path increments; nothing here locks or allocates.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

# Upper bounds in seconds: from an L1 hit (about a microsecond) to a slow L3 load.
BUCKETS_S = (
    1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4,
    1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5,
)  # fmt: skip


class Histogram:
    """Counts per bucket (the last one is +Inf) and the sum in seconds."""

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)
        self.sum_s = 0.0

    # twin: _lane.settle
    def observe(self, seconds: float, count: int = 1) -> None:
        """Record `count` accesses of `seconds` each."""
        self.counts[bisect_left(BUCKETS_S, seconds)] += count
        self.sum_s += seconds * count


@dataclass(slots=True)
class Level:
    """One cache level: hits and misses of cacheable reads, and how long hits took."""

    hits: int = 0
    misses: int = 0
    seconds: Histogram = field(default_factory=Histogram)


@dataclass(slots=True)
class Stats:
    """The counters of one worker since its start."""

    l1: Level = field(default_factory=Level)
    l2: Level = field(default_factory=Level)
    l3: Level = field(default_factory=Level)
    commands: Counter[str] = field(default_factory=Counter)  # only names of the table
    stale_served: int = 0
    rows_brought: int = 0  # for commands that found a mapped key absent from L2
    fills: int = 0
    fills_refused: int = 0
    connections_accepted: int = 0
    protocol_errors: int = 0
    input_limit_closed: int = 0
    output_limit_closed: int = 0
    output_total_closed: int = 0
    slow_subscribers_closed: int = 0
    read_errors: int = 0
    write_errors: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
