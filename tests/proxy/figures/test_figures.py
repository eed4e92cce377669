"""The table of figures: what is public stays, all views of it agree, workers are combined."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from proxy.figures.metrics import TerraceCollector
from proxy.figures.page import metrics_page
from proxy.figures.reading import Part, Reading
from proxy.figures.report import figures
from proxy.figures.row import Across, Figure, Kind
from proxy.figures.table import FIELDS, METRICS, ROWS
from proxy.figures.worker_metrics import combined, packed
from tests.proxy.session_play import Play, command, fill

ROOT = Path(__file__).parents[3]
PUBLIC = (Path(__file__).parent / "figure_names.txt").read_text(encoding="utf-8")
FAMILIES = {figure.metric: figure for figure in METRICS.values()}
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "without L1": {"l1": {"enabled": False}},
    "strict": {"namespace": [{"match": "s:*", "consistency": "strict"}], "l1": {"hot_keys": 10}},
}


def test_public_metrics_keep_their_names_and_types() -> None:
    found = {f"{name} {figure.kind.value}" for name, figure in FAMILIES.items()}
    assert found >= {line for line in PUBLIC.splitlines() if re.fullmatch(r"\w+ \w+", line)}


def test_public_fields_keep_their_names_and_order() -> None:
    public = [line for line in PUBLIC.splitlines() if re.fullmatch(r"\w+", line)]
    assert [name for name in FIELDS if name in public] == public


@pytest.mark.parametrize("figure", METRICS.values(), ids=lambda figure: figure.name)
def test_metrics_are_well_named_and_explained(figure: Figure) -> None:
    assert re.fullmatch(r"(cache|terrace)_[a-z0-9_]+", figure.name)
    assert figure.help
    if figure.unit:
        assert figure.name.endswith(f"_{figure.unit}")
    assert figure.kind is not Kind.TEXT


def test_no_name_is_used_twice() -> None:
    infos = [row.info for row in ROWS if row.info]
    assert len(infos) == len(FIELDS) == len(set(infos))
    assert len({row.figure for row in ROWS if row.figure.name}) == len(METRICS)
    series = [(row.figure.name, row.at) for row in ROWS if row.figure.name]
    assert len(series) == len(set(series))


def test_every_row_shows_somewhere() -> None:
    assert [row for row in ROWS if not row.info and not row.figure.name] == []
    assert [row for row in ROWS if row.figure.name and row.read is None] == []
    assert [row for row in ROWS if row.read is None and row.show is None] == []


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_all_that_is_in_use_is_shown_and_nothing_else(settings: dict[str, Any]) -> None:
    with Play(**settings) as play:
        parts = Reading(play.terrace).parts
        metrics = {metric.name for metric in TerraceCollector(play.terrace).collect()}
        fields = list(figures(play.terrace))
    assert metrics == {row.figure.name for row in ROWS if row.metric_part in parts} - {""}
    assert fields == [name for name, row in FIELDS.items() if row.part in parts]
    assert Part.L3 not in parts  # see tests/e2e/test_metrics.py


def test_field_and_metric_of_a_row_agree() -> None:
    with Play() as play:
        play.client >> command("GET", "k")
        play.tracked << fill("GET", "k")
        play.tracked >> b":-1\r\n$1\r\nv\r\n"
        play.client << b"$1\r\nv\r\n"
        samples = {
            (metric.name, tuple(sample.labels.values())): sample.value
            for metric in TerraceCollector(play.terrace).collect()
            for sample in metric.samples
        }
        fields = figures(play.terrace)
    both = [row for row in ROWS if row.info in fields and row.figure.name and row.show is None]
    assert len(both) > 20
    assert [r.info for r in both if samples[r.figure.name, r.at] != fields[r.info]] == []
    assert (fields["l1_misses"], fields["l1_fills"], fields["l2_hits"]) == (1, 1, 1)


def test_the_page_has_every_row() -> None:
    page = metrics_page()
    assert [name for name in (*FIELDS, *FAMILIES) if f"| `{name}` |" not in page] == []
    assert sum(line.startswith("| ") for line in page.splitlines()) >= len(ROWS)


PAGES = [
    path
    for folder, pattern in ((ROOT, "*.md"), (ROOT / "docs", "**/*.md"), (ROOT / "conf", "**/*.*"))
    for path in folder.glob(pattern)
    if path.suffix in (".md", ".json", ".yml", ".yaml", ".toml")
]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_and_dashboards_name_only_metrics_that_exist(path: Path) -> None:
    known = {*FAMILIES, *FIELDS}
    known |= {f"{name}_{end}" for name in FAMILIES for end in ("bucket", "count", "sum")}
    text = path.read_text(encoding="utf-8")
    named = re.findall(r"(?<![\w./-])(?:cache|terrace)_[a-z0-9_]*[a-z0-9](?![\w(…/-])", text)
    assert [name for name in named if name not in known] == []


class TestWorkers:
    """The worker that is asked has 5, another one 3."""

    def combined(self, name: str) -> float:
        with Play() as play:
            own = list(TerraceCollector(play.terrace).collect())
            metric = next(metric for metric in own if metric.name == name)
            metric.samples = [metric.samples[0]._replace(value=3.0)]
            theirs = packed([metric])
            metric.samples = [metric.samples[0]._replace(value=5.0)]
            (found,) = combined([metric], [theirs])
            return float(found.samples[0].value)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("terrace_l1_fills", 8.0),
            ("terrace_clients", 8.0),
            ("terrace_l2_stalled", 5.0),
            ("terrace_l1_evictions", 5.0),
            ("terrace_l1_watermark_age_seconds", 5.0),
        ],
    )
    def test_the_table_says_how(self, name: str, value: float) -> None:
        assert self.combined(name) == value

    def test_only_sums_are_totals(self) -> None:
        totals = {name for name, figure in METRICS.items() if figure.is_total}
        assert "terrace_l1_fills" in totals
        assert not totals & {"terrace_l1_evictions", "terrace_clients"}
        assert all(METRICS[name].across is Across.SUM for name in totals)

    def test_text_is_of_the_worker_that_is_asked(self) -> None:
        texts = [row.figure for row in FIELDS.values() if row.figure.kind is Kind.TEXT]
        assert {figure.across for figure in texts} == {Across.FIRST}
