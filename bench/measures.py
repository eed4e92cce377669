"""What is compared besides load on a core: Redis' own CPU, latency, memory, start, L3."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from .cases import now
from .cpu import resident_bytes
from .l3 import compare_l3
from .load import Generator, LoadResult, LoadSpec, OwnGenerator, calibrate, sample
from .machine import load_average
from .results import Measure
from .servers import VALUE_BYTES, Rig, fill, info

ENTRIES, QUICK_ENTRIES = 1_000_000, 50_000
FIRST_ENTRY = 1_000_000  # so that all keys have 15 bytes: "mem:key:" and seven digits
KEY_BYTES = 15
STARTS = 5
LATENCY_ROUNDS = 3

_GET = ("GET", "key:__rand_int__")
_UNPIPELINED = LoadSpec(_GET)
_ONE_CLIENT = LoadSpec(_GET, clients=1)


@dataclass(frozen=True, slots=True)
class Effort:
    """How much of everything: --seconds and --quick."""

    seconds: float
    quick: bool


def measure(
    case: str, title: str, unit: str, beside: str, plain: float | None, terrace: float,
    target: str, ratio: float | None, met: bool,
) -> Measure:  # fmt: skip
    return Measure(
        case=case, title=title, unit=unit, beside=beside, plain=plain, terrace=terrace,
        target=target, ratio=ratio, met=met, at=now(), load_average=load_average(),
    )  # fmt: skip


def redis_behind(rig: Rig, generator: Generator, effort: Effort) -> list[Measure]:
    """Batching: what the same unpipelined clients cost Redis, directly and behind Terrace."""
    terrace = rig.terrace("no L1")
    sides = []
    for port, server in ((rig.plain.port, rig.plain), (terrace.port, rig.behind)):
        requests = calibrate(generator, port, _UNPIPELINED, effort.seconds)
        sides.append(sample(generator, port, server.pid, _UNPIPELINED, requests).cpu_us)
    direct, behind = sides
    return [
        measure(
            "redis-behind", "redis-server's own CPU, 50 clients unpipelined", "µs/op",
            "direct", direct, behind, "≤ 0.25×", behind / direct, behind / direct <= 0.25,
        )
    ]  # fmt: skip


def latency(rig: Rig, generator: Generator, effort: Effort) -> list[Measure]:
    """One client, one command at a time: what the way through Terrace adds."""
    terrace = rig.terrace("no L1")
    direct: list[LoadResult] = []
    forwarded: list[LoadResult] = []
    ports = ((rig.plain.port, direct), (terrace.port, forwarded))
    requests = {port: calibrate(generator, port, _ONE_CLIENT, effort.seconds) for port, _ in ports}
    for _ in range(LATENCY_ROUNDS):
        for port, results in ports:
            results.append(generator.run(port, _ONE_CLIENT, requests[port]))
    found = []
    for name, most in (("p50", 1.0), ("p99", 1.5)):
        plain = median(getattr(result, f"{name}_ms") for result in direct)
        through = median(getattr(result, f"{name}_ms") for result in forwarded)
        added = (through - plain) / plain
        found.append(
            measure(
                "latency", f"GET forwarded, one client, {name}", "ms", "direct", plain, through,
                f"adds ≤ {most:.1f}×", added, added <= most,
            )
        )  # fmt: skip
    return found


def memory(rig: Rig, generator: Generator, effort: Effort) -> list[Measure]:
    """Resident memory of a filled L1 beyond the bytes of keys and values, per entry."""
    entries = QUICK_ENTRIES if effort.quick else ENTRIES
    store = rig.redis("memory", rig.cores.behind)
    before = int(info(store.port, "memory")["used_memory"])
    fill(store.port, "mem:key:", FIRST_ENTRY, entries)
    redis_bytes = int(info(store.port, "memory")["used_memory"]) - before
    options = {"TERRACE_L1__MAX_BYTES": "8GiB"}
    with rig.fresh_terrace(store.url, options) as terrace:
        own_generator = OwnGenerator(rig.cores.generator)
        one_key = LoadSpec(("GET", f"mem:key:{FIRST_ENTRY}"), pipeline=16)
        own_generator.run(terrace.port, one_key, 16 * 50)  # the clients' buffers are no entries
        before = resident_bytes(terrace.pid)
        held_before = int(info(terrace.port, "tiers")["l1_entries"])
        spec = LoadSpec(("GET", "mem:key:__seq_int__"), pipeline=16, first=FIRST_ENTRY)
        own_generator.run(terrace.port, spec, entries)
        terrace_bytes = resident_bytes(terrace.pid) - before
        held = int(info(terrace.port, "tiers")["l1_entries"]) - held_before
    store.stop()
    payload = KEY_BYTES + VALUE_BYTES
    overhead = terrace_bytes / held - payload
    return [
        measure(
            "memory", f"L1 memory beyond key and value, {held:,} entries", "B/entry",
            "redis", redis_bytes / entries - payload, overhead, "≤ 48 B", None, overhead <= 48,
        )
    ]  # fmt: skip


def start(rig: Rig, generator: Generator, effort: Effort) -> list[Measure]:
    """From exec to the first answer that came through Redis."""
    took_s = []
    for _ in range(STARTS):
        began = time.perf_counter()
        with rig.fresh_terrace(rig.behind.url, {}):
            took_s.append(time.perf_counter() - began)
    seconds = median(took_s)
    return [
        measure(
            "start", "start to first answer", "s", "", None, seconds, "≤ 0.5 s", None,
            seconds <= 0.5,
        )
    ]  # fmt: skip


def l3(rig: Rig, generator: Generator, effort: Effort) -> list[Measure]:
    """Rows of a view, each asked for once, with nothing in L1 and L2."""
    plain, terrace = compare_l3(rig, effort.seconds, quick=effort.quick)
    ratio = terrace.ops_per_s / plain.ops_per_s
    return [
        measure(
            "l3", "L3 misses, distinct keys", "/s", "pgbench", plain.ops_per_s, terrace.ops_per_s,
            "≥ 0.8×", ratio, ratio >= 0.8,
        )
    ]  # fmt: skip


COMPARISONS: dict[str, Callable[[Rig, Generator, Effort], list[Measure]]] = {
    "redis-behind": redis_behind,
    "latency": latency,
    "start": start,
    "memory": memory,
    "l3": l3,
}
