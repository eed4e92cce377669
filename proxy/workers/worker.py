"""One of several worker processes: what it has from its supervisor, and its clients' numbers."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .inherited import Inherited

if TYPE_CHECKING:
    from tiers import SharedArena

# Counters of the arena (0 and 1 are its own), per worker: the difference of the first two is how
# many clients are connected.
_OPENED, _CLOSED = 2, 3
_BEATS = 4  # of its loop


@dataclass(frozen=True, slots=True)
class Worker:
    """What the supervisor gave to this process."""

    number: int
    arena: SharedArena
    link: socket.socket  # to the supervisor
    inherited: Inherited
    must_reload: bool  # the configuration was read again since the supervisor read it
    retired: bytes  # metrics of the worker whose place this one takes, in JSON


def beat(arena: SharedArena) -> None:
    """The loop of this worker makes turns."""
    arena.count(_BEATS)


def beats(arena: SharedArena, number: int) -> int:
    """How often that worker's loop said so."""
    return arena.counter(_BEATS, number)


class OwnNumbers:
    """Of a process that serves alone."""

    def __init__(self) -> None:
        self._opened = self.connected = 0

    def open(self) -> int:
        self._opened += 1
        self.connected += 1
        return self._opened

    def close(self) -> None:
        self.connected -= 1


class SharedNumbers:
    """Of one worker: `connected` counts the clients of all. Ids of different workers differ in
    their remainder; a worker that takes the place of a dead one counts on where that stopped."""

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
    """That worker is dead, its clients went with it. For the supervisor, which is none."""
    arena.attach(number)
    arena.count(_CLOSED, arena.counter(_OPENED, number) - arena.counter(_CLOSED, number))
