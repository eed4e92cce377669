"""Runs one load case: rounds of all contenders in turn, and their median.

The contenders alternate so that a disturbance of the machine affects all of them. Each is
compared with the plain Redis of its own round: other programs affect the median of ratios
less than the ratio of medians.
"""

from __future__ import annotations

import datetime
import time
from dataclasses import dataclass
from statistics import median, median_low

from .cases import L1, Case
from .cpu import cpu_time
from .data import info, read_all
from .load import Generator, calibrate, sample
from .machine import load_average
from .results import Row, Sample, Side
from .servers import Contender, Rig
from .skipped import Skipped

REDIS = "redis"
ROUNDS = 5
QUICK_ROUNDS = 3
MORE_ROUNDS = 4  # if the ratios differ by more than CALM
CALM = 0.08


@dataclass(frozen=True, slots=True)
class Effort:
    """The effort of a run: --seconds and --quick; no extra rounds after `extra_until`."""

    seconds: float
    quick: bool
    extra_until: float

    @property
    def rounds(self) -> int:
        return QUICK_ROUNDS if self.quick else ROUNDS

    def may_repeat(self) -> bool:
        return not self.quick and time.monotonic() < self.extra_until


@dataclass(frozen=True, slots=True)
class Round:
    """One round of one contender, with commands and CPU time per operation of its Redis."""

    sample: Sample
    l2_per_op: float | None = None
    l2_cpu_us: float | None = None


def run_case(
    case: Case, rig: Rig, generator: Generator, effort: Effort, skipped: dict[str, str]
) -> Row:
    contenders: dict[str, Contender] = {REDIS: rig.plain_redis}
    for name in (*rig.cores_of_terrace, *case.beside):
        try:
            contenders[name] = rig.contender(name, case.profile)
        except Skipped as reason:
            skipped[name] = str(reason)
    requests = {
        name: calibrate(generator, one.port, case.spec, effort.seconds)
        for name, one in contenders.items()
    }
    for one in contenders.values():
        if case.profile == L1 and one.is_terrace:
            read_all(one.port)
    rounds: dict[str, list[Round]] = {name: [] for name in contenders}

    def run_round() -> None:
        for name, one in contenders.items():
            rounds[name].append(_round(generator, one, case, requests[name]))

    for _ in range(effort.rounds):
        run_round()
    for _ in range(MORE_ROUNDS):
        if not effort.may_repeat() or _worst_spread(rounds) <= CALM:
            break
        run_round()
    return Row(
        case=case.key,
        title=case.title,
        sides={name: side(ran, rounds[REDIS]) for name, ran in rounds.items()},
        cpu_target=case.cpu_target,
        ops_target=case.ops_target,
        at=now(),
        load_average=load_average(),
    )


def _round(generator: Generator, one: Contender, case: Case, requests: int) -> Round:
    if one.behind is None:
        return Round(sample(generator, one.port, one.pid, case.spec, requests))
    commands, spent = _commands_run(one.behind.port), cpu_time(one.behind.pid)
    taken = sample(generator, one.port, one.pid, case.spec, requests)
    return Round(
        taken,
        l2_cpu_us=(cpu_time(one.behind.pid) - spent).total_us / requests,
        l2_per_op=(_commands_run(one.behind.port) - commands) / requests,
    )


def side(ran: list[Round], on_redis: list[Round]) -> Side:
    """The summary of a contender; `ran` and `on_redis` are of the same rounds."""
    ratios = _cpu_ratios(ran, on_redis)
    plain = [one.sample for one in on_redis]
    l2_per_op = [one.l2_per_op for one in ran if one.l2_per_op is not None]
    l2_cpu_us = [one.l2_cpu_us for one in ran if one.l2_cpu_us is not None]
    l2_ratios = [_ratio(us, one.cpu_us) for us, one in zip(l2_cpu_us, plain, strict=False)]
    return Side(
        sample=middle([one.sample for one in ran]),
        cpu_ratio=median(ratios),
        ops_ratio=median(
            one.sample.ops_per_s / beside.ops_per_s for one, beside in zip(ran, plain, strict=True)
        ),
        spread=spread(ratios),
        l2_per_op=median(l2_per_op) if l2_per_op else None,
        l2_cpu_us=median(l2_cpu_us) if l2_cpu_us else None,
        l2_cpu_ratio=median(l2_ratios) if l2_ratios else None,
    )


def middle(samples: list[Sample]) -> Sample:
    """The round whose CPU time per operation is the median."""
    wanted = median_low(one.cpu_us for one in samples)
    return next(one for one in samples if one.cpu_us == wanted)


def spread(ratios: list[float]) -> float:
    """The range of the closest three, as a share of the median of all."""
    ascending = sorted(ratios)
    if len(ascending) < QUICK_ROUNDS or not median(ascending):
        return 0.0
    gaps = [high - low for low, high in zip(ascending, ascending[QUICK_ROUNDS - 1 :], strict=False)]
    return min(gaps) / median(ascending)


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _cpu_ratios(ran: list[Round], on_redis: list[Round]) -> list[float]:
    return [
        _ratio(one.sample.cpu_us, plain.sample.cpu_us)
        for one, plain in zip(ran, on_redis, strict=True)
    ]


def _worst_spread(rounds: dict[str, list[Round]]) -> float:
    return max(spread(_cpu_ratios(ran, rounds[REDIS])) for ran in rounds.values())


def _ratio(cpu_us: float, plain_us: float) -> float:
    return cpu_us / plain_us if plain_us else float("inf")


def _commands_run(port: int) -> int:
    return int(info(port, "stats")["total_commands_processed"])
