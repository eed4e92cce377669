"""`python -m bench`: runs the cases, prints the tables, keeps the results."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from proxy.embedded.process import EmbeddedError
from tiers.core import choose

from . import charts
from . import results as kept
from .cases import CASES
from .cpu import Cores, pin
from .derived import derive
from .hit_ratio import hit_ratio_measures
from .load import LoadError, choose_generator
from .machine import facts, load_average
from .measures import COMPARISONS
from .report import history, markdown, print_results, print_table, with_part
from .results import Results
from .rounds import Effort, run_case
from .servers import Rig
from .skipped import Skipped

EXIT_INTERRUPTED, EXIT_TERMINATED = 130, 143  # as shells report signals
SECONDS, QUICK_SECONDS = 0.7, 0.25
LONGEST_ROUND_S = 60.0
EXTRA_ROUNDS_S = 170.0  # disturbed cases get more rounds until then: a whole run takes 6 min
TEXT_WIDTH = 230
TRACES = "traces"
NAMES = [*(case.key for case in CASES), *COMPARISONS]
_ROOT = Path(__file__).parent.parent
_README, _PAGE = _ROOT / "README.md", _ROOT / "docs/PERFORMANCE.md"
_CHARTS = "bench/results"  # from the root


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))  # stops the servers
    console = Console() if sys.stdout.isatty() else Console(width=TEXT_WIDTH)
    try:
        if args.report or args.readme or args.history:
            _show(args, console)
            return 0
        if not sys.platform.startswith("linux"):
            raise EmbeddedError("the benchmarks read CPU times from /proc, so they need Linux")
        seconds = args.seconds or (QUICK_SECONDS if args.quick else SECONDS)
        effort = Effort(seconds, args.quick, time.monotonic() + EXTRA_ROUNDS_S)
        found = run(_chosen(args.only), effort, console=console, traces=args.traces)
        if args.merge:
            whole = _latest()
            whole.merge(found)
            found = whole
        derive(found)
        print_results(found, console)
        if args.quick or (args.only and not args.merge):
            console.print("not kept: bench/results/ has whole runs of full length", style="dim")
        else:
            _keep(found, console)
        return 1 if found.failed else 0
    except (EmbeddedError, LoadError, OSError, ValueError) as problem:
        print(f"bench: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def run(names: list[str], effort: Effort, *, console: Console, traces: Path | None) -> Results:
    """Run all cases in `names`, one after the other."""
    cores = Cores.plan()
    pin(os.getpid(), cores.generator)
    generator = choose_generator(cores.generator)
    if not generator.name.startswith("redis-benchmark"):
        console.print("redis-benchmark is not on the PATH: using bench.generator, in Python")
    if len(cores.everything) < 2:
        console.print("only one core: the generator and the server under test share it")
    cores_of_terrace = available_cores()
    with _directory() as directory, Rig(directory, cores, cores_of_terrace) as rig:
        found = Results(
            machine=facts(len(cores.everything), redis=rig.plain.version),
            settings={
                "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
                "generator": generator.name,
                "seconds": effort.seconds,
                "quick": effort.quick,
                "cores": cores_of_terrace,
                "load_average_before": load_average(),
            },
        )
        if cores_of_terrace == ["py"]:
            found.skipped["c"] = compiled_core_is_missing()
        for case in CASES:
            if case.key in names:
                console.print(f"… {case.title}", style="dim")
                with _noting(case.key, found):
                    found.rows.append(run_case(case, rig, generator, effort, found.skipped))
        rig.stop_terraces()
        for name, compare in COMPARISONS.items():
            if name in names:
                console.print(f"… {name}", style="dim")
                with _noting(name, found):
                    found.measures += compare(rig, generator, effort)
    if traces is not None:
        console.print(f"… {TRACES}", style="dim")
        found.measures += hit_ratio_measures(traces, cores.everything)
    found.settings["load_average_after"] = load_average()
    return found


def available_cores() -> list[str]:
    """The cores of Terrace: both if the compiled one is built, or the one in TERRACE_CORE."""
    forced = os.environ.get("TERRACE_CORE", "")
    if forced:
        return [choose(forced)]
    return ["c", "py"] if choose("") == "c" else ["py"]


def compiled_core_is_missing() -> str:
    if os.environ.get("TERRACE_CORE") == "py":
        return "TERRACE_CORE=py excludes it"
    return "it is not built: `make build` builds it, with a C compiler"


@contextlib.contextmanager
def _noting(name: str, found: Results) -> Iterator[None]:
    """Record the failure of a case, so that the results of the others are kept."""
    try:
        yield
    except Skipped as reason:
        found.skipped[name] = str(reason)
    except (EmbeddedError, LoadError) as failure:
        found.failed[name] = str(failure)


def _keep(found: Results, console: Console) -> None:
    stem = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H%M%SZ")
    path = kept.save(found, stem)
    with path.with_suffix(".txt").open("w", encoding="utf-8") as text:
        print_results(found, Console(file=text, width=TEXT_WIDTH))
    charts.write(found, kept.DIRECTORY)
    console.print(
        f"kept as bench/results/{path.name}; `python -m bench --readme` shows it in the docs"
    )


def _show(args: argparse.Namespace, console: Console) -> None:
    """Show kept results without a measurement."""
    if args.history:
        figures = history([(path.stem, kept.load(path)) for path in kept.all_kept()])
        print_table(figures, console)
    if args.report:
        print(markdown(_latest()), end="")
    if args.readme:
        latest = _latest()
        charts.write(latest, kept.DIRECTORY)
        brief, whole = markdown(latest, _CHARTS, brief=True), markdown(latest)
        _README.write_text(with_part(_README.read_text(), brief))
        _PAGE.write_text(with_part(_PAGE.read_text(), whole))


def _latest() -> Results:
    paths = kept.all_kept()
    if not paths:
        raise ValueError("bench/results/ has no result yet; run `python -m bench` first")
    return kept.load(paths[-1])


def _chosen(only: str) -> list[str]:
    names = [name.strip() for name in only.split(",") if name.strip()]
    unknown = [name for name in names if not any(known.startswith(name) for known in NAMES)]
    if unknown:
        raise ValueError(f"--only: no case {', '.join(unknown)}; there are {', '.join(NAMES)}")
    return [known for known in NAMES if not names or known.startswith(tuple(names))]


@contextlib.contextmanager
def _directory() -> Iterator[Path]:
    """A folder for sockets and data: a short path, open to the account of PostgreSQL."""
    with tempfile.TemporaryDirectory(prefix="terrace-bench-", dir="/tmp") as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short rounds, for a first impression")
    parser.add_argument(
        "--only", default="", metavar="CASES",
        help=f"comma-separated names, or beginnings of names: {', '.join(NAMES)}",
    )  # fmt: skip
    parser.add_argument("--seconds", type=_positive, help=f"a round (default {SECONDS:g})")
    parser.add_argument(
        "--merge", action="store_true", help="merge the measurements into the latest result"
    )
    parser.add_argument(
        "--traces", type=Path, metavar="DIRECTORY",
        help="also replay its key traces (see bench.hit_ratio); about half a minute more",
    )  # fmt: skip
    parser.add_argument(
        "--report", action="store_true", help="print the latest result as Markdown and exit"
    )
    parser.add_argument(
        "--readme",
        action="store_true",
        help="write the latest result into README.md and docs/PERFORMANCE.md, and exit",
    )
    parser.add_argument(
        "--history", action="store_true", help="print a comparison of the kept results and exit"
    )
    return parser


def _positive(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= LONGEST_ROUND_S:
        raise argparse.ArgumentTypeError(f"between 0 and {LONGEST_ROUND_S:g} seconds are possible")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
