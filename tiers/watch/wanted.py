"""Keeps the watermark of this worker moving while other workers serve what it filled.

An entry is as stale as the watermark of its filler, who may have no clients of its own just
then. So whoever hits an entry whose watermark grows old leaves a note in shared memory, and
the filler looks at it often enough to ask Redis before the bound is reached.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..l1.coherence import Coherence
from ..l2.redis import L2Redis

if TYPE_CHECKING:
    from collections.abc import Callable

LOOKS_PER_BOUND = 4  # a third of the bound is over when the note is left: two of these remain


class Wanted:
    def __init__(self, l2: L2Redis, coherence: Coherence, clock: Callable[[], float]) -> None:
        self._l2 = l2
        self._coherence = coherence
        self._clock = clock
        self._answered_at = 0.0  # the last note that was followed

    def pause_s(self) -> float:
        """Until the next look."""
        return self._coherence.max_staleness_s / LOOKS_PER_BOUND

    def look(self) -> None:
        wanted_at = self._coherence.arena.wanted_at
        if wanted_at > self._answered_at:
            self._answered_at = wanted_at
            self._l2.catch_up(since=wanted_at)
