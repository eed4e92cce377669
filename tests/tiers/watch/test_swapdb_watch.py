"""The watch on SWAPDB: which changes of Redis' counter make L1 forget everything."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from tiers import L2Redis, TierUnavailable
from tiers.l1.coherence import Coherence
from tiers.watch.swapdb import SwapdbWatch


class Counts:
    """In place of L2: says what INFO commandstats says."""

    def __init__(self) -> None:
        self.coherence = Coherence.detached()
        self.flushed = 0
        self.coherence.flush = self._flush  # type: ignore[method-assign]
        self.command_counts: object = counts(0)
        self.now: Any = counts(0)
        self.watch = SwapdbWatch(cast(L2Redis, self), 1.0)

    def _flush(self) -> None:
        self.flushed += 1

    async def call(self, *args: bytes) -> Any:
        if isinstance(self.now, Exception):
            raise self.now
        return self.now

    async def look(self, calls: int) -> int:
        self.now = counts(calls)
        await self.watch.check()
        return self.flushed


def counts(calls: int) -> str:
    """A text of its own for each time, as every handshake has."""
    swaps = f"cmdstat_swapdb:calls={calls},usec=10\r\n" if calls else ""
    return "# Commandstats\r\ncmdstat_get:calls=9,usec=1\r\n" + swaps


@pytest.fixture
def redis() -> Counts:
    return Counts()


async def test_a_count_that_stands_still(redis: Counts) -> None:
    redis.command_counts = counts(3)
    assert [await redis.look(3) for _ in range(3)] == [0, 0, 0]


async def test_a_swap_between_handshake_and_first_look(redis: Counts) -> None:
    assert await redis.look(1) == 1
    assert await redis.look(1) == 1


async def test_every_move_is_a_flush(redis: Counts) -> None:
    assert [await redis.look(n) for n in (1, 2, 2, 5)] == [1, 2, 2, 3]


async def test_counters_that_were_reset(redis: Counts) -> None:
    redis.command_counts = counts(3)
    assert [await redis.look(n) for n in (3, 0, 0, 1)] == [0, 0, 0, 1]


async def test_a_new_connection_begins_a_new_count(redis: Counts) -> None:
    assert await redis.look(1) == 1
    redis.command_counts = counts(7)
    assert await redis.look(7) == 1
    assert await redis.look(8) == 2


async def test_a_redis_that_does_not_say(redis: Counts) -> None:
    redis.now = TierUnavailable("L2 (redis)", "gone")
    await redis.watch.check()
    assert redis.flushed == 0
    redis.command_counts = Exception("NOPERM")
    assert await redis.look(0) == 0


async def test_a_script_is_looked_behind_at_once(redis: Counts) -> None:
    """And many of them together."""
    watch = asyncio.get_running_loop().create_task(redis.watch.keep())  # the interval is 1 s
    redis.now = counts(1)
    async with asyncio.timeout(0.9):
        redis.watch.suspect()
        while not redis.flushed:  # noqa: ASYNC110 (a count, not an event)
            await asyncio.sleep(0)
        redis.now = counts(2)
        redis.watch.suspect()
        redis.watch.suspect()
        while redis.flushed < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    watch.cancel()
