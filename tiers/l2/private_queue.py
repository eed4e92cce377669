"""Clients that wait for a private connection, in the order in which they came.

A place is its client's: it ends with the task that waits in it. No place is counted, and no
token is drawn, for a client that has left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..base import L2_REDIS
from ..errors import TierUnavailable
from .upstream import Upstream


class NoPlace(TierUnavailable):
    """Redis is there; but a bound of Terrace's own keeps this client from it."""

    def __init__(self, reason: str) -> None:
        super().__init__(L2_REDIS, reason)


@dataclass(eq=False, slots=True)
class Place:
    """`got` ends with the connection: leased, or to be opened by the client that waits."""

    proto: int
    db: int
    since: float
    got: asyncio.Future[Upstream]


class PrivateQueue:
    """First come, first served; a client has at most one place."""

    def __init__(self) -> None:
        self._places: dict[Place, None] = {}

    def __len__(self) -> int:
        return len(self._places)

    def __repr__(self) -> str:
        return f"<PrivateQueue of {len(self._places)}>"

    @contextmanager
    def place(self, proto: int, db: int, now: float) -> Iterator[Place]:
        """At the end of the queue, for as long as it is waited in."""
        place = Place(proto, db, now, asyncio.get_running_loop().create_future())
        self._places[place] = None
        try:
            yield place
        finally:
            self._places.pop(place, None)
            if place.got.done() and not place.got.cancelled():
                place.got.exception()  # heard, also by a client that left at the same time

    @property
    def first(self) -> Place | None:
        """Whose turn it is."""
        while (place := next(iter(self._places), None)) is not None and place.got.done():
            del self._places[place]  # its client left just now
        return place

    def serve(self, place: Place, upstream: Upstream) -> None:
        del self._places[place]
        place.got.set_result(upstream)

    def refuse(self, failure: TierUnavailable, came_before: float = float("inf")) -> None:
        """Send away the clients that wait since before `came_before`."""
        while (place := self.first) is not None and place.since < came_before:
            del self._places[place]
            place.got.set_exception(failure)
