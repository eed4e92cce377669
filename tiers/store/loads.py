"""Loads entries that Redis lacks from the table into Redis.

The state of Redis before the table was read decides whether an entry may still be stored
in Redis; fill.lua holds the rule, `store.py` the reasons.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ..base import L2_REDIS, L3, Kind, Outcome
from ..errors import ServerError, TierUnavailable
from ..l2.redis import L2Redis
from .entry import Entry
from .lineage import STATE, LineageSnapshot, StoreLineage, store_script

if TYPE_CHECKING:
    from .table import StoreTable

LOAD_ATTEMPTS = 5
LOAD_PAUSE_S = 0.005  # before another attempt, while a write is on its way
NOT_STORED = "the entry is changing at this moment and was not stored in L2"


class StoreLoads:
    """Loads entries. `fill_age_us` is the age that a sample may have when Redis is filled."""

    def __init__(
        self,
        l2: L2Redis,
        table: StoreTable,
        lineage: StoreLineage,
        fill_age_us: int,
        wall_clock: Callable[[], float],
    ) -> None:
        self._l2 = l2
        self._table = table
        self._lineage = lineage
        self._fill_age = b"%d" % fill_age_us
        self._wall_clock = wall_clock
        self._fill = store_script("fill")

    def __repr__(self) -> str:
        return f"<StoreLoads over {self._l2!r}>"

    async def load(self, keys: list[bytes]) -> Mapping[bytes, Outcome]:
        """Read entries that Redis lacks from the table and store them in Redis.

        HIT for strings, NEGATIVE, MISS for a key that the caller has to read from Redis now.
        """
        outcomes: dict[bytes, Outcome] = {}
        left = keys
        for attempt in range(LOAD_ATTEMPTS):
            if attempt:
                await asyncio.sleep(LOAD_PAUSE_S * 2**attempt)
            try:
                sample: LineageSnapshot | None = await self._lineage.sample()
            except TierUnavailable:
                sample = None  # L2 is down: answer, but do not store
            rows = await self._table.read(left)
            entries = {key: rows.get(key) or Entry(key, 0, "none", b"", 0) for key in left}
            outcomes |= {key: self._uncached(entry) for key, entry in entries.items()}
            if sample is None:
                return outcomes
            verdicts = await self._refill(entries, sample)
            for key, verdict in verdicts.items():
                if verdict != _PENDING:
                    outcomes[key] = _stored(entries[key], verdict)
            left = [key for key in left if verdicts.get(key, _PENDING) == _PENDING]
            if not left:
                break
        return outcomes

    async def _refill(
        self, entries: Mapping[bytes, Entry], sample: LineageSnapshot
    ) -> dict[bytes, int]:
        args = [*sample, self._fill_age]
        for entry in entries.values():
            args += (b"%d" % entry.version, entry.kind.encode(), entry.value,
                     b"%d" % entry.expires_at_ms)  # fmt: skip
        try:
            verdicts = await self._l2.run_script(self._fill, [STATE, *entries], args)
        except (TierUnavailable, ServerError):
            return {}
        return dict(zip(entries, verdicts, strict=True)) if verdicts is not None else {}

    def _uncached(self, entry: Entry) -> Outcome:
        """The answer if Redis does not take the entry."""
        is_over = 0 < entry.expires_at_ms <= self._wall_clock() * 1000
        if entry.is_absent or is_over:
            return Outcome(Kind.NEGATIVE, tier=L3, reason=NOT_STORED)
        if entry.kind == "string":
            return Outcome(Kind.HIT, value=entry.value, tier=L3, reason=NOT_STORED)
        reason = f"a {entry.kind} can only be read through {L2_REDIS}"
        return Outcome(Kind.UNAVAILABLE, tier=L3, reason=reason)


_THERE, _STORED, _ABSENT, _PENDING, _UNREADABLE = range(5)  # verdicts of fill.lua


def _stored(entry: Entry, verdict: int) -> Outcome:
    if verdict == _ABSENT:
        return Outcome(Kind.NEGATIVE, tier=L3)
    if verdict == _UNREADABLE:
        reason = f"this Redis cannot restore the {entry.kind} that another Redis dumped"
        return Outcome(Kind.UNAVAILABLE, tier=L3, reason=reason)
    if verdict == _STORED and entry.kind == "string":
        return Outcome(Kind.HIT, value=entry.value, tier=L3)
    return Outcome(Kind.MISS, tier=L3, reason="the key exists in L2 by now")
