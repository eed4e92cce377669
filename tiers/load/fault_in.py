"""Fault-in: loads a mapped key that L2 lacks from L3, and stores it in L2 before the answer.

Misses of one view, or store, share batches (`Coalescer`); only one process loads a row at a
time (`Leases`); a load that a refresh overtook is repeated, because fill.lua stores nothing
once the epoch of the view has changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import astuple, fields
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from ..base import L2, L3, Kind, Outcome
from ..errors import ServerError, TierUnavailable
from ..l2.commands import Script
from ..l2.redis import L2Redis
from ..store.keys import Mapped
from ..store.loads import NOT_STORED
from ..store.store import Store
from ..tasks import TaskSet
from ..views import ViewMapping
from .coalesce import Admits, Coalescer, CoalescerStatistics
from .held_rows import TOMBSTONE, HeldRow, fill_arguments
from .leases import EPOCHS, L2_PATIENCE_S, LEASES, Leases

if TYPE_CHECKING:
    from ..l3.postgres import L3Postgres

LOAD_ATTEMPTS = 3  # loads overtaken by a refresh, before the answer is given uncached
_HIT = Kind.HIT  # saves the look-up of an enum member for every row

Load: TypeAlias = Callable[[list[bytes]], Awaitable[Mapping[bytes, Outcome]]]

NO_QUEUES = CoalescerStatistics(*(0,) * len(fields(CoalescerStatistics)))
_DELETED = Outcome(Kind.NEGATIVE, tier=L3, reason="deleted (tombstone)")
ASK_L2 = Outcome(Kind.MISS, tier=L3, reason="the key exists in L2 by now")


class FaultIn:
    """Loads keys from L3 into L2; loads run as tasks of `tasks`."""

    def __init__(
        self,
        l2: L2Redis,
        l3: L3Postgres,
        store: Store | None,
        *,
        tasks: TaskSet,
        clock: Callable[[], float],
    ) -> None:
        self._l2, self._l3 = l2, l3
        self.leases = Leases(l2, l3.options.lease_s, clock)
        self._fill = Script("load/fill.lua")
        self._coalescers: dict[str, Coalescer] = {}
        self._readers: dict[str, Coalescer] = {}  # they read rows without storing them
        for mapping in l3.mappings:
            load = partial(self.load_batch, mapping)
            self._coalescers[mapping.name] = self._queue(mapping, load, l3.lane(mapping), tasks)
            read = partial(l3.load, mapping)
            self._readers[mapping.name] = self._queue(mapping, read, l3.lane(mapping), tasks)
        if store is not None and l3.store_table is not None:
            for durable in l3.stores:
                queue = self._queue(durable, store.load, l3.store_table.lane, tasks)
                self._coalescers[durable.name] = queue

    def _queue(self, mapping: Mapped, run: Load, admission: Admits, tasks: TaskSet) -> Coalescer:
        return Coalescer(
            run,
            name=mapping.name,
            batch_max=self._l3.options.batch_max,
            queue_max=self._l3.options.queue_max,
            tasks=tasks,
            admission=admission,
            deadline_s=self._l3.options.deadline_s,
        )

    def queues(self) -> CoalescerStatistics:
        """The figures of all queues for loads from L3, summed."""
        queues = (*self._coalescers.values(), *self._readers.values())
        each = [astuple(queue.statistics()) for queue in queues]
        return CoalescerStatistics(*map(sum, zip(*each, strict=True))) if each else NO_QUEUES

    def load(self, mapping: Mapped, key: bytes, on_done: Callable[[Outcome], None]) -> None:
        """Load a mapped key that L2 lacks.

        `on_done` gets HIT with the row, NEGATIVE, UNAVAILABLE, or MISS if the key
        appeared in L2 meanwhile: then the caller has to ask L2 again.
        """
        if self._l3.negative_nowait(key):
            on_done(Outcome(Kind.NEGATIVE, tier=L3))
        else:
            self._coalescers[mapping.name].submit(key, on_done)

    async def bring(
        self, pairs: Sequence[tuple[Mapped, bytes]]
    ) -> tuple[list[bytes], Outcome | None]:
        """Load each of these keys that has a row into L2.

        Returns the keys that L2 holds then, and the UNAVAILABLE outcome of a key that could
        not be loaded, if any.
        """
        try:
            present = await self._l2.pipeline([[b"EXISTS", key] for _, key in pairs])
        except TierUnavailable as failure:
            return [], Outcome(Kind.UNAVAILABLE, tier=L2, reason=failure.reason)
        held = [key for (_, key), there in zip(pairs, present, strict=True) if there != 0]
        missing = [pair for pair, there in zip(pairs, present, strict=True) if there == 0]
        outcomes = await asyncio.gather(*(self.load_one(m, k) for m, k in missing))
        failure_found: Outcome | None = None
        for (_, key), outcome in zip(missing, outcomes, strict=True):
            if outcome.is_failure:
                failure_found = failure_found or outcome
            elif outcome.reason == NOT_STORED:
                reason = Outcome(Kind.UNAVAILABLE, tier=L3, reason=NOT_STORED)
                failure_found = failure_found or reason
            elif outcome.kind is not Kind.NEGATIVE:
                held.append(key)
        return held, failure_found

    async def hold(
        self, pairs: Sequence[tuple[ViewMapping, bytes]]
    ) -> tuple[list[HeldRow], Outcome | None]:
        """Read the rows of these keys from a snapshot taken after the call, without storing them.

        A key without a row has no HeldRow. If L3 fails, a key that Redis has gets a HeldRow
        without value, and a key that Redis lacks, too, gives the UNAVAILABLE outcome.
        """
        pairs = [pair for pair in pairs if not self._l3.negative_nowait(pair[1])]
        views = list({mapping.name: mapping for mapping, _ in pairs})
        epochs = [[b"HGET", EPOCHS, view.encode()] for view in views]
        try:
            said = await self._l2.pipeline([*epochs, *([b"EXISTS", key] for _, key in pairs)])
        except TierUnavailable as failure:
            return [], Outcome(Kind.UNAVAILABLE, tier=L2, reason=failure.reason)
        if error := next((reply for reply in said if isinstance(reply, Exception)), None):
            return [], Outcome(Kind.UNAVAILABLE, tier=L2, reason=str(error))
        epoch_of = {view: epoch or b"" for view, epoch in zip(views, said, strict=False)}
        reads = (self._readers[mapping.name].load(key) for mapping, key in pairs)
        outcomes = await asyncio.gather(*reads)
        rows: list[HeldRow] = []
        failure_found: Outcome | None = None
        for (mapping, key), there, outcome in zip(pairs, said[len(views) :], outcomes, strict=True):
            if outcome.is_failure and not there:
                failure_found = outcome
            elif outcome.is_failure or outcome.kind is _HIT:
                epoch = epoch_of[mapping.name]
                rows.append(HeldRow(key, mapping, epoch, outcome.value, outcome.ttl_s))
        return rows, failure_found

    async def are_current(self, rows: Sequence[HeldRow]) -> bool:
        """Whether no refresh has overtaken these rows; true if Redis does not answer."""
        epochs = {row.mapping.name: row.epoch for row in rows}
        asked: list[list[bytes | int]] = [[b"HGET", EPOCHS, view.encode()] for view in epochs]
        try:
            said = await self._l2.pipeline(asked)
        except TierUnavailable:
            return True
        now = dict(zip(epochs, said, strict=True))
        return all((now[row.mapping.name] or b"") == row.epoch for row in rows)

    def load_one(self, mapping: Mapped, key: bytes) -> Awaitable[Outcome]:
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def on_done(outcome: Outcome) -> None:
            if not future.done():
                future.set_result(outcome)

        self.load(mapping, key, on_done)
        return future

    async def load_batch(self, mapping: ViewMapping, keys: list[bytes]) -> Mapping[bytes, Outcome]:
        """Read the epoch, read the rows, store them if the epoch is unchanged.

        It waits for rows that another process is loading.
        """
        flight = self.leases.begin()
        generation = self._l3.generation(mapping)
        outcomes: dict[bytes, Outcome] = {}
        left, overtaken = keys, 0
        while left:
            grant = await flight.take(mapping.name, left)
            if grant is None:  # L2 is down: answer, but do not store
                return outcomes | await self._l3.load(mapping, left)
            outcomes |= dict.fromkeys(grant.there, ASK_L2)
            left = grant.held
            if grant.own:
                loaded = await self._l3.load(mapping, grant.own)
                stored = await self._store(mapping, grant.epoch, loaded)
                overtaken += stored is None
                if stored is None and overtaken < LOAD_ATTEMPTS:
                    left = [*grant.own, *grant.held]
                    continue
                if stored is None:
                    flight.release(grant.own)
                else:  # fill.lua has released the leases of the rows
                    flight.release([key for key in grant.own if loaded[key].kind is not _HIT])
                    deleted = [key for key in grant.own if stored[key] is _DELETED]
                    self._l3.remember_absence(mapping, deleted, generation)
                outcomes |= loaded if stored is None else stored
            if left:
                await flight.pause()
        return outcomes

    async def epoch_of(self, mapping: ViewMapping) -> bytes | None:
        """The epoch that guards fills of this view; None if Redis does not answer."""
        try:
            return await self._l2.call(b"HGET", EPOCHS, mapping.name) or b""
        except (TierUnavailable, ServerError):
            return None

    async def _store(
        self, mapping: ViewMapping, epoch: bytes, outcomes: Mapping[bytes, Outcome]
    ) -> Mapping[bytes, Outcome] | None:
        """Store loaded rows in L2; None if a refresh overtook the load."""
        rows = {key: o for key, o in outcomes.items() if o.kind is _HIT}
        if not rows:
            return outcomes
        try:
            async with asyncio.timeout(L2_PATIENCE_S):
                verdicts = await self._run_fill(mapping, epoch, rows)
        except (TierUnavailable, ServerError, TimeoutError):
            # L2 is down, silent or out of memory: answer; L2 may still store the rows.
            return outcomes
        if verdicts is None:
            return None
        if verdicts.count(1) == len(verdicts):
            return outcomes
        result = dict(outcomes)
        for key, verdict in zip(rows, verdicts, strict=True):
            if verdict == 0:
                result[key] = ASK_L2
            elif verdict == 2:
                result[key] = _DELETED
        return result

    async def store_rows(
        self, mapping: ViewMapping, epoch: bytes, outcomes: Mapping[bytes, Outcome]
    ) -> int | None:
        """Store rows; return how many were stored, or None if a refresh overtook them."""
        rows = {key: o for key, o in outcomes.items() if o.kind is _HIT}
        verdicts = await self._run_fill(mapping, epoch, rows)
        return None if verdicts is None else verdicts.count(1)

    async def _run_fill(
        self, mapping: ViewMapping, epoch: bytes, rows: Mapping[bytes, Outcome]
    ) -> list[int] | None:
        """The verdicts of fill.lua. Raises TierUnavailable or ServerError."""
        args = [mapping.name.encode(), epoch, TOMBSTONE, b"", b""]
        args += fill_arguments((value, ttl_s) for _, value, _, _, ttl_s in rows.values())
        keys = [EPOCHS, LEASES, *rows]
        verdicts: list[int] | None = await self._l2.run_script(self._fill, keys, args)
        return verdicts
