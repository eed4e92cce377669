"""The load cases: their load, the options of Terrace, the contenders, and the targets.

Targets are ratios to the plain Redis of the same run: CPU time per operation at most
`cpu_target` times, throughput at least `ops_target` times.
"""

from __future__ import annotations

from dataclasses import dataclass

from .data import COLLECTIONS, VALUE_BYTES
from .load import LoadSpec

L1, NO_L1 = "L1", "no L1"  # profiles: default options; everything is forwarded


@dataclass(frozen=True, slots=True)
class Case:
    """A load case; `beside` has contenders besides Redis and the cores of Terrace."""

    key: str
    title: str
    spec: LoadSpec
    profile: str = L1
    cpu_target: float | None = None
    ops_target: float | None = None
    beside: tuple[str, ...] = ()


_GET = ("GET", "key:__rand_int__")
_SET = ("SET", "key:__rand_int__", "w" * VALUE_BYTES)
_HGETALL = LoadSpec(("HGETALL", "hash:__rand_int__"), 16, keyspace=COLLECTIONS)
_ZRANGE = LoadSpec(("ZRANGE", "zset:__rand_int__", "0", "9"), 16, keyspace=COLLECTIONS)
_PROXY = ("twemproxy",)
_WORKERS = ("c, 2 workers",)

CASES = (
    Case("l1-get-p1", "GET from L1, P=1", LoadSpec(_GET, 1), cpu_target=1.05),
    Case("l1-get-p16", "GET from L1, P=16", LoadSpec(_GET, 16), L1, 0.80, 1.2, _WORKERS),
    Case("l1-get-p128", "GET from L1, P=128", LoadSpec(_GET, 128), L1, 0.50, 1.8),
    Case("l1-hgetall-p16", "HGETALL of 10 from L1, P=16", _HGETALL, cpu_target=0.50),
    Case("l1-zrange-p16", "ZRANGE of 10 from L1, P=16", _ZRANGE, cpu_target=0.50),
    Case("set-p16", "SET with coherence, P=16", LoadSpec(_SET, 16), L1, 1.00, beside=_PROXY),
    Case("l2-get-p1", "GET forwarded, P=1", LoadSpec(_GET, 1), NO_L1, 1.10, beside=_PROXY),
    Case("l2-get-p16", "GET forwarded, P=16", LoadSpec(_GET, 16), NO_L1, 0.80, beside=_PROXY),
    Case("l2-get-p128", "GET forwarded, P=128", LoadSpec(_GET, 128), NO_L1, 0.60, beside=_PROXY),
)
