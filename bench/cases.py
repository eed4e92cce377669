"""The load cases: what is asked, of which Terrace, and the target; and how one is run.

Targets are ratios to the plain Redis of the same run: CPU time per operation at most
`cpu_target` times, throughput at least `ops_target` times.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from statistics import median_low

from .load import Generator, LoadSpec, calibrate, sample
from .machine import load_average
from .results import Row, Sample
from .servers import COLLECTIONS, VALUE_BYTES, Rig, info, read_all

ROUNDS = 3
MORE_ROUNDS = 2  # where the first ones lie further apart than CALM
CALM = 0.10


@dataclass(frozen=True, slots=True)
class Case:
    key: str
    title: str
    spec: LoadSpec
    profile: str = "L1"
    cpu_target: float | None = None
    ops_target: float | None = None


_GET = ("GET", "key:__rand_int__")
_SET = ("SET", "key:__rand_int__", "w" * VALUE_BYTES)
_HGETALL = LoadSpec(("HGETALL", "hash:__rand_int__"), 16, keyspace=COLLECTIONS)
_ZRANGE = LoadSpec(("ZRANGE", "zset:__rand_int__", "0", "9"), 16, keyspace=COLLECTIONS)

CASES = (
    Case("l1-get-p1", "GET from L1, P=1", LoadSpec(_GET, 1), cpu_target=1.05),
    Case("l1-get-p16", "GET from L1, P=16", LoadSpec(_GET, 16), "L1", 0.80, 1.2),
    Case("l1-get-p128", "GET from L1, P=128", LoadSpec(_GET, 128), "L1", 0.50, 1.8),
    Case("l1-hgetall-p16", "HGETALL of 10 from L1, P=16", _HGETALL, cpu_target=0.50),
    Case("l1-zrange-p16", "ZRANGE of 10 from L1, P=16", _ZRANGE, cpu_target=0.50),
    Case("l2-get-p1", "GET forwarded, P=1", LoadSpec(_GET, 1), "no L1", 1.10),
    Case("l2-get-p16", "GET forwarded, P=16", LoadSpec(_GET, 16), "no L1", 0.80),
    Case("l2-get-p128", "GET forwarded, P=128", LoadSpec(_GET, 128), "no L1", 0.60),
    Case("set-p16", "SET with coherence, P=16", LoadSpec(_SET, 16), cpu_target=1.00),
)


def run_case(case: Case, rig: Rig, generator: Generator, seconds: float) -> Row:
    """Rounds of the plain Redis and Terrace in turn; the median of each by CPU time.

    The two alternate so that a disturbance of the machine meets both.
    """
    plain, terrace = rig.plain, rig.terrace(case.profile)
    plain_requests = calibrate(generator, plain.port, case.spec, seconds)
    requests = calibrate(generator, terrace.port, case.spec, seconds)
    read_all(terrace.port)
    on_plain: list[Sample] = []
    on_terrace: list[Sample] = []
    l2_commands = asked = 0

    def run_round() -> None:
        nonlocal l2_commands, asked
        on_plain.append(sample(generator, plain.port, plain.pid, case.spec, plain_requests))
        before = _commands_run(rig.behind.port)
        on_terrace.append(sample(generator, terrace.port, terrace.pid, case.spec, requests))
        l2_commands += _commands_run(rig.behind.port) - before
        asked += requests

    for _ in range(ROUNDS):
        run_round()
    for _ in range(MORE_ROUNDS):
        if max(spread(on_plain), spread(on_terrace)) <= CALM:
            break
        run_round()
    return Row(
        case=case.key,
        title=case.title,
        redis=middle(on_plain),
        terrace=middle(on_terrace),
        cpu_target=case.cpu_target,
        ops_target=case.ops_target,
        spread=max(spread(on_plain), spread(on_terrace)),
        l2_per_op=l2_commands / asked,
        at=now(),
        load_average=load_average(),
    )


def middle(samples: list[Sample]) -> Sample:
    """The round whose CPU time per operation is the median."""
    wanted = median_low(one.cpu_us for one in samples)
    return next(one for one in samples if one.cpu_us == wanted)


def spread(samples: list[Sample]) -> float:
    """How far the three closest rounds lie apart, as a share of the median."""
    costs = sorted(one.cpu_us for one in samples)
    gaps = [costs[i + ROUNDS - 1] - costs[i] for i in range(len(costs) - ROUNDS + 1)]
    return min(gaps) / middle(samples).cpu_us if costs[0] else 0.0


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _commands_run(port: int) -> int:
    return int(info(port, "stats")["total_commands_processed"])
