"""Admission control towards PostgreSQL: it limits the number of batches under way.

Without L2, every read of a mapped key becomes a load. The capacity of PostgreSQL is unknown
and changes, so the limit adapts as TCP adapts to bandwidth (additive increase,
multiplicative decrease), between 1 and `most`:
  - a batch that failed or timed out halves it;
  - a batch that took much longer than usual takes a tenth off;
  - a good batch while the limit was in full use adds a little: one more batch after as many
    such batches as the limit allows.
At most one decrease per generation of batches: batches that were under way at the decrease
say nothing about the new limit.

The "usual" time is a slow average over good batches. Batches differ in size, hence the
generous factor. Loads of a fraction of a millisecond vary too much, hence the floor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

SLOW_FACTOR = 4.0
SLOW_FLOOR_S = 0.02
USUAL_WEIGHT = 0.05  # of a new sample in the slow average
RECENT_WEIGHT = 0.3  # of a new sample in the quick average, which estimates waits


@dataclass(frozen=True, slots=True)
class AdmissionStatistics:
    limit: int
    in_flight: int
    decreases: int
    waiting: int  # queues that have a batch ready


class Admission:
    """Call `begin` before a batch, `observe` when PostgreSQL has answered, `end` at the end."""

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self._most = most
        self._limit = float(most)
        self._clock = clock
        self._in_flight = 0
        self._usual_s = self._recent_s = 0.0
        self._decreased_at = clock()
        self._decreases = 0
        self._waiting: dict[Callable[[], None], None] = {}  # first come, first served

    def __repr__(self) -> str:
        return f"<Admission {self._in_flight} of {self.limit}, at most {self._most}>"

    def statistics(self) -> AdmissionStatistics:
        return AdmissionStatistics(self.limit, self._in_flight, self._decreases, len(self._waiting))

    @property
    def limit(self) -> int:
        return int(self._limit)

    @property
    def in_flight(self) -> int:
        return self._in_flight

    @property
    def is_full(self) -> bool:
        return self._in_flight >= self.limit

    def begin(self, resume: Callable[[], None], *, kept: int = 0) -> bool:
        """Whether a batch may start; if not, `resume` is called once when one may.

        `kept` is the part of the limit that this batch has to leave free.
        """
        if self._in_flight + kept >= self.limit:
            self._waiting[resume] = None
            return False
        self._in_flight += 1
        return True

    def end(self) -> None:
        """A batch has ended: let the next ones in line start."""
        self._in_flight -= 1
        for resume in tuple(self._waiting):  # a queue that has to wait again goes to the end
            if self.is_full:
                break
            if resume in self._waiting:
                del self._waiting[resume]
                resume()

    def observe(self, took_s: float, *, failed: bool) -> None:
        """Take the time of a batch; `failed`: PostgreSQL gave no answer."""
        self._recent_s += RECENT_WEIGHT * (took_s - self._recent_s)
        if failed:
            self._decrease(took_s, 0.5)
        elif self._usual_s and took_s > max(SLOW_FLOOR_S, SLOW_FACTOR * self._usual_s):
            self._decrease(took_s, 0.9)
            self._usual_s += 0.2 * USUAL_WEIGHT * (took_s - self._usual_s)
        else:
            self._usual_s = (
                self._usual_s + USUAL_WEIGHT * (took_s - self._usual_s) if self._usual_s else took_s
            )
            if self._in_flight >= self.limit:
                self._limit = min(self._most, self._limit + 1 / self._limit)

    def wait_s(self, batches: int) -> float:
        """The estimated wait of the last of so many batches."""
        return self._recent_s * (self._in_flight + batches) / self.limit

    def _decrease(self, took_s: float, factor: float) -> None:
        now = self._clock()
        if now - took_s < self._decreased_at:
            return
        self._limit = max(1.0, self._limit * factor)
        self._decreased_at = now
        self._decreases += 1
