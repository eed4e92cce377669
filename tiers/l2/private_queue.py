"""The queue of clients that wait for a private connection, first come, first served.

A place belongs to its client: it ends with the task that waits in it. A client that has left
is not counted, and takes no token.
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
    """Redis works, but a limit of Terrace refuses this client a connection."""

    def __init__(self, reason: str) -> None:
        super().__init__(L2_REDIS, reason)


@dataclass(eq=False, slots=True)
class Place:
    """`got` ends with the connection: leased, or one that the waiting task has to open."""

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
        """A place at the end of the queue, for as long as the block runs."""
        place = Place(proto, db, now, asyncio.get_running_loop().create_future())
        self._places[place] = None
        try:
            yield place
        finally:
            self._places.pop(place, None)
            if place.got.done() and not place.got.cancelled():
                place.got.exception()  # marks it as retrieved, if the client left just now

    @property
    def first(self) -> Place | None:
        """The place whose turn it is."""
        while (place := next(iter(self._places), None)) is not None and place.got.done():
            del self._places[place]  # its client has left
        return place

    def serve(self, place: Place, upstream: Upstream) -> None:
        del self._places[place]
        place.got.set_result(upstream)

    def refuse(self, failure: TierUnavailable, came_before: float = float("inf")) -> None:
        """Refuse the clients that have waited since before `came_before`."""
        while (place := self.first) is not None and place.since < came_before:
            del self._places[place]
            place.got.set_exception(failure)
