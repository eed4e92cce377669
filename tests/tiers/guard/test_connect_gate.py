"""Who may connect when: tokens, one probe at a time, and everybody once the node is back."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from tests.tiers.manual_clock import Clock
from tiers.errors import TierUnavailable
from tiers.guard.breaker import State
from tiers.guard.connect_gate import ConnectGate, TokenBucket
from tiers.options import L2Options
from tiers.tasks import TaskSet

REFUSED = TierUnavailable("L2", "refused")
SILENT = TierUnavailable("L2", "no answer", timed_out=True)


def test_a_bucket_lets_a_burst_through_and_then_its_rate() -> None:
    clock = Clock()
    bucket = TokenBucket(clock, per_second=10, burst=3)
    waits_s = [round(bucket.take_s(), 6) for _ in range(6)]
    assert waits_s == [0, 0, 0, 0.1, 0.2, 0.3]
    clock.now += 0.3  # those three are served
    assert round(bucket.take_s(), 6) == 0.1
    clock.now += 100  # it fills up to the burst, not beyond
    assert [bucket.take_s() for _ in range(4)][:3] == [0, 0, 0]
    assert bucket.take_s() > 0


def test_a_refusal_closes_the_gate_and_silence_only_when_it_lasts() -> None:
    gate = ConnectGate("node", L2Options(), time.monotonic)
    gate.failed(SILENT)
    gate.failed(SILENT)
    gate.check()
    gate.failed(SILENT)
    with pytest.raises(TierUnavailable, match="no answer"):
        gate.check()
    gate.succeeded()
    gate.check()
    gate.failed(REFUSED)
    with pytest.raises(TierUnavailable, match="refused"):
        gate.check()


async def test_one_probe_at_a_time_and_all_at_once_when_it_succeeds() -> None:
    gate = ConnectGate("node", L2Options(backoff_min_s=0.01, backoff_max_s=0.01), time.monotonic)
    gate.failed(REFUSED)
    admitted: list[int] = []
    tasks = TaskSet("test")

    async def come(number: int) -> None:
        await gate.wait_turn()
        admitted.append(number)

    comers = [tasks.start(f"{number}", come(number)) for number in range(5)]
    async with asyncio.timeout(20):
        while not admitted:  # noqa: ASYNC110 (a state, not an event)
            await asyncio.sleep(0.001)
        assert len(admitted) == 1
        assert gate.breaker.state is State.HALF_OPEN
        gate.succeeded()
        await asyncio.gather(*comers)
    assert sorted(admitted) == [0, 1, 2, 3, 4]


def test_each_transition_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "terrace.l2")
    clock = Clock()
    gate = ConnectGate("10.0.0.1:6379", L2Options(), clock)
    heard: list[str] = []
    gate.on_failure, gate.on_open = heard.append, lambda: heard.append("open")
    for _ in range(3):
        gate.failed(REFUSED)
        clock.now += 1
        assert gate.breaker.admits()
    gate.failed(TierUnavailable("L2", "LOADING"))
    clock.now += 1
    gate.succeeded()
    gate.succeeded()
    assert [record.message for record in caplog.records] == [
        "L2 (redis) 10.0.0.1:6379 is down: refused",
        "L2 (redis) 10.0.0.1:6379 is down: LOADING",
        "L2 (redis) 10.0.0.1:6379 is back after 4.0 s",
    ]
    assert heard == ["refused"] * 3 + ["LOADING", "open"]
