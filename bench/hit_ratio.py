"""The hit ratio of L1's policy on key traces, compared with published policies.

`python -m bench.hit_ratio DIRECTORY` replays every NAME.keys.gz there: one request per
line in access order, the key first (the text after a blank is ignored). All entries
have the same size and the store starts empty, as in published comparisons. Traces are
not part of this repository: most have no licence.
"""

from __future__ import annotations

import argparse
import datetime
import gzip
import multiprocessing
import os
import sys
from collections.abc import Collection, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from rich import box
from rich.console import Console
from rich.table import Table

from tiers import L1Memory, L1Options
from tiers.core import CORE
from tiers.l1.arena import Arena

from .machine import load_average
from .policies import Policy, fifo_hits, lru_hits, s3_fifo_hits, sieve_hits, w_tinylfu_hits
from .results import Measure, Target

OURS = "Terrace L1"
POINTS_BELOW_THE_BEST = 1.0
SHARES_OF_KEYS = (0.001, 0.01, 0.05, 0.10)
FEWEST_ENTRIES = 100
_SUFFIX = ".keys.gz"
_KEY_BYTES = 8  # keys are numbered, so that all entries have one size
_REPLY = b"$1\r\nv\r\n"
_FOREVER_S = float("inf")
_FITTINGS = 4


def terrace_hits(keys: Sequence[bytes], entries: int) -> int:
    """Hits of the store of the proxy, with a budget for this number of entries."""
    arena = _arena(budget_for(entries))
    get, begin, commit, epoch = arena.get, arena.begin_fill, arena.commit_fill, arena.epoch
    hits = 0
    for key in keys:
        if get(key, b"", 0.0) is None:
            commit(key, b"", _REPLY, begin(key), epoch, _FOREVER_S)
        else:
            hits += 1
    return hits


POLICIES: dict[str, Policy] = {
    OURS: terrace_hits,
    "LRU": lru_hits,
    "FIFO": fifo_hits,
    "SIEVE": sieve_hits,
    "S3-FIFO": s3_fifo_hits,
    "W-TinyLFU": w_tinylfu_hits,
}
CHALLENGERS = ("LRU", "SIEVE", "S3-FIFO", "W-TinyLFU")  # the best one on average is the reference


@dataclass(frozen=True, slots=True)
class Replay:
    """One trace with one capacity: hits by policy, as shares of the requests."""

    trace: str
    requests: int
    keys: int
    entries: int
    ratios: dict[str, float]


def hit_ratio_measures(directory: Path, cores: Collection[int]) -> list[Measure]:
    """The mean over all traces and sizes, with that of the best challenger.

    Raises OSError, ValueError.
    """
    replays = replay_all(_traces(directory, ""), cores)
    means = {
        name: 100 * fmean(replay.ratios[name] for replay in replays)
        for name in (OURS, *CHALLENGERS)
    }
    best = max(CHALLENGERS, key=means.__getitem__)
    return [
        Measure(
            case="traces",
            title=f"hit ratio of L1's policy, mean of {len(replays)} replays",
            unit="%",
            beside=best,
            plain=means[best],
            figures={CORE: means[OURS]},
            target=Target("≥", round(means[best] - POINTS_BELOW_THE_BEST, 2)),
            at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            load_average=load_average(),
        )
    ]


def replay_all(paths: Sequence[Path], cores: Collection[int]) -> list[Replay]:
    """Replay the traces in parallel, one process per core. Raises OSError."""
    with ProcessPoolExecutor(
        len(cores), multiprocessing.get_context("spawn"), _use_cores, (cores,)
    ) as pool:
        return [replay for of_trace in pool.map(replay_trace, paths) for replay in of_trace]


def replay_trace(path: Path) -> list[Replay]:
    """Replay one trace with every policy and size. Raises OSError."""
    keys = read_trace(path)
    unique = len(set(keys))
    sizes = sorted({max(FEWEST_ENTRIES, int(unique * share)) for share in SHARES_OF_KEYS})
    return [
        Replay(
            trace=path.name.removesuffix(_SUFFIX),
            requests=len(keys),
            keys=unique,
            entries=entries,
            ratios={name: policy(keys, entries) / len(keys) for name, policy in POLICIES.items()},
        )
        for entries in sizes
    ]


def read_trace(path: Path) -> list[bytes]:
    """The keys of a trace, numbered in the order of first appearance. Raises OSError."""
    numbers: dict[bytes, bytes] = {}
    keys: list[bytes] = []
    try:
        with gzip.open(path) as lines:
            for line in lines:
                words = line.split(None, 1)
                if words:
                    fresh = len(numbers).to_bytes(_KEY_BYTES, "big")
                    keys.append(numbers.setdefault(words[0], fresh))
    except (OSError, EOFError) as failure:
        raise OSError(f"{path.name} cannot be read: {failure}") from None
    return keys


def _arena(max_bytes: int) -> Arena:
    return L1Memory(L1Options(max_bytes=max_bytes), lambda: 0.0).arena


def budget_for(entries: int) -> int:
    """The budget in bytes for so many entries, found by filling the store until it evicts."""
    budget = entries * 100
    for _ in range(_FITTINGS):
        arena = _arena(budget)
        for number in range(10 * entries):
            key = number.to_bytes(_KEY_BYTES, "big")
            arena.commit_fill(key, b"", _REPLY, arena.begin_fill(key), arena.epoch, _FOREVER_S)
            if arena.evictions:
                break
        budget = budget * entries // len(arena)
    return budget


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.hit_ratio", description=__doc__)
    parser.add_argument("directory", type=Path, help=f"folder of the traces (*{_SUFFIX})")
    parser.add_argument("--only", default="", metavar="NAME", help="one trace")
    args = parser.parse_args(argv)
    try:
        replays = replay_all(_traces(args.directory, args.only), os.sched_getaffinity(0))
    except (OSError, ValueError) as failure:
        print(f"hit_ratio: {failure}", file=sys.stderr)
        return 1
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("trace", "requests", "keys", "entries", *POLICIES):
        table.add_column(column, justify="left" if column == "trace" else "right")
    for one in replays:
        table.add_row(
            one.trace, f"{one.requests:,}", f"{one.keys:,}", f"{one.entries:,}",
            *(f"{ratio:.2%}" for ratio in one.ratios.values()),
        )  # fmt: skip
    table.add_section()
    means = (fmean(one.ratios[name] for one in replays) for name in POLICIES)
    table.add_row("mean", "", "", "", *(f"{mean:.2%}" for mean in means))
    (Console() if sys.stdout.isatty() else Console(width=120)).print(table)
    return 0


def _traces(directory: Path, only: str) -> list[Path]:
    found = sorted(directory.glob(f"{only or '*'}{_SUFFIX}"))
    if not found:
        raise ValueError(f"no {only or '*'}{_SUFFIX} in {directory}")
    return found


def _use_cores(cores: Collection[int]) -> None:
    os.sched_setaffinity(0, cores)


if __name__ == "__main__":
    sys.exit(main())
