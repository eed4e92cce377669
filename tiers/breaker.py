"""Circuit breaker: after a failure, fail fast for a moment, then let one probe through."""

from __future__ import annotations

from collections.abc import Callable


class Breaker:
    """Closed, open (refuses), or half-open (one probe is out, all others are refused)."""

    def __init__(self, clock: Callable[[], float], *, open_s: float) -> None:
        self._clock = clock
        self._open_s = open_s
        self._opened_at: float | None = None
        self._probing = False
        self.reason = ""

    def __repr__(self) -> str:
        return f"<Breaker {self.state}>"

    @property
    def state(self) -> str:
        if self._opened_at is None:
            return "closed"
        return "half-open" if self._probing else f"open: {self.reason}"

    def admits(self) -> bool:
        """Whether to try now. True while open makes the caller the probe: it must report."""
        if self._opened_at is None:
            return True
        if self._probing or self._clock() - self._opened_at < self._open_s:
            return False
        self._probing = True
        return True

    def on_success(self) -> None:
        self._opened_at = None
        self._probing = False

    def on_failure(self, reason: str) -> None:
        self._opened_at = self._clock()
        self._probing = False
        self.reason = reason
