"""Results survive their file, are merged by case, and are told without being coloured."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import results as kept
from bench.cases import spread
from bench.report import markdown, remarks
from bench.results import Measure, Results, Row, Sample

FAST = Sample(user_us=0.3, system_us=0.2, ops_per_s=2e6, p50_ms=0.4, p99_ms=0.9)
SLOW = Sample(user_us=0.8, system_us=0.2, ops_per_s=1e6, p50_ms=0.8, p99_ms=1.5)


def a_row(case: str = "l1-get-p16", terrace: Sample = SLOW, **changes: float) -> Row:
    values = {"spread": 0.02, "l2_per_op": 0.0, "load_average": 1.0, **changes}
    return Row(
        case=case, title=case, redis=FAST, terrace=terrace,
        cpu_target=0.8, ops_target=1.2, at="2026-01-01T00:00:00+00:00", **values,
    )  # fmt: skip


def a_measure(terrace: float) -> Measure:
    return Measure(
        case="start", title="start", unit="s", beside="", plain=None, terrace=terrace,
        target="≤ 0.5 s", met=terrace <= 0.5, at="2026-01-01T00:00:00+00:00", load_average=1.0,
    )  # fmt: skip


def a_result(*rows: Row) -> Results:
    return Results(
        machine={"cpu": "x", "cores": 2, "system": "s", "python": "3", "redis": "7"},
        settings={"date": "2026-01-01", "generator": "g", "seconds": 1.0},
        rows=list(rows),
    )


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "DIRECTORY", tmp_path / "results")


def test_a_result_is_the_same_after_its_file() -> None:
    result = a_result(a_row())
    result.measures.append(a_measure(0.4))
    result.skipped["l3"] = "no pgbench"
    assert kept.load(kept.save(result, "2026-01-01")) == result


def test_the_latest_result_is_the_newest_by_name() -> None:
    assert kept.latest() is None
    kept.save(a_result(), "2026-01-02")
    kept.save(a_result(), "2026-01-01")
    newest = kept.latest()
    assert newest is not None
    assert newest.stem == "2026-01-02"


def test_a_foreign_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text('{"rows": [{"case": 1}]}')
    with pytest.raises(ValueError, match=r"other\.json"):
        kept.load(path)


def test_the_verdict_needs_both_targets() -> None:
    assert a_row(terrace=SLOW).met is False
    quick_but_costly = Sample(0.8, 0.2, 3e6, 0.1, 0.2)
    assert a_row(terrace=quick_but_costly).met is False
    better = Sample(0.2, 0.1, 3e6, 0.1, 0.2)
    assert a_row(terrace=better).met is True


def test_merging_replaces_what_was_measured_again() -> None:
    old = a_result(a_row("a"), a_row("b"))
    old.failed["c"] = "refused"
    old.skipped["start"] = "earlier"
    newer = a_result(a_row("b", terrace=FAST), a_row("c"))
    newer.measures.append(a_measure(0.3))
    old.merge(newer)
    assert [row.case for row in old.rows] == ["a", "b", "c"]
    assert old.rows[1].terrace == FAST
    assert (old.skipped, old.failed) == ({}, {})
    assert old.measures == newer.measures


def test_markdown_has_a_line_for_each_row_and_measure() -> None:
    result = a_result(a_row("one"), a_row("two"))
    result.measures.append(a_measure(0.4))
    lines = markdown(result).splitlines()
    assert any(
        line.startswith("| one | 0.30 + 0.20 = 0.50 | 0.80 + 0.20 = 1.00 |") for line in lines
    )
    assert any("2.00× (≤ 0.8)" in line and "0.50× (≥ 1.2)" in line for line in lines)
    assert any(line.startswith("| start |  | 0.4 s |") and line.endswith("met |") for line in lines)


def test_rows_that_do_not_show_what_they_claim_are_remarked() -> None:
    assert remarks(a_result(a_row())) == []
    assert "l1-get-p16" in remarks(a_result(a_row(spread=0.5)))[0]
    assert "other programs ran" in remarks(a_result(a_row(load_average=3.5)))[0]
    assert "not all were hits" in remarks(a_result(a_row(l2_per_op=0.5)))[0]


def test_the_spread_is_that_of_the_closest_three_rounds() -> None:
    def costing(*costs_us: float) -> list[Sample]:
        return [Sample(cost, 0.0, 1.0, 1.0, 1.0) for cost in costs_us]

    assert spread(costing(1.0, 1.1, 2.0)) == pytest.approx(1.0 / 1.1)
    assert spread(costing(1.0, 1.1, 9.0, 1.05, 9.0)) == pytest.approx(0.1 / 1.1)
