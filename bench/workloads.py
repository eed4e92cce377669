"""The four mixes of reads and writes with promised hit rates, as streams of commands.

Keys are `row:{id}` of a mapped view. One in five ids has no row (`MISSING`), so a cold
cache asks PostgreSQL for rows that exist and for some that do not. A write is a SET of the
key: from then on Redis has the key, and L1 must drop its entry.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

KEYS = 10_000  # of each workload; workloads share no keys
MISSING = 5  # one of so many ids has no row
SEED = 7  # the same stream in every run, for every core
_HOT_SHARE, _HOT_KEYS = 0.80, 0.20  # "80/20": this share of the load on this share of the keys
_SPREAD = KEYS / 6  # of the normal distribution, around the middle of the keys
_VALUE = "w" * 64


@dataclass(frozen=True, slots=True)
class Workload:
    name: str
    title: str
    distribution: str
    read_share: float
    clients: int
    pipeline: int


WORKLOADS = (
    Workload("hot", "hot 80/20 Zipf, 90 % reads", "zipf", 0.90, 8, 1),
    Workload("cold", "cold uniform, 70 % reads", "uniform", 0.70, 8, 16),
    Workload("mixed", "mixed normal, 80 % reads", "normal", 0.80, 8, 16),
    Workload("crowd", "50 clients with hot bias, 90 % reads", "zipf", 0.90, 50, 1),
)
BY_NAME = {one.name: one for one in WORKLOADS}


def first_id(workload: Workload) -> int:
    return WORKLOADS.index(workload) * KEYS


def commands(workload: Workload, count: int, seed: int) -> Iterator[tuple[str, ...]]:
    chance = random.Random(seed)
    first = first_id(workload)
    for number in _numbers(workload.distribution, count, chance):
        key = f"row:{first + number}"
        yield ("GET", key) if chance.random() < workload.read_share else ("SET", key, _VALUE)


def _numbers(distribution: str, count: int, chance: random.Random) -> list[int]:
    """Key numbers below KEYS; the hot ones are random."""
    if distribution == "uniform":
        return [chance.randrange(KEYS) for _ in range(count)]
    if distribution == "normal":
        return [min(KEYS - 1, max(0, int(chance.gauss(KEYS / 2, _SPREAD)))) for _ in range(count)]
    shuffled = list(range(KEYS))
    random.Random(SEED).shuffle(shuffled)
    return chance.choices(shuffled, cum_weights=_zipf(zipf_exponent()), k=count)


def zipf_exponent() -> float:
    """The exponent with which the hottest fifth of the keys gets four fifths of the load."""
    low, high = 0.0, 3.0
    for _ in range(40):
        exponent = (low + high) / 2
        cumulated = _zipf(exponent)
        if cumulated[int(KEYS * _HOT_KEYS) - 1] < _HOT_SHARE * cumulated[-1]:
            low = exponent
        else:
            high = exponent
    return high


def _zipf(exponent: float) -> list[float]:
    return list(itertools.accumulate((rank + 1) ** -exponent for rank in range(KEYS)))
