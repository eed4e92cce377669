"""Keeps the watermark of this worker moving while other workers serve entries that it filled.

An entry is as stale as the watermark of the worker that filled it, and that worker may have
no active clients. So a worker that hits an entry with an old watermark leaves a note in shared
memory, and the filler reads the note often enough to send a PING before the bound is reached.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..l1.coherence import Coherence
from ..l2.redis import L2Redis

if TYPE_CHECKING:
    from collections.abc import Callable

CHECKS_PER_BOUND = 4  # a note comes after a third of the bound: two checks remain


class WatermarkNotes:
    """Reads the notes of other workers, and answers them with a PING."""

    def __init__(self, l2: L2Redis, coherence: Coherence, clock: Callable[[], float]) -> None:
        self._l2 = l2
        self._coherence = coherence
        self._clock = clock
        self._answered_at = 0.0  # the time of the last answered note

    def pause_s(self) -> float:
        """The time until the next check."""
        return self._coherence.max_staleness_s / CHECKS_PER_BOUND

    def check(self) -> None:
        wanted_at = self._coherence.arena.wanted_at
        if wanted_at > self._answered_at:
            self._answered_at = wanted_at
            self._l2.catch_up(since=wanted_at)
