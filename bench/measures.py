"""Measures without a load case: latency, start, memory, the byte budget, workers."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from proxy.embedded.process import EmbeddedError

from .cpu import most_resident_bytes, pin, resident_bytes
from .data import VALUE_BYTES, fill, info, read_all
from .l3 import l3, workloads
from .load import (
    Generator,
    LoadResult,
    LoadSpec,
    OwnGenerator,
    RedisBenchmark,
    calibrate,
    choose_generator,
)
from .machine import load_average
from .results import Measure, Target
from .rounds import Effort, now
from .servers import Rig
from .skipped import Skipped
from .terrace import TerraceServer

ENTRIES, QUICK_ENTRIES = 1_000_000, 50_000
FIRST_ENTRY = 1_000_000  # all keys then have 15 bytes: "mem:key:" and seven digits
KEY_BYTES = 15
ROOM_BYTES = {"c": 160, "py": 512}  # an entry, key and value included: none may be evicted
BUDGET_MIB, QUICK_BUDGET_MIB = 32, 3  # less than half of the data that is read
STARTS = 5
SCALING_CORES = 4  # two for workers, two for the generator

_GET = ("GET", "key:__rand_int__")
_ONE_CLIENT = LoadSpec(_GET, clients=1)
_MIB = 1024**2


def latency(rig: Rig, generator: Generator, effort: Effort) -> list[Measure]:
    """The latency that Terrace adds for one client, one command at a time."""
    direct = "direct"
    ports = {direct: rig.plain.port}
    ports |= {core: rig.terrace(core, "no L1").port for core in rig.cores_of_terrace}
    seconds = effort.seconds / 2  # this is enough for many round trips
    requests = {
        name: calibrate(generator, port, _ONE_CLIENT, seconds) for name, port in ports.items()
    }
    seen: dict[str, list[LoadResult]] = {name: [] for name in ports}
    for _ in range(effort.rounds):
        for name, port in ports.items():
            seen[name].append(generator.run(port, _ONE_CLIENT, requests[name]))
    rig.stop_terraces()
    found = []
    for percentile, most in (("p50", 1.0), ("p99", 1.5)):
        took = {
            name: [float(getattr(result, f"{percentile}_ms")) for result in results]
            for name, results in seen.items()
        }
        plain = took.pop(direct)
        found.append(
            Measure(
                case="latency",
                title=f"GET forwarded, one client, {percentile}; ratio: added / direct",
                unit="ms",
                beside=direct,
                plain=median(plain),
                figures={core: median(of_core) for core, of_core in took.items()},
                ratios={
                    core: median((a - b) / b for a, b in zip(of_core, plain, strict=True))
                    for core, of_core in took.items()
                },
                target=Target("≤", most, of_ratio=True),
                at=now(),
                load_average=load_average(),
            )
        )
    return found


def start(rig: Rig, generator: Generator, effort: Effort) -> list[Measure]:
    """The time from exec to the first answer that needs Redis."""
    took_s: dict[str, list[float]] = {core: [] for core in rig.cores_of_terrace}
    for _ in range(STARTS):
        for core, seconds in took_s.items():
            with rig.fresh_terrace(core, rig.behind(core).url, {}) as terrace:
                seconds.append(terrace.answered_after_s)
    return [
        Measure(
            case="start",
            title="start to first answer",
            unit="s",
            figures={core: median(seconds) for core, seconds in took_s.items()},
            target=Target("≤", 0.5),
            at=now(),
            load_average=load_average(),
        )
    ]


def memory(rig: Rig, generator: Generator, effort: Effort) -> list[Measure]:
    """Memory per entry of an L1 without evictions, and the peak of one that evicts."""
    entries = QUICK_ENTRIES if effort.quick else ENTRIES
    budget_mib = QUICK_BUDGET_MIB if effort.quick else BUDGET_MIB
    payload = KEY_BYTES + VALUE_BYTES
    store = rig.redis("memory", rig.cores.behind)
    try:
        before = int(info(store.port, "memory")["used_memory"])
        fill(store.port, "mem:key:", FIRST_ENTRY, entries)
        redis_bytes = int(info(store.port, "memory")["used_memory"]) - before
        overhead: dict[str, float] = {}
        beyond_mib: dict[str, float] = {}
        for core in rig.cores_of_terrace:
            room = {"TERRACE_L1__MAX_BYTES": str(ROOM_BYTES[core] * entries)}
            with rig.fresh_terrace(core, store.url, room) as terrace:
                overhead[core] = _bytes_per_entry(rig, terrace, entries) - payload
            budget = {"TERRACE_L1__MAX_BYTES": f"{budget_mib}MiB"}
            with rig.fresh_terrace(core, store.url, budget) as terrace:
                _read(rig, terrace, entries)
                beyond_mib[core] = most_resident_bytes(terrace.pid) / _MIB - budget_mib
    finally:
        store.stop()
    return [
        Measure(
            case="memory",
            title=f"L1 memory beyond key and value, {entries:,} entries",
            unit="B/entry",
            beside="redis",
            plain=redis_bytes / entries - payload,
            figures=overhead,
            target=Target("≤", 48),
            at=now(),
            load_average=load_average(),
        ),
        Measure(
            case="memory",
            title=f"most RSS of the process beyond l1.max_bytes = {budget_mib} MiB, overfilled",
            unit="MiB",
            figures=beyond_mib,
            target=Target("≤", 64),
            at=now(),
            load_average=load_average(),
        ),
    ]


def _bytes_per_entry(rig: Rig, terrace: TerraceServer, entries: int) -> float:
    one_key = LoadSpec(("GET", f"mem:key:{FIRST_ENTRY}"), pipeline=16)
    OwnGenerator(rig.cores.generator).run(terrace.port, one_key, 16 * 50)
    before = resident_bytes(terrace.pid)  # with clients' buffers, which are not entries
    held_before = int(info(terrace.port, "tiers")["l1_entries"])
    _read(rig, terrace, entries)
    grown = resident_bytes(terrace.pid) - before
    figures = info(terrace.port, "tiers")
    if int(figures["l1_evictions"]):
        raise EmbeddedError(f"L1 evicted {figures['l1_evictions']} entries: ROOM_BYTES is too low")
    return grown / (int(figures["l1_entries"]) - held_before)


def _read(rig: Rig, terrace: TerraceServer, entries: int) -> None:
    """Read every entry once."""
    spec = LoadSpec(("GET", "mem:key:__seq_int__"), pipeline=16, first=FIRST_ENTRY)
    OwnGenerator(rig.cores.generator).run(terrace.port, spec, entries)


def workers(rig: Rig, generator: Generator, effort: Effort) -> list[Measure]:
    """Throughput of two workers on two cores, compared with one on one. Raises Skipped."""
    usable = sorted(rig.cores.everything)
    if len(usable) < SCALING_CORES:
        raise Skipped(
            f"throughput of two workers needs {SCALING_CORES} cores, two of them for the "
            f"generator; this machine has {len(usable)}"
        )
    if not isinstance(generator, RedisBenchmark):
        raise Skipped("throughput of two workers needs redis-benchmark, which has threads")
    threaded = choose_generator(usable[0], usable[1])
    spec = LoadSpec(_GET, 16)
    one = rig.terrace("c", "L1")
    two = rig.terrace("c, 2 workers", "L1")
    pin(two.pid, *usable[-2:])
    requests = {}
    for server in (one, two):
        requests[server.port] = calibrate(threaded, server.port, spec, effort.seconds)
        read_all(server.port)
    rates: dict[int, list[float]] = {one.port: [], two.port: []}
    for _ in range(effort.rounds):
        for port, seen in rates.items():
            seen.append(threaded.run(port, spec, requests[port]).ops_per_s)
    rig.stop_terraces()
    pairs = zip(rates[one.port], rates[two.port], strict=True)
    return [
        Measure(
            case="workers",
            title="GET from L1, P=16: two workers on two cores",
            unit="/s",
            beside="one worker",
            plain=median(rates[one.port]),
            figures={"c": median(rates[two.port])},
            ratios={"c": median(b / a for a, b in pairs)},
            target=Target("≥", 1.8, of_ratio=True),
            at=now(),
            load_average=load_average(),
        )
    ]


COMPARISONS: dict[str, Callable[[Rig, Generator, Effort], list[Measure]]] = {
    "workers": workers,
    "latency": latency,
    "start": start,
    "memory": memory,
    "l3": l3,
    "mission": workloads,
}
