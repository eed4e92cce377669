"""The lane of one view: its share of the pool, its limit and its breaker.

A view that is locked or slow keeps its connections until the server ends its statements.
The other views must not suffer. So each view has a lane:

  share    at most half of the pool, and never the last free connection for a second load
  limit    how many batches may run at once (`admission`); each lane finds its own limit
  breaker  statements that took too long open it; one load at a time then tries the view,
           and only few such views are tried at once

Failures of the server go to the breaker of the pool, never to the breaker of a lane.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from ..base import L3_POSTGRES
from ..errors import TierUnavailable
from ..guard.admission import Admission, AdmissionStatistics
from ..guard.breaker import Breaker, BreakerStatistics, State

log = logging.getLogger("terrace.l3")

PAUSES_S = (0.1, 0.5)  # before a view that did not answer is tried again
SOFT_LIMIT = 2  # statements that took too long, of the last ten
PATIENCE_FACTOR = 1.5  # of the deadline: a probe lasts until its statement ends


@dataclass(frozen=True, slots=True)
class LaneStatistics:
    breaker: BreakerStatistics
    admission: AdmissionStatistics


class Lane:
    """`begin`, `end` and `wait_s` are for a queue of batches, `slot` is for each statement."""

    def __init__(
        self, name: str, gate: Admission, share: int, deadline_s: float, clock: Callable[[], float]
    ) -> None:
        self.name = name
        self.admission = Admission(share, clock)
        self.breaker = Breaker(
            clock,
            pause_min_s=PAUSES_S[0],
            pause_max_s=PAUSES_S[1],
            soft_limit=SOFT_LIMIT,
            probe_patience_s=PATIENCE_FACTOR * deadline_s,
            on_transition=self._on_transition,
        )
        self._gate = gate
        self._leaves = 0 if share >= gate.limit else 1
        self._deadline_s = deadline_s
        self._slots = asyncio.Semaphore(share)

    def __repr__(self) -> str:
        return f"<Lane {self.name}: {self.admission!r}, {self.breaker!r}>"

    def statistics(self) -> LaneStatistics:
        return LaneStatistics(self.breaker.statistics(), self.admission.statistics())

    def begin(self, resume: Callable[[], None]) -> bool:
        """As `Admission.begin`, for this lane and for the pool."""
        if self.admission.is_full:
            return self.admission.begin(resume)
        if not self._gate.begin(resume, kept=self._leaves if self.admission.in_flight else 0):
            return False
        return self.admission.begin(resume)

    def end(self) -> None:
        self.admission.end()
        self._gate.end()

    def wait_s(self, batches: int) -> float:
        return self.admission.wait_s(batches)

    @contextlib.asynccontextmanager
    async def slot(self, timeout_s: float) -> AsyncIterator[None]:
        """One of the connections that this lane may have at once. Raises TierUnavailable."""
        try:
            async with asyncio.timeout(timeout_s if self._slots.locked() else None):
                await self._slots.acquire()
        except TimeoutError:
            reason = f"{self.name}: no free connection within {self._deadline_s:g} s"
            raise Crowded(L3_POSTGRES, reason, timed_out=True) from None
        try:
            yield
        finally:
            self._slots.release()

    def _on_transition(self, old: State, new: State) -> None:
        if new is State.CLOSED:
            log.info("%s answers again", self.name)
        elif old is State.CLOSED:
            log.warning("%s; its loads fail fast until it answers", self.breaker.reason)


class Crowded(TierUnavailable):
    """All allowed connections are busy. This is no failure of the view or of the server."""


class StatementTimedOut(TierUnavailable):
    """The server ended the statement: a failure of the view, not of the server."""
