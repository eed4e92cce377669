"""The hit ratio of L1's policy on key traces, beside LRU and FIFO.

`python -m bench.hit_ratio DIRECTORY` replays every NAME.keys.gz there: one request a
line in access order, the key first (anything after a blank is ignored). All entries
count alike and the store starts empty, as published comparisons do it. Traces are not
part of this repository: most state no licence.
"""

from __future__ import annotations

import argparse
import gzip
import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from tiers import L1Memory, L1Options
from tiers.arena import Arena

SHARES_OF_KEYS = (0.001, 0.01, 0.05, 0.10)
FEWEST_ENTRIES = 100
_SUFFIX = ".keys.gz"
_KEY_BYTES = 8  # keys are numbered, so that all entries have one size
_REPLY = b"$1\r\nv\r\n"
_FOREVER_S = float("inf")
_FITTINGS = 4

Policy = Callable[[Sequence[bytes], int], int]
"""Keys in access order, room for so many entries -> how many were hits."""


def terrace_hits(keys: Sequence[bytes], entries: int) -> int:
    """The store as it runs in the proxy, its budget set to hold so many entries."""
    arena = _arena(budget_for(entries))
    get, begin, commit, epoch = arena.get, arena.begin_fill, arena.commit_fill, arena.epoch
    hits = 0
    for key in keys:
        if get(key, b"", 0.0) is None:
            commit(key, b"", _REPLY, begin(key), epoch, _FOREVER_S)
        else:
            hits += 1
    return hits


def lru_hits(keys: Sequence[bytes], entries: int) -> int:
    held: OrderedDict[bytes, None] = OrderedDict()
    hits = 0
    for key in keys:
        if key in held:
            hits += 1
            held.move_to_end(key)
        else:
            if len(held) >= entries:
                held.popitem(last=False)
            held[key] = None
    return hits


def fifo_hits(keys: Sequence[bytes], entries: int) -> int:
    held: OrderedDict[bytes, None] = OrderedDict()
    hits = 0
    for key in keys:
        if key in held:
            hits += 1
        else:
            if len(held) >= entries:
                held.popitem(last=False)
            held[key] = None
    return hits


POLICIES: dict[str, Policy] = {"Terrace L1": terrace_hits, "LRU": lru_hits, "FIFO": fifo_hits}


def read_trace(path: Path) -> list[bytes]:
    """Its keys, numbered in the order of first appearance. Raises OSError, EOFError."""
    numbers: dict[bytes, bytes] = {}
    keys: list[bytes] = []
    with gzip.open(path) as lines:
        for line in lines:
            words = line.split(None, 1)
            if words:
                fresh = len(numbers).to_bytes(_KEY_BYTES, "big")
                keys.append(numbers.setdefault(words[0], fresh))
    return keys


def _arena(max_bytes: int) -> Arena:
    return L1Memory(L1Options(max_bytes=max_bytes), lambda: 0.0).arena


def budget_for(entries: int) -> int:
    """Bytes in which the store holds so many entries, found by filling it until it evicts."""
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
    parser.add_argument("directory", type=Path, help=f"where the traces are (*{_SUFFIX})")
    parser.add_argument("--only", default="", metavar="NAME", help="one trace")
    args = parser.parse_args(argv)
    traces = sorted(args.directory.glob(f"{args.only or '*'}{_SUFFIX}"))
    if not traces:
        print(f"hit_ratio: no {args.only or '*'}{_SUFFIX} in {args.directory}", file=sys.stderr)
        return 1
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("trace", "requests", "keys", "entries", *POLICIES):
        table.add_column(column, justify="left" if column == "trace" else "right")
    for path in traces:
        try:
            keys = read_trace(path)
        except (OSError, EOFError) as failure:
            print(f"hit_ratio: {path.name} cannot be read: {failure}", file=sys.stderr)
            return 1
        unique = len(set(keys))
        for entries in sorted({max(FEWEST_ENTRIES, int(unique * s)) for s in SHARES_OF_KEYS}):
            ratios = [policy(keys, entries) / len(keys) for policy in POLICIES.values()]
            table.add_row(
                path.name.removesuffix(_SUFFIX), f"{len(keys):,}", f"{unique:,}", f"{entries:,}",
                *(f"{ratio:.2%}" for ratio in ratios),
            )  # fmt: skip
    (Console() if sys.stdout.isatty() else Console(width=120)).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
