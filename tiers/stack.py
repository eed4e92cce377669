"""L1 over L2 over L3: the three tiers as one tier.

`TieredCache` owns the tiers and the parts between them (`fault_in.py`, `view_changes.py`,
`store.py`, `warm.py`), and offers get/set/delete of strings for library use, with the promises
of each tier.

Promises, per operation
  get      L1's bound (l1.max_staleness) on hits. UNAVAILABLE if the answer is unknown;
           absence (NEGATIVE) only if every tier below was asked or the absence is cached.
  set, delete  acknowledged by Redis, or raise TierUnavailable; never retried.
  invalidate   drops the keys from L1 and the loaded copies from L2; not promised: that
           values written by clients survive, for mapped and unmapped keys alike.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf
from types import TracebackType
from typing import TYPE_CHECKING

from .base import L1, L2, L3, OWN_KEYS, Kind, Outcome, Tier
from .errors import TierUnavailable
from .glob import matcher
from .l1.memory import L1Memory
from .l1.namespaces import Namespaces
from .l2.redis import L2Redis
from .load.fault_in import FaultIn
from .load.mapped_keys import MappedKeys
from .load.tracked_read import TrackedRead
from .load.view_changes import ViewChanges, held_keys
from .load.warm import Warmer
from .options import L1Options, L2Options, L3Options, NamespaceOptions
from .periodic import Janitor
from .store.lineage import BLIND
from .store.store import Store
from .store.write import write_durable
from .tasks import TaskSet
from .turns import in_turns
from .views import ViewMapping
from .watch.audit import Audit
from .watch.hot_keys import HotKeys
from .watch.refill import hot, refill
from .watch.strict import StrictWrites
from .watch.swapdb import SwapdbWatch
from .watch.touch import Toucher
from .watch.watermark_notes import WatermarkNotes
from .wire.resp import NULL3, decode

if TYPE_CHECKING:
    from .l1.shared_arena import SharedArena
    from .l3.postgres import L3Postgres


LOADS = 8  # attempts of `get` to load a key that leaves L2 again and again


class TieredCache(MappedKeys):
    """The three tiers in one process; an async context manager.

    `l1=None` or `l1.enabled=False`: no L1. `l3=None` or no dsn: no L3.
    Entering starts connecting and waits at most `l2.connect_timeout` for Redis; it
    does not fail if a tier is down. `arena`: the memory of L1, if other processes of
    this host share it.
    """

    name = "stack"

    def __init__(
        self,
        l2: L2Options | None = None,
        *,
        l1: L1Options | None = None,
        l3: L3Options | None = None,
        namespaces: Sequence[NamespaceOptions] = (),
        clock: Callable[[], float] = time.monotonic,
        arena: SharedArena | None = None,
    ) -> None:
        self.clock = clock
        l1 = L1Options() if l1 is None else l1
        self.namespaces = Namespaces(namespaces, l1, arena.worker if arena is not None else 0)
        l3 = L3Options() if l3 is None else l3
        self.l1 = L1Memory(l1, clock, self.namespaces, arena) if l1.enabled else None
        self.l2 = L2Redis(
            l2 or L2Options(),
            clock=clock,
            coherence=self.l1.coherence if self.l1 else None,
            fallback_age_s=l1.fallback_max_age_s if l1.fallback == "ttl" else inf,
        )
        self.swapdb = SwapdbWatch(self.l2, l1.swapdb_watch_s)
        self.audit: Audit | None = None
        self.toucher: Toucher | None = None
        self.hot_keys: HotKeys | None = None
        if self.l1 is not None:
            self.l1.on_read = self.l2.keep_watermark
            samples = self.l1.samples
            self.audit = Audit(self.l1, self.l2, samples)
            self.toucher = Toucher(self.l2, samples)
            self.hot_keys = HotKeys(self.l1, self.l2, clock)
        self.strict = StrictWrites(self.l2, self.l1, self.namespaces, clock)
        self._tasks = TaskSet("stack")
        self.changes = ViewChanges(self.l1, self.l2, self._tasks)
        self.l3: L3Postgres | None = None
        if l3.dsn:
            # Imported here: psycopg takes a tenth of the start time, so skip it when L3 is off.
            from .l3.postgres import L3Postgres

            self.l3 = L3Postgres(
                l3, clock=clock, sink=self.changes, on_change=self.changes.on_change
            )
        self.store: Store | None = None
        if self.l3 is not None and self.l3.store_table is not None:
            self.store = Store(self.l2, self.l3.store_table, l3, self.l3.store_reason, clock=clock)
        self.fault_in: FaultIn | None = None
        self.warmer: Warmer | None = None
        if self.l3 is not None:
            self.fault_in = FaultIn(self.l2, self.l3, self.store, tasks=self._tasks, clock=clock)
            self.warmer = Warmer(
                self.l2, self.l3,
                epoch_of=self.fault_in.epoch_of, store=self.fault_in.store_rows, clock=clock,
            )  # fmt: skip

    def __repr__(self) -> str:
        return f"<TieredCache {self.l1!r} {self.l2!r} {self.l3!r}>"

    async def start(self) -> None:
        await self.l2.start()
        self.strict.start()
        if self.l1 is not None:
            self._start_watches(self.l1.options)
        if self.l3 is not None:
            await self.l3.start()
        if self.store is not None:
            self._tasks.start("store lineage", self.store.keep())
        if self.warmer is not None:
            self.warmer.start()

    def hot(self, keys: Iterable[bytes], db: int) -> list[bytes]:
        """The keys to `refill` after their write, if l1.refresh_on_write is on."""
        if self.l1 is None or not self.l1.options.refresh_on_write:
            return []
        return hot(self.l1, keys, db, self.clock())

    def refill(self, keys: Iterable[bytes], db: int) -> None:
        if self.l1 is not None and self.l2.tracked is not None:
            refill(self.l1, self.l2.tracked, keys, db)

    def _start_watches(self, l1: L1Options) -> None:
        """Start the services beside L1."""
        janitor = Janitor(self._tasks)
        if l1.swapdb_watch_s:
            self._tasks.start("swapdb watch", self.swapdb.keep())
        if l1.touch_interval_s and self.toucher is not None:
            janitor.register("touch", l1.touch_interval_s, self.toucher.touch)
        if self.hot_keys is not None:
            self.hot_keys.start()
        if self.l1 is not None and self.l1.arena.workers > 1:
            notes = WatermarkNotes(self.l2, self.l1.coherence, self.clock)
            janitor.register("watermark notes", notes.pause_s, notes.check)
        if l1.audit_interval_s and self.audit is not None:
            janitor.register("audit", l1.audit_interval_s, self.audit.check_newest)

    async def close(self) -> None:
        await self._tasks.close()
        if self.hot_keys is not None:
            await self.hot_keys.close()
        await self.strict.close()
        if self.store is not None:
            await self.store.close()
        if self.l3 is not None:
            await self.l3.close()
        if self.warmer is not None:
            await self.warmer.close()
        await self.l2.close()

    async def __aenter__(self) -> TieredCache:
        await self.start()
        await self.l2.wait_ready(self.l2.options.connect_timeout_s)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def l1_can_hold(self, max_bytes: int) -> bool:
        """Whether `adopt_l1` could set this budget."""
        return self.l1 is not None and self.l1.can_hold(max_bytes)

    def adopt_l1(self, options: L1Options) -> None:
        """Set budget, staleness and ages; the budget must be one that L1 can hold."""
        if self.l1 is not None:
            self.l1.adopt(options)
            self.l2.follow_staleness()

    # As a tier

    async def get(self, key: bytes) -> Outcome:
        if self.l1 is not None:
            outcome = await self.l1.get(key)
            if not outcome.asks_below:
                return outcome
        outcome = await self._get_l2(key)
        mapping = self.mapping_of(key)
        if outcome.is_failure and self.l1 is not None:
            suspect = self.l1.get_suspect(key, b"", self.clock())
            if suspect is not None and suspect != NULL3:
                return Outcome(Kind.STALE, value=decode(suspect), tier=L1, reason=outcome.reason)
        if mapping is None or self.fault_in is None:
            absent = outcome.kind is Kind.MISS
            return Outcome(Kind.NEGATIVE, tier=L2) if absent else outcome
        if not outcome.asks_below:
            return outcome
        for _ in range(LOADS):
            loaded = await self.fault_in.load_one(mapping, key)
            if loaded.kind is not Kind.MISS:
                return loaded
            outcome = await self._get_l2(key)
            if outcome.kind is not Kind.MISS:
                return outcome
        return Outcome(Kind.UNAVAILABLE, tier=L2, reason="the key is contended")

    async def _get_l2(self, key: bytes) -> Outcome:
        """GET through the tracked connection if there is one, filling L1."""
        tracked = self.l2.tracked
        if tracked is None or not tracked.ready or not self.namespaces.caches(key):
            return await self.l2.get(key)
        assert self.l1 is not None  # a tracked connection exists only with an L1
        read = TrackedRead(self.l1, key, mapped=self.mapping_of(key) is not None)
        read.send(tracked)
        try:
            reply, pttl_ms = await read.future
        except TierUnavailable as failure:
            return Outcome(Kind.UNAVAILABLE, tier=L2, reason=failure.reason)
        value = decode(reply)
        if isinstance(value, Exception):
            return Outcome(Kind.UNAVAILABLE, tier=L2, reason=str(value))
        if value is None:
            return Outcome(Kind.MISS, tier=L2)
        ttl_s = pttl_ms / 1000 if pttl_ms >= 0 else None
        return Outcome(Kind.HIT, value=value, tier=L2, ttl_s=ttl_s)

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, Outcome]:
        """Several keys at once; misses share batches at every tier."""
        unique = list(dict.fromkeys(keys))
        outcomes = await asyncio.gather(*(self.get(key) for key in unique))
        return dict(zip(unique, outcomes, strict=True))

    async def set(self, key: bytes, value: bytes, *, ttl_s: float | None = None) -> None:
        if self.durable([key]):
            assert self.store is not None
            expiry = () if ttl_s is None else (b"PX", b"%d" % max(1, round(ttl_s * 1000)))
            await write_durable(
                self.l2, self.store, [b"SET", key, value, *expiry], [key], [key], BLIND
            )
        else:
            await self.l2.set(key, value, ttl_s=ttl_s)
        await self.strict.wait([key])

    async def delete(self, keys: Sequence[bytes]) -> int:
        durable = self.durable(keys)
        if durable:
            assert self.store is not None
            snapshot = await self.store.snapshot(durable)
            failure = await self.ensure_loaded(durable)
            if failure is not None:
                raise TierUnavailable(failure.tier, failure.reason)
            command = [b"UNLINK", *keys]
            deleted = int(
                await write_durable(self.l2, self.store, command, keys, durable, snapshot)
            )
        else:
            deleted = await self.l2.delete(keys)
        await self.strict.wait(keys)
        return deleted

    async def invalidate(self, keys: Sequence[bytes]) -> None:
        if self.l3 is not None:  # first: a remembered absence would go back into L1
            await self.l3.invalidate(keys)
        if keys:
            await self._evict(keys)
            await self.strict.wait(keys)

    async def _evict(self, keys: Sequence[bytes]) -> int:
        """Remove keys from L2 only; return how many L2 held."""
        durable = self.durable(keys)
        if self.store is None or not durable:
            return await self.l2.delete(keys)
        removed = await self.store.evict(durable)
        return removed + await self.l2.delete([*{*keys} - {*durable}])

    async def invalidate_matching(self, pattern: bytes) -> int:
        """Drop all keys that match a glob; return how many L2 held.

        Removing them from Redis makes tracking clean the L1 of every proxy.
        """
        removed = 0
        if self.l3 is not None:
            await self._forget_absences(self.l3, pattern)
        async for keys in held_keys(self.l2, pattern):
            doomed = [key for key in keys if not key.startswith(OWN_KEYS)]
            if doomed:
                removed += await self._evict(doomed)
        return removed

    async def _forget_absences(self, l3: L3Postgres, pattern: bytes) -> None:
        """Drop remembered absences: no scan finds such keys, and no invalidation follows."""
        l3.forget_matching(pattern)
        if self.l1 is not None:
            matches = matcher(pattern)
            async for held in in_turns(self.l1.arena.parts(), check_every=1):
                mapped = (key for key in held if matches(key) and self.mapping_of(key) is not None)
                self.l1.coherence.on_push(list(mapped))

    async def warm(self, mapping: ViewMapping, pattern: bytes | None = None) -> int:
        """Load rows of a view into L2; return how many were stored. Raises TierError."""
        assert self.warmer is not None
        return await self.warmer.warm(mapping, pattern)

    @property
    def is_warming_up(self) -> bool:
        """Whether readiness waits for a warm-up now."""
        parts = (self.warmer, self.hot_keys)
        return any(part is not None and part.holds_readiness for part in parts)

    async def explain(self, key: bytes, db: int = 0) -> Mapping[str, str]:
        facts: dict[str, str] = {}
        tiers: tuple[tuple[str, Tier | None, str], ...] = (
            (L1, self.l1, "off (l1.enabled=false)"),
            (L2, self.l2, ""),
            (L3, self.l3, "off (no l3.dsn)"),
        )
        for name, tier, off in tiers:
            facts.update({name: off} if tier is None else await tier.explain(key, db))
        return facts
