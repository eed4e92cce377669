"""The results of a benchmark run: records, and their JSON files in bench/results/.

The files have the number of their layout, SCHEMA.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

SCHEMA = 2
DIRECTORY = Path(__file__).with_name("results")
CORES = ("c", "py")


@dataclass(frozen=True, slots=True)
class Sample:
    """One server under one load. CPU time is per operation."""

    user_us: float
    system_us: float
    ops_per_s: float
    p50_ms: float
    p99_ms: float

    @property
    def cpu_us(self) -> float:
        return self.user_us + self.system_us


@dataclass(frozen=True, slots=True)
class Side:
    """One contender of a load case.

    `sample` is its median round by CPU time. A ratio is the median of the ratios to the
    plain Redis of the same round. `spread` is the distance of the ratios of CPU time, as a
    share of the median. The Redis behind the contender ran `l2_per_op` commands per
    operation, with `l2_cpu_us` of CPU time, and `l2_cpu_ratio` is its ratio to the plain
    Redis; None without such a Redis, or if it was not read.
    """

    sample: Sample
    cpu_ratio: float = 1.0
    ops_ratio: float = 1.0
    spread: float = 0.0
    l2_per_op: float | None = None
    l2_cpu_us: float | None = None
    l2_cpu_ratio: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One load case: each contender, in interleaved rounds. "redis" is one of them."""

    case: str
    title: str
    sides: dict[str, Side]
    cpu_target: float | None
    ops_target: float | None
    at: str
    load_average: float

    def met(self, contender: str) -> bool | None:
        """Whether it meets its targets; None without targets, or if it did not run."""
        side = self.sides.get(contender)
        if side is None or (self.cpu_target is None and self.ops_target is None):
            return None
        return (self.cpu_target is None or side.cpu_ratio <= self.cpu_target) and (
            self.ops_target is None or side.ops_ratio >= self.ops_target
        )


@dataclass(frozen=True, slots=True)
class Target:
    """A bound: `sign` is ≤ or ≥; `of_ratio`: it bounds the ratio to the reference."""

    sign: str
    limit: float
    of_ratio: bool = False

    def reached(self, figure: float) -> bool:
        return figure <= self.limit if self.sign == "≤" else figure >= self.limit


@dataclass(frozen=True, slots=True)
class Measure:
    """One comparison that is not a load case: a figure for each contender.

    `beside` names the reference and `plain` is its figure. `ratios` are figure / plain
    unless the title defines them.
    """

    case: str
    title: str
    unit: str
    figures: dict[str, float]
    target: Target | None
    at: str
    load_average: float
    beside: str = ""
    plain: float | None = None
    ratios: dict[str, float] = field(default_factory=dict)

    def met(self, contender: str) -> bool | None:
        if self.target is None:
            return None
        figure = (self.ratios if self.target.of_ratio else self.figures).get(contender)
        return None if figure is None else self.target.reached(figure)


@dataclass(slots=True)
class Results:
    """One run, on one machine."""

    machine: dict[str, Any]
    settings: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    measures: list[Measure] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def judged(self) -> str:
        """The contender of the targets: the fastest core that ran."""
        cores: list[str] = self.settings["cores"]
        return next((core for core in CORES if core in cores), CORES[-1])

    def row(self, case: str) -> Row | None:
        return next((row for row in self.rows if row.case == case), None)

    def merge(self, newer: Results) -> None:
        """Take the measurements of `newer`; the order of the cases stays."""
        rows = {row.case: row for row in newer.rows}
        measures = {(m.case, m.title): m for m in newer.measures}
        self.rows = [rows.pop(row.case, row) for row in self.rows] + list(rows.values())
        self.measures = [measures.pop((m.case, m.title), m) for m in self.measures] + list(
            measures.values()
        )
        for ours, theirs in ((self.skipped, newer.skipped), (self.failed, newer.failed)):
            for case in {row.case for row in newer.rows} | {m.case for m in newer.measures}:
                ours.pop(case, None)
            ours.update(theirs)


def save(results: Results, stem: str) -> Path:
    DIRECTORY.mkdir(exist_ok=True)
    path = DIRECTORY / f"{stem}.json"
    path.write_text(json.dumps({"schema": SCHEMA, **asdict(results)}, indent=1) + "\n")
    return path


def load(path: Path) -> Results:
    """Load a file. Raises OSError, or ValueError if it is not a result of these benchmarks."""
    try:
        found = json.loads(path.read_text())
        schema = found.pop("schema", None)
        if schema != SCHEMA:
            raise ValueError(f"{path.name} has schema {schema}; only {SCHEMA} is supported")
        found["rows"] = [
            Row(**{**row, "sides": {name: _side(side) for name, side in row["sides"].items()}})
            for row in found["rows"]
        ]
        found["measures"] = [
            Measure(**{**one, "target": Target(**one["target"]) if one["target"] else None})
            for one in found["measures"]
        ]
        return Results(**found)
    except (AttributeError, KeyError, TypeError) as failure:
        raise ValueError(f"{path.name} is not a result of these benchmarks: {failure}") from None


def all_kept() -> list[Path]:
    """All files, oldest first; their names begin with the time in UTC."""
    return sorted(DIRECTORY.glob("*.json"))


def _side(found: dict[str, Any]) -> Side:
    return Side(**{**found, "sample": Sample(**found["sample"])})
