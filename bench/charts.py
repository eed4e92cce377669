"""The load cases as bar charts in SVG: throughput, CPU time per operation, latency.

Each case has its own scale, which the figures show: P=1 and P=128 differ by a factor of
twenty, and only the contenders of one case are compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from .results import Results, Row, Sample
from .text import NAMES, rate

COLOURS = {
    "redis": "#c0392b",
    "c": "#1f6f8b",
    "c, 2 workers": "#5fa8c0",
    "py": "#d9a441",
    "twemproxy": "#8a8a8a",
}
_WIDTH, _LEFT, _RIGHT = 860, 250, 130
_BAR, _GAP, _BETWEEN, _TOP, _BOTTOM = 13, 3, 14, 84, 16
_FONT = "font-family='system-ui, sans-serif'"


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar; `faint` is the longer one behind `solid`: p99 behind p50."""

    name: str
    solid: float
    text: str
    faint: float = 0.0


@dataclass(frozen=True, slots=True)
class Chart:
    stem: str
    title: str
    subtitle: str
    bar: Callable[[str, Sample], Bar]


def _throughput(name: str, one: Sample) -> Bar:
    return Bar(name, one.ops_per_s, rate(one.ops_per_s))


def _cpu(name: str, one: Sample) -> Bar:
    return Bar(name, one.user_us, f"{one.cpu_us:.2f} µs", one.cpu_us)


def _latency(name: str, one: Sample) -> Bar:
    return Bar(name, one.p50_ms, f"{one.p50_ms:.2f} / {one.p99_ms:.2f} ms", one.p99_ms)


CHARTS = (
    Chart("throughput", "Operations per second", "one core; longer is better", _throughput),
    Chart(
        "cpu", "CPU time of the server per operation",
        "user, and paler: system; shorter is better", _cpu,
    ),
    Chart(
        "latency", "Latency under full load",
        "p50, and paler: p99, of 50 clients; shorter is better", _latency,
    ),
)  # fmt: skip


def write(results: Results, directory: Path) -> list[Path]:
    """Write one file per chart, in place of older ones."""
    written = []
    for chart in CHARTS:
        path = directory / f"{chart.stem}.svg"
        path.write_text(draw(chart, results.rows, str(results.settings["date"])))
        written.append(path)
    return written


def draw(chart: Chart, rows: list[Row], date: str) -> str:
    present = [name for name in COLOURS if any(name in row.sides for row in rows)]
    parts = [
        _text(16, 26, chart.title, size=17, weight="600"),
        _text(16, 46, f"{chart.subtitle}; {date}", colour="#555"),
        *_legend(present),
    ]
    y = _TOP
    for row in rows:
        bars = [chart.bar(name, row.sides[name].sample) for name in present if name in row.sides]
        height = len(bars) * (_BAR + _GAP)
        parts.append(_text(_LEFT - 12, y + height / 2 + 3, row.title, anchor="end"))
        longest = max(max(bar.solid, bar.faint) for bar in bars) or 1.0
        for bar in bars:
            parts += _bar(bar, y, (_WIDTH - _LEFT - _RIGHT) / longest)
            y += _BAR + _GAP
        y += _BETWEEN
    height = y + _BOTTOM - _BETWEEN
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{_WIDTH}' height='{height}' "
        f"viewBox='0 0 {_WIDTH} {height}' role='img'>\n<title>{escape(chart.title)}</title>\n"
        f"<rect width='100%' height='100%' fill='#fff'/>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _bar(bar: Bar, y: float, scale: float) -> list[str]:
    colour, end = COLOURS[bar.name], max(bar.solid, bar.faint) * scale
    return [
        f"<rect x='{_LEFT}' y='{y}' width='{end:.1f}' height='{_BAR}' fill='{colour}' "
        f"opacity='{0.4 if bar.faint else 0}'/>",
        f"<rect x='{_LEFT}' y='{y}' width='{bar.solid * scale:.1f}' height='{_BAR}' "
        f"fill='{colour}'/>",
        _text(_LEFT + end + 6, y + _BAR - 2, bar.text, size=11),
    ]


def _legend(present: list[str]) -> list[str]:
    parts, x = [], 16
    for name in present:
        parts.append(f"<rect x='{x}' y='58' width='12' height='12' fill='{COLOURS[name]}'/>")
        parts.append(_text(x + 17, 68, NAMES[name]))
        x += 40 + 7 * len(NAMES[name])
    return parts


def _text(
    x: float, y: float, text: str, *, size: int = 12, weight: str = "400", colour: str = "#222",
    anchor: str = "start",
) -> str:  # fmt: skip
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' {_FONT} font-size='{size}' font-weight='{weight}' "
        f"fill='{colour}' text-anchor='{anchor}'>{escape(text)}</text>"
    )
