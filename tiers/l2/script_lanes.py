"""Shared connections for scripts, in every database, so that no other command waits behind one.

Redis reads nothing more from a connection whose script runs. So scripts have connections of
their own, and as long as there are enough, each running script has one for itself. They are
opened on demand and closed when idle.

A client's other commands get here only behind its own script, as on a connection to Redis.
"""

from __future__ import annotations

import itertools
from typing import Any

from .busy import Busy
from .databases import OPEN_MAX, Databases, DatabaseUpstream

LANES_MAX = 16  # in one database and protocol; beyond that, scripts share them
SPREAD_MAX = OPEN_MAX // 2  # in all databases; the other half is for the first lane of each
LATE_S = 0.05  # a lane whose reply is late is shared only if all lanes are late


class ScriptLanes(Databases):
    """The connections of one worker for scripts, by database and protocol."""

    for_scripts = True
    described_as = "for scripts"

    def __init__(self, *settings: Any, busy: Busy, **more: Any) -> None:
        super().__init__(*settings, **more)
        self._busy = busy
        self._lanes: dict[tuple[int, int], list[DatabaseUpstream]] = {}
        self._numbers = itertools.count()
        self._turn = 0  # which one of many is shared next

    def at(self, db: int, proto: int) -> DatabaseUpstream:
        """A connection in this database, open or not; an idle one if possible."""
        lanes = self._lanes.setdefault((db, proto), [])
        for lane in lanes:  # runs for each script: busy lanes cost no call
            if not len(lane.upstream.pipe) and lane.is_idle:
                return lane
        if len(lanes) < LANES_MAX and (not lanes or len(self._all) < SPREAD_MAX):
            lanes.append(self._add(db, proto, next(self._numbers)))
            return lanes[-1]
        late = self.clock() - LATE_S
        for _ in lanes:
            self._turn = (self._turn + 1) % len(lanes)
            lane = lanes[self._turn]
            if self._sent_at(lane, late) >= late:
                break
        return lane

    def _forget(self, key: tuple[int, ...]) -> None:
        self._lanes[key[0], key[1]].remove(self._all[key])
        super()._forget(key)

    @staticmethod
    def _sent_at(lane: DatabaseUpstream, otherwise: float) -> float:
        since = lane.upstream.pipe.waiting_since()
        return otherwise if since is None else since

    def owed_since(self, now: float) -> float:
        """When the oldest unanswered script was sent; `now` for none."""
        return min((self._sent_at(each, now) for each in self._all.values()), default=now)

    def _silent_since(self, each: DatabaseUpstream) -> float | None:
        since = super()._silent_since(each)
        return None if since is None else self._busy.silent_since(since)
