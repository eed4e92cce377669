"""Stores the keys that clients GET most (in database 0) in Redis, so that L1 starts warm.

Sampled hits (`l1/samples.py`) give the scores: a key scores once for every second in which
it was sampled. One sorted set holds the sum of the scores of a fleet; former scores count
half at each addition, so that old keys leave it. At start the keys are read into L1 by
ordinary reads on the tracked connection. Values are never stored, and a key that Redis no
longer has is skipped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Sequence

from ..errors import TierError
from ..l1.fill import Fill
from ..l1.memory import L1Memory
from ..l1.samples import KEPT
from ..l1.variants import get_variant
from ..l2.commands import Script
from ..l2.redis import L2Redis
from ..periodic import Janitor
from ..tasks import TaskSet
from .refill import Refill

log = logging.getLogger("terrace.warm")

HOT = b"__terrace:hot"
COUNT_INTERVAL_S = 1.0  # shorter than the time in which new samples replace all old ones
SAVE_INTERVAL_S = 60.0
KEPT_S = 7 * 86_400
CLOSE_TIMEOUT_S = 1.0  # a Redis that is gone does not delay the shutdown
READ_AT_ONCE = 500


class HotKeys:
    """Counts, saves and reads back. `limit` is l1.hot_keys; 0 turns it off."""

    def __init__(self, l1: L1Memory, l2: L2Redis, clock: Callable[[], float]) -> None:
        self.limit = l1.options.hot_keys
        self.read = 0  # keys read into L1 at start
        self._l1, self._l2 = l1, l2
        self._clock = clock
        self._script = Script("watch/hot_keys.lua")
        self._scores: Counter[bytes] = Counter()
        self._seen = 0
        self._saved_at = clock()
        self._wait_until = clock() + l1.options.warm_wait_s
        self._reading: asyncio.Task[None] | None = None
        self._tasks = TaskSet("hot keys")

    def __repr__(self) -> str:
        return f"<HotKeys {len(self._scores)} counted, {self.read} read>"

    @property
    def holds_readiness(self) -> bool:
        """Whether readiness waits for the reads of the start."""
        pending = self._reading is None or not self._reading.done()
        return self.limit > 0 and pending and self._clock() < self._wait_until

    def start(self) -> None:
        if self.limit:
            self._wait_until = self._clock() + self._l1.options.warm_wait_s
            self._reading = self._tasks.start("read", self._read_when_connected())
            self._saved_at = self._clock()
            Janitor(self._tasks).register("count", COUNT_INTERVAL_S, self._count_and_save)

    async def close(self) -> None:
        """Save the scores counted since the last save, if Redis answers soon."""
        await self._tasks.close()
        if self.limit:
            self.count()
            with contextlib.suppress(TierError, TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await self.save()

    def count(self) -> None:
        """Score the keys that were sampled since the last call."""
        samples = self._l1.samples
        fresh, self._seen = samples.taken - self._seen, samples.taken
        for read in samples.newest(min(fresh, KEPT)):
            if read.variant == get_variant(0):
                self._scores[read.key] += 1

    async def save(self) -> None:
        """Add the scores to those of the fleet. Raises TierError."""
        if not self._scores:
            return
        scores, self._scores = self._scores.most_common(self.limit), Counter()
        args = [b"%d" % self.limit, b"%d" % KEPT_S]
        for key, score in scores:
            args += (b"%d" % score, key)
        await self._l2.run_script(self._script, [HOT], args)

    async def read_back(self) -> int:
        """Read the fleet's hot keys into L1; return how many were read. Raises TierError."""
        keys = await self._l2.call(b"ZREVRANGE", HOT, 0, self.limit - 1)
        for at in range(0, len(keys), READ_AT_ONCE):
            await self._fill(keys[at : at + READ_AT_ONCE])
        self.read += len(keys)
        return len(keys)

    async def _fill(self, keys: Sequence[bytes]) -> None:
        tracked = self._l2.tracked
        if tracked is None or not tracked.ready:
            return
        last: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def on_last() -> None:
            if not last.done():
                last.set_result(None)

        for n, key in enumerate(keys, 1):
            fill = Fill(self._l1, key, get_variant(0), unasked=True)
            Refill(fill, on_last if n == len(keys) else None).send(tracked)
        await last

    async def _read_when_connected(self) -> None:
        tracked = self._l2.tracked
        if tracked is None:
            return
        await tracked.connected.wait()
        await self._l2.wait_ready(self._l2.options.connect_timeout_s)
        with contextlib.suppress(TierError):  # then L1 starts cold
            count = await self.read_back()
            log.info("L1 was warmed with the %d hottest keys of earlier runs", count)

    async def _count_and_save(self) -> None:
        self.count()
        if self._clock() - self._saved_at >= SAVE_INTERVAL_S:
            self._saved_at = self._clock()
            try:
                await self.save()
            except TierError as failure:
                log.debug("the hot keys were not saved: %s", failure)
