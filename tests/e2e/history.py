"""Who wrote and who read what, when: and whether Terrace's promises hold for it.

Every value is unique, so a read names the write it saw. All times are of one clock.

Rules
  - A write can be seen from its start. After it has ended, it can be overwritten.
  - At time t a value may be current if its write started at or before t, and no write
    that started after it ended has ended before t.
  - The staleness of a read that saw v is (start of the read) - (the last instant at
    which v may have been current), or 0.
  - Read-your-writes: a client whose write ended before its read began must not see a
    value whose write had ended before that write began.
  - A value that was never written (or that belongs to another key) is a crossed reply.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field

INFINITE = float("inf")


@dataclass(frozen=True)
class Write:
    client: str
    key: str
    value: bytes | None  # None: deleted
    began: float
    ended: float  # infinite: its outcome is not known


@dataclass(frozen=True)
class Read:
    client: str
    key: str
    value: bytes | None
    began: float
    ended: float


@dataclass
class Findings:
    reads: int = 0
    writes: int = 0
    crossed: list[Read] = field(default_factory=list)
    own_writes_missed: list[tuple[Read, Write]] = field(default_factory=list)
    staleness_s: list[float] = field(default_factory=list)

    @property
    def stale(self) -> int:
        """Reads of a value that certainly was no longer current when they began."""
        return sum(1 for staleness_s in self.staleness_s if staleness_s > 0)

    @property
    def worst_s(self) -> float:
        return max(self.staleness_s, default=0.0)

    def __str__(self) -> str:
        ordered = sorted(self.staleness_s)
        p99_ms = ordered[len(ordered) * 99 // 100] * 1000 if ordered else 0.0
        return (
            f"{self.reads} reads, {self.writes} writes: {len(self.crossed)} crossed replies, "
            f"{len(self.own_writes_missed)} own writes missed, "
            f"{self.stale} stale reads, "
            f"staleness p99 {p99_ms:.2f} ms, worst {self.worst_s * 1000:.2f} ms"
        )


class History:
    """Filled by any number of threads (list.append is atomic); checked at the end."""

    def __init__(self) -> None:
        self.writes: list[Write] = []
        self.reads: list[Read] = []
        self._numbers = itertools.count()

    def unique(self, key: str) -> bytes:
        return f"{key}:{next(self._numbers)}".encode()

    def check(self) -> Findings:
        findings = Findings(reads=len(self.reads), writes=len(self.writes))
        by_key: dict[str, list[Write]] = defaultdict(list)
        for write in self.writes:
            by_key[write.key].append(write)
        for key, writes in by_key.items():
            self._check_key([r for r in self.reads if r.key == key], writes, findings)
        return findings

    def _check_key(self, reads: list[Read], writes: list[Write], findings: Findings) -> None:
        last_current = _last_current(writes)
        write_of = {write.value: write for write in writes}
        own: dict[str, list[Write]] = defaultdict(list)
        for write in writes:
            own[write.client].append(write)
        for read in reads:
            if read.value is None:
                continue  # deletions are not unique: absence is looked at after quiescence
            until = last_current.get(read.value)
            if until is None:
                findings.crossed.append(read)
                continue
            findings.staleness_s.append(max(0.0, read.began - until))
            for write in own[read.client]:
                if write.ended <= read.began and write_of[read.value].ended < write.began:
                    findings.own_writes_missed.append((read, write))
                    break


def _last_current(writes: list[Write]) -> dict[bytes, float]:
    """Value -> the last instant at which it may have been current.

    That is the earliest end among the writes that started after it had ended.
    """
    by_start = sorted(writes, key=lambda write: write.began)
    starts = [write.began for write in by_start]
    earliest_end = [INFINITE] * (len(by_start) + 1)  # among the writes from this one on
    for index in range(len(by_start) - 1, -1, -1):
        earliest_end[index] = min(earliest_end[index + 1], by_start[index].ended)
    return {
        write.value: earliest_end[bisect_left(starts, write.ended)]
        for write in writes
        if write.value is not None
    }
