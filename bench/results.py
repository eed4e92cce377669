"""What a run of the benchmarks found: records, and their JSON files in bench/results/."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).with_name("results")


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
class Row:
    """One load case: the plain Redis, and Terrace right after it.

    `spread` is how far the rounds lie apart, as a share of their median; `l2_per_op` is
    how many commands the Redis behind Terrace ran per operation.
    """

    case: str
    title: str
    redis: Sample
    terrace: Sample
    cpu_target: float | None
    ops_target: float | None
    spread: float
    l2_per_op: float
    at: str
    load_average: float

    @property
    def cpu_ratio(self) -> float:
        return self.terrace.cpu_us / self.redis.cpu_us if self.redis.cpu_us else float("inf")

    @property
    def ops_ratio(self) -> float:
        return self.terrace.ops_per_s / self.redis.ops_per_s

    @property
    def met(self) -> bool | None:
        """Whether the targets are; None without any."""
        if self.cpu_target is None and self.ops_target is None:
            return None
        return (self.cpu_target is None or self.cpu_ratio <= self.cpu_target) and (
            self.ops_target is None or self.ops_ratio >= self.ops_target
        )


@dataclass(frozen=True, slots=True)
class Measure:
    """One comparison that is not CPU time under load.

    `ratio` is the figure that `target` speaks of, where it speaks of a ratio.
    """

    case: str
    title: str
    unit: str
    beside: str
    plain: float | None
    terrace: float
    target: str
    met: bool
    at: str
    load_average: float
    ratio: float | None = None


@dataclass(slots=True)
class Results:
    """One run, on one machine."""

    machine: dict[str, Any]
    settings: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    measures: list[Measure] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def merge(self, newer: Results) -> None:
        """Take what `newer` measured again; the order of the cases stays."""
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
    path.write_text(json.dumps(asdict(results), indent=1) + "\n")
    return path


def load(path: Path) -> Results:
    """Raises OSError, or ValueError when it is no result of these benchmarks."""
    try:
        told = json.loads(path.read_text())
        told["rows"] = [
            Row(**{**row, "redis": Sample(**row["redis"]), "terrace": Sample(**row["terrace"])})
            for row in told["rows"]
        ]
        told["measures"] = [Measure(**measure) for measure in told["measures"]]
        return Results(**told)
    except (KeyError, TypeError) as failure:
        raise ValueError(f"{path.name} was not written by this version: {failure}") from None


def latest() -> Path | None:
    """The newest result; file names begin with the time in UTC."""
    return max(DIRECTORY.glob("*.json"), default=None)
