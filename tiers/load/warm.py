"""Warming L2: rows of views from PostgreSQL into Redis, at start and on demand.

The rows come from one snapshot, some hundreds at a time, and a few batches go to Redis at
once: memory is bounded for a view of any size. fill.lua stores a batch, as in every load: it
never replaces an existing key and refuses rows that a refresh may have outdated. After a
refusal the log names the outdated keys: they are left out, and the rest of the snapshot still
holds. If the log cannot name them, the view is read again from the beginning.

At start one proxy of the fleet warms a view; a lease in Redis decides which.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

from ..base import L2_REDIS, L3_POSTGRES, Outcome
from ..errors import ServerError, TierError, TierUnavailable
from ..l2.redis import L2Redis
from ..refresh.positions import START, parse_position
from ..tasks import TaskSet
from ..views import ViewMapping

if TYPE_CHECKING:
    from ..l3.postgres import L3Postgres

log = logging.getLogger("terrace.warm")

LEASE = "__terrace:warming:"
LEASE_S = 60  # a proxy that starts this soon after another one does not warm the view
BATCHES_IN_FLIGHT = 4
RESTARTS_MAX = 5  # then a view that is replaced faster than it can be read is skipped
PROGRESS_INTERVAL_S = 5.0
READY_WAIT_S = 3600.0  # for PostgreSQL and the creation of its views

Rows: TypeAlias = dict[bytes, Outcome]


class StoreRows(Protocol):
    """Store rows in L2, guarded by an epoch: how many were stored, or None if the epoch is over.

    Raises TierUnavailable or ServerError.
    """

    def __call__(
        self, mapping: ViewMapping, epoch: bytes, rows: Rows, /
    ) -> Awaitable[int | None]: ...


class _Outdated(Exception):
    """A refresh has outdated unknown rows of the snapshot."""


@dataclass(frozen=True, slots=True)
class WarmStatistics:
    """The figures of all runs together."""

    running: int
    rows: int  # read from PostgreSQL
    stored: int  # in Redis; the others existed there, were deleted on purpose or outdated
    restarts: int


@dataclass(slots=True)
class _Snapshot:
    """One pass over a view: the epoch that guards it, and its outdated keys."""

    mapping: ViewMapping
    epoch: bytes
    outdated: set[bytes] = field(default_factory=set)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Warmer:
    """Runs warm-ups, each at most once at a time."""

    def __init__(
        self,
        l2: L2Redis,
        l3: L3Postgres,
        *,
        epoch_of: Callable[[ViewMapping], Awaitable[bytes | None]],
        store: StoreRows,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._running = self._rows = self._stored = self._restarts = 0
        self._l2, self._l3 = l2, l3
        self._rate = l3.options.warm_rate
        self._epoch_of = epoch_of
        self._store = store
        self._clock = clock
        self._sleep = sleep
        self._tasks = TaskSet("warm")
        self._batches = TaskSet("warm.batch")
        self._runs: dict[tuple[str, bytes | None], asyncio.Task[int]] = {}
        self._at_start = [m for m in l3.mappings if m.options.warm]
        self._wait_until = clock() + l3.options.warm_wait_s
        self._started: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Warmer {self.statistics()}>"

    def statistics(self) -> WarmStatistics:
        return WarmStatistics(self._running, self._rows, self._stored, self._restarts)

    @property
    def holds_readiness(self) -> bool:
        """Whether readiness waits for the warm-up of the start."""
        pending = self._started is None or not self._started.done()
        return bool(self._at_start) and pending and self._clock() < self._wait_until

    def start(self) -> None:
        self._wait_until = self._clock() + self._l3.options.warm_wait_s
        if self._at_start:
            self._started = self._tasks.start("start", self._warm_at_start())

    async def close(self) -> None:
        """Call it after L3 is closed: its connections end the runs, which must not be cancelled
        in a query."""
        await self._tasks.close()
        await self._batches.close()

    async def warm(self, mapping: ViewMapping, pattern: bytes | None = None) -> int:
        """Warm a view; return the stored rows. A cancelled caller does not end the run.

        Raises TierError.
        """
        name = (mapping.name, pattern)
        run = self._runs.get(name)
        if run is None:
            run = self._runs[name] = self._tasks.start(mapping.name, self._run(mapping, pattern))
            run.add_done_callback(lambda _: self._runs.pop(name, None))
        return await asyncio.shield(run)

    async def _warm_at_start(self) -> None:
        if not await self._l3.wait_ready(READY_WAIT_S):
            return
        for mapping in self._at_start:
            try:
                lease = LEASE + mapping.name
                if await self._l2.call(b"SET", lease, "1", "NX", "EX", LEASE_S) is None:
                    log.info("view %s: another proxy warms it", mapping.name)
                else:
                    await self.warm(mapping)
            except TierError as failure:
                log.warning("view %s was not warmed: %s", mapping.name, failure)

    async def _run(self, mapping: ViewMapping, pattern: bytes | None) -> int:
        self._running += 1
        began_at, before = self._clock(), self._stored
        try:
            for _ in range(RESTARTS_MAX):
                try:
                    stored = await self._pass(mapping, pattern)
                except _Outdated:
                    self._restarts += 1
                    continue
                seconds = self._clock() - began_at
                log.info("view %s: warmed, %d rows in %.1f s", mapping.name, stored, seconds)
                return self._stored - before
            raise TierUnavailable(L3_POSTGRES, f"view {mapping.name} is replaced repeatedly")
        finally:
            self._running -= 1

    async def _pass(self, mapping: ViewMapping, pattern: bytes | None) -> int:
        epoch = await self._epoch_of(mapping)
        if epoch is None:
            raise TierUnavailable(L2_REDIS, self._l2.reason)
        snapshot = _Snapshot(mapping, epoch)
        in_flight: deque[asyncio.Task[int]] = deque()
        began_at = logged_at = self._clock()
        read = stored = 0
        try:
            async for batch in self._l3.stream(mapping, pattern):
                if len(in_flight) == BATCHES_IN_FLIGHT:
                    stored += await in_flight.popleft()
                in_flight.append(
                    self._batches.start(mapping.name, self._store_batch(snapshot, dict(batch)))
                )
                read += len(batch)
                self._rows += len(batch)
                now = self._clock()
                if now - logged_at >= PROGRESS_INTERVAL_S:
                    logged_at = now
                    rate = read / (now - began_at)
                    log.info("view %s: warming, %d rows so far, %.0f/s", mapping.name, read, rate)
                if self._rate and (ahead_s := read / self._rate - (now - began_at)) > 0:
                    await self._sleep(ahead_s)
            while in_flight:
                stored += await in_flight.popleft()
        finally:
            await _gathered(in_flight)
        return stored

    async def _store_batch(self, snapshot: _Snapshot, rows: Rows) -> int:
        while True:
            epoch = snapshot.epoch
            current = {key: row for key, row in rows.items() if key not in snapshot.outdated}
            try:
                stored = await self._store(snapshot.mapping, epoch, current) if current else 0
            except ServerError as error:
                raise TierUnavailable(L2_REDIS, str(error)) from None
            if stored is not None:
                self._stored += stored
                return stored
            async with snapshot.lock:
                if snapshot.epoch == epoch:
                    await self._move_on(snapshot)

    async def _move_on(self, snapshot: _Snapshot) -> None:
        """A refresh was published: leave out the keys it changed, and continue with its epoch."""
        epoch = await self._epoch_of(snapshot.mapping)
        if epoch is None:
            raise TierUnavailable(L2_REDIS, self._l2.reason)
        if not snapshot.epoch and epoch:
            raise _Outdated  # Redis had no epoch: the start of the changes is unknown
        # The log is read after the new epoch, so it has at least the changes up to there.
        since = START if not snapshot.epoch else parse_position(snapshot.epoch)
        changed = None if since is None else await self._l3.changed_since(snapshot.mapping, since)
        if changed is None or not epoch:
            raise _Outdated
        snapshot.outdated.update(changed)
        snapshot.epoch = epoch


async def _gathered(tasks: Iterable[asyncio.Task[int]]) -> None:
    """After a failure: wait for the tasks in flight, and ignore their failures."""
    await asyncio.gather(*tasks, return_exceptions=True)
