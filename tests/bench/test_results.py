"""Results survive their file, are merged by case, and are told without being coloured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import charts
from bench import results as kept
from bench.derived import derive
from bench.report import history, markdown, remarks, score, with_part
from bench.results import Measure, Results, Row, Sample, Side, Target
from bench.rounds import Round, side, spread

FAST = Sample(user_us=0.3, system_us=0.2, ops_per_s=2e6, p50_ms=0.4, p99_ms=0.9)
SLOW = Sample(user_us=0.8, system_us=0.2, ops_per_s=1e6, p50_ms=0.8, p99_ms=1.5)


def beside_redis(sample: Sample, **changes: float) -> Side:
    ratios = {
        "cpu_ratio": sample.cpu_us / FAST.cpu_us,
        "ops_ratio": sample.ops_per_s / FAST.ops_per_s,
        "spread": 0.02,
        "l2_per_op": 0.0,
    }
    return Side(sample, **{**ratios, **changes})


def a_row(
    case: str = "l1-get-p16", terrace: Sample = SLOW, load_average: float = 1.0, **changes: float
) -> Row:
    return Row(
        case=case, title=case, sides={"redis": Side(FAST), "c": beside_redis(terrace, **changes)},
        cpu_target=0.8, ops_target=1.2, at="2026-01-01T00:00:00+00:00", load_average=load_average,
    )  # fmt: skip


def a_measure(terrace: float) -> Measure:
    return Measure(
        case="start", title="start", unit="s", figures={"c": terrace}, target=Target("≤", 0.5),
        at="2026-01-01T00:00:00+00:00", load_average=1.0,
    )  # fmt: skip


def a_result(*rows: Row) -> Results:
    return Results(
        machine={"cpu": "x", "cores": 2, "system": "s", "python": "3", "redis": "7"},
        settings={"date": "2026-01-01", "generator": "g", "seconds": 1.0, "cores": ["c", "py"]},
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
    assert kept.all_kept() == []
    kept.save(a_result(), "2026-01-02")
    kept.save(a_result(), "2026-01-01")
    assert kept.all_kept()[-1].stem == "2026-01-02"


def test_a_foreign_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text('{"schema": 2, "rows": [{"case": 1}]}')
    with pytest.raises(ValueError, match=r"other\.json"):
        kept.load(path)
    for foreign, schema in (({"schema": 99}, "99"), ({"rows": []}, "None")):
        path.write_text(json.dumps(foreign))
        with pytest.raises(ValueError, match=f"schema {schema}"):
            kept.load(path)


def test_the_verdict_needs_both_targets() -> None:
    assert a_row(terrace=SLOW).met("c") is False
    assert a_row(terrace=Sample(0.8, 0.2, 3e6, 0.1, 0.2)).met("c") is False
    assert a_row(terrace=Sample(0.2, 0.1, 3e6, 0.1, 0.2)).met("c") is True
    assert a_row().met("py") is None


def test_merging_replaces_what_was_measured_again() -> None:
    old = a_result(a_row("a"), a_row("b"))
    old.failed["c"] = "refused"
    old.skipped["start"] = "earlier"
    newer = a_result(a_row("b", terrace=FAST), a_row("c"))
    newer.measures.append(a_measure(0.3))
    old.merge(newer)
    assert [row.case for row in old.rows] == ["a", "b", "c"]
    assert old.rows[1].sides["c"].sample == FAST
    assert (old.skipped, old.failed) == ({}, {})
    assert old.measures == newer.measures


def test_floors_are_derived_from_the_rows_and_only_once() -> None:
    result = a_result(a_row("l1-get-p16"))
    derive(result)
    derive(result)
    (floor,) = result.measures
    assert floor.figures == {"c": SLOW.ops_per_s}
    assert floor.met("c") is True


def test_markdown_has_a_line_for_each_row_and_measure() -> None:
    result = a_result(a_row("one"), a_row("two"))
    result.measures.append(a_measure(0.4))
    lines = markdown(result).splitlines()
    cpu = "| one | 0.30 + 0.20 = 0.50 | 0.80 + 0.20 = 1.00 | 2.00× | ≤ 0.80× | missed |"
    assert cpu in lines
    assert any("| 0.50× | ≥ 1.2× | missed |" in line for line in lines)
    assert "| start | 0.4 s | ≤ 0.5 s | met |" in lines
    assert score(result).endswith("1 of 3 targets met")


def test_a_first_page_has_the_judged_core_beside_redis() -> None:
    result = a_result(a_row("one"))
    result.measures.append(a_measure(0.4))
    page = markdown(result, "charts", brief=True)
    assert "| one | 0.50 | 1.00 | 2.00× |" in page
    assert "| start |" not in page
    assert "](charts/" in page


def test_the_charts_name_every_contender(tmp_path: Path) -> None:
    charts.write(a_result(a_row("one")), tmp_path)
    for chart in charts.CHARTS:
        drawn = (tmp_path / f"{chart.stem}.svg").read_text()
        assert drawn.startswith("<svg ")
        assert "Redis" in drawn
        assert "Terrace, compiled" in drawn


def test_only_what_is_between_the_markers_is_replaced() -> None:
    page = "a\n<!-- bench:begin -->\nold\n<!-- bench:end -->\nz\n"
    assert with_part(page, "new\n") == page.replace("old", "new")
    with pytest.raises(ValueError, match="bench:begin"):
        with_part("no markers", "new")


def test_history_has_a_column_for_each_core_of_each_result() -> None:
    figures = history([("2026-01-01T0", a_result(a_row("one")))])
    assert figures.columns == ["case", "2026-01-01 c", "2026-01-01 py"]
    assert figures.rows == [["one", "2.00×", ""]]


def test_rows_that_do_not_show_what_they_claim_are_remarked() -> None:
    assert remarks(a_result(a_row())) == []
    assert "l1-get-p16" in remarks(a_result(a_row(spread=0.5)))[0]
    assert "other programs ran" in remarks(a_result(a_row(load_average=3.5)))[0]
    assert "not all were hits" in remarks(a_result(a_row(l2_per_op=0.5)))[0]


def test_the_spread_is_that_of_the_closest_three_rounds() -> None:
    assert spread([1.0, 1.1, 2.0]) == pytest.approx(1.0 / 1.1)
    assert spread([1.0, 1.1, 9.0, 1.05, 9.0]) == pytest.approx(0.1 / 1.1)


def test_a_disturbance_that_meets_both_sides_of_a_round_leaves_the_ratio() -> None:
    def costing(*costs_us: float) -> list[Round]:
        return [Round(Sample(cost, 0.0, 1e6 / cost, 1.0, 1.0)) for cost in costs_us]

    found = side(costing(2.0, 20.0, 2.0), costing(1.0, 10.0, 1.0))
    assert (found.cpu_ratio, found.ops_ratio) == (2.0, 0.5)
    assert found.spread == 0.0
