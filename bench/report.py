"""Reports results: tables for the terminal and a text file, Markdown for the README."""

from __future__ import annotations

from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table

from . import text
from .charts import CHARTS
from .results import CORES, Measure, Results, Row

DISTURBED = 0.20  # rounds that differ by more than this are marked
OWN_LOAD = 1.0  # above the number of cores: generator, Redis and Terrace never all run at once
LEAKING = 0.05  # with a larger share of the reads in Redis, the case does not measure hits of L1
FLOOR = "floor"
_YARDSTICK = "redis"

README_BEGIN, README_END = "<!-- bench:begin -->", "<!-- bench:end -->"


@dataclass(frozen=True, slots=True)
class Figures:
    """A table, independent of its output format."""

    title: str
    columns: list[str]
    rows: list[list[str]]


def print_results(results: Results, console: Console) -> None:
    console.print(headline(results) + "\n")
    for figures in tables(results):
        print_table(figures, console)
    console.print(score(results))
    for line in remarks(results):
        console.print(line, style="dim")


def print_table(figures: Figures, console: Console) -> None:
    table = Table(title=figures.title, title_justify="left", box=box.SIMPLE_HEAD)
    for index, column in enumerate(figures.columns):
        table.add_column(column, justify="right" if index else "left")
    for row in figures.rows:
        table.add_row(*row)
    console.print(table)


def markdown(results: Results, charts: str = "", *, brief: bool = False) -> str:
    """`charts` is the folder of the charts; empty: without charts. `brief`: short, for a first
    page."""
    parts = [headline(results) + ".", score(results) + "."]
    for figures in [_brief_table(results)] if brief else tables(results):
        parts.append(f"**{figures.title}**")
        rule = ["---", *["---:"] * (len(figures.columns) - 1)]
        lines = [figures.columns, rule, *figures.rows]
        parts.append("\n".join("| " + " | ".join(cells) + " |" for cells in lines))
    if charts:
        parts.append("\n".join(f"![{one.title}]({charts}/{one.stem}.svg)" for one in CHARTS))
    if said := remarks(results):
        parts.append("\n".join(f"- {line}" for line in said))
    return "\n\n".join(parts) + "\n"


def with_part(page: str, part: str) -> str:
    """`page` with the text between the two markers replaced. Raises ValueError without them."""
    before, begin, rest = page.partition(README_BEGIN)
    _, end, after = rest.partition(README_END)
    if not begin or not end:
        raise ValueError(f"the page has no {README_BEGIN} … {README_END} to write between")
    return f"{before}{begin}\n{part}{end}{after}"


def headline(results: Results) -> str:
    machine, settings = results.machine, results.settings
    return (
        f"{settings['date']}, {machine['cpu']}, {machine['cores']} cores, {machine['system']}; "
        f"Python {machine['python']}, Redis {machine['redis']}; "
        f"load from {settings['generator']}, 50 clients, {settings['seconds']:g} s a round; "
        "CPU time (user + system) of the server's processes"
    )


def score(results: Results) -> str:
    judged = results.judged
    verdicts = [row.met(judged) for row in results.rows]
    verdicts += [one.met(judged) for one in results.measures]
    held = [met for met in verdicts if met is not None]
    return f"{text.NAMES[judged]}: {sum(held)} of {len(held)} targets met"


def tables(results: Results) -> list[Figures]:
    found = []
    if results.rows:
        found += [_cpu_table(results), _throughput_table(results)]
    floors = [one for one in results.measures if one.case == FLOOR]
    others = [one for one in results.measures if one.case != FLOOR]
    for title, measures in (("Other measures", others), ("Floors, absolute", floors)):
        if measures:
            found.append(_measure_table(title, measures, results))
    return found


def history(kept: list[tuple[str, Results]]) -> Figures:
    """CPU time as a ratio to Redis, of every kept result: rows are cases, columns results."""
    columns = {(stem, core): found for stem, found in kept for core in found.settings["cores"]}
    titles = {row.case: row.title for found in columns.values() for row in found.rows}
    rows = []
    for case, title in titles.items():
        cells = [title]
        for (_, core), found in columns.items():
            row = found.row(case)
            side = row.sides.get(core) if row else None
            cells.append(text.ratio(side.cpu_ratio) if side else "")
        rows.append(cells)
    heads = [f"{stem[:10]} {core}" for stem, core in columns]
    return Figures("CPU time per operation, ratio to Redis of the same run", ["case", *heads], rows)


def _brief_table(results: Results) -> Figures:
    """Redis and the judged core, one row per load case."""
    name = results.judged
    columns = ["case"]
    for unit in ("CPU µs/op", "ops/s"):
        columns += [f"Redis {unit}", f"Terrace {unit}", "ratio"]
    columns += ["Redis p50/p99 ms", "Terrace p50/p99 ms"]
    rows = []
    for row in results.rows:
        if name not in row.sides:
            continue
        redis, ours = row.sides[_YARDSTICK].sample, row.sides[name]
        cells = [row.title, f"{redis.cpu_us:.2f}", f"{ours.sample.cpu_us:.2f}"]
        cells += [text.ratio(ours.cpu_ratio), text.rate(redis.ops_per_s)]
        cells += [text.rate(ours.sample.ops_per_s), text.ratio(ours.ops_ratio)]
        rows.append([*cells, text.latency(redis), text.latency(ours.sample)])
    return Figures(f"{text.NAMES[name]}, beside Redis", columns, rows)


def _cpu_table(results: Results) -> Figures:
    names = _contenders(results.rows)
    columns = ["case"]
    for name in names:
        columns.append(f"{text.NAMES[name]} µs/op")
        columns += [] if name == _YARDSTICK else ["ratio"]
    rows = []
    for row in results.rows:
        cells = [row.title + (" ~" if _disturbed(row) else "")]
        for name in names:
            side = row.sides.get(name)
            cells.append("" if side is None else text.cpu(side.sample))
            if name != _YARDSTICK:
                cells.append("" if side is None else text.ratio(side.cpu_ratio))
        bound = row.cpu_target
        side = row.sides.get(results.judged)
        cells.append("" if bound is None else f"≤ {bound:.2f}×")
        cells.append("" if bound is None or side is None else text.verdict(side.cpu_ratio <= bound))
        rows.append(cells)
    return Figures("CPU time per operation", [*columns, "target", ""], rows)


def _throughput_table(results: Results) -> Figures:
    names = _contenders(results.rows)
    rows = []
    for row in results.rows:
        cells = [row.title]
        for name in names:
            side = row.sides.get(name)
            cells.append("" if side is None else text.rate(side.sample.ops_per_s))
        side, bound = row.sides.get(results.judged), row.ops_target
        cells.append("" if side is None else text.ratio(side.ops_ratio))
        cells.append("" if bound is None else f"≥ {bound:.1f}×")
        cells.append("" if bound is None or side is None else text.verdict(side.ops_ratio >= bound))
        for name in names:
            side = row.sides.get(name)
            cells.append("" if side is None else text.latency(side.sample))
        rows.append(cells)
    rates = [f"{text.NAMES[name]} ops/s" for name in names]
    latencies = [f"{text.NAMES[name]} p50/p99 ms" for name in names]
    columns = ["case", *rates, "ratio", "target", "", *latencies]
    return Figures("Throughput and latency under full load", columns, rows)


def _measure_table(title: str, measures: list[Measure], results: Results) -> Figures:
    cores = [core for core in CORES if any(core in one.figures for one in measures)]
    beside = any(one.plain is not None for one in measures)
    columns = ["measure", *(["beside"] if beside else [])]
    for core in cores:
        columns += [text.NAMES[core], "ratio"] if beside else [text.NAMES[core]]
    rows = []
    for one in measures:
        cells = [one.title.removeprefix(f"{FLOOR}: ")]
        if beside:
            plain = "" if one.plain is None else f"{text.figure(one.plain)} {one.unit}"
            cells.append(f"{plain} ({one.beside})" if plain else "")
        for core in cores:
            figure = one.figures.get(core)
            cells.append("" if figure is None else f"{text.figure(figure)} {one.unit}")
            if beside:
                cells.append(text.ratio(one.ratios[core]) if core in one.ratios else "")
        cells += [text.target(one.target, one), text.verdict(one.met(results.judged))]
        rows.append(cells)
    return Figures(title, [*columns, "target", ""], rows)


def remarks(results: Results) -> list[str]:
    lines = [f"{case}: skipped, {why}" for case, why in results.skipped.items()]
    lines += [f"{case}: failed, {why}" for case, why in results.failed.items()]
    disturbed = [row.case for row in results.rows if _disturbed(row)]
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
        f"{row.case}: Redis ran {side.l2_per_op:.2f} commands per operation of "
        f"{text.NAMES[name]}, so not all were hits"
        for row in results.rows
        for name, side in row.sides.items()
        if row.case.startswith("l1-") and (side.l2_per_op or 0.0) > LEAKING
    ]
    return lines


def _contenders(rows: list[Row]) -> list[str]:
    return [name for name in text.NAMES if any(name in row.sides for row in rows)]


def _disturbed(row: Row) -> bool:
    return any(side.spread > DISTURBED for side in row.sides.values())
