"""The audit of L1: it reads sampled hits again from Redis, and follows up differences.

A difference alone proves nothing: the key may have been changed between the hit and the
read, and the invalidation may be under way. So the audit checks again after 1, 2 and 10
times the bound on staleness. Each time, all bytes that Redis had sent before are parsed
first (a PING behind them on the tracked connection). An entry that is gone or replaced by
then was merely overtaken. An entry that still exists and still differs is served although
its key was changed: a confirmed mismatch. It is logged with the last invalidations of the
key, counted, and dropped.
"""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from ..errors import TierUnavailable
from ..l1.memory import L1Memory
from ..l1.samples import HitSamples
from ..l1.variants import Read
from ..l2.redis import L2Redis

log = logging.getLogger("terrace.audit")

RECHECKS = (1, 2, 10)  # times the bound
AT_ONCE = 32  # reads in flight
SNAPSHOT_MAX = 50_000  # keys; a larger store is audited by its recent hits alone
_WRONGTYPE = b"-WRONGTYPE"

Verdict: TypeAlias = Literal["equal", "overtaken", "unknown", "mismatches"]


@dataclass(frozen=True, slots=True)
class AuditStatistics:
    """The samples by verdict."""

    samples: int = 0
    equal: int = 0
    overtaken: int = 0  # changed meanwhile: L1 followed
    unknown: int = 0  # the entry was gone, or Redis did not answer
    mismatches: int = 0  # confirmed

    def counted(self, verdict: Verdict) -> AuditStatistics:
        """The statistics with one more sample."""
        return replace(self, samples=self.samples + 1, **{verdict: getattr(self, verdict) + 1})


class Audit:
    """`check_newest` audits one recent hit; `run` as many keys as requested, now."""

    def __init__(self, l1: L1Memory, l2: L2Redis, samples: HitSamples) -> None:
        self._l1 = l1
        self._l2 = l2
        self._samples = samples
        self._seen = 0
        self._counts = AuditStatistics()

    def __repr__(self) -> str:
        return f"<Audit {self._counts}>"

    def statistics(self) -> AuditStatistics:
        return self._counts

    async def check_newest(self) -> None:
        """Audit the newest hit, if there was one since the last call."""
        if self._samples.taken != self._seen and self._l1.coherence.tracks:
            self._seen = self._samples.taken
            await self.check(self._samples.newest(1)[0])

    async def run(self, count: int) -> AuditStatistics:
        """Audit up to `count` reads: recent hits, then any GET that L1 holds."""
        found = AuditStatistics()
        reads = self._samples.newest(count)
        arena = self._l1.arena
        if len(reads) < count and len(arena) <= SNAPSHOT_MAX:
            keys = arena.snapshot()
            others = random.sample(keys, min(len(keys), count - len(reads)))
            reads += [read for read in map(self._get_of, others) if read not in reads]
        for at in range(0, len(reads), AT_ONCE):
            for verdict in await asyncio.gather(*map(self.check, reads[at : at + AT_ONCE])):
                found = found.counted(verdict)
        return found

    def _get_of(self, key: bytes) -> Read:
        space = self._l1.namespaces.find(key)
        return Read(key, space.variant(b"") if space is not None else b"")

    async def check(self, read: Read) -> Verdict:
        """The verdict on one sample; it is counted."""
        verdict = await self._judge(read)
        self._counts = self._counts.counted(verdict)
        return verdict

    async def _judge(self, read: Read) -> Verdict:
        served = self._held(read)
        truth = await self._ask(read) if served is not None else None
        if served is None or truth is None:
            return "unknown"
        return "equal" if same(served, truth) else await self._follow_up(read, served)

    async def _follow_up(self, read: Read, served: bytes) -> Verdict:
        truth: bytes | None = None
        for times in RECHECKS:
            await asyncio.sleep(times * self._bound_s(read))
            truth = await self._ask(read)
            if truth is None or not await self._catch_up():
                return "unknown"
            if self._held(read) != served or same(served, truth):
                return "overtaken"
        assert truth is not None
        log.error(
            "L1 differs from Redis: %s (variant %s) holds %s, Redis %s; invalidations: %s; "
            "the entry is dropped",
            shown(read.key), shown(read.variant), shown(served), shown(truth),
            "; ".join(self._l1.coherence.heard_of(read.key)) or "none recently",
        )  # fmt: skip
        self._l1.arena.invalidate(read.key)
        return "mismatches"

    def _bound_s(self, read: Read) -> float:
        space = self._l1.namespaces.find(read.key)
        return space.max_staleness_s if space is not None else self._l1.options.max_staleness_s

    def _held(self, read: Read) -> bytes | None:
        """The reply that L1 would serve if the watermark were not late."""
        if not self._l1.coherence.tracks:
            return None
        return self._l1.arena.get(read.key, read.variant, self._l1.clock())

    async def _ask(self, read: Read) -> bytes | None:
        """Redis' reply now; None if it says nothing about the key."""
        try:
            reply = await self._l2.ask_raw(read.request, proto=read.proto, db=read.db)
        except TierUnavailable:
            return None
        return None if reply[:1] == b"-" and not reply.startswith(_WRONGTYPE) else reply

    async def _catch_up(self) -> bool:
        """Parse all bytes that Redis has sent on the tracked connection; false if that failed."""
        self._l1.coherence.end_opaque_write(self._l1.clock())  # other workers' streams as well
        try:
            await self._l2.barrier()
        except TierUnavailable:
            return False
        return True


def same(one: bytes, other: bytes) -> bool:
    """Whether two replies are equal. Redis gives sets and hashes in any order, and may change
    the order between two reads."""
    if one == other:
        return True
    return one[:1] in (b"*", b"%", b"~") and sorted(one.split(b"\r\n")) == sorted(
        other.split(b"\r\n")
    )


def shown(text: bytes) -> str:
    """A short, printable form on one line."""
    return ascii(text[:64])[1:] + ("…" if len(text) > 64 else "")
