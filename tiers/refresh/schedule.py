"""When each view is refreshed next: fixed intervals, and the formula behind "auto".

`refresh = "auto"` weighs two costs. A view that is refreshed every T seconds, while its
rows change at a rate of r keys per second, has r*T/2 outdated keys at any time; and it
keeps PostgreSQL busy for d/T of the time, when a refresh takes d seconds. With one
second of refreshing worth `OUTDATED_KEY_S` seconds of an outdated key, the sum is least at

    T = sqrt(2 * OUTDATED_KEY_S * d / r)

within bounds: never more than a twentieth of the time is spent on refreshing the view,
and at least every ten minutes somebody looks. The rate is averaged over refreshes, the
newest weighs half. No IO; time and chance are parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

INTERVAL_JITTER = 0.1
OUTDATED_KEY_S = 1000.0  # 1 key/s and a refresh of 1 s: every 45 s; of 50 ms: every 10 s
BUSY_SHARE = 0.05  # of the time, at most, is spent on refreshing one view
SHORTEST_S = 1.0
LONGEST_S = 600.0
NEWEST_WEIGHT = 0.5


@dataclass(frozen=True, slots=True)
class Pace:
    """What is known of a view's refreshes, and how often it is worth one."""

    duration_s: float
    changes_per_s: float

    def observed(self, changed: int, elapsed_s: float, duration_s: float) -> Pace:
        """After one more refresh, which found so many keys changed since the last one."""
        rate = changed / max(elapsed_s, 0.001)
        return Pace(duration_s, NEWEST_WEIGHT * rate + (1 - NEWEST_WEIGHT) * self.changes_per_s)

    @property
    def shortest_s(self) -> float:
        """No refresh earlier than this after the last one, whoever asks the schedule for it."""
        return max(SHORTEST_S, self.duration_s / BUSY_SHARE)

    @property
    def best_s(self) -> float:
        longest_s = max(LONGEST_S, self.shortest_s)
        if self.changes_per_s <= 0:
            return longest_s
        best_s = math.sqrt(2 * OUTDATED_KEY_S * self.duration_s / self.changes_per_s)
        return min(longest_s, max(self.shortest_s, best_s))


class Schedule:
    """When each view is due next."""

    def __init__(self, clock: Callable[[], float], chance: Callable[[], float]) -> None:
        self._clock = clock
        self._chance = chance
        self._due_at: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<Schedule {self._due_at}>"

    def plan(self, view: str, interval_s: float, age_s: float = 0.0) -> float:
        """Due one interval after its last refresh, `age_s` ago; how long until then.

        Jitter only ever shortens the wait: `refresh` is then the most time between two.
        """
        wait_s = interval_s * (1.0 - INTERVAL_JITTER * self._chance()) - age_s
        wait_s = max(0.0, wait_s)
        self._due_at[view] = self._clock() + wait_s
        return wait_s

    def bring_forward(self, view: str, wait_s: float) -> None:
        """Due after `wait_s` at the latest, if it is planned at all."""
        if view in self._due_at:
            self._due_at[view] = min(self._due_at[view], self._clock() + max(0.0, wait_s))

    def is_planned(self, view: str) -> bool:
        return view in self._due_at

    def next_due(self) -> str | None:
        """The view that has been due for longest, if any is."""
        view = min(self._due_at, key=self._due_at.__getitem__, default=None)
        return view if view is not None and self._due_at[view] <= self._clock() else None

    def wait_s(self, at_most_s: float) -> float:
        """How long until a view is due."""
        earliest = min(self._due_at.values(), default=self._clock() + at_most_s)
        return max(0.0, min(at_most_s, earliest - self._clock()))
