"""Plans the next refresh of each view: fixed intervals, and the formula behind "auto".

`refresh = "auto"` weighs two costs. A view that is refreshed every T seconds, while its
rows change at a rate of r keys per second, has r*T/2 outdated keys at any time. If a
refresh takes d seconds, it keeps PostgreSQL busy for d/T of the time. With one second of
refreshing worth `OUTDATED_KEY_S` seconds of an outdated key, the sum is least at

    T = sqrt(2 * OUTDATED_KEY_S * d / r)

within bounds: at most a twentieth of the time goes to refreshes of the view, and a
refresh comes at least every ten minutes. The rate is averaged over refreshes; the newest
weighs half. No IO; time and chance are parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

INTERVAL_JITTER = 0.1
OUTDATED_KEY_S = 1000.0  # 1 key/s and a refresh of 1 s: every 45 s; of 50 ms: every 10 s
BUSY_SHARE = 0.05  # the largest share of the time for refreshes of one view
SHORTEST_S = 1.0
LONGEST_S = 600.0
NEWEST_WEIGHT = 0.5


@dataclass(frozen=True, slots=True)
class Pace:
    """The measured cost of a view's refreshes, and the interval that is worth it."""

    duration_s: float
    changes_per_s: float

    def observed(self, changed: int, elapsed_s: float, duration_s: float) -> Pace:
        """The pace after one more refresh, which found `changed` keys."""
        rate = changed / max(elapsed_s, 0.001)
        return Pace(duration_s, NEWEST_WEIGHT * rate + (1 - NEWEST_WEIGHT) * self.changes_per_s)

    @property
    def shortest_s(self) -> float:
        """The least time between two scheduled refreshes."""
        return max(SHORTEST_S, self.duration_s / BUSY_SHARE)

    @property
    def best_s(self) -> float:
        longest_s = max(LONGEST_S, self.shortest_s)
        if self.changes_per_s <= 0:
            return longest_s
        best_s = math.sqrt(2 * OUTDATED_KEY_S * self.duration_s / self.changes_per_s)
        return min(longest_s, max(self.shortest_s, best_s))


class Schedule:
    """The time at which each view is due next."""

    def __init__(self, clock: Callable[[], float], chance: Callable[[], float]) -> None:
        self._clock = clock
        self._chance = chance
        self._due_at: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<Schedule {self._due_at}>"

    def plan(self, view: str, interval_s: float, age_s: float = 0.0) -> float:
        """Plan one interval after the last refresh, `age_s` ago; return the time until then.

        Jitter only shortens the wait: `refresh` is the longest time between two refreshes.
        """
        wait_s = interval_s * (1.0 - INTERVAL_JITTER * self._chance()) - age_s
        wait_s = max(0.0, wait_s)
        self._due_at[view] = self._clock() + wait_s
        return wait_s

    def bring_forward(self, view: str, wait_s: float) -> None:
        """Make a planned view due after `wait_s` at the latest."""
        if view in self._due_at:
            self._due_at[view] = min(self._due_at[view], self._clock() + max(0.0, wait_s))

    def is_planned(self, view: str) -> bool:
        return view in self._due_at

    def next_due(self) -> str | None:
        """The view that has been due for the longest time, if any is due."""
        view = min(self._due_at, key=self._due_at.__getitem__, default=None)
        return view if view is not None and self._due_at[view] <= self._clock() else None

    def wait_s(self, at_most_s: float) -> float:
        """The time until a view is due."""
        earliest = min(self._due_at.values(), default=self._clock() + at_most_s)
        return max(0.0, min(at_most_s, earliest - self._clock()))
