"""`python -m bench`: run the cases, print the tables, keep the results."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from proxy.embedded.process import EmbeddedError

from . import results as kept
from .cases import CASES, run_case
from .cpu import Cores, pin
from .l3 import Skipped
from .load import LoadError, choose_generator
from .machine import facts, load_average
from .measures import COMPARISONS, Effort
from .report import markdown, print_results
from .results import Results
from .servers import Rig

EXIT_INTERRUPTED, EXIT_TERMINATED = 130, 143  # as shells report signals
SECONDS, QUICK_SECONDS = 2.0, 0.3
LONGEST_ROUND_S = 60.0
TEXT_WIDTH = 190
NAMES = [*(case.key for case in CASES), *COMPARISONS]


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))  # the servers are stopped
    console = Console() if sys.stdout.isatty() else Console(width=TEXT_WIDTH)
    try:
        if args.report:
            print(markdown(_latest()), end="")
            return 0
        if not sys.platform.startswith("linux"):
            raise EmbeddedError("the benchmarks read CPU times from /proc, so they need Linux")
        seconds = args.seconds or (QUICK_SECONDS if args.quick else SECONDS)
        found = run(_chosen(args.only), seconds, quick=args.quick, console=console)
        if args.merge:
            whole = _latest()
            whole.merge(found)
            found = whole
        print_results(found, console)
        if args.quick or (args.only and not args.merge):
            console.print("not kept: bench/results/ has whole runs of full length", style="dim")
        else:
            _keep(found, console)
        return 1 if found.failed else 0
    except (EmbeddedError, LoadError, ValueError) as problem:
        print(f"bench: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def run(names: Sequence[str], seconds: float, *, quick: bool, console: Console) -> Results:
    """Everything in `names`, one after the other."""
    cores = Cores.plan()
    pin(os.getpid(), cores.generator)
    generator = choose_generator(cores.generator)
    if not generator.name.startswith("redis-benchmark"):
        console.print("redis-benchmark is not on the PATH: using bench.generator, in Python")
    if len(cores.everything) < 2:
        console.print("only one core: the generator and the server under test share it")
    with _directory() as directory, Rig(directory, cores) as rig:
        found = Results(
            machine=facts(len(cores.everything), redis=rig.plain.version),
            settings={
                "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
                "generator": generator.name,
                "seconds": seconds,
                "quick": quick,
                "load_average_before": load_average(),
            },
        )
        for case in CASES:
            if case.key in names:
                console.print(f"… {case.title}", style="dim")
                with _noting(case.key, found):
                    found.rows.append(run_case(case, rig, generator, seconds))
        for name, compare in COMPARISONS.items():
            if name in names:
                console.print(f"… {name}", style="dim")
                with _noting(name, found):
                    found.measures += compare(rig, generator, Effort(seconds, quick))
    return found


@contextlib.contextmanager
def _noting(name: str, found: Results) -> Iterator[None]:
    """A case that cannot be measured does not cost the results of the others."""
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
    console.print(f"kept as bench/results/{path.name}; `python -m bench --report` for Markdown")


def _latest() -> Results:
    path = kept.latest()
    if path is None:
        raise ValueError("bench/results/ has no result yet; run `python -m bench` first")
    return kept.load(path)


def _chosen(only: str) -> Sequence[str]:
    names = [name.strip() for name in only.split(",") if name.strip()]
    unknown = [name for name in names if not any(known.startswith(name) for known in NAMES)]
    if unknown:
        raise ValueError(f"--only: no case {', '.join(unknown)}; there are {', '.join(NAMES)}")
    return [known for known in NAMES if not names or known.startswith(tuple(names))]


@contextlib.contextmanager
def _directory() -> Iterator[Path]:
    """For sockets and data: short, and open to the account that PostgreSQL runs as."""
    with tempfile.TemporaryDirectory(prefix="terrace-bench-", dir="/tmp") as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short rounds, for a first look")
    parser.add_argument(
        "--only", default="", metavar="CASES",
        help=f"comma-separated names, or beginnings of names: {', '.join(NAMES)}",
    )  # fmt: skip
    parser.add_argument("--seconds", type=_positive, help=f"a round (default {SECONDS:g})")
    parser.add_argument(
        "--merge", action="store_true", help="put what was measured into the latest result"
    )
    parser.add_argument(
        "--report", action="store_true", help="print the latest result as Markdown and exit"
    )
    return parser


def _positive(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= LONGEST_ROUND_S:
        raise argparse.ArgumentTypeError(f"between 0 and {LONGEST_ROUND_S:g} seconds are possible")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
