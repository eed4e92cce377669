"""One of several worker processes: the data from its supervisor, and its client ids."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .inherited import Inherited

if TYPE_CHECKING:
    from tiers.proxy_door import SharedArena

# Counters of the arena (0 and 1 are its own), per worker. The first two minus each other are
# the connected clients.
_OPENED, _CLOSED = 2, 3
_BEATS = 4  # of its loop


@dataclass(frozen=True, slots=True)
class Worker:
    """The data that the supervisor passed to this process."""

    number: int
    arena: SharedArena
    link: socket.socket  # to the supervisor
    inherited: Inherited
    must_reload: bool  # the configuration was reloaded since the supervisor read it
    retired: bytes  # metrics of the replaced worker, in JSON


def beat(arena: SharedArena) -> None:
    """Record that the event loop of this worker runs."""
    arena.count(_BEATS)


def beats(arena: SharedArena, number: int) -> int:
    """The number of heartbeats of that worker."""
    return arena.counter(_BEATS, number)


class OwnNumbers:
    """Client ids of a process that serves alone."""

    def __init__(self) -> None:
        self._opened = self.connected = 0

    def open(self) -> int:
        self._opened += 1
        self.connected += 1
        return self._opened

    def close(self) -> None:
        self.connected -= 1


class SharedNumbers:
    """Client ids of one worker; `connected` counts the clients of all workers. Ids of different
    workers differ in their remainder; a worker that replaces a dead one continues its count."""

    def __init__(self, arena: SharedArena) -> None:
        self._arena = arena

    @property
    def connected(self) -> int:
        return self._arena.counter(_OPENED) - self._arena.counter(_CLOSED)

    def open(self) -> int:
        arena = self._arena
        arena.count(_OPENED)
        return (arena.counter(_OPENED, arena.worker) - 1) * arena.workers + arena.worker + 1

    def close(self) -> None:
        self._arena.count(_CLOSED)


def forget_clients(arena: SharedArena, number: int) -> None:
    """Uncount the clients of a dead worker; called by the supervisor."""
    arena.attach(number)
    arena.count(_CLOSED, arena.counter(_OPENED, number) - arena.counter(_CLOSED, number))
