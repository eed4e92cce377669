"""Measures with PostgreSQL: misses of distinct keys, and hit rates of mixed workloads."""

from __future__ import annotations

import contextlib
from statistics import fmean, median

from .data import info
from .load import Generator, LoadResult, LoadSpec, OwnGenerator
from .machine import load_average
from .results import Measure, Target
from .rounds import Effort, now
from .servers import Rig
from .views import Pgbench, postgres, terrace_with_view
from .workloads import KEYS, MISSING, SEED, WORKLOADS

ROWS_PER_ROUND, QUICK_ROWS_PER_ROUND = 96_000, 16_000
ROUNDS = 3
WARM_ROWS = 4_000  # before the measurement: opens connections and makes plans
UNPIPELINED_ROWS = 8_000
REQUESTS, QUICK_REQUESTS = 100_000, 20_000  # of each workload, cold
WARM_TIMES = 3  # times as many, warm: most keys are cached by then

_COMMAND = ("GET", "row:__seq_int__")
_COUNTED = ("l1_hits", "l1_misses", "l2_hits", "l2_misses", "l3_hits", "l3_misses")
_HOT, _COLD, _MIXED = "hot", "cold", "mixed"


def l3(rig: Rig, generator: Generator, effort: Effort) -> list[Measure]:
    """Reads each row of a view once, with empty L1 and L2. Raises Skipped."""
    each = QUICK_ROWS_PER_ROUND if effort.quick else ROWS_PER_ROUND
    rows = 1 + WARM_ROWS + ROUNDS * each + UNPIPELINED_ROWS
    own = OwnGenerator(rig.cores.generator)
    plain: list[float] = []
    seen: dict[str, list[LoadResult]] = {core: [] for core in rig.cores_of_terrace}
    alone_ms: dict[str, float] = {}
    with postgres(rig, rows) as server, contextlib.ExitStack() as running:
        pgbench = Pgbench(rig, server, rows)
        terraces = {
            core: running.enter_context(terrace_with_view(rig, core, server)) for core in seen
        }
        first = 2  # row:1 was read at the start
        for terrace in terraces.values():
            own.run(terrace.port, LoadSpec(_COMMAND, 16, first=first), WARM_ROWS)
        first += WARM_ROWS
        for _ in range(ROUNDS):
            plain.append(pgbench.transactions_per_s(effort.seconds))
            for core, terrace in terraces.items():
                seen[core].append(own.run(terrace.port, LoadSpec(_COMMAND, 16, first=first), each))
            first += each
        for core, terrace in terraces.items():
            spec = LoadSpec(_COMMAND, 1, first=first)
            alone_ms[core] = own.run(terrace.port, spec, UNPIPELINED_ROWS).p99_ms
    rates = {core: [result.ops_per_s for result in results] for core, results in seen.items()}
    per_s = {core: median(of_core) for core, of_core in rates.items()}
    return [
        Measure(
            case="l3",
            title="L3 misses, distinct keys, P=16",
            unit="/s",
            beside="pgbench",
            plain=median(plain),
            figures=per_s,
            ratios={
                core: median(ours / theirs for ours, theirs in zip(of_core, plain, strict=True))
                for core, of_core in rates.items()
            },
            target=Target("≥", 0.8, of_ratio=True),
            at=now(),
            load_average=load_average(),
        ),
        _floor("L3 misses", "/s", per_s, Target("≥", 10_000)),
        _floor("L3 misses, 50 clients unpipelined, p99", "ms", alone_ms, Target("≤", 50)),
    ]


def workloads(rig: Rig, generator: Generator, effort: Effort) -> list[Measure]:
    """Hit rates and throughput of the four workloads: cold, then warm. Raises Skipped.

    L3's rate is that of the cold pass (rows found per rows requested): a warm pass hardly uses L3.
    """
    requests = QUICK_REQUESTS if effort.quick else REQUESTS
    own = OwnGenerator(rig.cores.generator)
    cold: dict[str, dict[str, dict[str, int]]] = {}
    warm: dict[str, dict[str, dict[str, int]]] = {}
    mixed_per_s: dict[str, float] = {}
    with postgres(rig, len(WORKLOADS) * KEYS, without_every=MISSING) as server:
        for core in rig.cores_of_terrace:
            cold[core], warm[core] = {}, {}
            with terrace_with_view(rig, core, server) as terrace:
                for mix in WORKLOADS:
                    before = _counts(terrace.port)
                    own.run_workload(terrace.port, mix, requests, SEED)
                    between = _counts(terrace.port)
                    result = own.run_workload(terrace.port, mix, WARM_TIMES * requests, SEED + 1)
                    after = _counts(terrace.port)
                    cold[core][mix.name] = _grown(before, between)
                    warm[core][mix.name] = _grown(between, after)
                    if mix.name == _MIXED:
                        mixed_per_s[core] = result.ops_per_s
    found = [_floor("mixed workload", "/s", mixed_per_s, Target("≥", 50_000))]
    for mix in WORKLOADS:
        combined = {core: _combined(counts[mix.name]) for core, counts in warm.items()}
        target = Target("≥", 80)
        found.append(_floor(f"L1 and L2 combined hit: {mix.title}", "%", combined, target))
    hot = {core: _share(counts[_HOT], "l1") for core, counts in warm.items()}
    l2 = {core: fmean(_share(c, "l2") for c in counts.values()) for core, counts in warm.items()}
    of_rows = {core: _share(counts[_COLD], "l3") for core, counts in cold.items()}
    return [
        *found,
        _floor("L1 hits of the reads, hot workload", "%", hot, Target("≥", 95)),
        _floor("L2 hits of what L1 missed, mean of the four", "%", l2, Target("≥", 85)),
        _floor("L3 has what L2 missed, cold workload's first pass", "%", of_rows, Target("≥", 70)),
    ]


def _counts(port: int) -> dict[str, int]:
    figures = info(port, "tiers")
    return {name: int(figures[name]) for name in _COUNTED}


def _grown(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {name: after[name] - before[name] for name in _COUNTED}


def _share(counts: dict[str, int], tier: str) -> float:
    """Hits of this tier in percent of its reads."""
    asked = counts[f"{tier}_hits"] + counts[f"{tier}_misses"]
    return 100 * counts[f"{tier}_hits"] / asked if asked else 0.0


def _combined(counts: dict[str, int]) -> float:
    """Reads that L1 or L2 answered, in percent of all reads."""
    reads = counts["l1_hits"] + counts["l1_misses"]
    return 100 * (counts["l1_hits"] + counts["l2_hits"]) / reads if reads else 0.0


def _floor(title: str, unit: str, figures: dict[str, float], target: Target) -> Measure:
    return Measure(
        case="floor",
        title=f"floor: {title}",
        unit=unit,
        figures=figures,
        target=target,
        at=now(),
        load_average=load_average(),
    )
