"""Results for people: tables for the terminal and a text file, Markdown for the README."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from .results import Measure, Results, Row, Sample

DISTURBED = 0.20  # rounds that lie further apart than this are marked
OWN_LOAD = 1.0  # more than the cores by this: generator, Redis and Terrace never all run at once
LEAKING = 0.05  # hits from L1 are not what was measured if Redis saw more than this of them

_LOAD_COLUMNS = (
    "case", "Redis µs/op", "Terrace µs/op", "ratio (target)",
    "Redis ops/s", "Terrace ops/s", "ratio (target)", "Redis p50/p99 ms", "Terrace p50/p99 ms",
)  # fmt: skip
_MEASURE_COLUMNS = ("measure", "plain", "Terrace", "ratio", "target", "")


def print_results(results: Results, console: Console) -> None:
    console.print(headline(results))
    if results.rows:
        console.print(_table(_LOAD_COLUMNS, [load_cells(row) for row in results.rows]))
    if results.measures:
        console.print(_table(_MEASURE_COLUMNS, [measure_cells(one) for one in results.measures]))
    for line in remarks(results):
        console.print(line, style="dim")


def markdown(results: Results) -> str:
    parts = [headline(results) + "."]
    if results.rows:
        parts.append(_markdown_table(_LOAD_COLUMNS, [load_cells(row) for row in results.rows]))
    if results.measures:
        cells = [measure_cells(one) for one in results.measures]
        parts.append(_markdown_table(_MEASURE_COLUMNS, cells))
    if lines := remarks(results):
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def headline(results: Results) -> str:
    machine, settings = results.machine, results.settings
    return (
        f"{settings['date']}, {machine['cpu']}, {machine['cores']} cores, {machine['system']}; "
        f"Python {machine['python']}, Redis {machine['redis']}; "
        f"load from {settings['generator']}, 50 clients, {settings['seconds']:g} s a round; "
        "CPU time (user + system) of the server's processes"
    )


def load_cells(row: Row) -> list[str]:
    mark = " ~" if row.spread > DISTURBED else ""
    return [
        row.title + mark,
        _cpu(row.redis),
        _cpu(row.terrace),
        _ratio(row.cpu_ratio, row.cpu_target, "≤"),
        _rate(row.redis.ops_per_s),
        _rate(row.terrace.ops_per_s),
        _ratio(row.ops_ratio, row.ops_target, "≥"),
        _latency(row.redis),
        _latency(row.terrace),
    ]


def measure_cells(one: Measure) -> list[str]:
    plain = "" if one.plain is None else f"{_figure(one.plain)} {one.unit} ({one.beside})"
    ratio = "" if one.ratio is None else f"{one.ratio:.2f}×"
    return [
        one.title, plain, f"{_figure(one.terrace)} {one.unit}", ratio, one.target,
        "met" if one.met else "missed",
    ]  # fmt: skip


def remarks(results: Results) -> list[str]:
    lines = [f"{case}: skipped, {why}" for case, why in results.skipped.items()]
    lines += [f"{case}: failed, {why}" for case, why in results.failed.items()]
    disturbed = [row.case for row in results.rows if row.spread > DISTURBED]
    if disturbed:
        lines.append(
            f"~ rounds differ by more than {DISTURBED:.0%}; something else ran: "
            f"--only {','.join(disturbed)} --merge measures them again"
        )
    figures: list[Row | Measure] = [*results.rows, *results.measures]
    busiest = max((one.load_average for one in figures), default=0.0)
    if busiest > results.machine["cores"] + OWN_LOAD:
        lines.append(
            f"the load average reached {busiest:.1f} on {results.machine['cores']} cores: other "
            "programs ran, so trust the ratios more than the figures"
        )
    lines += [
        f"{row.case}: Redis ran {row.l2_per_op:.2f} commands per operation, so not all were hits"
        for row in results.rows
        if row.case.startswith("l1-") and row.l2_per_op > LEAKING
    ]
    return lines


def _table(columns: tuple[str, ...], rows: list[list[str]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    for row in rows:
        table.add_row(*row)
    return table


def _markdown_table(columns: tuple[str, ...], rows: list[list[str]]) -> str:
    rule = ["---", *["---:"] * (len(columns) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (columns, rule, *rows))


def _cpu(one: Sample) -> str:
    return f"{one.user_us:.2f} + {one.system_us:.2f} = {one.cpu_us:.2f}"


def _latency(one: Sample) -> str:
    return f"{one.p50_ms:.2f} / {one.p99_ms:.2f}"


def _rate(ops_per_s: float) -> str:
    if ops_per_s < 1_000_000:
        return f"{ops_per_s / 1000:.0f} k"
    return f"{ops_per_s / 1_000_000:.2f} M"


def _ratio(ratio: float, target: float | None, sign: str) -> str:
    return f"{ratio:.2f}×" + ("" if target is None else f" ({sign} {target:g})")


def _figure(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
