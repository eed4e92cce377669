"""Circuit breaker of one server: when to try, when to fail fast, when to probe.

Rules of this file
  1. All states and transitions are in TRANSITIONS; an event without a row changes nothing.
  2. No IO, no clock of its own, no log: it calls `on_transition` once per change.
  3. Only infrastructure changes its state. An error that the server itself gave as an answer
     (WRONGTYPE, a missing view) is a success here.

Theory
  After a *hard* failure (refused, reset, login refused) the next attempt will fail as
  well, so it opens the breaker at once. A *soft* failure (a timeout) may concern this
  request only: `soft_limit` of the last `soft_of` outcomes within `soft_window_s` open it.
  While it is open, all callers fail fast until a pause is over. The pause doubles with
  every failed probe, from `pause_min_s` to `pause_max_s`, and is shortened at random so
  that a fleet does not return in step. Then one caller at a time may probe. A probe that is
  silent for `probe_patience_s` does not delay the next one: its packets may be lost, and
  the network may work again by now.
"""

from __future__ import annotations

import enum
import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass


class State(enum.Enum):
    CLOSED = "closed"  # requests pass
    OPEN = "open"  # they fail fast
    HALF_OPEN = "half-open"  # a probe is out, all others fail fast


class Event(enum.Enum):
    SUCCESS = "success"
    SOFT = "soft failure"
    TRIPPED = "too many soft failures"
    HARD = "hard failure"
    DUE = "the pause is over"


TRANSITIONS: Mapping[tuple[State, Event], State] = {
    (State.CLOSED, Event.TRIPPED): State.OPEN,
    (State.CLOSED, Event.HARD): State.OPEN,
    (State.OPEN, Event.DUE): State.HALF_OPEN,
    (State.OPEN, Event.SUCCESS): State.CLOSED,  # of an attempt that began before it opened
    (State.HALF_OPEN, Event.SUCCESS): State.CLOSED,
    (State.HALF_OPEN, Event.SOFT): State.OPEN,
    (State.HALF_OPEN, Event.HARD): State.OPEN,
}

OnTransition = Callable[[State, State], None]


@dataclass(frozen=True, slots=True)
class BreakerStatistics:
    state: State
    reason: str  # of the last failure
    opened: int  # times it went from closed to open
    probes: int


class Breaker:
    """Ask `admits` before an attempt; report its end by one of the `on_…` methods."""

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        pause_min_s: float = 0.05,
        pause_max_s: float = 0.5,
        soft_limit: int = 3,
        soft_of: int = 10,
        soft_window_s: float = 10.0,
        probe_patience_s: float = 0.5,
        draw: Callable[[], float] = random.random,
        on_transition: OnTransition = lambda old, new: None,
    ) -> None:
        self.state = State.CLOSED
        self.reason = ""
        self.on_transition = on_transition
        self._clock = clock
        self._draw = draw
        self._pauses_s = (pause_min_s, pause_max_s)
        self._pause_s = pause_min_s
        self._soft_limit = soft_limit
        self._soft_window_s = soft_window_s
        self._probe_patience_s = probe_patience_s
        self._softs: deque[float | None] = deque(maxlen=soft_of)  # when; None: a success
        self._due_at = 0.0  # open: of the next probe; half-open: of another probe
        self._opened = self._probes = 0

    def __repr__(self) -> str:
        return f"<Breaker {self.state.value}{f': {self.reason}' if self.reason else ''}>"

    def statistics(self) -> BreakerStatistics:
        return BreakerStatistics(self.state, self.reason, self._opened, self._probes)

    @property
    def is_closed(self) -> bool:
        return self.state is State.CLOSED

    def wait_s(self) -> float:
        """The time until `admits` may return true, unless an event comes first."""
        return 0.0 if self.is_closed else max(0.0, self._due_at - self._clock())

    def admits(self) -> bool:
        """Whether to try now. If the breaker is not closed, true makes the caller the probe."""
        if self.state is State.CLOSED:
            return True
        now = self._clock()
        if now < self._due_at:
            return False
        self._due_at = now + self._probe_patience_s
        self._probes += 1
        self._on(Event.DUE)
        return True

    def on_success(self) -> None:
        """The server answered, be it with an error."""
        self._softs.append(None)
        self._on(Event.SUCCESS)

    def on_soft_failure(self, reason: str) -> None:
        """No answer in time."""
        self.reason = reason
        now = self._clock()
        self._softs.append(now)
        recent = sum(at is not None and now - at <= self._soft_window_s for at in self._softs)
        self._on(Event.TRIPPED if self.is_closed and recent >= self._soft_limit else Event.SOFT)

    def on_hard_failure(self, reason: str) -> None:
        """Refused or reset: no server answers."""
        self.reason = reason
        self._on(Event.HARD)

    def _on(self, event: Event) -> None:
        old = self.state
        new = TRANSITIONS.get((old, event), old)
        if new is old:
            return
        self.state = new
        if new is State.OPEN:
            self._opened += old is State.CLOSED
            self._pause_s = (
                self._pauses_s[0]
                if old is State.CLOSED
                else min(2 * self._pause_s, self._pauses_s[1])
            )
            self._due_at = self._clock() + self._pause_s * (0.5 + 0.5 * self._draw())
        elif new is State.CLOSED:
            self.reason = ""
            self._softs.clear()
        self.on_transition(old, new)
