"""Samples of the reads that L1 answers, for the work on hot keys: `touch` and `audit`.

At most one hit per SAMPLE_EVERY_S is sampled under any load: the hot path compares one
number, and a key is sampled in proportion to its share of the hits.
"""

from __future__ import annotations

from collections import deque

from .variants import Read

SAMPLE_EVERY_S = 0.005
KEPT = 256


class HitSamples:
    """The newest samples. Code that serves hits calls `note` once `due` has passed."""

    def __init__(self) -> None:
        self.due = 0.0
        self.taken = 0
        self._reads: deque[Read] = deque(maxlen=KEPT)

    def __repr__(self) -> str:
        return f"<HitSamples {len(self._reads)} of {self.taken}>"

    # twin: _lane.sample
    def note(self, key: bytes, variant: bytes, now: float) -> None:
        self.due = now + SAMPLE_EVERY_S
        self.taken += 1
        self._reads.append(Read(key, variant))

    def newest(self, count: int) -> list[Read]:
        """The last `count` samples, newest first, each read once."""
        chosen = dict.fromkeys(reversed(self._reads))
        return list(chosen)[:count]
