"""Measures derived from the load cases, without further load."""

from __future__ import annotations

from .results import CORES, Measure, Results, Row, Target

_TWEMPROXY = "twemproxy"
_FLOORS = (
    ("l1-get-p16", "floor: L1 hits, P=16", "/s", Target("≥", 1_000_000)),
    ("l1-get-p1", "floor: L1 hits, 50 clients unpipelined, p99", "ms", Target("≤", 1)),
    ("l2-get-p16", "floor: L2 hits, P=16", "/s", Target("≥", 100_000)),
    ("l2-get-p1", "floor: L2 hits, 50 clients unpipelined, p99", "ms", Target("≤", 10)),
)


def derive(found: Results) -> None:
    """Add the derived measures to `found`, in place of earlier ones."""
    fresh: list[Measure] = []
    if (row := found.row("l2-get-p1")) is not None:
        fresh += _redis_behind(row)
    if (row := found.row("l2-get-p16")) is not None:
        fresh += _against_twemproxy(row)
    for case, title, unit, target in _FLOORS:
        if (row := found.row(case)) is not None:
            fresh.append(_floor(row, title, unit, target))
    replaced = {one.title for one in fresh}
    found.measures = fresh + [one for one in found.measures if one.title not in replaced]


def _redis_behind(row: Row) -> list[Measure]:
    """Batching: Redis' CPU time for the same unpipelined clients, directly and behind Terrace."""
    behind = {name: row.sides[name] for name in CORES if name in row.sides}
    figures = {name: side.l2_cpu_us for name, side in behind.items() if side.l2_cpu_us is not None}
    ratios = {
        name: side.l2_cpu_ratio for name, side in behind.items() if side.l2_cpu_ratio is not None
    }
    if not figures:
        return []  # older results do not have it
    return [
        Measure(
            case="redis-behind",
            title="redis-server's own CPU, 50 clients unpipelined, L1 off",
            unit="µs/op",
            beside="direct",
            plain=row.sides["redis"].sample.cpu_us,
            figures=figures,
            ratios=ratios,
            target=Target("≤", 0.25, of_ratio=True),
            at=row.at,
            load_average=row.load_average,
        )
    ]


def _against_twemproxy(row: Row) -> list[Measure]:
    beside = row.sides.get(_TWEMPROXY)
    if beside is None:
        return []
    ours = {name: row.sides[name] for name in CORES if name in row.sides}
    return [
        Measure(
            case="twemproxy",
            title="GET forwarded, P=16, beside twemproxy",
            unit="/s",
            beside=_TWEMPROXY,
            plain=beside.sample.ops_per_s,
            figures={name: side.sample.ops_per_s for name, side in ours.items()},
            ratios={name: side.ops_ratio / beside.ops_ratio for name, side in ours.items()},
            target=Target("≥", 3, of_ratio=True),
            at=row.at,
            load_average=row.load_average,
        )
    ]


def _floor(row: Row, title: str, unit: str, target: Target) -> Measure:
    samples = {name: row.sides[name].sample for name in CORES if name in row.sides}
    return Measure(
        case="floor",
        title=title,
        unit=unit,
        figures={
            name: one.ops_per_s if unit == "/s" else one.p99_ms for name, one in samples.items()
        },
        target=target,
        at=row.at,
        load_average=row.load_average,
    )
