"""Finds and loads the keys that L3 knows: the base of `TieredCache`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from ..base import Outcome
from ..store.keys import Mapped
from ..store.store import Store
from ..tasks import TaskSet
from .coalesce import CoalescerStatistics
from .fault_in import NO_QUEUES, FaultIn
from .held_rows import HeldRow

if TYPE_CHECKING:
    from ..l3.postgres import L3Postgres

OnHeld: TypeAlias = Callable[[list[HeldRow], "Outcome | None"], None]


class MappedKeys:
    """`l3` is None if nothing is mapped."""

    l3: L3Postgres | None
    store: Store | None
    fault_in: FaultIn | None
    _tasks: TaskSet

    # twin: _lane.is_mapped
    def mapping_of(self, key: bytes, db: int = 0) -> Mapped | None:
        """The view, or the store, behind a key, if any. Mappings hold for database 0 only."""
        if self.l3 is None or db:
            return None
        return self.l3.mappings.match(key) or self.l3.stores.match(key)

    @property
    def mapped_prefixes(self) -> tuple[bytes, ...]:
        """The prefixes of the keys that `mapping_of` may know."""
        if self.l3 is None:
            return ()
        return tuple(mapping.prefix for mapping in (*self.l3.mappings, *self.l3.stores))

    def durable(self, keys: Iterable[bytes], db: int = 0) -> list[bytes]:
        """The keys that the store holds, each once."""
        if self.store is None or db:
            return []
        assert self.l3 is not None
        return [key for key in dict.fromkeys(keys) if self.l3.stores.match(key) is not None]

    def queues(self) -> CoalescerStatistics:
        """The figures of all queues for loads from L3, summed."""
        return NO_QUEUES if self.fault_in is None else self.fault_in.queues()

    def absence_s(self, key: bytes) -> float:
        """How long the row of a mapped key is still known to be absent."""
        return 0.0 if self.l3 is None else self.l3.absence_s(key)

    def load(self, mapping: Mapped, key: bytes, on_done: Callable[[Outcome], None]) -> None:
        """Load a mapped key that L2 lacks; see `FaultIn.load`."""
        assert self.fault_in is not None
        self.fault_in.load(mapping, key, on_done)

    async def ensure_loaded(self, keys: Iterable[bytes], db: int = 0) -> Outcome | None:
        """Load every mapped key among `keys` that has a row into L2.

        Returns None if L2 has them all, else the UNAVAILABLE outcome that prevented it.
        """
        _, failure = await self.bring(keys, db)
        return failure

    async def bring(self, keys: Iterable[bytes], db: int = 0) -> tuple[list[bytes], Outcome | None]:
        """As `ensure_loaded`, but also return the mapped keys that L2 holds then."""
        pairs = [(m, k) for k in dict.fromkeys(keys) if (m := self.mapping_of(k, db)) is not None]
        if not pairs or self.fault_in is None:
            return [], None
        return await self.fault_in.bring(pairs)

    def viewed(self, keys: Iterable[bytes]) -> list[bytes]:
        """The keys that a view may have, each once; for database 0."""
        if self.l3 is None:
            return []
        match = self.l3.mappings.match
        return [key for key in dict.fromkeys(keys) if match(key) is not None]

    def expected(self, keys: Iterable[bytes]) -> list[bytes]:
        """Mapped keys that are not known to be absent from L3, each once."""
        assert self.l3 is not None
        absent = self.l3.negative_nowait
        return [key for key in dict.fromkeys(keys) if not absent(key)]

    def tombstones(self, keys: Iterable[bytes]) -> list[tuple[bytes, float]]:
        """The mapped keys that stay absent after a DEL, each once, and for how long."""
        found = ((key, self.mapping_of(key)) for key in dict.fromkeys(keys))
        return [
            (key, mapping.tombstone_ttl_s)
            for key, mapping in found
            if mapping is not None and mapping.tombstone_ttl_s is not None
        ]

    def hold(self, keys: Sequence[bytes], on_done: OnHeld) -> None:
        """Read the rows of mapped keys. Entries of the store are loaded into L2 instead; their
        HeldRow has no value.

        See `FaultIn.hold`. `on_done` is called once, later.
        """
        self._tasks.start("hold", self._hold(keys, on_done))

    async def _hold(self, keys: Sequence[bytes], on_done: OnHeld) -> None:
        on_done(*await self.held(keys))

    async def held(self, keys: Sequence[bytes]) -> tuple[list[HeldRow], Outcome | None]:
        """As `hold`, for callers that can wait."""
        assert self.l3 is not None
        assert self.fault_in is not None
        pairs = [(m, key) for key in keys if (m := self.l3.mappings.match(key)) is not None]
        rows, failure = await self.fault_in.hold(pairs)
        match = self.l3.stores.match
        stored = {key: store for key in keys if (store := match(key)) is not None}
        if stored:
            there, lost = await self.fault_in.bring([(store, k) for k, store in stored.items()])
            rows += [HeldRow(key, stored[key], b"", None) for key in there]
            failure = failure or lost
        return rows, failure

    async def renew(self, rows: Sequence[HeldRow]) -> None:
        """If a refresh has overtaken held rows, load the present rows into L2."""
        assert self.fault_in is not None
        if not await self.fault_in.are_current(rows):
            await self.ensure_loaded(row.key for row in rows)
